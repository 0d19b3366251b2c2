"""Names that try to be SQL: capture is installed, works, is found in the trail, and goes without a trace."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from audit_toolkit import names
from audit_toolkit.capture import render
from audit_toolkit.catalog import read_relations
from audit_toolkit.config import Capture, Store, TableRule, Truncate
from audit_toolkit.names import QualifiedName
from tests.plugins.database import Connection
from tests.plugins.proofs import ShowFigures
from tests.plugins.trail import Trail
from tests.proofs.bench import install, release

BATCH = 25
"""Tables that are there at the same time."""

PIECES = (
    '"', "'", "''", "\\", "\\'", "$$", "$capture$", "$body$", "$1", ";", "--", "/*", "*/", "\n", "\r\n", "\t", "\x7f",
    "%", "%s", "%(x)s", "%I", ":x", "::", "{{ 7 }}", "{% x %}", "{#", "#}", "{}", "\u00e9", "\U0001f418", "\u202e",
    "\u200b", "\ufeff", "\u00df", "select", "table", "user", "Order", "a b", ".", "..", "public.", "pg_", "audit",
    "logged_actions", "new", "old", "row_before", "row_after", "changed", "gone", "number", "image", "U&", "E'", "?",
    "`", "1", "_", "x" * 20, "drop table canary", "'); drop table canary; --", '"; drop table canary; --',
    "$$; drop table canary; $$", "$capture$; drop table canary; --", "*/ drop table canary; /*",
    "\n; drop table public.canary; --",
)  # fmt: skip
"""What hostile names are made of."""

COLUMNS = ("changed", "gone", "image", "number", "row_before", "row_after", "new_rows", "old_rows", "key_before",
           "before", "after", "captured", "paired", "kept", "context", "query", "event_id", "tg_op", "new", "old",
           "session_user_name", "role_name", "key", "value", "stand_ins", "row_gone", "00_audit")  # fmt: skip
"""Names of columns that mean something in the code that is generated."""

LEFT = """
    select 'function ' || oid::regprocedure::text from pg_proc where pronamespace::regnamespace::text not in
        ('pg_catalog', 'information_schema')
    union all select 'relation ' || oid::regclass::text from pg_class where relnamespace::regnamespace::text not in
        ('pg_catalog', 'information_schema', 'pg_toast')
    union all select 'trigger ' || tgname || tgrelid::regclass::text from pg_trigger
    union all select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_(toast_)?temp'
    order by 1
"""


RULES = [
    TableRule(capture=capture, store=store, truncate=truncate)
    for truncate in (Truncate.EVENT, Truncate.ROWS)
    for store in Store
    for capture in (Capture.ROW, Capture.STATEMENT)
    if store is not Store.DELTA or capture is Capture.ROW
]


@dataclass(frozen=True, slots=True)
class Hostile:
    """A table all of whose names are hostile."""

    name: QualifiedName
    key: str
    column: str

    @property
    def typed(self) -> str:
        """Its name as somebody types it."""
        return self.identifier.as_string()

    @property
    def identifier(self) -> sql.Identifier:
        """Its name, quoted by psycopg and not by us."""
        return sql.Identifier(self.name.schema, self.name.name)


def hostile_name(chance: random.Random) -> str:
    """A name of at most 63 bytes, often of exactly that many."""
    pieces = "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 6)))
    if chance.random() < 0.2:
        pieces += chance.choice(("x", "\u00e9", "\U0001f418")) * 63
    return pieces.encode()[:63].decode(errors="ignore")


def hostile_tables(count: int, seed: int) -> list[Hostile]:
    """Tables in as many schemas as there are batches; a third of them differ in their last character only."""
    chance = random.Random(seed)
    found: dict[QualifiedName, Hostile] = {}
    while len(found) < count:
        schema = "s" + hostile_name(chance).encode()[:62].decode(errors="ignore")
        name = hostile_name(chance)
        for variant in (name, name[:-1] + "y", name.swapcase())[: chance.choice((1, 3))]:
            columns = (
                chance.sample(COLUMNS, 2)
                if chance.random() < 0.5
                else [hostile_name(chance) for _ in "ab"]
            )
            if len({*columns}) == 2 and len(variant.encode()) <= 63:
                hostile = Hostile(QualifiedName(schema, variant), *columns)
                found[hostile.name] = hostile
    return list(found.values())[:count]


def create(connection: Connection, table: Hostile) -> None:
    schema, key, column = map(sql.Identifier, (table.name.schema, table.key, table.column))
    connection.execute(sql.SQL("create schema if not exists {}").format(schema))
    connection.execute(
        sql.SQL("create table {} ({} text primary key, {} text)").format(
            table.identifier, key, column
        )
    )


def change(connection: Connection, table: Hostile) -> None:
    """Insert, update, change the key, delete, and truncate."""
    parts = {
        "t": table.identifier,
        "k": sql.Identifier(table.key),
        "c": sql.Identifier(table.column),
    }
    for statement in (
        "insert into {t} values ('a', '1'), ('b', '2')",
        "update {t} set {c} = '3' where {k} = 'a'",
        "update {t} set {k} = 'c' where {k} = 'b'",
        "delete from {t} where {k} = 'a'",
        "truncate {t}",
    ):
        connection.execute(sql.SQL(statement).format(**parts))


def require_story(connection: Connection, table: Hostile, rule: TableRule) -> None:
    """Check that the trail tells what `change` did, under the table's own name."""
    key, column = table.key, table.column
    found = connection.execute(
        "select action, row_key, old_row_key, old_row, new_row from audit.logged_actions"
        " where schema_name = %s and table_name = %s order by event_id",
        (table.name.schema, table.name.name),
    ).fetchall()
    whole = rule.store is not Store.CHANGES
    if rule.store is Store.DELTA:  # one in so many is stored whole
        action, row_key, old_row_key, old, new = found[2]
        found[2] = (action, row_key, old_row_key, {key: "a"} | old, {key: "a"} | new)
    gone = ("D", "c", None, {key: "c", column: "2"}, None)
    emptied = [gone] if rule.truncate is Truncate.ROWS else []
    assert found == [
        ("I", "a", None, None, {key: "a", column: "1"}),
        ("I", "b", None, None, {key: "b", column: "2"}),
        ("U", "a", None, {key: "a", column: "1"}, {column: "3"} | ({key: "a"} if whole else {})),
        ("U", "c", "b", {key: "b", column: "2"}, {key: "c"} | ({column: "2"} if whole else {})),
        ("D", "a", None, {key: "a", column: "3"}, None),
        *emptied,
        ("T", None, None, None, None),
    ], table


