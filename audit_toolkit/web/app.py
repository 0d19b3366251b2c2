"""The application: who may ask, what each address answers, and how errors read."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from audit_toolkit.errors import (
    AuditError,
    BusyError,
    ConnectError,
    MissingExtraError,
    PermissionDeniedError,
    UnknownTableError,
    UsageError,
)
from audit_toolkit.web import views
from audit_toolkit.web.database import Asking, Database, Source
from audit_toolkit.web.errors import NotFoundError, RefusedError
from audit_toolkit.web.page import Page, View, plain_page
from audit_toolkit.web.settings import Settings
from audit_toolkit.web.site import Authorize, Site, is_loopback
from audit_toolkit.web.viewer import Viewer

MOST_POSTED = 64 * 1024
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATUS: tuple[tuple[type[AuditError], int], ...] = (
    (NotFoundError, 404),
    (RefusedError, 403),
    (UnknownTableError, 404),
    (BusyError, 503),
    (ConnectError, 503),
    (PermissionDeniedError, 500),
    (UsageError, 400),
)


def create_app(
    source: Source,
    *,
    authorize: Authorize | None = None,
    base_path: str = "",
    schema: str = "audit",
    settings: Settings | None = None,
    undo: bool | Source = False,
    statement_timeout: float = 5.0,
) -> Starlette:
    """The page as an ASGI application, to be mounted into one of yours or served alone.

    Args:
        source: where the trail is: an address, an `Engine` of SQLAlchemy on psycopg 3, or a function
            that opens a connection of psycopg 3 for a `with` block, as `pool.connection` is.
        authorize: who looks, from the request: a `Viewer`, None to refuse, or a response of your own
            (a redirect to the login). It may be async. Without it, only this machine is answered.
        base_path: the path in front of it, where a proxy takes that off.
        schema: the schema of the trail.
        settings: labels, links, language and time zone.
        undo: whether viewers with `may_undo` may take changes back; a source of its own lets all
            else go on with a role that can only read.
        statement_timeout: seconds that a statement may take.

    Raises `UsageError` for a source that cannot be read through.
    """
    database = Database(source, statement_timeout=statement_timeout)
    site = Site(
        database=database,
        authorize=authorize,
        base_path="/" + base_path.strip("/") if base_path.strip("/") else "",
        schema=schema,
        settings=settings or Settings(),
        undoing=_undoing(database, undo, statement_timeout),
        static=StaticFiles(packages=[("audit_toolkit.web", "static")]),
    )
    routes = [
        Route(path, _endpoint(site, view), methods=list(methods))
        for path, view, methods in views.ROUTES
    ]
    static = Route("/static/{name}", partial(_static, site), methods=["GET"])
    missing = Route("/{path:path}", _endpoint(site, views.missing), methods=["GET"])
    return Starlette(routes=[static, *routes, missing])


def _undoing(database: Database, undo: bool | Source, timeout: float) -> Database | None:
    if isinstance(undo, bool):
        return database if undo else None
    return Database(undo, statement_timeout=timeout)


def as_wsgi(app: Starlette) -> Any:
    """The page as a WSGI application, for Flask, Django and others.

    `authorize` finds what the WSGI server knows in `request.scope["wsgi_environ"]`.
    """
    try:
        from a2wsgi import ASGIMiddleware
    except ImportError as error:
        raise MissingExtraError(
            "the page needs a2wsgi where it is a WSGI application",
            hint="pip install 'audit-toolkit[ui]'",
        ) from error
    return ASGIMiddleware(app)  # type: ignore[arg-type]


def _endpoint(site: Site, view: View) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        response = await _answer(site, view, request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return answer


async def _static(site: Site, request: Request) -> Response:
    response = await site.static.get_response(request.path_params["name"], request.scope)
    # Their addresses change with them.
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


async def _answer(site: Site, view: View, request: Request) -> Response:
    viewer = await _viewer(site, request)
    if isinstance(viewer, Response):
        return viewer
    if viewer is None:
        return PlainTextResponse("You may not see the audit trail.", status_code=403)
    posted: Mapping[str, str] = {}
    if request.method == "POST":
        body = await _body(request)
        if body is None:
            return PlainTextResponse("That is too much.", status_code=413)
        posted = _fields(body)
    asking = Asking()
    work = partial(_respond, site, view, request, viewer, posted, asking)
    if "wsgi_environ" in request.scope:  # WSGI does not tell whether the client has disconnected
        return await anyio.to_thread.run_sync(work)
    outcome: list[Response | Exception] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_watch, request, asking)
        try:
            outcome.append(await anyio.to_thread.run_sync(work))
        except Exception as error:
            outcome.append(error)  # raised below as itself, not in a group
        group.cancel_scope.cancel()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


async def _watch(request: Request, asking: Asking) -> None:
    """Cancel what the database does for a client that has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    await anyio.to_thread.run_sync(asking.leave)


async def _viewer(site: Site, request: Request) -> Viewer | Response | None:
    if site.authorize is None:
        return Viewer(may_undo=True, actor=_system_user()) if _is_local(request) else _refusal()
    if inspect.iscoroutinefunction(site.authorize):
        found: Any = await site.authorize(request)
    else:  # it may ask a database of its own
        found = await anyio.to_thread.run_sync(site.authorize, request)
        if inspect.isawaitable(found):
            found = await found
    viewer: Viewer | Response | None = found
    return viewer


def _is_local(request: Request) -> bool:
    """Whether it comes from this machine and was sent to it by a name of it.

    A name of somebody else's that leads here is that of a page in a browser here, which must not read
    the trail; and what a proxy hands on comes from anywhere.
    """
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "via"))
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    return not forwarded and is_loopback(host) and is_loopback(_client(request))


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


def _refusal() -> Response:
    return PlainTextResponse(
        "Without `authorize`, the audit trail is shown on this machine only: "
        "create_app(source, authorize=...) says who may see what.\n",
        status_code=403,
    )


def _system_user() -> str | None:
    import getpass

    with suppress(OSError, KeyError):
        return f"os:{getpass.getuser()}"
    return None


async def _body(request: Request) -> bytes | None:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_POSTED:
            return None
    return body


def _fields(body: bytes) -> Mapping[str, str]:
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return {}
    return {name: values[-1] for name, values in fields.items()}


def _respond(
    site: Site,
    view: View,
    request: Request,
    viewer: Viewer,
    posted: Mapping[str, str],
    asking: Asking,
) -> Response:
    try:
        with site.database.reading(asking) as connection:
            page = Page.open(site, request, viewer, posted, asking, connection)
            return view(page)
    except AuditError as error:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        return plain_page(site, request, viewer, error, status)
