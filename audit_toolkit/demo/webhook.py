"""A webhook of the demo: it takes what comes, verifies the signature, and says what it got."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from audit_toolkit import exact_json
from audit_toolkit.exact_json import Json
from audit_toolkit.stream.sinks.webhook import read_secrets, sign


@dataclass(slots=True)
class Webhook:
    """Where it listens, its secret, and what it got."""

    url: str
    secret: str
    events: list[Json] = field(default_factory=list)

    def told(self) -> Iterator[str]:
        """What it got, a line an event."""
        for event in self.events:
            changed = ", ".join(
                f"{column} {exact_json.dumps(old)} → {exact_json.dumps(new)}"
                for column, (old, new) in event["changed"].items()
            )
            who = (event["context"] or {}).get("actor") or event["session_user_name"]
            what = f"{event['action']} {event['table_name']} {event['row_key']} by {who}"
            yield f"   {what}: {changed}"


@contextmanager
def listening() -> Iterator[Webhook]:
    """A webhook on a free port of this machine, until the block ends."""
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode("ascii")
    webhook = Webhook(url="", secret=secret)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            sent = self.headers["webhook-id"], self.headers["webhook-timestamp"]
            (key,) = read_secrets(secret)
            genuine = self.headers["webhook-signature"] == sign(key, *sent, body)
            if genuine:
                webhook.events.append(exact_json.loads(body.decode()))
            self.send_response(204 if genuine else 401)
            if not genuine:
                self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing: the demo does."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        webhook.url = f"http://127.0.0.1:{server.server_port}/orders"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield webhook
        finally:
            server.shutdown()
            thread.join()
