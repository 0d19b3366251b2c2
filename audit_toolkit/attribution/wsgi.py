"""WSGI: Flask, Django and anything else that speaks it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from audit_toolkit.attribution.current import Block
from audit_toolkit.attribution.request import Proxies, Request, request_block

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


_ROUTE = "audit_toolkit.route"


class WsgiContextMiddleware:
    """Gives every request a context: `request_id`, `method`, `route`, `client`, `trace_id`.

    `app.wsgi_app = WsgiContextMiddleware(app.wsgi_app)`. The context also holds while the body is
    streamed. `X-Forwarded-For` and `X-Request-ID` are believed only from `trusted_proxies`,
    addresses or networks.
    """

    def __init__(self, app: WSGIApplication, *, trusted_proxies: Iterable[str] = ()) -> None:
        self.app = app
        self.proxies = Proxies.parse(trusted_proxies)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Run the application within the context of this request."""
        block = request_block(_request(environ), self.proxies, partial(_route, environ))

        def start(*arguments: Any) -> Any:
            _route(environ)  # while Flask's request is still there; a body may be streamed later
            return start_response(*arguments)

        with block:
            body = self.app(environ, start)
        return body if isinstance(body, list | tuple) else _Body(body, block)


class _Body:
    """A body that is made while the server asks for it."""

    def __init__(self, body: Iterable[bytes], block: Block) -> None:
        self._body = body
        self._block = block

    def __iter__(self) -> Iterator[bytes]:
        with self._block:
            chunks = iter(self._body)
        while True:
            with self._block:
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def close(self) -> None:
        with self._block:
            getattr(self._body, "close", lambda: None)()


def _request(environ: dict[str, Any]) -> Request:
    return Request(
        method=environ.get("REQUEST_METHOD", ""),
        peer=environ.get("REMOTE_ADDR") or None,
        forwarded_for=environ.get("HTTP_X_FORWARDED_FOR", "").split(",")[::-1],
        request_id=environ.get("HTTP_X_REQUEST_ID", ""),
    )


def _route(environ: dict[str, Any]) -> str:
    # Flask leaves its request in the environment until it has answered, and the rule in that.
    if rule := getattr(environ.get("werkzeug.request"), "url_rule", None):
        environ[_ROUTE] = str(rule)
    return str(environ.get(_ROUTE) or environ.get("PATH_INFO", ""))
