"""Every state is produced on a server, found with its cause, and ended by the remedy that is printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from audit_toolkit.indexes import IndexState, Scope, diagnose, plan_repairs, read_catalogue
from tests.indexes import breakage
from tests.indexes.breakage import definitions, flags
from tests.indexes.conftest import AuditIndexes
from tests.plugins.database import Database

EMAIL = "create index concurrently people_email_idx on people (email)"
REINDEX = "reindex index concurrently people_name_idx"
Break = Callable[[Database], None]
Findings = Callable[..., list[dict[str, Any]]]

# How it breaks; the state; the flags it has then; its severity; whether people_email_idx is there in the end.
BROKEN: dict[str, tuple[Break, str, str, str, str, bool]] = {
    "cancelled before the build": (
        lambda d: breakage.stopped_before_build(d, EMAIL, "people"),
        "people_email_idx", "failed_create", "l", "warning", True,
    ),
    "killed before the build": (
        lambda d: breakage.stopped_before_build(d, EMAIL, "people", "pg_terminate_backend"),
        "people_email_idx", "failed_create", "l", "warning", True,
    ),
    "out of temporary space": (
        lambda d: breakage.failing(
            d, EMAIL, "set temp_file_limit = '64kB'", "set maintenance_work_mem = '1MB'"
        ),
        "people_email_idx", "failed_create", "l", "warning", True,
    ),
    "deadlock": (
        lambda d: breakage.deadlocked(d, EMAIL, "people"),
        "people_email_idx", "failed_create", "l", "warning", True,
    ),
    "drop stopped late": (
        lambda d: breakage.drop_stopped_late(d, "people_name_idx", "people"),
        "people_name_idx", "cancelled_drop", "", "warning", False,
    ),
    "reindex stopped before the build": (
        lambda d: breakage.stopped_before_build(d, REINDEX, "people"),
        "people_name_idx_ccnew", "ccnew", "l", "warning", False,
    ),
    "reindex killed before the build": (
        lambda d: breakage.stopped_before_build(d, REINDEX, "people", "pg_terminate_backend"),
        "people_name_idx_ccnew", "ccnew", "l", "warning", False,
    ),
    "reindex stopped in validation": (
        lambda d: breakage.stopped_in_validation(d, REINDEX),
        "people_name_idx_ccnew", "ccnew", "rl", "warning", False,
    ),
    "reindex stopped after the swap": (
        lambda d: breakage.stopped_after_swap(d, REINDEX, "people"),
        "people_name_idx_ccold", "ccold", "rl", "warning", False,
    ),
    "reindex stopped while dropping": (
        lambda d: breakage.stopped_while_dropping(d, REINDEX, "people"),
        "people_name_idx_ccold", "ccold", "", "warning", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_it_is_found_with_its_cause_and_fixed(
    case: str, stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    produce, index, state, bits, severity, stays = BROKEN[case]
    if case == "out of temporary space":
        stocked.execute(
            "insert into people select n, 'n', repeat('m', 90) || n from generate_series(2000, 60000) n"
        )
    before = definitions(stocked)
    produce(stocked)
    assert flags(stocked)[index] == bits
    (found,) = findings()
    assert (found["subject"], found["state"], found["severity"]) == (
        f"public.{index}",
        state,
        severity,
    )
    assert audit_indexes("check", "--schema", "public").exit_code == 3

    result = audit_indexes("fix", "--schema", "public")
    assert result.exit_code == 0, result.output
    assert findings() == []
    if stays:
        before["people_email_idx"] = (
            "CREATE INDEX people_email_idx ON public.people USING btree (email)"
        )
    elif index == "people_name_idx":
        del before[index]
    assert definitions(stocked) == before
    assert set(flags(stocked).values()) == {"vrl"}


def create_cancelled(database: Database) -> None:
    breakage.stopped_in_validation(
        database, "create index concurrently people_again_idx on people (email)"
    )


def drop_cancelled(database: Database) -> None:
    database.execute("create index people_again_idx on people (email)")
    breakage.drop_stopped(database, "people_again_idx", "people")


UNFINISHED: dict[str, Break] = {
    "a create cancelled in validation": create_cancelled,
    "a drop cancelled in its first wait": drop_cancelled,
}


@pytest.mark.parametrize("case", UNFINISHED)
@pytest.mark.parametrize("choice", ["rebuild", "drop"])
def test_what_looks_the_same_is_left_until_somebody_decides(
    case: str, choice: str, stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    before = definitions(stocked)
    UNFINISHED[case](stocked)
    assert flags(stocked)["people_again_idx"] == "rl"
    (found,) = findings()
    assert (found["state"], found["severity"]) == ("unfinished", "error")
    assert "every write maintains it" in found["message"]
    assert found["steps"] == []

    assert audit_indexes("fix", "--schema", "public").exit_code == 3
    assert flags(stocked)["people_again_idx"] == "rl"
    assert audit_indexes("fix", "--schema", "public", "--unfinished", choice).exit_code == 0
    assert findings() == []
    if choice == "rebuild":
        expected = "CREATE INDEX people_again_idx ON public.people USING btree (email)"
        before["people_again_idx"] = expected
    assert definitions(stocked) == before


def test_an_unfinished_twin_of_a_valid_index_is_dropped(
    stocked: Database, audit_indexes: AuditIndexes
) -> None:
    before = definitions(stocked)
    again = "create index concurrently again on people (name)"
    breakage.stopped_in_validation(stocked, again)
    assert audit_indexes("fix", "--schema", "public").exit_code == 0
    assert definitions(stocked) == before
    assert set(flags(stocked)) == {"people_name_idx", "people_pkey"}


def test_duplicate_rows_keep_a_unique_index_from_being_built(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    stocked.execute("insert into people values (2001, 'n', 'mail 5')")
    breakage.failing(stocked, "create unique index concurrently people_email_key on people (email)")
    (found,) = findings()
    assert (found["state"], found["severity"]) == ("failed_create", "error")

    result = audit_indexes("fix", "--schema", "public")
    assert result.exit_code == 1
    assert "Key (email)=(mail 5) is duplicated" in result.stderr
    assert "remove the duplicate rows" in result.stderr
    # The failed attempt left nothing of its own, and lost nothing of what was there.
    assert flags(stocked)["people_email_key"] == "l"
    assert set(flags(stocked)) == {"people_email_key", "people_name_idx", "people_pkey"}

    stocked.execute("delete from people where id = 2001")
    assert audit_indexes("fix", "--schema", "public").exit_code == 0
    assert flags(stocked)["people_email_key"] == "vrl"


def test_one_repair_that_fails_does_not_stop_the_others(
    stocked: Database, audit_indexes: AuditIndexes
) -> None:
    stocked.execute("insert into people values (2001, 'n', 'mail 5')")
    breakage.failing(stocked, "create unique index concurrently a_email_key on people (email)")
    breakage.stopped_before_build(stocked, EMAIL, "people")
    breakage.stopped_before_build(stocked, REINDEX, "people")
    result = audit_indexes("fix", "--schema", "public")
    assert result.exit_code == 1
    assert flags(stocked) == {
        "a_email_key": "l",
        "people_email_idx": "vrl",
        "people_name_idx": "vrl",
        "people_pkey": "vrl",
    }


def test_a_copy_that_was_reindexed_itself_is_dropped(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    breakage.stopped_before_build(stocked, REINDEX, "people")
    stocked.execute("reindex index concurrently people_name_idx_ccnew")
    (found,) = findings()
    assert found["state"] == "ccnew"
    assert found["message"].startswith("a finished copy of public.people_name_idx")
    assert audit_indexes("fix", "--schema", "public").exit_code == 0
    assert set(flags(stocked)) == {"people_name_idx", "people_pkey"}


def test_an_index_that_somebody_calls_ccnew_is_an_index(
    stocked: Database, findings: Findings
) -> None:
    stocked.execute("create index people_email_ccnew on people (email)")
    assert findings() == []


def test_leftovers_on_a_toast_table(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    before = definitions(stocked)
    breakage.stopped_after_swap(stocked, "reindex table concurrently people", "people")
    states = {(f["subject"].split(".")[0], f["state"], f["table"]) for f in findings()}
    assert states == {("public", "ccold", "public.people"), ("pg_toast", "ccold", "public.people")}
    result = audit_indexes("fix", "--schema", "public")
    assert result.exit_code == 0, result.output
    assert findings() == []
    assert definitions(stocked) == before


def test_an_index_that_a_constraint_relies_on_is_rebuilt_and_never_dropped(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    before = definitions(stocked)
    stocked.execute(
        "update pg_index set indisvalid = false where indexrelid = 'people_pkey'::regclass"
    )
    (found,) = findings()
    assert (found["severity"], found["constraint"]) == ("error", "people_pkey")
    assert audit_indexes("fix", "--schema", "public", "--unfinished", "drop").exit_code == 0
    assert definitions(stocked) == before


def test_an_exclusion_constraint_needs_a_maintenance_window(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    stocked.execute(
        "create table stays (room int4range, exclude using gist (room with &&));"
        "update pg_index set indisvalid = false where indexrelid = 'stays_room_excl'::regclass"
    )
    (found,) = findings()
    assert (found["state"], found["steps"]) == ("invalid_exclusion", [])
    assert audit_indexes("fix", "--schema", "public").exit_code == 3
    statement = found["advice"].partition("window: ")[2].partition(",")[0]
    stocked.execute(statement)
    assert findings() == []


def test_leftovers_of_pg_repack_are_dropped(stocked: Database, audit_indexes: AuditIndexes) -> None:
    breakage.stopped_before_build(
        stocked, "create index concurrently index_16999 on people (email)", "people"
    )
    assert audit_indexes("fix", "--schema", "public").exit_code == 0
    assert set(flags(stocked)) == {"people_name_idx", "people_pkey"}


def test_long_and_odd_names(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    name = '"' + "ü" * 30 + '""O\'Brien"'  # cut by REINDEX, to make room for its suffix
    stocked.execute(f"create index {name[:34]}\" on people (email) where email <> ' USING (x)'")
    before = definitions(stocked)
    breakage.stopped_in_validation(stocked, f'reindex index concurrently {name[:34]}"')
    (found,) = findings()
    assert found["state"] == "ccnew"
    assert audit_indexes("fix", "--schema", "public").exit_code == 0
    assert definitions(stocked) == before


def test_what_only_a_superuser_may_drop_is_said(
    stocked: Database, audit_indexes: AuditIndexes
) -> None:
    breakage.stopped_after_swap(stocked, "reindex table concurrently people", "people")
    owner = f"{stocked.name}_owner"
    stocked.execute(f"create role {owner} login; alter table people owner to {owner}")
    try:
        host = urlsplit(stocked.dsn)
        dsn = host._replace(netloc=f"{owner}@{host.netloc.rpartition('@')[2]}").geturl()
        result = audit_indexes("fix", "--schema", "public", dsn=dsn)
        assert result.exit_code == 1
        assert "permission denied for schema pg_toast" in result.stderr
        left = [name for name, bits in flags(stocked).items() if bits != "vrl"]
        assert left == []  # its own were dropped nevertheless
    finally:
        stocked.execute(f"reassign owned by {owner} to current_user; drop role {owner}")


def test_names_that_are_taken_are_not_given_again(
    stocked: Database, audit_indexes: AuditIndexes
) -> None:
    stocked.execute("create index events_actor_idx on only events (actor)")
    stocked.execute("create view events_2026_actor_idx as select 1")
    stocked.execute("create index events_tail_actor_idx on people (id, name)")
    assert audit_indexes("fix", "--table", "events").exit_code == 0
    assert {"events_2026_actor_idx_1", "events_tail_actor_idx_1"} <= set(flags(stocked))
    assert set(flags(stocked).values()) == {"vrl"}


def test_what_the_partitioned_table_declares_is_never_dropped(
    stocked: Database, audit_indexes: AuditIndexes
) -> None:
    stocked.execute("create index events_actor_idx on only events (actor)")
    breakage.stopped_in_validation(
        stocked, "create index concurrently by_actor on events_2026 (actor)"
    )
    assert audit_indexes("fix", "--schema", "public", "--unfinished", "drop").exit_code == 0
    assert flags(stocked)["by_actor"] == "vrl"
    assert set(flags(stocked).values()) == {"vrl"}


def test_a_server_that_corrupts_indexes_repairs_none(stocked: Database) -> None:
    breakage.stopped_before_build(stocked, EMAIL, "people")
    catalogue = replace(
        read_catalogue(stocked.connection, Scope(schema="public")), server_version=140003
    )
    findings = diagnose(catalogue)
    assert findings[0].state is IndexState.UNSAFE_SERVER
    assert len(findings) == 2
    assert not any(repair.steps for repair in plan_repairs(findings, catalogue))
