"""Inheritance trees: each table is captured by triggers of its own, row by row."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from audit_toolkit.capture.baseline import take_locked_baseline
from audit_toolkit.capture.drift import audited_tables
from audit_toolkit.catalog.trail import read_trail_objects
from audit_toolkit.config import Capture
from audit_toolkit.drift import find_drift
from audit_toolkit.errors import RuleError
from audit_toolkit.trail import Selection, apply_restore, apply_revert
from tests.plugins.trail import SCHEMA, Trail

CITIES = """
    create table cities (id int primary key, name text);
    create table capitals (country text, primary key (id)) inherits (cities);
"""


def events(trail: Trail) -> list[tuple[str, str, str | None]]:
    return [(e["table_name"], e["action"], e["row_key"]) for e in trail.events()]


def findings(trail: Trail) -> list[tuple[str, str]]:
    objects = read_trail_objects(trail.connection, SCHEMA)
    tables = {name: trail.table(name.plain) for name in audited_tables(objects)}
    return [(finding.kind, finding.subject) for finding in find_drift(objects, tables)]


def test_a_change_through_the_parent_is_recorded_where_the_row_is(trail: Trail) -> None:
    trail.execute(CITIES)
    trail.audit("cities")
    trail.audit("capitals")
    trail.execute(
        "insert into cities values (1, 'Ulm'); insert into capitals values (2, 'Bern', 'CH')"
    )
    trail.execute("update cities set name = upper(name)")
    trail.execute("delete from cities where id = 2; truncate cities")
    assert events(trail) == [
        ("cities", "I", "1"),
        ("capitals", "I", "2"),
        ("cities", "U", "1"),
        ("capitals", "U", "2"),
        ("capitals", "D", "2"),
        ("cities", "T", None),
        ("capitals", "T", None),
    ]
    assert findings(trail) == []


def test_a_child_without_capture_is_found(trail: Trail) -> None:
    trail.execute(CITIES)
    trail.audit("cities")
    trail.execute(
        "create table towns () inherits (cities); create table villages () inherits (towns)"
    )
    assert findings(trail) == [
        ("heir_not_audited", "public.capitals"),
        ("heir_not_audited", "public.towns"),
        ("heir_not_audited", "public.villages"),
    ]


@pytest.mark.parametrize("table", ["cities", "capitals"])
def test_statement_capture_is_refused_in_a_tree(trail: Trail, table: str) -> None:
    trail.execute(CITIES)
    with pytest.raises(RuleError, match="inheritance tree"):
        trail.audit(table, capture=Capture.STATEMENT)


def test_a_tree_that_grew_under_statement_capture_is_found(trail: Trail) -> None:
    trail.execute("create table cities (id int primary key, name text)")
    trail.audit("cities", capture=Capture.STATEMENT)
    trail.execute("create table towns () inherits (cities)")
    assert findings(trail) == [
        ("statement_in_tree", "public.cities"),
        ("heir_not_audited", "public.towns"),
    ]
    trail.execute("insert into towns values (1, 'Rye'); update cities set name = 'Wye'")
    trail.audit("cities")
    assert events(trail) == [("cities", "U", "1"), ("cities", "G", None)]
    assert "rows of other tables" in trail.events()[-1]["new_row"]["reason"]


def test_a_baseline_takes_the_rows_of_the_table_itself(trail: Trail) -> None:
    trail.execute("create table a (n int); create table b () inherits (a)")
    trail.execute("insert into a values (1); insert into b values (2)")
    trail.audit("a")
    take_locked_baseline(trail.connection, trail.target("a"), SCHEMA)
    assert [event["new_row"] for event in trail.events()] == [{"n": 1}]


def test_rows_of_a_child_are_not_those_of_the_parent(trail: Trail) -> None:
    trail.execute(CITIES)
    trail.audit("cities")
    trail.audit("capitals")
    trail.execute("""
        insert into cities values (1, 'Ulm'), (2, 'Bonn');
        insert into capitals values (2, 'Bern', 'CH'), (3, 'Rome', 'IT')
    """)
    assert trail.execute("select * from audit.table_at(null::cities, now())") == [
        (1, "Ulm"),
        (2, "Bonn"),
    ]
    assert trail.execute("select * from audit.row_at(null::cities, '3', now())") == []
    trail.execute(
        "update only cities set name = 'Bonna' where id = 2; delete from only cities where id = 1"
    )
    newest = [event["event_id"] for event in trail.events()][-2:]
    apply_revert(trail.connection, Selection(event_ids=tuple(newest)))
    rows = "select tableoid::regclass::text, id, name from cities order by 2, 3"
    assert trail.execute(rows) == [
        ("cities", 1, "Ulm"),
        ("capitals", 2, "Bern"),
        ("cities", 2, "Bonn"),
        ("capitals", 3, "Rome"),
    ]
    apply_restore(trail.connection, "cities", 2, at=datetime(2020, 1, 1, tzinfo=UTC))
    assert [row for row in trail.execute(rows) if row[1] == 2] == [("capitals", 2, "Bern")]


def test_a_table_without_a_key_is_whole_without_the_rows_of_its_children(trail: Trail) -> None:
    trail.execute("create table notes (note text); create table more () inherits (notes)")
    trail.audit("notes")
    trail.audit("more")
    trail.execute("insert into notes values ('a'); insert into more values ('b')")
    assert trail.execute("select * from audit.table_at(null::notes, now())") == [("a",)]
