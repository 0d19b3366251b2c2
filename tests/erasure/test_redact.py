"""Erasure: the values are gone from every event of a row, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from audit_toolkit.completeness import reconcile
from audit_toolkit.completeness.reconcile import one_snapshot
from audit_toolkit.errors import AuditError, BusyError, UsageError
from audit_toolkit.schema import render_grants
from audit_toolkit.schema.forged_events import event_findings
from audit_toolkit.trail import (
    Erasure,
    OnConflict,
    Redaction,
    Selection,
    apply_revert,
    plan_restore,
    plan_revert,
)
from audit_toolkit.trail import redact as run
from tests.plugins.seeds import some_quick
from tests.plugins.trail import Trail

SECRET = "zoe@example.com"


def redact(trail: Trail, *rows: str, apply: bool = True, **more: Any) -> Redaction:
    """Erase values of people."""
    asked = {"table": "people", "columns": ["email"], "reason": "asked to"} | more
    with trail.database.connect() as connection:
        return run(connection, Erasure(rows=rows, **asked), apply=apply)


def where(trail: Trail, text: str) -> list[int]:
    """The events with a text anywhere."""
    rows = trail.execute(
        "select event_id from audit.logged_actions as e where e::text like '%%' || %s || '%%' order by 1",
        [text],
    )
    return [int(number) for (number,) in rows]


@pytest.fixture
def people(trail: Trail) -> Trail:
    """Two people, with a history."""
    trail.execute("create table people (id int primary key, email text, age int, name text)")
    trail.audit("people", capture_query=True)
    trail.execute(
        f"insert into people values (1, '{SECRET}', 30, 'Zoe'), (2, 'bob@example.com', 40, 'Bob')"
    )
    trail.execute("update people set age = 31 where id = 1")
    trail.execute("update people set id = 10 where id = 1")
    trail.execute("delete from people where id = 10")
    trail.execute("insert into people values (1, 'next@example.com', 20, 'Next')")
    return trail


def test_the_plan_counts_and_changes_nothing(people: Trail) -> None:
    before = people.events()
    said = redact(people, "10", apply=False)
    assert (said.events, said.keys, said.with_query, said.redactions) == (4, 2, 4, ())
    assert people.events() == before


def test_values_are_gone_under_all_former_keys_and_nothing_else_is(people: Trail) -> None:
    done = redact(people, "10", query=True)
    events = people.events()
    assert not where(people, SECRET)
    assert where(people, "next@example.com")
    [number, _] = done.redactions  # the other one is that of the statement that Bob shares
    [first] = [
        e for e in events if e["action"] == "I" and (e["new_row"] or {}).get("name") == "Zoe"
    ]
    assert first["new_row"] == {
        "id": 1,
        "email": {"audit:redacted": number},
        "age": 30,
        "name": "Zoe",
    }
    told = next(e for e in events if e["event_id"] == number)
    assert (told["action"], told["table_name"], told["row_key"]) == ("R", "people", None)
    assert told["new_row"]["reason"] == "asked to"
    assert told["new_row"]["columns"] == ["email"]
    assert SECRET not in json.dumps(told["new_row"])
    again = redact(people, "10", query=True)
    assert (again.events, again.redactions) == (0, ())


def test_a_statement_that_others_share_is_erased_of_them_too(people: Trail) -> None:
    redact(people, "10", query=True)
    [bob] = [e for e in people.events() if e["row_key"] == "2"]
    assert bob["new_row"]["email"] == "bob@example.com"
    assert bob["query"].startswith("redacted:")


def test_keys_are_replaced_row_by_row(people: Trail) -> None:
    done = redact(people, "10", "2", keys=True, columns=["email", "name"], query=True)
    keys = {e["row_key"] for e in people.events() if (e["row_key"] or "").startswith("redacted:")}
    assert len(keys) == 2
    assert keys <= {f"redacted:{number}" for number in done.redactions}
    assert not where(people, "Zoe")
    assert not where(people, "Bob")
    with pytest.raises(UsageError):
        redact(people, keys=True)


def test_a_column_and_a_table_under_former_names(people: Trail) -> None:
    people.execute("alter table people rename column email to mail")
    people.execute("alter table people rename to persons")
    people.execute("update persons set age = age + 1")
    people.execute("select audit.note_changes()")
    redact(people, "2", table="persons", columns=["mail"], query=True)
    assert not where(people, "bob@example.com")
    assert where(people, "next@example.com")


def test_payloads_of_events_of_the_application(people: Trail) -> None:
    people.execute(
        "select audit.record_event('invited', %s, 'people', '2')",
        [json.dumps({"email": "bob@example.com", "at": "noon"})],
    )
    numbers = redact(people, "2", query=True).redactions
    [event] = [e for e in people.events() if e["action"] == "E"]
    assert event["new_row"]["payload"] in [
        {"email": {"audit:redacted": number}, "at": "noon"} for number in numbers
    ]


def test_a_key_of_the_context_is_erased_of_the_whole_transaction(people: Trail) -> None:
    people.execute(
        'begin; select set_config(\'audit.context\', \'{"actor": "kim", "ip": "192.0.2.7"}\', true); '
        "update people set age = 50; commit"
    )
    assert len(where(people, "192.0.2.7")) == 2
    redact(people, "2", columns=[], context_keys=["ip"], query=True)
    assert not where(people, "192.0.2.7")
    assert len(where(people, "kim")) == 2


def test_who_may_not_redact_cannot_and_a_redactor_reads_nothing(people: Trail) -> None:
    people.execute("create role erasure_clerk")
    try:
        people.execute("set role erasure_clerk")
        for call in (
            "audit.redactable('public', 'people', null, '{email}', '{}', false, false)",
            "audit.redact('public', 'people', '{1}', '{email}', '{}', false, false, false, 'x')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                people.execute(f"select {call}")
        people.execute("reset role")
        for statement in render_grants("audit", "postgres", redactor="erasure_clerk"):
            people.execute(statement)
        people.execute("set role erasure_clerk")
        with people.database.connect() as connection:
            connection.execute("set role erasure_clerk")
            done = run(
                connection,
                Erasure(
                    table="public.people", rows=["10"], columns=["email"], query=True, reason="x"
                ),
                apply=True,
            )
        assert done.events
        for forbidden in (
            "select from audit.logged_actions",
            "update audit.logged_actions set new_row = null",
            "delete from audit.logged_actions",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                people.execute(forbidden)
    finally:
        people.execute("reset role")
        people.execute("drop owned by erasure_clerk; drop role erasure_clerk")
    assert not where(people, SECRET)
    told = [e for e in people.events() if e["action"] == "R"]
    assert {e["role_name"] for e in told} == {"erasure_clerk"}


def test_the_trail_stays_append_only(people: Trail) -> None:
    for _ in range(2):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            people.execute("update audit.logged_actions set new_row = null")
        redact(people)


def test_who_may_write_every_table_cannot_announce_a_redaction(people: Trail) -> None:
    people.execute("create role writes_all in role pg_write_all_data, pg_read_all_data")
    try:
        people.execute("set role writes_all")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only the owner"):
            people.execute("insert into audit.redactions values (1, pg_current_xact_id())")
    finally:
        people.execute("reset role; drop role writes_all")


def test_a_held_partition_needs_force(people: Trail) -> None:
    people.execute(
        "select audit.maintain_hold(leaf, 'lawsuit') from audit.leaves() "
        "where now() >= lower_bound and now() < upper_bound"
    )
    [held] = redact(people, apply=False).held
    assert "lawsuit" in held
    with pytest.raises(AuditError, match="lawsuit"):
        redact(people)
    assert where(people, SECRET)
    redact(people, force=True, query=True)
    assert not where(people, SECRET)


def test_an_archive_that_may_have_the_values_is_not_passed_over(people: Trail) -> None:
    people.execute(
        "insert into audit.partition_lifecycle (leaf, leaf_name, state, archive, archive_digest, archived_at) "
        "values (0, 'logged_actions_2020_01', 'dropped', 'a', 'b', now())"
    )
    with pytest.raises(AuditError, match="logged_actions_2020_01"):
        redact(people)
    assert where(people, SECRET)
    assert redact(people, leave_archives=True).archived == ("logged_actions_2020_01",)


def test_writers_go_on_meanwhile_and_a_run_of_maintenance_does_not(people: Trail) -> None:
    """Held open, as one that takes long is: an insert is committed, and what is aborted leaves nothing."""
    with people.database.connect() as other, people.database.connect() as connection:
        connection.autocommit = False
        run(
            connection,
            Erasure(table="people", columns=["email"], query=True, reason="asked to"),
            apply=True,
        )
        other.execute("set lock_timeout = '1s'")
        other.execute("insert into people values (77, 'late@example.com')")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("select audit.maintain_lock()")
        connection.rollback()
    assert where(people, SECRET)
    assert not [e for e in people.events() if e["action"] == "R"]


def test_a_redaction_beside_maintenance_is_busy(people: Trail) -> None:
    with people.database.connect() as other, other.transaction():
        other.execute("select audit.maintain_lock()")
        with pytest.raises(BusyError):
            redact(people)
    assert where(people, SECRET)


def test_the_key_needs_a_word_of_its_own(people: Trail) -> None:
    with pytest.raises(AuditError, match="primary key"):
        redact(people, columns=["id"])


def test_time_travel_and_undo_say_redacted(people: Trail) -> None:
    people.execute("update people set age = 41 where id = 2")
    redact(people, "2", columns=["age"])
    for question in (
        "audit.row_at(null::people, '2', now())",
        "audit.table_at(null::people, now())",
    ):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="age was redacted"):
            people.execute(f"select * from {question}")
    last = max(e["event_id"] for e in people.events() if e["action"] == "U")
    with people.database.connect() as connection, pytest.raises(AuditError, match="redacted"):
        plan_revert(connection, Selection(event_ids=(last,)))
    people.execute("delete from people where id = 2")
    redact(people, "2", columns=["age"])
    with people.database.connect() as connection, pytest.raises(AuditError, match="redacted"):
        plan_restore(connection, "people", "2", event=last)


KINDS = ("text", "varchar(99)", "int", "jsonb", "date", "text[]")
CHANGES = ("", "rename column v to w", "alter column v type text")
REDACTED = [(kind, ddl, noted) for noted in (True, False) for kind in KINDS for ddl in CHANGES]


# Each kind, each change and both ways of noting it are in every fourth.
@pytest.mark.parametrize("kind_ddl_noted", some_quick(REDACTED, REDACTED[::4]), ids=str)
def test_no_undo_writes_what_stands_for_a_redacted_value(
    trail: Trail, kind_ddl_noted: tuple[str, str, bool]
) -> None:
    kind, ddl, noted = kind_ddl_noted
    one, two, three = (
        {"int": ("1", "2", "3"), "jsonb": ("1", '{"a": 1}', "[]"), "text[]": ("{a}", "{b}", "{c}")}
        | {"date": ("2026-01-01", "2026-01-02", "2026-01-03")}
    ).get(kind, ("a", "b", "c"))
    trail.execute(f"create table things (id int primary key, v {kind}, n int)")
    trail.audit("things")
    trail.execute("insert into things values (1, %s, 1)", [one])
    trail.execute("update things set v = %s", [two])
    trail.execute("update things set n = 2")
    if ddl:
        trail.execute(f"alter table things {ddl}")
    if noted:
        trail.execute("select audit.note_changes()")
    column = "w" if "rename" in ddl else "v"
    redact(trail, "1", table="things", columns=[column])
    trail.execute(f"update things set {column} = %s", [three])
    changed, counted = [e["event_id"] for e in trail.events() if e["action"] == "U"][:2]
    refused = pytest.raises(UsageError, match=f"{column} was redacted")
    with trail.database.connect() as connection:
        with refused:
            plan_revert(connection, Selection(event_ids=(changed,)), on_conflict=OnConflict.FORCE)
        with refused:
            plan_restore(connection, "things", "1", event=changed)
        undo = plan_revert(connection, Selection(event_ids=(counted,)))
        assert [change.after for change in undo.changes] == [{"n": 1}]
        rest = plan_restore(connection, "things", "1", event=changed, ignore=[column])
        assert [change.after for change in rest.changes] == [{"n": 1}]
    trail.execute("delete from things")
    deleted = trail.events()[-1]["event_id"]
    redact(trail, "1", table="things", columns=[column])
    with trail.database.connect() as connection:
        with refused:
            plan_revert(connection, Selection(event_ids=(deleted,)))
        apply_revert(connection, Selection(event_ids=(deleted,)), ignore=[column])
    assert trail.execute("select * from things") == [(1, None, 2)]


def test_reconciling_takes_what_was_redacted_as_it_comes(people: Trail) -> None:
    people.execute("update people set email = 'new@example.com', age = 41 where id = 2")
    redact(people, "2")
    people.execute("update people set age = 42 where id = 2")
    redact(people, "10", keys=True, columns=["name"])
    with people.database.connect() as connection, one_snapshot(connection):
        [found] = reconcile(connection, [people.table("people").name], "audit")
    assert found.findings == ()


def test_what_was_redacted_is_not_taken_for_forged(people: Trail) -> None:
    redact(people, "10", query=True)
    redact(people, "10", columns=["name"], keys=True)
    assert list(event_findings(people.connection, "audit")) == []
    # Beside a redaction, in its transaction, it is.
    people.execute("alter table audit.logged_actions disable trigger user")
    for (leaf,) in people.execute("select leaf from audit.leaves() as leaf"):
        people.execute(f"alter table {leaf} disable trigger user")
    with people.database.connect(autocommit=False) as connection:
        run(
            connection, Erasure(table="people", rows=["2"], columns=["age"], reason="x"), apply=True
        )
        connection.execute(
            'update audit.logged_actions set new_row = new_row || \'{"name": "Max"}\' '
            "where row_key = '1' and new_row ->> 'name' = 'Next'"
        )
        connection.commit()
    [found] = event_findings(people.connection, "audit")
    assert found.kind == "event_forged"


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        (["10"], {"columns": ["emial"]}, "has no column emial, and no event has one of that name"),
        ([], {"columns": ["email", "Email"]}, 'has no column "Email"'),
        (["99"], {}, "no such row in the trail: public.people 99"),
        (["99", "98"], {"keys": True, "columns": []}, "no such row in the trail: public.people 99"),
    ],
)
def test_what_never_was_is_no_success(
    people: Trail, rows: list[str], more: dict[str, Any], message: str
) -> None:
    for apply in (False, True):
        with pytest.raises(UsageError, match=message):
            redact(people, *rows, apply=apply, **more)
    assert not [event for event in people.events() if event["action"] == "R"]


def test_a_column_that_was_dropped_can_still_be_redacted(people: Trail) -> None:
    people.execute("alter table people drop column email")
    assert redact(people, "10").events == 4
    assert not [n for n in where(people, SECRET) if n not in where(people, "insert into")]
