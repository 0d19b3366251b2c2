"""`audit publication`: the revision, what a consumer of pgoutput gets of it, and what `audit check` says of it."""

from __future__ import annotations

import json
import runpy
import shlex
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_toolkit.demo.cluster import throwaway_cluster
from tests.plugins.command import Audit
from tests.plugins.docs import blocks
from tests.plugins.project import Shop
from tests.plugins.trail import Trail, audit, install_trail

Connection = psycopg.Connection[Any]
SLOT = "select pg_create_logical_replication_slot('audit_out', 'pgoutput')"


class TestRevision:
    def test_up_down_and_dropped(self, shop: Shop) -> None:
        assert shop.audit("install", "--table", "orders").code == 0
        wrote = shop.audit("publication")
        assert wrote.code == 0
        assert "wal_level is replica, and a slot needs logical" in wrote.err
        assert f'psql -c "{SLOT}"' in wrote.err
        assert "not applied yet: alembic upgrade head" in shop.audit("publication").err
        assert len(shop.revisions()) == 3
        shop.upgrade()
        assert published(shop.database.connection) == [
            ("audit_out", False, True, False, False, False, True)
        ]
        assert "is there already" in shop.audit("publication").err
        assert shop.audit("check").code == 0
        shop.downgrade("-1")
        assert published(shop.database.connection) == []
        assert shop.audit("check").code == 0
        shop.upgrade()
        ended = shop.audit("publication", "--drop", "--upgrade")
        assert ended.code == 0, ended.text
        assert published(shop.database.connection) == []
        assert shop.audit("publication", "--drop").code == 2
        shop.downgrade("-1")
        assert len(published(shop.database.connection)) == 1

    def test_the_slot_gets_a_name_that_a_slot_may_have(self, shop: Shop) -> None:
        assert shop.audit("install", "--table", "orders").code == 0
        wrote = shop.audit("publication", "Feed für 'alle'")
        assert wrote.code == 0
        assert "pg_create_logical_replication_slot('feed_f_r__alle_', 'pgoutput')\"" in wrote.err

    @pytest.mark.thorough
    def test_what_was_lost_is_written_again(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders")
        shop.audit("publication", "feed")
        shop.upgrade()
        shop.database.execute("drop publication feed")
        found = shop.audit("check")
        assert found.code == 3
        assert "publication_missing; remedy: audit publication feed --upgrade" in found.out
        again = shop.audit("publication", "feed", "--upgrade")
        assert again.code == 0, again.text
        assert shop.audit("check").code == 0

    def test_dry_run_writes_nothing(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders")
        shown = shop.audit("publication", "--dry-run")
        assert "Creates the publication audit_out of audit.logged_actions alone" in shown.out
        assert len(shop.revisions()) == 2


class TestSql:
    def test_in_another_schema_and_with_a_hostile_name(self, trail: Trail, audit: Audit) -> None:
        name = "out\"; drop table x; --'%s"
        script = audit("publication", name, "--sql", code=0)
        trail.execute(script.stdout)
        assert [row[0] for row in published(trail.connection)] == [name]
        assert "is there already" in audit("publication", name, "--sql", code=0).stderr
        trail.execute(audit("publication", name, "--drop", "--sql", code=0).stdout)
        assert published(trail.connection) == []

    def test_what_it_refuses(self, trail: Trail, audit: Audit) -> None:
        trail.execute("create publication audit_out for all tables")
        refused = audit("publication", "--sql", code=2)
        assert (
            "already has a publication audit_out, which the toolkit did not create"
            in refused.stderr
        )
        assert (
            "has no publication audit_out" in audit("publication", "--drop", "--sql", code=2).stderr
        )
        missing = audit("publication", "--sql", "--audit-schema", "nowhere", code=2)
        assert "no audit trail in the schema nowhere" in missing.stderr
        assert "cannot be the name" in audit("publication", "x" * 64, "--sql", code=2).stderr


def test_in_a_django_project(trail: Trail, audit: Audit, tmp_path: Path) -> None:
    (tmp_path / "shop" / "migrations").mkdir(parents=True)
    wrote = audit("publication", "--django", "shop", code=0)
    assert "python manage.py migrate shop" in wrote.stderr
    [file] = (tmp_path / "shop" / "migrations").glob("0001_*.py")
    names = runpy.run_path(str(file))
    for statement in names["PUBLISH_TRAIL"]:
        trail.execute(statement)
    assert len(published(trail.connection)) == 1
    assert "is there already" in audit("publication", "--django", "shop", code=0).stderr
    audit("publication", "--drop", "--django", "shop", code=0)
    assert len(list((tmp_path / "shop" / "migrations").glob("0002_*.py"))) == 1


CHANGES = {
    "drop table audit.logged_actions": "the trail is not part of it",
    "set (publish = 'delete')": "it publishes no inserts",
    "set (publish = 'insert, update, truncate')": "it also publishes update, truncate",
    "set (publish_via_partition_root = false)": "it names partitions instead of the trail",
}


@pytest.mark.parametrize("change", CHANGES)
def test_check_finds_what_was_altered(trail: Trail, audit: Audit, change: str) -> None:
    trail.execute(audit("publication", "--sql").stdout)
    assert "publication" not in audit("check").stdout
    trail.execute(f"alter publication audit_out {change}")
    found = audit("check", "--format", "json", code=3)
    [finding] = [
        f for f in json.loads(found.stdout)["findings"] if f["kind"] == "publication_changed"
    ]
    assert CHANGES[change] in finding["message"]
    trail.execute(shlex.split(finding["remedy"])[2])
    assert "publication" not in audit("check").stdout


@pytest.mark.pg(">= 15")
@pytest.mark.parametrize("part", [" (event_id, action)", " where (action = 'I')"])
def test_check_finds_that_a_part_is_left_out(trail: Trail, audit: Audit, part: str) -> None:
    trail.execute(audit("publication", "--sql").stdout)
    trail.execute(f"alter publication audit_out set table audit.logged_actions{part}")
    found = audit("check", code=3).stdout
    assert "leaves out rows or columns" in found
    trail.execute("alter publication audit_out set table audit.logged_actions")
    assert "publication" not in audit("check").stdout


def published(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select pubname, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot"
        " from pg_publication order by 1"
    ).fetchall()


@dataclass
class Feed:
    """What pgoutput sent: the tables it named, and each row by its columns."""

    tables: dict[int, tuple[str, list[str]]] = field(default_factory=dict)
    rows: list[dict[str, str | None]] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    """The tables of these rows."""
    kinds: set[str] = field(default_factory=set)

    def take(self, message: bytes) -> None:
        """One message of the protocol, as PostgreSQL's documentation has it."""
        kind = chr(message[0])
        self.kinds.add(kind)
        if kind == "R":
            self._relation(message)
        elif kind == "I":
            (oid,) = struct.unpack_from("!I", message, 1)
            table, names = self.tables[oid]
            self.named.add(table)
            self.rows.append(dict(zip(names, _values(message, 6), strict=True)))

    def _relation(self, message: bytes) -> None:
        (oid,) = struct.unpack_from("!I", message, 1)
        schema, table, rest = message[5:].split(b"\0", 2)
        (number,) = struct.unpack_from("!H", rest, 1)
        names, at = [], 3
        for _ in range(number):
            end = rest.index(b"\0", at + 1)
            names.append(rest[at + 1 : end].decode())
            at = end + 9
        self.tables[oid] = (f"{schema.decode()}.{table.decode()}", names)


def _values(message: bytes, at: int) -> Iterator[str | None]:
    (number,) = struct.unpack_from("!H", message, at)
    at += 2
    for _ in range(number):
        kind, at = chr(message[at]), at + 1
        if kind == "n":
            yield None
            continue
        assert kind == "t", (
            "an event has all its values, also those that are stored outside of the row"
        )
        (size,) = struct.unpack_from("!I", message, at)
        yield message[at + 4 : at + 4 + size].decode()
        at += 4 + size


def peek(connection: Connection) -> Feed:
    """All that the slot has."""
    feed = Feed()
    query = (
        "select data from pg_logical_slot_peek_binary_changes('audit_out', null, null,"
        " 'proto_version', '1', 'publication_names', 'audit_out')"
    )
    for (data,) in connection.execute(query):
        feed.take(data)
    return feed


@pytest.fixture
def logical() -> Iterator[Connection]:
    """A server of its own that decodes its WAL, with an audited table."""
    with throwaway_cluster(settings={"wal_level": "logical"}) as cluster:
        install_trail(cluster.dsn())
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("create table orders (id int primary key, note text)")
            audit(connection, "orders")
            yield connection


def test_what_a_consumer_of_pgoutput_gets(logical: Connection, audit: Audit) -> None:
    """In order, whole, from whatever partition, as one table; a redaction goes through, and is not sent."""
    dsn = f"postgresql://postgres@127.0.0.1:{logical.info.port}/postgres"
    asked = audit("publication", "--sql", "--dsn", dsn, code=0)
    assert "wal_level" not in asked.stderr
    assert "max_slot_wal_keep_size is not set" in asked.stderr
    for statement in (asked.stdout, SLOT, "insert into orders values (0, 'seen')"):
        logical.execute(statement)
    big = "".join(str(n) for n in range(20_000))  # beyond what a row holds
    with logical.transaction():
        logical.execute("insert into orders values (1, %s)", [big])
        logical.execute("update orders set id = 2 where id = 1")
    with logical.transaction(force_rollback=True):
        logical.execute("delete from orders")
    logical.execute("select audit.record_event('order.seen', '{\"n\": 1}', 'orders', '2')")
    logical.execute("delete from orders where id = 2")
    logical.execute(
        "insert into audit.logged_actions (schema_name, table_name, action, row_key, action_tstamp)"
        " values ('public', 'orders', 'D', '7', '1999-01-01')"  # in another partition
    )
    leaves = "select inhrelid::regclass from pg_inherits where inhparent = 'audit.logged_actions'::regclass"
    for (table,) in [("audit.logged_actions",), *logical.execute(leaves).fetchall()]:
        logical.execute(f"alter table only {table} disable trigger user")
    logical.execute("update audit.logged_actions set new_row = '{}' where action = 'U'")
    feed = peek(logical)
    expected = logical.execute(
        "select event_id::text, action, row_key from audit.logged_actions"
        " where table_name = 'orders' and row_key is not null order by event_id"
    ).fetchall()
    assert [(r["event_id"], r["action"], r["row_key"]) for r in feed.rows] == expected
    assert "".join(str(r["action"]) for r in feed.rows) == "IIUEDD"
    assert feed.named == {"audit.logged_actions"}
    assert not feed.kinds & {"U", "D", "T"}
    gone = next(row for row in feed.rows if row["action"] == "D")
    assert json.loads(gone["old_row"] or "")["note"] == big
    older = audit("publication", "other", "--sql", "--dsn", dsn, code=0)
    assert "the slot audit_out is there already" in older.stderr
    logical.execute("select pg_drop_replication_slot('audit_out')")
    for _, columns in feed.tables.values():
        configurations_name(set(columns))


def configurations_name(columns: set[str]) -> None:
    """The configurations in the docs name columns, the publication and the table as they are."""
    configurations = [json.loads(block)["config"] for block in blocks("debezium", "json")]
    assert len(configurations) == 2
    for config in configurations:
        assert config["publication.name"] == "audit_out"
        assert config["table.include.list"] == "audit.logged_actions"
        router = "transforms.outbox."
        named = [
            *(v for k, v in config.items() if k.startswith(f"{router}table.field.event.")),
            *(
                part.partition(":")[0]
                for part in config.get(f"{router}table.fields.additional.placement", "").split(",")
                if part
            ),
            *([config[f"{router}route.by.field"]] if f"{router}route.by.field" in config else []),
            *config.get("message.key.columns", ":").partition(":")[2].split(","),
        ]
        assert {name for name in named if name} <= columns
        assert len([name for name in named if name]) >= 3
