"""One redacted row does not hide the others: time travel shows it as such; whatever goes on with values refuses."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from io import StringIO

import pytest

from audit_toolkit import trail as toolkit
from audit_toolkit.errors import AuditError
from audit_toolkit.trail import Erasure
from audit_toolkit.trail import redact as run
from tests.plugins.command import Audit, audit
from tests.plugins.trail import Trail

__all__ = ["audit"]
ANOTHER_KEY = "alter table people add column key int generated always as identity primary key"
ROW_1 = "select {}(event_id) from audit.logged_actions where row_key = '1'"


@pytest.fixture
def people(trail: Trail) -> Trail:
    """Three people with columns whose text differs from what a cast gives; values of one are redacted."""
    trail.execute("create type mood as enum ('glad', 'sad')")
    trail.execute(
        """create table people (
            id int primary key, "e,mail" text, ok bool, code char(4), "x%" inet, mood mood, n numeric
        )"""
    )
    trail.audit("people")
    trail.execute(
        "insert into people values (1, 'zoe', true, 'a', '10.0.0.1', 'glad', 1.50), "
        "(2, 'bob, \"the\" 2nd', false, '', '10.0.0.0/8', 'sad', null), (3, '', null, null, null, null, 0.10)"
    )
    return trail


def redact(people: Trail, *columns: str) -> int:
    with people.database.connect() as connection:
        asked = Erasure(table="people", rows=["1"], columns=columns, reason="asked to")
        [number] = run(connection, asked, apply=True).redactions
    return number


def rows_of(text: str) -> dict[str, list[str]]:
    return {row[0]: row for row in csv.reader(StringIO(text))}


def test_a_table_as_it_was_has_all_other_rows_and_values(people: Trail, audit: Audit) -> None:
    before = rows_of(audit("table-at", "people", "--at", "now").stdout)
    plain = json.loads(audit("table-at", "people", "--at", "now", "--format", "json").stdout)[
        "rows"
    ]
    number = redact(people, "e,mail", "n", "ok")
    answer = audit("table-at", "people", "--at", "now", code=3)
    assert "values were redacted" in answer.stderr
    mark = f"redacted (event {number})"
    assert rows_of(answer.stdout) == before | {"1": ["1", mark, mark, *before["1"][3:6], mark]}
    answer = audit("table-at", "people", "--at", "now", "--format", "jsonl", code=3)
    shown = [json.loads(line) for line in answer.stdout.splitlines()]
    marker = {"audit:redacted": number}
    assert sorted(shown, key=lambda row: row["id"]) == [
        plain[0] | {"e,mail": marker, "n": marker, "ok": marker},
        *plain[1:],
    ]
    hidden = audit("table-at", "people", "--at", "now", "--hide", "ok", "--hide", "n", code=3)
    assert hidden.stdout.count(mark) == 1


def test_a_row_as_it_was_shows_what_is_left(people: Trail, audit: Audit) -> None:
    people.execute("update people set id = 4, \"e,mail\" = 'new' where id = 1")
    people.execute("delete from people where id = 4")
    with people.database.connect() as connection:
        asked = Erasure(table="people", rows=["4"], columns=["e,mail"], reason="asked to")
        [number] = run(connection, asked, apply=True).redactions
    at = people.events()[0]["action_tstamp"].isoformat()
    answer = audit("row-at", "people", "1", "--at", at, code=3)
    assert f"redacted (event {number})" in answer.stdout
    assert "10.0.0.1" in answer.stdout
    row = json.loads(audit("row-at", "people", "1", "--at", at, "--format", "json", code=3).stdout)
    assert row["row"]["e,mail"] == {"audit:redacted": number}
    assert "redacted" not in audit("row-at", "people", "2", "--at", at).stdout


def test_columns_by_their_present_names(people: Trail, audit: Audit) -> None:
    redact(people, "e,mail", "code")
    people.execute('alter table people rename "e,mail" to mail; alter table people drop code')
    people.execute("select audit.note_changes()")
    at = people.events()[0]["action_tstamp"].isoformat()
    answer = audit("table-at", "people", "--at", at, "--format", "jsonl", code=3)
    [row] = [row for row in map(json.loads, answer.stdout.splitlines()) if row["id"] == 1]
    assert set(row) == {*("id", "mail", "ok", "x%", "mood", "n")}
    assert "audit:redacted" in row["mail"]


def test_whoever_does_not_ask_for_them_is_refused(people: Trail) -> None:
    redact(people, "n")
    now = datetime.now(UTC)
    with people.database.connect() as connection:
        with pytest.raises(AuditError, match="n was redacted"):
            list(toolkit.table_at(connection, "people", now))
        with pytest.raises(AuditError, match="n was redacted"):
            toolkit.row_at(connection, "people", 1, now)
        found: list[bool] = []
        rows = list(
            toolkit.table_at(connection, "people", now, on_redacted=lambda: found.append(True))
        )
        assert (len(rows), found) == (3, [True])


def test_rows_without_a_key_are_refused(trail: Trail, audit: Audit) -> None:
    trail.execute("create table notes (a int, b text)")
    trail.audit("notes")
    trail.execute("insert into notes values (1, 'x'), (1, 'x')")
    with trail.database.connect() as connection:
        run(connection, Erasure(table="notes", columns=["b"], reason="asked to"), apply=True)
    assert "b was redacted" in audit("table-at", "notes", "--at", "now", code=1).stderr


def test_verbs_on_a_table_without_a_key(
    trail: Trail, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are counted, and none is said to be another one for what was redacted of it."""
    monkeypatch.setenv("AUDIT_DATABASE_URL", trail.database.dsn)
    trail.execute("create table notes (a int, b text)")
    trail.audit("notes")
    trail.execute("insert into notes values (1, 'secret'), (2, 'y'), (3, 'z')")
    trail.execute("update notes set b = 'more secret' where a = 1")
    trail.execute("delete from notes where a = 2")
    with trail.database.connect() as connection:
        run(connection, Erasure(table="notes", columns=["b"], reason="asked to"), apply=True)
    answer = audit("reconcile").stdout
    assert "public.notes: equal to its trail (2 rows" in answer
    assert "note: columns with redacted values are not compared: b\n" in answer
    trail.execute("alter table notes disable trigger all; delete from notes where a = 3")
    trail.execute("""alter table notes enable always trigger "00_audit_row" """)
    answer = audit("reconcile", code=3).stdout
    assert "row_missing" in answer
    assert '{"a": 3}' in answer
    assert "audit:redacted" not in answer
    text = audit("history", "notes").stdout
    assert "redacted (event 6)" in text
    assert "audit:redacted" not in text
    refused = "public.notes has no primary key: its rows cannot be told apart"
    assert refused in audit("diff", "notes", "--from", "1 day ago", code=2).stderr
    assert refused in audit("revert", "--event", "4", code=2).stderr
    answer = audit("revert", "--event", "5", code=2).stderr
    assert "cannot put back a row of public.notes: b was redacted (event 6)" in answer
    audit("revert", "--event", "5", "--ignore", "b", "--apply")
    assert trail.execute("select b from notes where a = 2") == [(None,)]


