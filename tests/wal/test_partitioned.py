"""Partitioned tables captured from the WAL: the events of trigger capture, whatever becomes of the partitions."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from audit_toolkit.config import Capture, Truncate
from audit_toolkit.errors import RuleError
from audit_toolkit.findings import FindingKind
from audit_toolkit.wal.health import capture_findings
from tests.wal.conftest import WalTrail

PARTS = """
    create table {0} (id int, region text, gone int, v int, note text, primary key (id, region))
        partition by list (region);
    create table {0}_eu partition of {0} for values in ('eu');
    create table {0}_us partition of {0} for values in ('us') partition by range (id);
    create table {0}_low partition of {0}_us for values from (0) to (100);
    create table {0}_as (note text, dead int, v int, gone int, region text not null, id int not null);
    alter table {0}_as drop column dead;
    alter table {0} attach partition {0}_as for values in ('as')"""

PAIR = {"by_row": Capture.ROW, "by_wal": Capture.WAL}


def both(trail: WalTrail, ddl: str = PARTS, **rule: Any) -> None:
    """The same partitioned table twice: `by_row` with triggers, `by_wal` read from the WAL."""
    for name, capture in PAIR.items():
        trail.execute(ddl.format(name))
        trail.audit(name, capture=capture, **rule)
    trail.read()


def run_both(trail: WalTrail, *statements: str) -> None:
    for statement in statements:
        for name in PAIR:
            trail.execute(statement.format(name))


def same_events(trail: WalTrail) -> list[tuple[Any, ...]]:
    trail.read()
    found = trail.rows("by_wal")
    assert found == trail.rows("by_row")
    return found


def gaps(trail: WalTrail) -> list[str]:
    return [e["new_row"]["reason"] for e in trail.events() if e["action"] == "G"]


def parts_changes(trail: WalTrail, table: str) -> list[Any]:
    return [
        {key: e["new_row"][key] for key in ("attached", "detached") if key in e["new_row"]}
        for e in trail.events()
        if e["table_name"] == table
        and e["action"] == "M"
        and e["new_row"]["change"] == "partitions"
    ]


ROWS = (
    "insert into {} (id, region, v) values (1, 'eu', 1), (2, 'us', 2), (3, 'as', 3), (4, 'eu', 4)"
)


def test_rows_are_the_tables_whatever_partition_they_are_in(wal_trail: WalTrail) -> None:
    both(wal_trail)
    run_both(
        wal_trail,
        ROWS,
        "update {} set v = v + 10, note = repeat('x', 3)",
        "update {} set region = 'as' where id = 2",
        "update {} set region = 'us', id = 9 where region = 'eu' and id = 1",
        "insert into {}_eu (id, region, v) values (7, 'eu', 7)",
        "alter table {} drop column gone",
        "update {}_as set note = null",
        "delete from {} where id > 3",
    )
    events = same_events(wal_trail)
    assert ("D", '[2, "us"]') in [event[:2] for event in events]
    assert ("I", '[2, "as"]') in [event[:2] for event in events]
    assert not gaps(wal_trail)


def test_truncate_leaves_the_rows_that_were_there(wal_trail: WalTrail) -> None:
    both(wal_trail, exclude=("note",))
    run_both(
        wal_trail,
        ROWS,
        "truncate {}_eu",
        "insert into {} (id, region, v) values (1, 'eu', 5)",
        "begin; update {0} set v = 6 where id = 1; truncate {0}_low, {0}_eu; insert into {0} values (8, 'eu'); commit",
        "begin; truncate {}; rollback",
        "truncate {}",
        "insert into {} values (10, 'us')",
    )
    events = same_events(wal_trail)
    assert [event[0] for event in events] == [*"IIIIDDIUDDIDDTI"]
    assert wal_trail.execute("select from audit.truncated_rows") == []
    assert not gaps(wal_trail)


@pytest.mark.parametrize("truncate", [Truncate.ROWS, Truncate.FORBID])
def test_truncate_options_do_what_they_do_with_triggers(
    wal_trail: WalTrail, truncate: Truncate
) -> None:
    both(wal_trail, "create table {} (id int primary key, v text, secret text)",
         truncate=truncate, exclude=("secret",))  # fmt: skip
    run_both(wal_trail, "insert into {} values (1, 'a', 's'), (2, 'b', 's')")
    for name in PAIR:
        if truncate is Truncate.FORBID:
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is refused"):
                wal_trail.execute(f"truncate {name}")
            wal_trail.execute("set session_replication_role = replica")
        wal_trail.execute(f"truncate {name}")
        wal_trail.execute("reset session_replication_role")
    wanted = [*"IIDDT"] if truncate is Truncate.ROWS else [*"IIT"]
    assert [event[0] for event in same_events(wal_trail)] == wanted


def test_a_partition_that_comes_later_is_made_ready(wal_trail: WalTrail) -> None:
    both(wal_trail)
    run_both(
        wal_trail,
        "create table {0}_af partition of {0} for values in ('af')",
        "insert into {} values (1, 'af', 1, 1)",
    )
    found = {finding.kind: finding for finding in capture_findings(wal_trail.connection)}
    assert found[FindingKind.PARTITION_NOT_READY].subject == "public.by_wal_af"
    wal_trail.read()
    found = {finding.kind: finding for finding in capture_findings(wal_trail.connection)}
    assert FindingKind.PARTITION_NOT_READY not in found
    wal_trail.audit("by_row")  # with triggers, the trigger on TRUNCATE of a new partition comes so
    run_both(wal_trail, "update {} set v = 2", "truncate {}_af")
    assert [event[0] for event in same_events(wal_trail)] == [*"IUD"]
    assert parts_changes(wal_trail, "by_wal") == [{"attached": ["public.by_wal_af"]}]
    assert not gaps(wal_trail)


def test_old_rows_of_a_partition_that_is_not_ready_are_a_gap(wal_trail: WalTrail) -> None:
    both(wal_trail)
    wal_trail.execute("create table by_wal_af partition of by_wal for values in ('af')")
    wal_trail.execute("insert into by_wal values (1, 'af', 1, 1)")
    wal_trail.execute("update by_wal set v = 2")
    wal_trail.read()
    assert [row[0] for row in wal_trail.rows("by_wal")] == [*"IU"]
    (reason,) = gaps(wal_trail)
    assert "replica identity was not FULL" in reason


def test_a_partition_that_was_truncated_before_it_was_ready_is_a_gap(wal_trail: WalTrail) -> None:
    both(wal_trail)
    wal_trail.execute("create table by_wal_af partition of by_wal for values in ('af')")
    wal_trail.execute("insert into by_wal values (1, 'af', 1, 1)")
    wal_trail.execute("truncate by_wal_af")
    wal_trail.read()
    (reason,) = gaps(wal_trail)
    assert "by_wal_af was truncated" in reason


def test_a_partition_that_leaves_ends_with_the_table_and_may_come_back(wal_trail: WalTrail) -> None:
    both(wal_trail)
    run_both(wal_trail, ROWS)
    wal_trail.read()  # before 15, what is read at once goes by how its partitions began
    run_both(
        wal_trail,
        "alter table {0} detach partition {0}_eu",
        "insert into {}_eu values (5, 'eu', 0, 5)",
        "update {}_eu set v = 0",
    )
    assert [event[0] for event in same_events(wal_trail)] == [*"IIII"]
    run_both(
        wal_trail,
        "alter table {0} attach partition {0}_eu for values in ('eu')",
        "update {} set v = -1 where id = 5",
    )
    assert [event[0] for event in same_events(wal_trail)] == [*"IIIIU"]
    assert parts_changes(wal_trail, "by_wal") == [
        {"detached": ["public.by_wal_eu"]},
        {"attached": ["public.by_wal_eu"]},
    ]
    assert not gaps(wal_trail)


def test_changes_of_a_dropped_partition_are_still_read(wal_trail: WalTrail) -> None:
    both(wal_trail)
    run_both(wal_trail, ROWS, "drop table {}_eu")
    assert [event[0] for event in same_events(wal_trail)] == [*"IIII"]


def test_a_partition_that_came_and_went_unseen_is_a_gap(wal_trail: WalTrail) -> None:
    both(wal_trail)
    wal_trail.execute("create table by_wal_af partition of by_wal for values in ('af')")
    wal_trail.execute("insert into by_wal values (1, 'af', 1, 1)")
    wal_trail.execute("drop table by_wal_af")
    wal_trail.read()
    (reason,) = gaps(wal_trail)
    assert "public.by_wal_af, a partition" in reason


def test_an_unlogged_partition_is_refused_or_a_gap(wal_trail: WalTrail) -> None:
    wal_trail.execute(PARTS.format("parts"))
    wal_trail.execute("create unlogged table parts_af partition of parts for values in ('af')")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="parts_af are not in the WAL"):
        wal_trail.audit("parts", capture=Capture.WAL)
    wal_trail.execute("drop table parts_af")
    wal_trail.audit("parts", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("create unlogged table parts_af partition of parts for values in ('af')")
    wal_trail.read()
    wal_trail.read()
    (reason,) = gaps(wal_trail)
    assert "unlogged" in reason
    (found,) = (
        finding
        for finding in capture_findings(wal_trail.connection)
        if finding.kind is FindingKind.PARTITION_NOT_IN_WAL
    )
    assert "set logged" in found.remedy


def test_without_a_primary_key_updates_of_new_partitions_would_fail(wal_trail: WalTrail) -> None:
    wal_trail.execute("create table parts (id int) partition by list (id)")
    with pytest.raises(RuleError, match="has no primary key"):
        wal_trail.audit("parts", capture=Capture.WAL)


def test_a_renamed_table_and_the_end_of_capture(wal_trail: WalTrail) -> None:
    both(wal_trail)
    run_both(wal_trail, ROWS, "alter table {0} rename to {0}_new", "truncate {}_new")
    wal_trail.read()
    assert wal_trail.rows("by_wal_new") == wal_trail.rows("by_row_new")
    changes = [e["new_row"]["change"] for e in wal_trail.events() if e["action"] == "M"]
    assert changes.count("renamed") == 2
    wal_trail.release("by_wal_new")
    assert (
        wal_trail.execute(
            "select relname from pg_class where relreplident = 'f' and relname like 'by_wal%'"
        )
        == []
    )


def test_nobody_but_the_triggers_tells_what_truncate_took(wal_trail: WalTrail) -> None:
    both(wal_trail)
    wal_trail.execute("create role teller")
    try:
        wal_trail.execute("set role teller")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            wal_trail.execute("insert into audit.truncated_rows (action) values ('D')")
    finally:
        wal_trail.execute("reset role; drop role teller")


def test_a_renamed_hidden_column_stays_hidden_in_a_partition_that_was_detached(
    wal_trail: WalTrail,
) -> None:
    """The partition has its columns in another order, lost one, and keeps a name that its table has no more."""
    for statement in (
        "create table t (id int primary key, v text, s text) partition by range (id)",
        "create table part (s text, junk int, id int not null, v text)",
        "alter table part drop column junk",
        "alter table t attach partition part for values from (0) to (10)",
    ):
        wal_trail.execute(statement)
    wal_trail.audit("t", capture=Capture.WAL, exclude=("s",))
    wal_trail.read()
    for statement in (
        "insert into t values (1, 'v', 'SECRET')",
        "alter table t rename s to x",
        "alter table t rename v to s",
        "insert into t values (2, 'v', 'SECRET')",
    ):
        wal_trail.execute(statement)
    wal_trail.read()
    for statement in (
        "insert into t values (3, 'v', 'SECRET')",
        "alter table t detach partition part",
        "alter table t rename x to y",
    ):
        wal_trail.execute(statement)
    wal_trail.read()
    events = [event for event in wal_trail.events() if event["action"] == "I"]
    assert [event["row_key"] for event in events] == ["1", "2", "3"]
    assert "SECRET" not in str(events)
