"""HTTPS webhooks, signed as in Standard Webhooks: one request an event, in order.

https://example.org/hook, with the secret in AUDIT_STREAM_SECRET (whsec_…). Only an answer of 2xx counts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event, Timer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from audit_toolkit.errors import UsageError
from audit_toolkit.stream.messages import Message, Outcome
from audit_toolkit.stream.sinks.base import Address, clock, require, unreachable

if TYPE_CHECKING:
    import httpx

SECRET_VARIABLE = "AUDIT_STREAM_SECRET"  # noqa: S105 - the name of a variable
TIMEOUT = 10.0
"""Seconds for each step of a request."""
DEADLINE = 30.0
"""Seconds for all of a request and the head of its answer, however many steps it takes."""
MOST_SECONDS = 1.0
"""Once they are over no other message is posted: who was paused meanwhile may have been replaced."""
_MOST_BYTES = 65_536
_NOWHERE = frozenset({404, 405, 410})
"""The address is wrong, or no longer there: no event would be taken."""
_LATER = frozenset({401, 403, 407, 408, 409, 423, 425, 429}) | _NOWHERE
"""Answers below 500 that say nothing of the event: to come again, or with other credentials."""
_FORBIDDEN = frozenset({401, 403, 407})


class WebhookSink:
    """Posts each message, and waits for the answer."""

    def __init__(self, client: httpx.Client, url: str, secrets: Sequence[bytes]) -> None:
        self._client = client
        self._url = url
        self._secrets = secrets
        self._deadline = _Deadline()
        self._where = urlsplit(url).netloc.rpartition("@")[2]

    def send(self, messages: Sequence[Message]) -> Outcome:
        """Post the messages one after another, up to the first that fails, for a short time."""
        import httpx

        began = clock()
        for place, message in enumerate(messages):
            if place and clock() - began > MOST_SECONDS:
                return Outcome(done=place)
            try:
                answer = self._post(message)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                return replace(self._explained(error), done=place)
            if answer.is_success:
                continue
            reason = f"HTTP {answer.status_code} {answer.reason_phrase}".rstrip()
            if answer.is_client_error and answer.status_code not in _LATER:
                return Outcome(done=place, refused=reason)
            return Outcome(
                done=place,
                error=f"{self._where} answered {reason}",
                hint=_hint(answer),
                wait=wait(answer.headers.get("retry-after", "")),
            )
        return Outcome(done=len(messages))

    def _post(self, message: Message) -> httpx.Response:
        """The answer; of its body no more than is needed to use the connection again."""
        import httpx

        headers = self._headers(message)
        with (
            self._deadline.over() as extensions,
            self._client.stream(
                "POST", self._url, content=message.body, headers=headers, extensions=extensions
            ) as answer,
        ):
            self._deadline.met()
            ends, size = time.monotonic() + TIMEOUT, 0
            with suppress(httpx.HTTPError):  # the status has said it, whatever becomes of the body
                for part in answer.iter_raw():
                    size += len(part)
                    if size > _MOST_BYTES or time.monotonic() > ends:
                        break  # the connection is closed
        return answer

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _explained(self, error: Exception) -> Outcome:
        import httpx

        if isinstance(error, httpx.TimeoutException):
            error = TimeoutError()
        elif isinstance(error, httpx.RemoteProtocolError):
            said = (
                "closed the connection without an answer"
                if "disconnected" in str(error)
                else f"gave an invalid HTTP answer: {error}"
            )
            return Outcome(done=0, error=f"{self._where} {said}")
        reason = f"{self._where}: {type(error).__name__}: {error}".rstrip(": ")
        return unreachable(error, self._where) or Outcome(done=0, error=reason)

    def _headers(self, message: Message) -> dict[str, str]:
        moment = str(int(time.time()))
        headers = {
            "content-type": message.content_type,
            "webhook-id": message.id,
            "webhook-timestamp": moment,
            **message.headers,
        }
        if self._secrets:
            headers["webhook-signature"] = " ".join(
                sign(secret, message.id, moment, message.body) for secret in self._secrets
            )
        return headers


class _Deadline:
    """Ends the connection of a request that takes too long: httpx limits only each of its steps."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._second: socket.socket | None = None
        """Of the connection on which TLS begins, which takes the first one away from its object."""
        self._timer: Timer | None = None
        self._is_over = Event()

    @contextmanager
    def over(self) -> Iterator[dict[str, Any]]:
        """Watch a request that has these extensions; raise `httpx.ReadTimeout` where it was ended."""
        import httpx

        self._is_over.clear()
        self._timer = Timer(DEADLINE, self._end)
        self._timer.daemon = True
        self._timer.start()
        try:
            yield {"trace": self._trace}
        except httpx.HTTPError as error:
            if self._is_over.is_set():
                raise httpx.ReadTimeout("the deadline is over") from error
            raise
        finally:
            self.met()

    def met(self) -> None:
        """Watch it no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _trace(self, name: str, info: dict[str, Any]) -> None:
        if name.endswith("start_tls.started") and self._socket is not None:
            self._socket = self._second = self._socket.dup()
        elif name.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
        if name.endswith(("start_tls.complete", "start_tls.failed")) and self._second is not None:
            self._second.close()  # or the connection would stay open when httpx closes it
            self._second = None

    def _end(self) -> None:
        self._is_over.set()
        if self._socket is not None:
            with suppress(OSError):  # it is closed already
                self._socket.shutdown(socket.SHUT_RDWR)


def _hint(answer: httpx.Response) -> str | None:
    if answer.status_code in _FORBIDDEN:
        return f"check the user and password in the address, and {SECRET_VARIABLE}"
    if answer.status_code in _NOWHERE:
        return "check the address of the sink: nothing takes events there"
    if answer.is_redirect:
        return "redirects are not followed: name the final address"
    return None


def wait(text: str) -> float:
    """Seconds until the moment of a Retry-After: a number of seconds, or a date."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # dates of HTTP are in UTC
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def sign(secret: bytes, message_id: str, moment: str, body: bytes) -> str:
    """The signature of Standard Webhooks: HMAC-SHA256 of id, time and body, as `v1,…`."""
    signed = f"{message_id}.{moment}.".encode() + body
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")