@pytest.mark.thorough
@pytest.mark.parametrize("redacted_first", [True, False])
@pytest.mark.parametrize("is_dropped", [True, False])
def test_what_was_redacted_is_shown_as_such_and_put_back_by_nothing(
    people: Trail, audit: Audit, is_dropped: bool, redacted_first: bool
) -> None:
    people.execute("update people set n = 2, code = 'b' where id = 1")
    [[first], [last]] = [people.execute(ROW_1.format(which))[0] for which in ("min", "max")]
    number = redact(people, "e,mail", "n") if redacted_first else 0
    people.execute(
        f"alter table people {'drop column id' if is_dropped else 'rename id to number'};"
        + (ANOTHER_KEY if is_dropped else "")
    )
    people.audit("people")
    number = number or redact(people, "e,mail", "n")
    people.execute("update people set mood = 'sad' where code = 'b'")
    mark = f"redacted (event {number})"

    assert audit("history", "people", "1").stdout.count(mark) == 4  # as inserted, before and after
    assert mark in audit("show", str(last)).stdout
    seen = audit("diff", "people", "--from", "2020-01-01", code=0).stdout
    assert (mark in seen, "number: 1" in seen) == (is_dropped, not is_dropped)
    seen = audit("row-at", "people", "1", "--at", "now", code=3 if is_dropped else 0).stdout
    assert (mark in seen, "zoe" in seen) == (is_dropped, not is_dropped)

    why = "no longer has a column id" if is_dropped else f"n was {mark}"
    for words in (
        ("revert", "--event", str(last), "--force", "--apply"),
        ("restore", "people", "1", "--event", str(first), "--apply"),
    ):
        assert why in audit(*words, code=2).stderr
    assert people.execute("select n::text, \"e,mail\" from people where code = 'b'") == [
        ("2", "zoe")
    ]
    audit("baseline", "--table", "people", code=0)
    audit("reconcile", code=0)
