"""`audit blame`: of rows that moved, are gone or never were, and over gaps in capture."""

from __future__ import annotations

import json

import pytest

from audit_toolkit import trail as verbs
from tests.plugins.trail import Trail
from tests.timetravel.words import Audit, say


@pytest.fixture
def rows(trail: Trail) -> Trail:
    trail.execute("create table rows (id int primary key, v text, w int)")
    trail.audit("rows")
    say(trail, actor="alice")
    trail.execute("insert into rows values (1, 'a', 1)")
    return trail


def setters(trail: Trail, key: object = 1) -> dict[str, str | None]:
    origins = verbs.blame(trail.connection, "rows", key)
    return {o.column: o.event.actor if o.event else None for o in origins}


def test_what_is_put_back_in_one_transaction_lives_on(rows: Trail, audit: Audit) -> None:
    """So a row gets into another partition: as a deletion and an insertion of one key."""
    say(rows, actor="bob")
    with rows.connection.transaction():
        rows.execute("delete from rows; insert into rows values (1, 'a', 2)")
    assert setters(rows) == {"id": "alice", "v": "alice", "w": "bob"}
    lines = audit("history", "rows", "1").stdout.splitlines()
    assert [line.partition(" UTC  ")[2].split(" by")[0] for line in lines if "●" in line] == [
        "inserted",
        "deleted",
        "inserted again",
    ]
    assert lines[-1] == "│   w  1 → 2"


def test_what_another_transaction_inserts_is_another_life(rows: Trail) -> None:
    say(rows, actor="bob")
    rows.execute("delete from rows")
    rows.execute("insert into rows values (1, 'a', 1)")
    assert setters(rows) == {"id": "bob", "v": "bob", "w": "bob"}


def test_a_deleted_row_is_said_to_be_gone(rows: Trail, audit: Audit) -> None:
    say(rows, actor="bob")
    rows.execute("delete from rows")
    done = audit("blame", "rows", "1")
    assert "note: the row was deleted (bob, " in done.stderr
    assert done.stderr.endswith("; these are its last values\n")
    assert done.stdout.startswith("id  1  (alice, ")
    number = rows.events()[-1]["event_id"]
    answer = json.loads(audit("blame", "rows", "1", "--format", "json").stdout)
    assert answer["gone_event_id"] == number
    rows.execute("insert into rows values (1, 'b', 1)")
    assert (
        json.loads(audit("blame", "rows", "1", "--format", "json").stdout)["gone_event_id"] is None
    )
    rows.execute("truncate rows")
    assert "the row was truncated away (bob, " in audit("blame", "rows", "1").stderr


def test_a_row_that_never_was(rows: Trail, audit: Audit) -> None:
    done = audit("blame", "rows", "99", code=2)
    assert "error: no such row in the trail: public.rows 99" in done.stderr
    assert "note: no such row in the trail: public.rows 99" in audit("history", "rows", "99").stderr


def test_gaps_are_told(rows: Trail, audit: Audit) -> None:
    audit("pause", "--table", "rows", "--reason", "import")
    rows.execute("update rows set v = 'b'")
    audit("resume", "--table", "rows", "--reason", "import")
    said = audit("blame", "rows", "1").stderr
    assert "warning: capture was paused at " in said
    assert "warning: capture was resumed at " in said
