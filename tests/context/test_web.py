"""Real web applications: every event carries its own request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import httpx
import pytest
import uvicorn
from fastapi import BackgroundTasks, Depends, FastAPI, Header
from flask import Flask
from litestar import get
from litestar.params import FromPath
from sqlalchemy import Engine, text
from starlette.routing import Route

import audit_toolkit
from audit_toolkit.attribution.request import Proxies, Request, clean
from audit_toolkit.errors import ContextError
from tests.context.blocks import block
from tests.context.conftest import Shop
from tests.plugins.drivers import async_engine, run

INSERT = text("insert into orders (note) values (:note)")
LOCAL = ["127.0.0.1"]


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The address of an application that uvicorn serves in a thread."""
    # On a busy machine a client may use a connection again after more than the 5 seconds of the default.
    config = uvicorn.Config(
        app,
        port=0,
        log_level="warning",
        proxy_headers=False,
        loop="asyncio",
        timeout_keep_alive=600,
    )
    server = uvicorn.Server(config)
    ready = threading.Event()
    startup = server.startup

    async def startup_and_tell(*arguments: Any, **options: Any) -> None:
        await startup(*arguments, **options)
        ready.set()

    server.startup = startup_and_tell  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert ready.wait(30)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@asynccontextmanager
async def client(base: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=32)
    async with httpx.AsyncClient(base_url=base, timeout=60, limits=limits) as opened:
        yield opened


async def set_async(user: Annotated[str, Header()]) -> None:
    await asyncio.sleep(0)
    audit_toolkit.set_actor(f"user:{user}")


def set_sync(user: Annotated[str, Header()]) -> None:
    audit_toolkit.set_actor(f"user:{user}")


def set_in_generator(user: Annotated[str, Header()]) -> Iterator[None]:
    audit_toolkit.set_actor(f"user:{user}")
    yield