def batches(tables: Sequence[Hostile]) -> Iterator[Sequence[Hostile]]:
    for start in range(0, len(tables), BATCH):
        yield tables[start : start + BATCH]


def run(connection: Connection, tables: Sequence[Hostile]) -> None:
    """All tables of a batch at once: install, change, look, remove; fails when something is left or lost."""
    before = connection.execute(LEFT).fetchall()
    rules = [RULES[number % len(RULES)] for number in range(len(tables))]
    for table in tables:
        create(connection, table)
    relations = read_relations(connection)
    for table, rule in zip(tables, rules, strict=True):
        install(connection, table.typed, rule, relations)
    for table in tables:
        change(connection, table)
    for table, rule in zip(tables, rules, strict=True):
        require_story(connection, table, rule)
        comments = connection.execute(
            "select obj_description(oid, 'pg_proc')::jsonb -> 'table' from pg_proc where proname = %s",
            (names.capture_function(table.name),),
        ).fetchall()
        assert comments == [([table.name.schema, table.name.name],)]
        release(connection, table.typed, relations)
    for schema in {table.name.schema for table in tables}:
        connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))
    assert connection.execute(LEFT).fetchall() == before
    assert connection.execute("select * from public.canary").fetchall() == [("alive",)]


@pytest.fixture
def coal_mine(trail: Trail) -> Trail:
    trail.execute("create table public.canary as select 'alive' as state")
    return trail


def test_hostile_names_are_only_names(
    coal_mine: Trail, pytestconfig: pytest.Config, show_figures: ShowFigures
) -> None:
    tables = hostile_tables(pytestconfig.getoption("--hostile-names"), seed=63)
    for batch in batches(tables):
        run(coal_mine.connection, batch)
    show_figures(f"{len(tables)} tables with hostile names; nothing left, nothing lost")


def test_control_names_that_are_cut_collide(
    coal_mine: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "capture_function", lambda table: f"capture_{table.name}"[:63])
    tables = [Hostile(QualifiedName("s", "x" * 62 + last), "k", "c") for last in "ab"]
    with pytest.raises((AssertionError, psycopg.Error)):
        run(coal_mine.connection, tables)


def test_control_names_that_are_not_quoted_are_found(
    coal_mine: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "quote_identifier", lambda name: names.Sql(f'"{name}"'))
    table = Hostile(QualifiedName("s", 'x"; drop table public.canary; --'), "k", "c")
    with pytest.raises((AssertionError, psycopg.Error)):
        run(coal_mine.connection, [table])
