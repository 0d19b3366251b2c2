"""No question lasts, none outlives who asked, and a server that is gone is an answer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from audit_toolkit.cli.app import app as cli
from audit_toolkit.errors import UsageError
from audit_toolkit.web import Viewer, as_wsgi, create_app
from audit_toolkit.web.site import is_loopback
from tests.plugins.trail import Trail
from tests.web.conftest import Browse, local, text_of

WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


def test_a_slow_question_ends_with_advice(shop: Trail, browse: Browse) -> None:
    with locked(shop):
        response = browse(statement_timeout=0.2).get("/")
    assert response.status_code == 503
    assert response.headers["retry-after"]
    told = text_of(response)
    assert "lock" in told or "longer than 0.2 s" in told


def test_who_leaves_takes_the_question_along(shop: Trail) -> None:
    app = create_app(shop.database.connect, statement_timeout=60)
    leave = threading.Event()

    async def receive() -> dict[str, Any]:
        while not leave.is_set():
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        return

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    with locked(shop):
        asked = threading.Thread(target=lambda: asyncio.run(app(scope, receive, send)))
        asked.start()
        wait_until(lambda: shop.execute(WAITING) == [(1,)])
        leave.set()
        asked.join()  # sixty seconds would be the timeout
        assert shop.execute(WAITING) == [(0,)]


def test_nothing_can_be_written_by_looking(shop: Trail, browse: Browse) -> None:
    before = len(shop.events())
    client = browse()
    for path in (
        "/",
        "/row?table=orders&key=1",
        "/compare?table=orders&key=1",
        "/status",
        "/search?q=1",
    ):
        assert client.get(path).status_code == 200
    for method in ("post", "put", "delete"):
        assert getattr(client, method)("/events").status_code == 405
    assert len(shop.events()) == before
    seen: list[str] = []

    def watched() -> Any:
        connection = shop.database.connect()
        connection.add_notice_handler(lambda notice: seen.append(str(notice.message_primary)))
        execute = connection.execute

        def spy(query: Any, *args: Any, **options: Any) -> Any:
            seen.append(str(query))
            return execute(query, *args, **options)

        connection.execute = spy  # type: ignore[method-assign]
        return connection

    local(create_app(watched)).get("/")
    assert any("read only" in query for query in seen)


@pytest.mark.parametrize("kind", ["dsn", "engine", "pool"])
def test_a_server_that_goes_away_comes_back(shop: Trail, kind: str) -> None:
    from psycopg_pool import ConnectionPool
    from sqlalchemy import create_engine

    dsn = shop.database.dsn
    with ConnectionPool(
        dsn, min_size=0, max_size=2, open=False, check=ConnectionPool.check_connection
    ) as pool:
        engine = create_engine(
            dsn.replace("postgresql:", "postgresql+psycopg:"), pool_pre_ping=True
        )
        source: Any = {"dsn": dsn, "engine": engine, "pool": pool.connection}[kind]
        client = local(create_app(source))
        assert client.get("/").status_code == 200
        shop.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        assert client.get("/").status_code in (200, 503)
        assert client.get("/").status_code == 200
        engine.dispose()


def test_a_server_that_is_not_there() -> None:
    response = local(
        create_app("postgresql://nobody:geheim@127.0.0.1:1/none?connect_timeout=1")
    ).get("/")
    assert response.status_code == 503
    assert "geheim" not in response.text
    assert "did not answer" in text_of(response)


def test_a_database_without_a_trail(make_database: Any) -> None:
    response = local(create_app(make_database().connect)).get("/")
    assert response.status_code == 400
    assert "no audit trail" in text_of(response)


def test_a_role_that_may_not_read(shop: Trail) -> None:
    shop.execute("create role page_stranger login")
    try:
        dsn = shop.database.dsn.replace("postgres@", "page_stranger@")
        response = local(create_app(lambda: psycopg.connect(dsn))).get("/")
        assert response.status_code == 500
        assert "may not read" in text_of(response)
        reader = Viewer(tables=["orders"])
        few = local(create_app(lambda: psycopg.connect(dsn), authorize=lambda _r: reader)).get("/")
        assert "page_stranger" not in few.text
    finally:
        shop.execute("drop role page_stranger")


def test_a_reader_sees_every_view(shop: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", shop.database.dsn)
    shop.execute("create role page_reader login")
    try:
        granted = CliRunner().invoke(cli, ["grants", "--reader", "page_reader"])
        assert granted.exit_code == 0, granted.output
        shop.execute(granted.stdout)
        dsn = shop.database.dsn.replace("postgres@", "page_reader@")
        client = local(create_app(lambda: psycopg.connect(dsn)))
        now = shop.execute("select now()")[0][0].isoformat()
        for path in (
            "/",
            "/row?table=orders&key=1",
            "/compare?table=orders&key=1",
            "/status",
            "/search?q=1",
        ):
            response = client.get(path)
            assert response.status_code == 200, text_of(response)
        then = client.get("/as-it-was", params={"table": "orders", "at": now})
        assert then.status_code == 200
        print(text_of(then))
        assert "14.90" in then.text
    finally:
        shop.execute("drop owned by page_reader; drop role page_reader")


def test_mounted_below_a_path_and_behind_a_proxy(shop: Trail) -> None:
    from fastapi import FastAPI

    outer = FastAPI()
    outer.mount("/inside", create_app(shop.database.connect, base_path="proxy"))
    client = local(outer)
    page = client.get("/inside/")
    assert 'href="/proxy/inside/row?table=public.orders&amp;key=1"' in page.text
    assert 'href="/proxy/inside/static/page.css' in page.text
    table = client.get("/inside/table?table=orders")
    assert 'action="/proxy/inside/table"' in table.text
    assert "/proxy/inside/table?table=orders&amp;live=1" in table.text


def test_flask_and_its_session(shop: Trail) -> None:
    import flask
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    outer = flask.Flask(__name__)
    outer.secret_key = "x"

    @outer.get("/login")
    def login() -> str:
        flask.session["user"] = "ann"
        return "in"

    def viewer_of(request: Any) -> Viewer | None:
        with outer.request_context(request.scope["wsgi_environ"]):
            user = flask.session.get("user")
        return None if user is None else Viewer(actor=f"user:{user}", tables=["orders"])

    page = as_wsgi(create_app(shop.database.connect, authorize=viewer_of))
    outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/audit": page})  # type: ignore[method-assign]
    client = outer.test_client()
    assert client.get("/audit/").status_code == 403
    client.get("/login")
    told = client.get("/audit/")
    assert told.status_code == 200
    assert "/audit/row?table=public.orders" in told.text
    assert "salaries" not in told.text
    assert "user:ann" in told.text
    # Nobody knows where a request of a WSGI server came from.
    outer.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        outer.wsgi_app, {"/open": as_wsgi(create_app(shop.database.connect))}
    )
    assert client.get("/open/").status_code == 403


def test_sources_that_are_none() -> None:
    for source in (7, None, object()):
        with pytest.raises(UsageError, match="cannot read through"):
            create_app(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "yes"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.8.8.8", True)]
    + [(h, False) for h in ("0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "", "evil")],  # noqa: S104
)
def test_what_is_this_machine(host: str, yes: bool) -> None:
    assert is_loopback(host) is yes


class locked:  # noqa: N801 - it reads like a statement
    """While the block lasts, nobody can read the trail."""

    def __init__(self, shop: Trail) -> None:
        self.connection = shop.database.connect(autocommit=False)

    def __enter__(self) -> None:
        self.connection.execute("lock table audit.logged_actions in access exclusive mode")

    def __exit__(self, *_: object) -> None:
        self.connection.rollback()


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


@pytest.mark.thorough
def test_django_and_its_users(shop: Trail) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.web.django_project", shop.database.dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "nobody 403 403",
        "visitor 403 403",
        "ann 200 200",
        "other 404",
    ], done.stderr