def application(engine: Engine, dsn: str) -> FastAPI:
    """Endpoints, sync and async, for each kind of dependency: `/sync/{kind}/{note}`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with async_engine(dsn, "asyncpg", pool_size=8) as asynchronous:
            audit_toolkit.attach(asynchronous)
            app.state.engine = asynchronous
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(audit_toolkit.ContextMiddleware, trusted_proxies=LOCAL)

    def write(note: str, background: BackgroundTasks) -> None:
        with engine.begin() as connection:
            connection.execute(INSERT, {"note": note})
        background.add_task(later, note)

    def later(note: str) -> None:
        with audit_toolkit.context(task="later"), engine.begin() as connection:
            connection.execute(INSERT, {"note": f"{note} later"})

    async def write_async(note: str) -> None:
        async with app.state.engine.begin() as connection:
            await connection.execute(text("select 1"))
            await asyncio.sleep(0)
            await connection.execute(INSERT, {"note": note})

    for kind in (set_async, set_sync, set_in_generator):
        needed = [Depends(kind)]
        app.get(f"/sync/{kind.__name__}/{{note}}", dependencies=needed)(write)
        app.get(f"/async/{kind.__name__}/{{note}}", dependencies=needed)(write_async)
    return app


def test_fastapi_under_concurrency(shop: Shop, make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(pool_size=16)
    audit_toolkit.attach(engine)
    kinds = ["set_async", "set_sync", "set_in_generator"]
    routes = [f"/{way}/{kind}" for way in ("sync", "async") for kind in kinds]
    asked = [(f"{route}/{number}", str(number)) for route in routes for number in range(25)]

    async def ask(http: httpx.AsyncClient, path: str, user: str) -> None:
        headers = {"user": user, "X-Request-ID": path, "X-Forwarded-For": f"10.1.2.{user}"}
        response = await http.get(path.replace(user, path.replace("/", "-")), headers=headers)
        assert response.status_code == 200, response.text

    async def main(base: str) -> None:
        async with client(base) as http:
            await asyncio.gather(*(ask(http, path, user) for path, user in asked))

    with served(application(engine, shop.dsn)) as base:
        run(main(base))
    assert shop.contexts() == expected_contexts(asked)


def expected_contexts(asked: list[tuple[str, str]]) -> dict[str, Any]:
    expected: dict[str, Any] = {}
    for path, user in asked:
        claims = {
            "actor": f"user:{user}",
            "request_id": path,
            "method": "GET",
            "route": path.rpartition("/")[0] + "/{note}",
            "client": f"10.1.2.{user}",
        }
        note = path.replace("/", "-")
        expected[note] = claims
        if path.startswith("/sync"):
            expected[f"{note} later"] = {**claims, "task": "later"}
    return expected


def test_the_fastapi_of_the_documentation(shop: Shop, make_engine: Callable[..., Engine]) -> None:
    app: FastAPI = block("FastAPI(")["app"]
    engine = make_engine()
    audit_toolkit.attach(engine)

    @app.post("/orders/{note}")
    def order(note: str) -> None:
        with engine.begin() as connection:
            connection.execute(INSERT, {"note": note})

    with served(app) as base:
        headers = {"user": "7", "X-Request-ID": "forged", "X-Forwarded-For": "6.6.6.6"}
        assert httpx.post(f"{base}/orders/tea", headers=headers).status_code == 200
    claims = shop.contexts()["tea"]
    assert claims.pop("request_id") != "forged"
    assert claims == {
        "actor": "user:7",
        "method": "POST",
        "route": "/orders/{note}",
        "client": "127.0.0.1",
    }


def test_starlette_and_litestar(shop: Shop, make_engine: Callable[..., Engine]) -> None:
    from starlette.requests import Request as StarletteRequest
    from starlette.responses import PlainTextResponse

    engine = make_engine()
    audit_toolkit.attach(engine)

    def insert(note: str) -> None:
        with engine.begin() as connection:
            connection.execute(INSERT, {"note": note})

    def starlette_order(request: StarletteRequest) -> PlainTextResponse:
        insert(request.path_params["note"])
        return PlainTextResponse("done")

    @get("/orders/{note:str}", sync_to_thread=True)
    def litestar_order(note: FromPath[str]) -> str:
        insert(note)
        return "done"

    routes = [Route("/orders/{note}", starlette_order)]
    for note, app in (
        ("starlette", block("Starlette(", routes=routes)["app"]),
        ("litestar", block("Litestar(", handlers=[litestar_order])["app"]),
    ):
        with served(app) as base:
            assert httpx.get(f"{base}/orders/{note}").text == "done"
    routes_seen = {note: claims["route"] for note, claims in shop.contexts().items()}
    assert routes_seen == {"starlette": "/orders/{note}", "litestar": "/orders/{note}"}


def test_a_web_socket_has_a_context() -> None:
    seen: list[Any] = []

    async def app(*_: Any) -> None:
        seen.append(audit_toolkit.current_context())

    async def main() -> None:
        middleware = audit_toolkit.ContextMiddleware(app)
        await middleware({"type": "websocket", "path": "/feed"}, ..., ...)  # type: ignore[arg-type]
        await middleware({"type": "lifespan"}, ..., ...)  # type: ignore[arg-type]

    run(main())
    assert [seen[0]["method"], seen[0]["route"], seen[1]] == ["WEBSOCKET", "/feed", {}]


@pytest.fixture
def flask(shop: Shop, make_engine: Callable[..., Engine]) -> Flask:
    """The Flask application of the documentation, with an endpoint that also streams."""
    app: Flask = block("Flask(")["app"]
    engine = make_engine()
    audit_toolkit.attach(engine)

    def insert(note: str) -> None:
        with engine.begin() as connection:
            connection.execute(INSERT, {"note": note})

    @app.get("/orders/<note>")
    def order(note: str) -> Any:
        insert(note)

        def body() -> Iterator[str]:
            yield "first "
            insert(f"{note} streamed")
            yield "last"

        return body()

    return app


def test_flask(shop: Shop, flask: Flask) -> None:
    response = flask.test_client().get("/orders/tea", headers={"user": "7"})
    assert response.text == "first last"
    assert audit_toolkit.current_context() == {}
    contexts = shop.contexts()
    assert contexts["tea"] == contexts["tea streamed"]
    assert contexts["tea"].pop("request_id")
    assert contexts["tea"] == {
        "actor": "user:7",
        "method": "GET",
        "route": "/orders/<note>",
        "client": "127.0.0.1",
    }


@pytest.mark.parametrize(
    ("peer", "forwarded", "client_address"),
    [
        ("6.6.6.6", "1.1.1.1", "6.6.6.6"),
        ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "1.1.1.1:4711", "1.1.1.1"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", "2001:db8::1%" + "x" * 9000, "2001:db8::1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
        (None, "1.1.1.1", None),
    ],
)
def test_addresses_behind_proxies(
    peer: str | None, forwarded: str, client_address: str | None
) -> None:
    hops = forwarded.split(",")[::-1]
    request = Request(method="GET", peer=peer, forwarded_for=hops)
    claims = request.claims(Proxies.parse(["10.0.0.0/8"]))
    assert claims["client"] == client_address


def test_proxies_are_addresses() -> None:
    with pytest.raises(ContextError, match="trusted_proxies: 'proxy'"):
        audit_toolkit.ContextMiddleware(FastAPI(), trusted_proxies=["proxy"])


@pytest.mark.parametrize("path", ["/" + "x" * 100_000, "/a\x00b", "/\udcff", "/'; --"])
def test_no_path_makes_a_write_fail(shop: Shop, path: str) -> None:
    connection = shop.database.connect()
    audit_toolkit.attach(connection)

    async def app(*_: Any) -> None:
        connection.execute("insert into orders (note) values ('one')")

    async def main() -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "path": path,
            "method": "GET",
            "headers": [],
            "client": None,
        }
        await audit_toolkit.ContextMiddleware(app)(scope, ..., ...)  # type: ignore[arg-type]

    run(main())
    assert shop.contexts()["one"]["route"] == clean(path)
    assert len(clean(path)) <= 200


def test_the_trace_of_opentelemetry() -> None:
    from opentelemetry import trace

    seen: list[Any] = []

    async def app(*_: Any) -> None:
        seen.append(audit_toolkit.current_context().get("trace_id"))
        span = trace.NonRecordingSpan(trace.SpanContext(trace_id=0xABC, span_id=1, is_remote=False))
        with trace.use_span(span):
            seen.append(audit_toolkit.current_context()["trace_id"])

    async def main() -> None:
        await audit_toolkit.ContextMiddleware(app)({"type": "http", "path": "/"}, ..., ...)  # type: ignore[arg-type]

    run(main())
    assert seen == [None, f"{0xABC:032x}"]
