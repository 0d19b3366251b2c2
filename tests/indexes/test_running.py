"""What is being built is reported as running, in every wait and to every role, and never touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from audit_toolkit.indexes import (
    Listener,
    Scope,
    Timeouts,
    diagnose,
    plan_repairs,
    read_catalogue,
    repair,
)
from audit_toolkit.plan import Step, single_flight
from tests.indexes import breakage
from tests.indexes.breakage import Running, flags
from tests.indexes.conftest import AuditIndexes
from tests.plugins.database import Connection, Database

Findings = Callable[..., list[dict[str, Any]]]
EMAIL = "create index concurrently people_email_idx on people (email)"
REINDEX = "reindex index concurrently people_name_idx"
DROP = "drop index concurrently people_name_idx"


@pytest.fixture
def stranger(stocked: Database) -> Iterator[str]:
    """The address of a role that may see nothing of other sessions."""
    role = f"{stocked.name}_stranger"
    stocked.execute(f"create role {role} login")
    host = urlsplit(stocked.dsn)
    yield host._replace(netloc=f"{role}@{host.netloc.rpartition('@')[2]}").geturl()
    stocked.execute(f"drop role {role}")


def blocker(database: Database, kind: str) -> Connection:
    if kind == "snapshot":
        return breakage.old_snapshot(database)
    return (breakage.writer if kind == "writer" else breakage.reader)(database, "people")


WAITS: dict[str, tuple[str, str, str | None, str]] = {
    "create before the build": (
        EMAIL, "writer", "waiting for writers before build", "people_email_idx",
    ),
    "create in validation": (EMAIL, "snapshot", "waiting for old snapshots", "people_email_idx"),
    "reindex before the build": (
        REINDEX, "writer", "waiting for writers before build", "people_name_idx_ccnew",
    ),
    "reindex in validation": (
        REINDEX, "snapshot", "waiting for old snapshots", "people_name_idx_ccnew",
    ),
    "reindex after the swap": (
        REINDEX, "reader", "waiting for readers before marking dead", "people_name_idx_ccold",
    ),
    "drop": (DROP, "reader", None, "people_name_idx"),
}  # fmt: skip


@pytest.mark.parametrize("case", WAITS)
def test_a_running_build_is_no_finding_for_any_role(
    case: str, stocked: Database, audit_indexes: AuditIndexes, stranger: str
) -> None:
    statement, kind, phase, index = WAITS[case]
    holder = blocker(stocked, kind)
    running = Running(stocked, statement)
    if phase is None:
        running.wait_until_blocked()
    else:
        running.wait_for_phase(phase)
    assert flags(stocked)[index] != "vrl"

    for dsn in (stocked.dsn, stranger):
        result = audit_indexes("check", "--schema", "public", "--format", "json", dsn=dsn)
        assert result.exit_code == 0, result.output
        (found,) = [f for f in json.loads(result.stdout)["findings"] if f["severity"] != "info"]
        assert (found["state"], found["subject"]) == ("building", f"public.{index}")
        assert found["pid"] == running.pid
    refused = audit_indexes("fix", "--schema", "public")
    assert refused.exit_code == 5
    assert "being built" in refused.stderr

    holder.rollback()
    running.finish()
    assert audit_indexes("check", "--schema", "public").exit_code == 0
    assert set(flags(stocked).values()) == {"vrl"}


def test_a_parent_is_not_broken_while_its_leaf_is_built(
    stocked: Database, findings: Findings
) -> None:
    stocked.execute("create index events_actor_idx on events (actor)")
    stocked.execute(
        "update pg_index set indisvalid = false where indexrelid"
        " in ('events_actor_idx'::regclass, 'events_2025_actor_idx'::regclass)"
    )
    with breakage.writer(stocked, "events_2025"):
        running = Running(stocked, "reindex index concurrently events_2025_actor_idx")
        running.wait_for_phase("waiting for writers before build")
        assert {f["state"] for f in findings()} == {"building"}
    running.finish()


def test_an_index_that_is_being_created_leaf_by_leaf_is_not_incomplete(
    stocked: Database, findings: Findings
) -> None:
    stocked.execute("create index events_actor_idx on only events (actor)")
    with breakage.writer(stocked, "events_2025"):
        running = Running(stocked, "create index concurrently by_actor on events_2025 (actor)")
        running.wait_for_phase("waiting for writers before build")
        found = findings()
        assert {f["state"] for f in found} == {"building"}
        assert {f["subject"] for f in found} == {"public.events_actor_idx", "public.by_actor"}
    running.finish()
    assert {f["state"] for f in findings()} == {"parent_invalid"}


@pytest.mark.parametrize("case", ["create before the build", "drop"])
def test_progress_names_the_phase_and_who_is_waited_for(
    case: str, stocked: Database, audit_indexes: AuditIndexes, stranger: str
) -> None:
    statement, kind, phase, index = WAITS[case]
    holder = blocker(stocked, kind)
    holder.execute("set application_name = 'long report'")
    running = Running(stocked, statement)
    if phase is None:
        running.wait_until_blocked()
    else:
        running.wait_for_phase(phase)

    (build,) = json.loads(audit_indexes("progress", "--format", "json").stdout)["builds"]
    assert (build["pid"], build["phase"]) == (running.pid, phase)
    assert (build["index"], build["table"]) == (f"public.{index}", "public.people")
    assert build["blocker"]["pid"] == holder.info.backend_pid
    assert build["blocker"]["application"] == "long report"
    assert build["blocker"]["state"] == "idle in transaction"
    text = audit_indexes("progress").stdout
    assert f"pid {holder.info.backend_pid} (long report, idle in transaction" in text

    (seen,) = json.loads(audit_indexes("progress", "--format", "json", dsn=stranger).stdout)[
        "builds"
    ]
    assert (seen["pid"], seen["blocker"]["pid"]) == (running.pid, holder.info.backend_pid)

    holder.rollback()
    running.finish()
    assert json.loads(audit_indexes("progress", "--format", "json").stdout) == {"builds": []}
    assert audit_indexes("progress").stdout == "no index is being built\n"


def test_the_live_view_ends_when_nothing_runs(stocked: Database) -> None:
    holder = breakage.writer(stocked, "people")
    running = Running(stocked, EMAIL)
    running.wait_for_phase("waiting for writers before build")
    controller, terminal = os.openpty()
    command = [sys.executable, "-m", "audit_toolkit", "indexes", "progress"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "NO_COLOR": "1"}
    view = subprocess.Popen(
        [*command, "--watch", "0.05", "--dsn", stocked.dsn], stdout=terminal, env=environment
    )
    os.close(terminal)
    seen = b""
    while b"waiting for writers before build" not in seen:
        seen += os.read(controller, 4096)
    assert f"pid {holder.info.backend_pid}".encode() in seen
    holder.rollback()
    running.finish()
    while b"any more" not in seen:
        seen += os.read(controller, 4096)
    assert view.wait() == 0
    os.close(controller)


def test_a_build_tells_how_far_the_server_is(stocked: Database) -> None:
    holder = breakage.writer(stocked, "people")
    controller, terminal = os.openpty()
    command = [sys.executable, "-m", "audit_toolkit", "indexes", "create", EMAIL]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "NO_COLOR": "1"}
    build = subprocess.Popen(
        [*command, "--dsn", stocked.dsn],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=environment,
        text=True,
    )
    os.close(terminal)
    seen = b""
    while f"pid {holder.info.backend_pid} (".encode() not in seen:
        seen += os.read(controller, 4096)
    assert b"Build public.people_email_idx" in seen
    assert b"waiting for writers before build" in seen
    holder.rollback()
    out, _ = build.communicate()
    os.close(controller)
    assert (build.returncode, out) == (0, "people_email_idx is valid on all partitions\n")


def test_what_was_mended_meanwhile_is_left_alone(stocked: Database) -> None:
    breakage.stopped_before_build(stocked, EMAIL, "people")
    catalogue = read_catalogue(stocked.connection, Scope(schema="public"))
    repairs = plan_repairs(diagnose(catalogue), catalogue)
    stocked.execute("reindex index people_email_idx")
    steps: list[Step] = []
    assert repair(repairs, stocked.connection, Timeouts(), Listener(on_step=steps.append)) == []
    assert steps == []


def test_what_somebody_works_on_meanwhile_is_busy(stocked: Database) -> None:
    breakage.stopped_before_build(stocked, EMAIL, "people")
    catalogue = read_catalogue(stocked.connection, Scope(schema="public"))
    repairs = plan_repairs(diagnose(catalogue), catalogue)
    with breakage.reader(stocked, "people"):
        running = Running(stocked, "drop index concurrently people_email_idx")
        running.wait_until_blocked()
        (failure,) = repair(repairs, stocked.connection, Timeouts(), Listener())
        assert failure.error.exit_code == 5
    running.finish()


def test_two_repairs_at_once_do_not_meet(stocked: Database, audit_indexes: AuditIndexes) -> None:
    with single_flight(stocked.dsn, "audit"):
        result = audit_indexes("fix", "--schema", "public")
    assert result.exit_code == 5
    assert "another run" in result.stderr


def test_a_new_index_waits_for_the_build_of_somebody_else(
    stocked: Database, audit_indexes: AuditIndexes
) -> None:
    with breakage.writer(stocked, "people"):
        running = Running(stocked, EMAIL)
        running.wait_for_phase("waiting for writers before build")
        result = audit_indexes("create", EMAIL)
        assert result.exit_code == 5
        assert f"session {running.pid}" in result.stderr
    running.finish()
    assert audit_indexes("create", EMAIL).exit_code == 0
