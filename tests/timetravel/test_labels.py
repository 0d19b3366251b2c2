"""A label of an enum that was renamed changes rows, and perhaps their keys, without an event: that is said."""

from __future__ import annotations

import pytest

from tests.moving.words import findings, kinds, mend, run
from tests.plugins.trail import Trail, warnings

MOODS = """
    create type mood as enum ('sad', 'happy');
    create domain feeling as mood;
    create table moods (m mood, n int, v text, primary key (m, n));
    create table walls (id int primary key, felt feeling[])
"""
AT = "select * from audit.table_at(null::{}, clock_timestamp())"
RENAMED = "labels of an enum"


@pytest.fixture
def moods(trail: Trail) -> Trail:
    trail.execute(MOODS)
    for table in ("moods", "walls"):
        trail.audit(table)
    trail.execute("""
        insert into moods values ('sad', 1, 'a'), ('happy', 2, 'b');
        insert into walls values (1, '{sad}')
    """)
    assert findings(trail) == []
    return trail


@pytest.mark.parametrize("noted", [False, True], ids=["not noted", "noted"])
def test_a_label_that_is_used_again_is_said_until_a_baseline(moods: Trail, noted: bool) -> None:
    moods.execute("alter type mood rename value 'sad' to 'blue'")
    moods.execute("alter type mood add value 'sad'")
    moods.execute("delete from moods where n = 2")
    if noted:
        assert moods.execute("select audit.note_changes()") == [(2,)]
        assert moods.execute("select audit.note_changes()") == [(0,)]
    for table, key in (("moods", '["sad", 1]'), ("walls", "1")):
        said = run(moods, "row-at", table, key, "--at", "now").stderr
        assert RENAMED in said
        assert warnings(moods, f"select from audit.history('{table}', '{key}')") != []
    assert kinds(moods) == ["labels_renamed", "labels_renamed"]
    mend(moods)
    assert findings(moods) == []
    for table in ("moods", "walls"):
        assert warnings(moods, AT.format(table)) == []
        assert moods.execute(AT.format(table)) == moods.execute(f"table {table}")
    assert run(moods, "reconcile").exit_code == 0


def test_other_changes_of_enums_are_none(moods: Trail) -> None:
    moods.execute("""
        alter type mood add value 'angry' before 'sad'; alter type mood rename to state;
        alter domain feeling rename to felt; create schema types; alter type state set schema types
    """)
    assert "labels_renamed" not in kinds(moods)
    moods.execute("alter table walls add more types.state; select audit.note_changes()")
    assert "labels_renamed" not in kinds(moods)
    assert [action for action, _ in moods.story() if action == "G"] == []
