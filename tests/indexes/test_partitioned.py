"""Indexes of partitioned tables: incomplete, broken on some leaves, stale; and completed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.indexes import breakage
from tests.indexes.breakage import LEAVES, definitions, flags
from tests.indexes.conftest import AuditIndexes
from tests.plugins.database import Database

Findings = Callable[..., list[dict[str, Any]]]
DECLARE = "create index events_actor_idx on only events (actor) where actor <> 'nobody'"
CHILDREN = {f"{leaf}_actor_idx" for leaf in LEAVES}


def attached(database: Database, parent: str) -> set[str]:
    rows = database.execute(
        "select inhrelid::regclass::text from pg_inherits where inhparent = %s::regclass", [parent]
    )
    return {name for (name,) in rows}


def assert_whole(database: Database, parent: str = "events_actor_idx") -> None:
    assert set(flags(database).values()) == {"vrl"}, flags(database)
    assert len(attached(database, parent)) == len(LEAVES)


def test_leaves_that_lack_the_index_are_named_and_built(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    stocked.execute(DECLARE)
    (found,) = findings()
    assert (found["state"], found["severity"]) == ("parent_invalid", "warning")
    assert (
        "missing on public.events_2025, public.events_2026, public.events_tail" in found["message"]
    )
    assert audit_indexes("fix", "--schema", "public").exit_code == 0
    assert_whole(stocked)
    assert attached(stocked, "events_actor_idx") == CHILDREN
    conditions = {
        text.partition(" WHERE ")[2]
        for name, text in definitions(stocked).items()
        if "actor" in name
    }
    assert conditions == {"(actor <> 'nobody'::text)"}


def test_what_the_leaves_have_is_attached_or_rebuilt(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    on_leaf = "index concurrently by_actor_{0} on events_{0} (actor) where actor <> 'nobody'"
    stocked.execute(DECLARE)
    stocked.execute("create " + on_leaf.format(2025))
    breakage.stopped_before_build(stocked, "create " + on_leaf.format(2026), "events_2026")
    by_name = {f["subject"]: f for f in findings()}
    message = by_name["public.events_actor_idx"]["message"]
    assert "there but not attached on public.events_2025" in message
    assert "there and invalid, not attached, on public.events_2026" in message
    assert "missing on public.events_tail" in message
    assert by_name["public.by_actor_2026"]["state"] == "failed_create"
    assert audit_indexes("fix", "--schema", "public").exit_code == 0
    assert_whole(stocked)
    expected = {"by_actor_2025", "by_actor_2026", "events_tail_actor_idx"}
    assert attached(stocked, "events_actor_idx") == expected


def test_an_invalid_child_is_rebuilt_and_its_parent_checked_again(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    stocked.execute(DECLARE)
    for leaf in ("events_2025", "events_2026"):
        breakage.stopped_before_build(
            stocked,
            f"create index concurrently {leaf}_actor_idx on {leaf} (actor) where actor <> 'nobody'",
            leaf,
        )
        stocked.execute(f"alter index events_actor_idx attach partition {leaf}_actor_idx")
    states = {f["subject"]: f["state"] for f in findings()}
    assert states == {
        "public.events_actor_idx": "parent_invalid",
        "public.events_2025_actor_idx": "failed_create",
        "public.events_2026_actor_idx": "failed_create",
    }
    assert audit_indexes("fix", "--schema", "public").exit_code == 0
    assert_whole(stocked)
    assert attached(stocked, "events_actor_idx") == CHILDREN


def test_a_parent_that_was_never_checked_again_is_reattached(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    stocked.execute("create index events_actor_idx on events (actor)")
    stocked.execute(
        "update pg_index set indisvalid = false where indexrelid = 'events_2025_actor_idx'::regclass"
    )
    stocked.execute(
        "update pg_index set indisvalid = false where indexrelid = 'events_actor_idx'::regclass"
    )
    stocked.execute("reindex index concurrently events_2025_actor_idx")
    (found,) = findings()
    assert "never validated again" in found["message"]
    (step,) = found["steps"]
    (statement,) = step["statements"]
    assert statement.startswith("alter index public.events_actor_idx attach partition")
    assert audit_indexes("fix", "--schema", "public").exit_code == 0
    assert_whole(stocked)


def test_an_invalid_child_of_a_valid_parent_is_critical(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    stocked.execute("create index events_actor_idx on events (actor)")
    stocked.execute(
        "update pg_index set indisvalid = false where indexrelid = 'events_2025_actor_idx'::regclass"
    )
    (found,) = findings()
    assert (found["state"], found["severity"]) == ("invalid_under_valid_parent", "error")
    assert audit_indexes("fix", "--schema", "public").exit_code == 0
    assert_whole(stocked)


def test_partitions_of_partitions(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    stocked.execute(
        "alter table events detach partition events_tail; drop table events_tail;"
        "create table events_tail partition of events for values from ('2027-01-01') to (maxvalue)"
        " partition by range (id);"
        "create table events_tail_a partition of events_tail for values from (minvalue) to (0);"
        "create table events_tail_b partition of events_tail for values from (0) to (maxvalue);"
    )
    stocked.execute(DECLARE)
    assert audit_indexes("fix", "--schema", "public").exit_code == 0
    assert_whole(stocked)
    assert attached(stocked, "events_tail_actor_idx") == {
        "events_tail_a_actor_idx",
        "events_tail_b_actor_idx",
    }
    # Break one at the bottom: the whole line above it has to be checked again.
    for index in ("events_tail_a_actor_idx", "events_tail_actor_idx", "events_actor_idx"):
        stocked.execute(
            "update pg_index set indisvalid = false where indexrelid = %s::regclass", [index]
        )
    assert len(findings()) == 3
    assert audit_indexes("fix", "--schema", "public").exit_code == 0
    assert findings() == []
    assert_whole(stocked)


def test_a_primary_key_is_completed_leaf_by_leaf(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    stocked.execute("alter table events alter id set not null")
    stocked.execute("alter table only events add primary key (id, at)")
    (found,) = findings()
    assert (found["severity"], found["constraint"]) == ("error", "events_pkey")
    result = audit_indexes("fix", "--schema", "public")
    assert result.exit_code == 0, result.output
    assert_whole(stocked, "events_pkey")
    keys = stocked.execute(
        "select count(*) from pg_constraint where contype = 'p' and conrelid::regclass::text like 'events%'"
    )
    assert keys == [(4,)]


def test_an_index_on_some_leaves_only_is_found(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    stocked.execute("create unique index only_here on events_2025 (id, at) include (actor)")
    (found,) = findings()
    assert (found["state"], found["severity"]) == ("some_leaves_only", "warning")
    assert "only 1 of 3 partitions" in found["message"]
    statement = found["advice"].partition("create '")[2].rpartition("'")[0]
    assert audit_indexes("create", statement.replace("NAME", "events_id_key")).exit_code == 0
    assert findings() == []
    assert "only_here" in attached(stocked, "events_id_key")


def test_a_pending_detach_is_named(stocked: Database, findings: Findings) -> None:
    stocked.execute(DECLARE)
    with breakage.reader(stocked, "events"):
        detach = breakage.Running(
            stocked, "alter table events detach partition events_tail concurrently"
        )
        detach.wait_until_blocked()
        detach.stop()
    (found,) = findings()
    assert "FINALIZE) of public.events_tail" in found["message"]


@pytest.mark.parametrize("state", ["incomplete", "whole"])
def test_the_printed_script_is_what_runs(
    state: str, stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    if state == "incomplete":
        stocked.execute(DECLARE)
    result = audit_indexes("fix", "--schema", "public", "--sql")
    assert result.exit_code == 0
    assert ("nothing to do" in result.stdout) == (state == "whole")
    done = stocked.psql(result.stdout)
    assert done.returncode == 0, done.stderr
    assert findings() == []
    assert set(flags(stocked).values()) == {"vrl"}
