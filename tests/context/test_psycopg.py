"""psycopg 3, sync and async: every write carries what is claimed at that moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql

import audit_toolkit
from audit_toolkit.errors import ContextError
from tests.context.conftest import Shop
from tests.plugins.drivers import run

INSERT = "insert into orders (note) values (%s) returning id"
SEEN = "select nullif(current_setting('audit.context', true), '')"


@pytest.fixture(params=[False, True], ids=["transactions", "autocommit"])
def connection(shop: Shop, request: pytest.FixtureRequest) -> psycopg.Connection[Any]:
    """A connection that carries the context."""
    connection = shop.database.connect(autocommit=request.param)
    audit_toolkit.attach(connection)
    return connection


def test_a_write_carries_the_context_and_the_next_transaction_does_not(
    shop: Shop, connection: psycopg.Connection[Any]
) -> None:
    with audit_toolkit.context(actor="user:42", reason="refund #17"):
        connection.execute(INSERT, ["one"])
        connection.commit()
    connection.execute(INSERT, ["two"])
    connection.commit()
    assert shop.contexts() == {"one": {"actor": "user:42", "reason": "refund #17"}, "two": None}


def test_cursors_work_as_without_it(shop: Shop, connection: psycopg.Connection[Any]) -> None:
    with audit_toolkit.context(actor="a"):
        cursor = connection.execute(INSERT, ["one"])
        assert (cursor.fetchall(), cursor.rowcount, cursor.statusmessage) == (
            [(1,)],
            1,
            "INSERT 0 1",
        )
        assert connection.execute("update orders set note = 'x'").rowcount == 1
        cursor.executemany(INSERT, [["two"], ["three"]], returning=True)
        assert [cursor.fetchone(), cursor.nextset(), cursor.fetchone()] == [(2,), True, (3,)]
        assert connection.execute("select count(*) from orders").fetchone() == (3,)
    connection.commit()
    assert shop.actors() == [("one", "a"), ("x", "a"), ("two", "a"), ("three", "a")]


def test_a_change_of_actor_is_seen_by_the_next_write(
    shop: Shop, connection: psycopg.Connection[Any]
) -> None:
    with connection.transaction(), audit_toolkit.context():
        connection.execute(INSERT, ["early"])
        audit_toolkit.set_actor("a")
        connection.execute(INSERT, ["late"])
        with audit_toolkit.context(actor="b"):
            connection.execute(INSERT, ["inner"])
        connection.execute(INSERT, ["outer"])
    with connection.transaction():
        with audit_toolkit.context(actor="job"):
            connection.execute(INSERT, ["job"])
        connection.execute(INSERT, ["after"])
    assert shop.actors() == [
        ("early", None),
        ("late", "a"),
        ("inner", "b"),
        ("outer", "a"),
        ("job", "job"),
        ("after", None),
    ]


def test_savepoints_and_new_transactions(shop: Shop, connection: psycopg.Connection[Any]) -> None:
    with audit_toolkit.context(actor="a"):
        with connection.transaction():
            with connection.transaction(force_rollback=True):
                connection.execute(INSERT, ["undone"])
            connection.execute(INSERT, ["one"])
        with connection.transaction():
            connection.execute(INSERT, ["two"])
        with connection.transaction():
            connection.execute("savepoint s")
            connection.execute(INSERT, ["undone"])
            connection.execute("rollback to savepoint s")
            connection.execute(INSERT, ["three"])
    assert shop.actors() == [("one", "a"), ("two", "a"), ("three", "a")]


def test_what_a_savepoint_took_back_is_back(
    shop: Shop, connection: psycopg.Connection[Any]
) -> None:
    with connection.transaction():
        with audit_toolkit.context(actor="a"):
            connection.execute(INSERT, ["one"])
        with connection.transaction(force_rollback=True):
            connection.execute(INSERT, ["undone"])
        connection.execute(INSERT, ["two"])
    assert shop.actors() == [("one", "a"), ("two", None)]


def test_errors_are_the_same_and_the_connection_stays_usable(
    shop: Shop, connection: psycopg.Connection[Any]
) -> None:
    with audit_toolkit.context(actor="a"):
        connection.execute(INSERT, ["one"])
        connection.commit()
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            connection.execute(INSERT, ["one"])
        assert caught.value.diag.constraint_name == "orders_note_key"
        if not connection.autocommit:
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                connection.execute(INSERT, ["two"])
        connection.rollback()
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("insert into nothing values (1)")
        connection.rollback()
        with pytest.raises(psycopg.ProgrammingError, match="placeholder"):
            connection.execute(INSERT, ["a", "b"])
        connection.rollback()
        connection.execute(INSERT, ["three"])
        connection.commit()
    assert shop.actors() == [("one", "a"), ("three", "a")]


def test_queries_in_every_form(shop: Shop, connection: psycopg.Connection[Any]) -> None:
    with audit_toolkit.context(actor="a"):
        connection.execute(
            sql.SQL("insert into {} (note) values ('sql')").format(sql.Identifier("orders"))
        )
        connection.execute(b"insert into orders (note) values ('bytes')")
        connection.execute("insert into orders (note) values ('a;b');")
    connection.commit()
    assert shop.actors() == [("sql", "a"), ("bytes", "a"), ("a;b", "a")]


@pytest.mark.parametrize("factory", [psycopg.ClientCursor, psycopg.RawCursor])
def test_other_cursors(shop: Shop, factory: Any) -> None:
    connection = shop.database.connect(cursor_factory=factory)
    audit_toolkit.attach(connection)
    placeholder = "$1" if factory is psycopg.RawCursor else "%s"
    with audit_toolkit.context(actor="a"):
        connection.execute(f"insert into orders (note) values ({placeholder})", ["one"])
    assert shop.actors() == [("one", "a")]


def test_a_pipeline_of_ones_own(shop: Shop) -> None:
    connection = shop.database.connect(autocommit=False)
    audit_toolkit.attach(connection)
    with connection.pipeline():
        with audit_toolkit.context(actor="a"):
            first = connection.execute(INSERT, ["one"])
        connection.execute(INSERT, ["two"])
        assert first.fetchone() == (1,)
    connection.commit()
    assert shop.actors() == [("one", "a"), ("two", None)]


def test_copy_stream_and_scripts_in_a_transaction(shop: Shop) -> None:
    connection = shop.database.connect(autocommit=False)
    audit_toolkit.attach(connection)
    with audit_toolkit.context(actor="a"), connection.cursor() as cursor:
        with cursor.copy("copy orders (note) from stdin") as copy:
            copy.write_row(["copied"])
        connection.commit()
        assert list(cursor.stream(INSERT, ["streamed"])) == [(2,)]
        connection.commit()
        cursor.execute(
            "insert into orders (note) values ('1'); insert into orders (note) values ('2')"
        )
        connection.commit()
        cursor.execute("do $$begin insert into orders (note) values ('do'); end$$")
        connection.commit()
    notes = [("copied", "a"), ("streamed", "a"), ("1", "a"), ("2", "a"), ("do", "a")]
    assert shop.actors() == notes


def test_what_autocommit_cannot_carry_is_refused(shop: Shop) -> None:
    connection = shop.database.connect(autocommit=True)
    audit_toolkit.attach(connection)
    scripts = ["call p()", "do $$begin end$$", "delete from orders; delete from orders"]
    with audit_toolkit.context(actor="a"), connection.cursor() as cursor:
        for script in scripts:
            with pytest.raises(
                ContextError, match=r"in autocommit this .* cannot carry the context"
            ):
                cursor.execute(script)
        with pytest.raises(ContextError, match="this copy"), cursor.copy("copy orders from stdin"):
            pass
        with pytest.raises(ContextError, match="in autocommit"):
            audit_toolkit.apply_context(connection)
    connection.execute(scripts[2])  # nothing is claimed: nothing to refuse
    with audit_toolkit.context(actor="a"), connection.transaction():
        connection.execute("do $$begin insert into orders (note) values ('do'); end$$")
    assert shop.actors() == [("do", "a")]


def test_reads_send_nothing(shop: Shop) -> None:
    connection = shop.database.connect(autocommit=False)
    audit_toolkit.attach(connection)
    with audit_toolkit.context(actor="a"):
        assert connection.execute(SEEN).fetchone() == (None,)


def test_apply_context_is_for_what_is_not_seen(shop: Shop) -> None:
    connection = shop.database.connect(autocommit=False)
    with audit_toolkit.context(actor="a"):
        audit_toolkit.apply_context(connection)
        connection.execute("select order_by_phone('one')")
        connection.commit()
        connection.execute("select order_by_phone('two')")
        connection.commit()
    assert shop.actors() == [("one", "a"), ("two", None)]


def test_apply_context_and_attach_go_together(shop: Shop) -> None:
    connection = shop.database.connect(autocommit=False)
    audit_toolkit.attach(connection)
    audit_toolkit.attach(connection)
    with audit_toolkit.context(actor="a"):
        connection.execute(INSERT, ["one"])
        with audit_toolkit.context(actor="b"):
            audit_toolkit.apply_context(connection)
        connection.execute(INSERT, ["two"])
    connection.commit()
    assert shop.actors() == [("one", "a"), ("two", "a")]


@pytest.mark.parametrize("target", ["text", object()])
def test_only_connections_and_engines(target: Any) -> None:
    with pytest.raises(ContextError, match="cannot attach to a"):
        audit_toolkit.attach(target)
    with pytest.raises(ContextError, match="cannot send the context through a"):
        audit_toolkit.apply_context(target)


def test_a_connection_has_no_strategies(shop: Shop) -> None:
    with pytest.raises(ContextError, match="Connection with strategy 'eager'"):
        audit_toolkit.attach(shop.database.connect(), strategy="eager")


HOSTILE = [
    'it\'s "quoted" \\ %s %% $1 */ -- /* :name {}',
    "\t\n\r\x01\x7f\u2028\U0001f600",
    {"numbers": [1, -0.5, 1.5e-7, 12345678901234567890], "nested": {"'": None, "*/": True}},
]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_are_stored_exactly(
    shop: Shop, connection: psycopg.Connection[Any], value: Any
) -> None:
    with audit_toolkit.context(reason=value):
        connection.execute(INSERT, ["one"])
        connection.commit()
    stored = shop.database.execute("select context from audit.logged_actions")
    assert stored == [({"reason": value},)]


Work = Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]]


async def connected(shop: Shop, work: Work, *, autocommit: bool) -> None:
    async with await psycopg.AsyncConnection.connect(shop.dsn, autocommit=autocommit) as connection:
        audit_toolkit.attach(connection)
        await work(connection)


@pytest.mark.parametrize("autocommit", [False, True])
def test_async_connections(shop: Shop, autocommit: bool) -> None:
    async def work(connection: psycopg.AsyncConnection[Any]) -> None:
        with audit_toolkit.context(actor="a"):
            cursor = await connection.execute(INSERT, ["one"])
            assert await cursor.fetchall() == [(1,)]
            await connection.commit()
            with pytest.raises(psycopg.errors.UniqueViolation):
                await connection.execute(INSERT, ["one"])
            await connection.rollback()
            async with connection.transaction():
                async with connection.transaction(force_rollback=True):
                    await connection.execute(INSERT, ["undone"])
                audit_toolkit.set_actor("b")
                await cursor.executemany(INSERT, [["two"], ["three"]])
        async with connection.transaction():
            await connection.execute(INSERT, ["four"])

    run(connected(shop, work, autocommit=autocommit))
    assert shop.actors() == [("one", "a"), ("two", "b"), ("three", "b"), ("four", None)]


def test_async_copy_stream_scripts_and_apply(shop: Shop) -> None:
    async def work(connection: psycopg.AsyncConnection[Any]) -> None:
        with audit_toolkit.context(actor="a"):
            async with connection.cursor() as cursor:
                async with cursor.copy("copy orders (note) from stdin") as copy:
                    await copy.write_row(["copied"])
                await connection.commit()
                assert [row async for row in cursor.stream(INSERT, ["streamed"])] == [(2,)]
                await connection.commit()
            await connection.execute("delete from receipts; delete from orders where id = 1")
            await connection.commit()
            await audit_toolkit.apply_context(connection)
            await connection.execute("select order_by_phone('phoned')")

    run(connected(shop, work, autocommit=False))
    assert shop.actors() == [("copied", "a"), ("streamed", "a"), ("copied", "a"), ("phoned", "a")]


def test_async_autocommit_refuses_as_sync_does(shop: Shop) -> None:
    async def work(connection: psycopg.AsyncConnection[Any]) -> None:
        with audit_toolkit.context(actor="a"):
            with pytest.raises(ContextError, match="this do cannot"):
                await connection.execute("do $$begin end$$")
            with pytest.raises(ContextError, match="in autocommit"):
                await audit_toolkit.apply_context(connection)

    run(connected(shop, work, autocommit=True))
