"""ASGI: FastAPI, Starlette, Litestar and anything else that speaks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any

from audit_toolkit.attribution.request import Proxies, Request, request_block

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class ContextMiddleware:
    """Gives every request and web socket a context: `request_id`, `method`, `route`, `client`,
    `trace_id`.

    `app.add_middleware(ContextMiddleware, trusted_proxies=["10.0.0.0/8"])`. Who it is, the
    application says with `set_actor`, in sync and async dependencies and endpoints alike;
    background tasks see the same context. `X-Forwarded-For` and `X-Request-ID` are believed only
    from `trusted_proxies`, addresses or networks. It is no `BaseHTTPMiddleware`: it neither copies
    the context nor buffers the response.
    """

    def __init__(self, app: App, *, trusted_proxies: Iterable[str] = ()) -> None:
        self.app = app
        self.proxies = Proxies.parse(trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application within the context of this request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        with request_block(_request(scope), self.proxies, partial(_route, scope)):
            await self.app(scope, receive, send)


def _request(scope: Scope) -> Request:
    headers: dict[bytes, list[str]] = {}
    for name, value in scope.get("headers", ()):
        headers.setdefault(name.lower(), []).append(value.decode("latin-1"))
    client = scope.get("client")
    return Request(
        method=scope.get("method", "WEBSOCKET"),
        peer=client[0] if client else None,
        forwarded_for=",".join(headers.get(b"x-forwarded-for", ())).split(",")[::-1],
        request_id=headers.get(b"x-request-id", [""])[0],
    )


def _route(scope: Scope) -> str:
    # FastAPI and Starlette put the route into the scope, Litestar its template.
    template = getattr(scope.get("route"), "path", None) or scope.get("path_template")
    return str(template or scope.get("path", ""))
