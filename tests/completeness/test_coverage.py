"""`audit coverage`: what was captured when, proven by events of the trail."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from audit_toolkit.config import Mask
from tests.completeness.conftest import Audit
from tests.plugins.trail import Trail

ORDERS = "create table orders (id int primary key, email text)"


def now(trail: Trail) -> str:
    moment: datetime = trail.execute("select clock_timestamp()")[0][0]
    return moment.isoformat()


def at(audit: Audit, moment: str, table: str = "public.orders") -> dict[str, Any]:
    answer = json.loads(audit("coverage", "--at", moment, "--format", "json").stdout)
    [found] = [one for one in answer["tables"] if one["table"] == table]
    return dict(found)


def note(trail: Trail) -> int:
    return int(trail.execute("select audit.note_coverage()")[0][0])


def test_the_state_is_noted_once_for_each_change(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    assert (note(trail), note(trail)) == (1, 0)
    trail.audit("orders", mask=(Mask.parse("email=sha256"),))
    assert (note(trail), note(trail)) == (1, 0)
    trail.execute('alter table orders disable trigger "00_audit_row"')
    assert (note(trail), note(trail)) == (1, 0)
    trail.execute('alter table orders enable always trigger "00_audit_row"')
    assert (note(trail), note(trail)) == (1, 0)
    said = [event["new_row"] for event in trail.events()]
    assert [one["capture"] for one in said] == ["on", "on", "off", "interrupted"]
    assert said[1]["options"] == {"mask": {"email": "sha256"}}
    assert "since" in said[0]


def test_what_was_captured_at_each_time(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    before = now(trail)
    trail.audit("orders")
    unproven = now(trail)
    note(trail)
    trail.execute("insert into orders values (1, 'a@b')")
    plain = now(trail)
    trail.audit("orders", mask=(Mask.parse("email=sha256"),))
    note(trail)
    masked = now(trail)
    audit("pause", "--table", "orders", "--reason", "import of 2026")
    paused = now(trail)
    audit("resume", "--table", "orders", "--reason", "done")
    resumed = now(trail)
    trail.release("orders")
    ended = now(trail)

    assert at(audit, before)["capture"] == "off"
    assert at(audit, unproven)["capture"] == "on"
    assert at(audit, unproven)["proof"] == "event"
    assert at(audit, plain)["rule"] == {}
    assert at(audit, masked)["rule"] == {"mask": {"email": "sha256"}}
    found = at(audit, paused)
    assert (found["capture"], found["reason"]) == ("off", "import of 2026")
    assert at(audit, resumed)["capture"] == "on"
    assert at(audit, resumed)["rule"] == {"mask": {"email": "sha256"}}
    assert at(audit, ended)["capture"] == "off"
    out = audit("coverage", "--since", before).stdout
    assert out.count("captured since") == 5
    assert "import of 2026 (postgres) [event " in out


def test_without_a_note_the_registry_says_so(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    assert at(audit, now(trail))["proof"] == "registry"
    before = now(trail)
    assert "[the registry says so, and no event]" in audit("coverage").stdout
    trail.execute("insert into orders values (1, 'a@b')")
    assert (
        "[the registry says so; then came its first event]"
        in audit("coverage", "--since", before).stdout
    )


def test_a_gap_that_nobody_announced_is_unknown(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'a@b')")
    lost = now(trail)
    trail.execute(
        'drop trigger "00_audit_row" on orders; drop trigger "00_audit_truncate" on orders'
    )
    trail.audit("orders")
    assert at(audit, lost)["capture"] == "unknown"
    assert at(audit, now(trail))["capture"] == "on"


def test_a_renamed_table_is_one_table(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    note(trail)
    earlier = now(trail)
    trail.execute("alter table orders rename to sales; select audit.note_changes()")
    answer = json.loads(audit("coverage", "--at", earlier, "--format", "json").stdout)
    assert [one["table"] for one in answer["tables"]] == ["public.sales"]
    assert answer["tables"][0]["capture"] == "on"


def test_maintenance_notes_it_and_history_shows_it(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", exclude=("email",))
    audit("maintain")
    assert "capture is on" in audit("history", "orders").stdout
    assert "rule: --exclude email" in audit("history", "orders").stdout


def test_times_that_say_nothing_are_refused(trail: Trail, audit: Audit) -> None:
    audit("coverage", "--at", "1h", "--since", "2h", code=2)
    audit("coverage", "--since", "1h", "--until", "2h", code=2)


def test_what_maintenance_finds_began_after_the_last_event(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    note(trail)
    trail.execute("insert into orders values (1, 'a@b')")
    lost = now(trail)
    trail.execute('alter table orders disable trigger "00_audit_row"')
    note(trail)
    assert at(audit, lost)["capture"] == "unknown"
    assert at(audit, now(trail))["capture"] == "off"
    trail.execute('alter table orders enable always trigger "00_audit_row"')
    note(trail)
    assert at(audit, lost)["capture"] == "unknown"
    assert at(audit, now(trail))["capture"] == "unknown"


def test_maintenance_does_not_take_the_place_of_who_paused(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    note(trail)
    audit("pause", "--table", "orders", "--reason", "import")
    note(trail)
    assert at(audit, now(trail))["reason"] == "import"


def test_a_pause_is_told_when_a_clock_was_set_back(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute(
        "insert into audit.logged_actions (action_tstamp, schema_name, table_name, action, new_row)"
        """ values (now() - interval '10 min', 'public', 'orders', 'G', '{"capture": "paused", "reason": "r"}'),"""
        """ (now() - interval '30 min', 'public', 'orders', 'G', '{"capture": "resumed"}')"""
    )
    assert at(audit, "20 minutes ago")["capture"] == "off"


def test_events_that_are_not_ours_are_passed_over(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'a@b')")
    trail.execute(
        "insert into audit.logged_actions (schema_name, table_name, action, new_row)"
        " select 'public', 'orders', action, said::jsonb from"
        """ unnest(array['[1]', '7', 'null', '{"change": "capture", "capture": "paused"}',"""
        """ '{"change": "capture", "capture": "on", "since": "nonsense", "options": 7}']) as said,"""
        " unnest(array['M', 'G']) as action where action = 'M' or said in ('[1]', 'null')"
    )
    audit("coverage", "--since", "1h", code=0)