def read_secrets(text: str) -> list[bytes]:
    """The secrets of a text with one or several (`whsec_…`, between spaces): the new and the old one."""
    secrets = []
    for part in text.split():
        try:
            secret = base64.b64decode(part.removeprefix("whsec_"), validate=True)
        except ValueError:  # also of base64
            secret = b""
        if not 24 <= len(secret) <= 64:
            raise UsageError(
                f"{SECRET_VARIABLE} is not a Standard Webhooks secret",
                hint="use 24 to 64 random bytes in base64, after whsec_: "
                'echo "whsec_$(openssl rand -base64 32)"',
            )
        secrets.append(secret)
    return secrets


def open_sink(address: Address) -> WebhookSink:
    """The sink of `https://…`; plain http only to this machine."""
    try:
        import httpx
    except ImportError as error:
        raise require("httpx", "webhooks") from error
    parts = urlsplit(address.text)
    if not parts.hostname:
        raise UsageError("the address names no host", hint="write https://host/path")
    if parts.scheme == "http" and not _is_here(parts.hostname):
        raise UsageError(
            f"events would go to {parts.hostname} unencrypted",
            hint="write https://…; http:// is accepted for this machine only",
        )
    url = urlunsplit(parts._replace(fragment=""))
    _require_valid(url, parts.hostname)
    secrets = read_secrets(os.environ.get(SECRET_VARIABLE, ""))
    try:
        client = httpx.Client(
            timeout=TIMEOUT, follow_redirects=False, headers={"user-agent": "audit-toolkit"}
        )
    except (OSError, ImportError, ValueError) as error:
        raise UsageError(
            f"webhooks cannot be sent with the settings of the environment: {error}",
            hint="check SSL_CERT_FILE, SSLKEYLOGFILE, HTTPS_PROXY, HTTP_PROXY and ALL_PROXY",
        ) from error
    return WebhookSink(client, url, secrets)


def _require_valid(url: str, host: str) -> None:
    """Raise `UsageError` for an address that no request can be sent to, before the first event is."""
    import httpx

    try:
        _ = httpx.URL(url).host
        host.encode("idna")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise UsageError(
            f"the address of the webhook is not valid: {error}", hint="write https://host/path"
        ) from error


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
