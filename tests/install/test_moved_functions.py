"""Capture functions and trails that somebody moved or renamed: `audit check` names them, and moves them back."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from audit_toolkit.capture.drift import audited_tables
from audit_toolkit.catalog.trail import read_trail_objects
from audit_toolkit.config import Capture, Mask
from audit_toolkit.drift import find_drift
from audit_toolkit.findings import Finding, FindingKind
from tests.plugins.trail import SCHEMA, Trail

PEOPLE = "create schema app; create table people (id int primary key, name text, note text)"
FUNCTION = "audit.capture_public__people"
MOVES = {
    "schema": f"alter function {FUNCTION}() set schema app",
    "name": f"alter function {FUNCTION}() rename to mine",
    "name like ours": f"alter function {FUNCTION}() rename to capture_other",
    "schema and name": f"""
        alter function {FUNCTION}() set schema app;
        alter function app.capture_public__people() rename to "it's mine"
    """,
    "another in its place": f"""
        alter function {FUNCTION}() set schema app;
        create function {FUNCTION}() returns trigger language plpgsql as 'begin return null; end'
    """,
}
RULES = pytest.mark.parametrize(
    "rule",
    [{"exclude": ("note",)}, {"mask": (Mask(column="note"),), "capture": Capture.STATEMENT}],
    ids=["row", "statement"],
)


def found_in(trail: Trail) -> list[Finding]:
    objects = read_trail_objects(trail.connection, SCHEMA)
    tables = {name: trail.table(name.plain) for name in audited_tables(objects)}
    return find_drift(objects, tables)


def carry_out(trail: Trail, finding: Finding) -> None:
    program, option, statement = shlex.split(finding.remedy)
    assert (program, option) == ("psql", "-c")
    trail.execute(statement)


@RULES
@pytest.mark.parametrize("how", MOVES)
def test_a_capture_function_that_was_moved_goes_on_and_is_moved_back(
    trail: Trail, how: str, rule: dict[str, Any]
) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", **rule)
    writer = trail.database.connect()
    for number, connection in enumerate((writer, trail.connection)):
        connection.execute(f"insert into people values ({number}, 'ann', 'xyz')")
    trail.execute(MOVES[how])
    for number, connection in enumerate((writer, trail.connection), 2):
        connection.execute(f"insert into people values ({number}, 'bea', 'xyz')")
    [moved] = found_in(trail)
    assert (moved.kind, moved.subject) == (FindingKind.FUNCTION_MOVED, "public.people")
    carry_out(trail, moved)
    assert found_in(trail) == []
    writer.execute("insert into people values (4, 'cid', 'xyz')")
    assert trail.story() == [("I", str(number)) for number in range(5)]
    assert not trail.execute("select from audit.logged_actions as e where e::text like '%xyz%'")


def test_a_capture_function_that_was_moved_hides_nothing_else_that_is_wrong(trail: Trail) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", exclude=("note",))
    trail.execute(MOVES["schema and name"])
    trail.execute("""
        drop trigger "00_audit_row" on people;
        create trigger "00_audit_row" after update on people for each row execute function app."it's mine"();
        drop trigger "00_audit_truncate" on people;
        create table others (id int);
        create trigger zz after insert on others for each row execute function app."it's mine"();
        alter table people rename note to remark
    """)
    found = found_in(trail)
    assert [(one.kind, one.subject) for one in found] == [
        ("function_moved", "public.others, public.people"),
        ("foreign_trigger", "zz on public.others"),
        ("trigger_changed", '"00_audit_row" on public.people'),
        ("trigger_missing", '"00_audit_truncate" on public.people'),
        ("hidden_column_gone", "public.people.note"),
        ("capture_outdated", "public.people"),
    ]
    for one in found[:2]:
        carry_out(trail, one)
    assert found_in(trail) == found[2:]
    trail.audit("people", exclude=("remark",))
    assert found_in(trail) == []


def test_a_function_of_somebody_else_with_the_text_of_ours_is_foreign(trail: Trail) -> None:
    trail.execute(PEOPLE + "; create table others (id int primary key)")
    trail.audit("people")
    role = f"{trail.database.name}_other"
    trail.execute(f"create role {role}; grant create on schema app to {role}")
    trail.execute("""
        do $$ begin
            execute replace(
                pg_get_functiondef('audit.capture_public__people'::regproc),
                'audit.capture_public__people()', 'app.forged()');
        end $$;
    """)
    trail.execute(f"alter function app.forged() owner to {role}")
    trail.execute("""
        create trigger "00_audit_row" after insert on others for each row execute function app.forged()
    """)
    [found] = found_in(trail)
    assert (found.kind, found.subject) == ("foreign_trigger", '"00_audit_row" on public.others')


@RULES
def test_a_capture_function_that_was_moved_and_given_away_is_made_anew(
    trail: Trail, rule: dict[str, Any]
) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", **rule)
    trail.execute("insert into people values (1, 'ann', 'xyz')")
    trail.execute(MOVES["schema and name"])
    trail.execute('alter function app."it\'s mine"() owner to pg_monitor')
    [found] = found_in(trail)
    assert (found.kind, found.subject) == (FindingKind.FUNCTION_MOVED, "public.people")
    assert "belongs to pg_monitor" in found.message
    words = shlex.split(found.remedy)
    assert words[:4] == ["audit", "install", "--table", "public.people"]
    assert words[-1] == "--upgrade"
    assert ("--exclude" if "exclude" in rule else "--mask") in words
    trail.audit("people", **rule)
    assert found_in(trail) == []
    trail.execute("insert into people values (2, 'bea', 'xyz')")
    assert trail.story() == [("I", "1"), ("G", None), ("I", "2")]


def test_a_capture_function_without_its_comment_is_not_dropped(trail: Trail) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", exclude=("note",))
    trail.execute(f"comment on function {FUNCTION}() is 'what is this?'")
    [found] = found_in(trail)
    assert (found.kind, found.subject) == ("function_changed", "public.people")
    assert "drop" not in found.remedy
    trail.execute("insert into people values (1, 'ann', 'xyz')")
    assert trail.story() == [("I", "1")]


@pytest.mark.parametrize(
    "rename",
    [
        "alter table audit.logged_actions rename to events",
        "alter schema audit rename to trail_of_shop",
    ],
)
def test_a_trail_that_was_renamed_is_given_its_name_back(trail: Trail, rename: str) -> None:
    trail.execute(PEOPLE)
    trail.audit("people")
    trail.execute("insert into people values (1)")
    trail.execute(rename)
    [found] = found_in(trail)
    assert found.kind == "trail_renamed"
    carry_out(trail, found)
    assert found_in(trail) == []
    trail.execute("insert into people values (2)")
    assert trail.story() == [("I", "1"), ("I", "2")]
