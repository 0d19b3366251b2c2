"""`audit capture run` and `status`, `audit status` and `audit check` of tables that are read from the WAL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from audit_toolkit.cli.check import check_database
from audit_toolkit.config import Capture
from audit_toolkit.connection import connect
from audit_toolkit.errors import PermissionDeniedError
from audit_toolkit.findings import Finding, FindingKind
from audit_toolkit.schema import render_grants
from audit_toolkit.templates import render
from audit_toolkit.wal.health import capture_findings
from tests.plugins.docs import commands
from tests.plugins.trail import Trail
from tests.wal.conftest import WalTrail, kinds, run


def test_a_table_is_installed_read_and_looked_at(
    wal_trail: WalTrail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wal_trail.execute("create table readings (id int primary key, value int)")
    script = run(wal_trail, "install", "--table", "readings", "--capture", "wal", "--sql")
    wal_trail.execute(script)
    assert kinds(wal_trail) >= {"not_from_wal"}
    assert "wal (triggers, until the worker reads it)" in run(wal_trail, "status")

    said = run(wal_trail, "capture", "run", "--once")
    assert said.splitlines() == [
        "public.readings is read from the WAL from here on; its triggers are off",
        "0 changes read",
    ]
    wal_trail.execute("insert into readings values (1, 2)")
    assert run(wal_trail, "capture", "run", "--once").splitlines() == ["1 change read"]

    shown = run(wal_trail, "capture", "status")
    assert "no worker is running" in shown
    assert "public.readings: from the WAL since" in shown
    status = json.loads(run(wal_trail, "capture", "status", "--format", "json"))
    assert (status["slot"]["state"], status["slot"]["events"]) == ("ready", 1)
    assert "audit_capture_changes_total" in run(
        wal_trail, "capture", "status", "--format", "prometheus"
    )
    (table,) = json.loads(run(wal_trail, "status", "--format", "json"))["audited"]
    assert (table["state"], table["capture"], table["assurance"]) == ("on", "wal", "wal")
    assert kinds(wal_trail) == {"worker_stopped", "wal_unlimited"}
    assert "unknown" in run(wal_trail, "history", "readings")
    assert "has no pause" in run(wal_trail, "pause", "--table", "readings", "--reason", "r", code=2)

    wal_trail.execute("select pg_drop_replication_slot(slot_name) from audit.capture_progress")
    assert "slot_missing" in run(wal_trail, "check", code=3)
    assert "slot_missing" in run(wal_trail, "check", "--table", "readings", code=3)
    assert "1 table with a gap" in run(wal_trail, "capture", "run", "--once")

    wal_trail.execute(run(wal_trail, "uninstall", "--table", "readings", "--sql"))
    assert wal_trail.installed("readings") is None
    assert run(wal_trail, "check", "--fail-on", "error")


def test_status_check_and_metrics_say_when_all_was_read(wal_trail: WalTrail) -> None:
    wal_trail.execute("create table readings (id int primary key)")
    wal_trail.audit("readings", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("create table another as select from generate_series(1, 1000)")
    before = wal_trail.execute("select caught_up_at from audit.capture_progress")
    assert wal_trail.read() == 0
    assert wal_trail.execute("select caught_up_at from audit.capture_progress") > before
    wal_trail.worker().start()
    assert "worker_behind" not in kinds(wal_trail)

    wal_trail.execute("update audit.capture_progress set caught_up_at = now() - interval '3 hours'")
    assert kinds(wal_trail) >= {"worker_behind"}
    shown = run(wal_trail, "capture", "status")
    assert "a worker is running; all was read 3 hours ago" in shown
    status = json.loads(run(wal_trail, "capture", "status", "--format", "json"))
    assert status["slot"]["seconds_behind"] > 3 * 3600
    told = run(wal_trail, "capture", "status", "--format", "prometheus").splitlines()
    assert [line for line in told if line.startswith("audit_capture_behind_seconds")]


def test_a_worker_that_stands_still_is_found_whatever_the_clock_says(wal_trail: WalTrail) -> None:
    wal_trail.execute("create table readings (id int primary key)")
    wal_trail.audit("readings", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.worker().start()
    for caught_up_at, created_at in (
        ("null", "now() - interval '1 hour'"),
        ("now() + interval '1 hour'", "now() - interval '1 hour'"),
    ):
        wal_trail.execute(
            f"update audit.capture_progress set caught_up_at = {caught_up_at}, created_at = {created_at}"
        )
        assert "worker_behind" in kinds(wal_trail)


@pytest.mark.pg(">= 16")
def test_the_slot_is_not_decoded_from_far_back(wal_trail: WalTrail) -> None:
    wal_trail.execute("create table readings (id int primary key)")
    wal_trail.audit("readings", capture=Capture.WAL)
    wal_trail.read()
    fill = "insert into readings select g from generate_series({}, {}) g"
    wal_trail.execute(fill.format(1, 1000))
    (middle,) = wal_trail.execute("select pg_current_wal_lsn()")[0]
    wal_trail.read()
    wal_trail.execute(fill.format(1001, 2000))
    wal_trail.read()
    assert wal_trail.execute(
        "select restart_lsn >= %s from pg_replication_slots where database = current_database()",
        [middle],
    ) == [(True,)]


def test_drift_is_found_as_for_triggers(wal_trail: WalTrail) -> None:
    wal_trail.execute("create table readings (id int primary key)")
    wal_trail.audit("readings", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("alter table readings replica identity default")
    said = run(wal_trail, "check", code=3)
    assert "replica_identity_changed" in said
    assert "trigger_disabled" not in said
    wal_trail.read()
    assert "replica_identity_changed" not in run(wal_trail, "check", "--fail-on", "error")
    wal_trail.execute(
        "create or replace function audit.replay_public__readings() returns void language plpgsql"
        " set search_path = pg_catalog, pg_temp as 'begin end'"
    )
    assert "function_changed" in run(wal_trail, "check", code=3)


def test_the_commands_of_the_documentation_exist() -> None:
    text = (Path(__file__).parents[2] / "docs" / "wal.md").read_text(encoding="utf-8")
    assert [words[:2] for words in commands(text)] == [
        ["install", "--table"],
        ["capture", "run"],
        ["capture", "status"],
        ["capture", "run"],
        ["capture", "fallback"],
        ["capture", "resume"],
    ]


def test_no_question_about_the_slot_is_worth_compiling(wal_trail: WalTrail) -> None:
    wal_trail.execute("create table readings (id int primary key)")
    wal_trail.audit("readings", capture=Capture.WAL)
    wal_trail.read()
    for template in ("slot", "tables"):  # as the worker asks once a second
        text = render(f"wal/{template}", schema="audit", publication="audit_capture", hidden=())
        ((plan,),) = wal_trail.execute(f"explain (format json) {text}")
        assert plan[0]["Plan"]["Total Cost"] < 100_000, "jit_above_cost"


def test_what_is_not_there_is_named(wal_trail: WalTrail) -> None:
    for words in (("capture", "status"), ("capture", "run", "--once")):
        said = run(wal_trail, *words, "--audit-schema", "nope", code=2)
        assert "has no audit trail in the schema nope" in said


def test_an_unlogged_table_is_refused(wal_trail: WalTrail) -> None:
    wal_trail.execute("create unlogged table readings (id int primary key)")
    said = run(wal_trail, "install", "--table", "readings", "--capture", "wal", "--sql", code=2)
    assert "public.readings is unlogged" in said
    assert "--capture row" in said


def test_what_is_not_read_yet_is_not_taken_for_unseen(
    wal_trail: WalTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c audit.wait_for_wal=200ms")
    wal_trail.execute("create table readings (id int primary key, value int)")
    wal_trail.audit("readings", capture=Capture.WAL)
    wal_trail.execute("insert into readings values (1, 1)")
    wal_trail.read()
    wal_trail.execute("insert into readings values (2, 2); delete from readings where id = 1")
    said = run(wal_trail, "reconcile", "--table", "readings", code=3)
    assert "first read what is still in the WAL: audit capture run --once" in said
    refused = run(wal_trail, "baseline", "--table", "readings", code=1)
    assert "changes to public.readings are still in the WAL" in refused
    assert "audit capture run" in refused
    assert [e["action"] for e in wal_trail.events() if e["action"] in "ID"] == ["I"]
    assert wal_trail.read() == 2
    run(wal_trail, "reconcile", "--table", "readings")
    run(wal_trail, "baseline", "--table", "readings")
    actions = [e["action"] for e in wal_trail.events() if e["action"] in "IDS"]
    assert actions == ["I", "I", "D"]


def test_streams_and_history_have_what_the_worker_read(wal_trail: WalTrail, tmp_path: Path) -> None:
    wal_trail.execute("create table readings (id int primary key, value int)")
    wal_trail.audit("readings", capture=Capture.WAL)
    wal_trail.read()
    out = tmp_path / "out.jsonl"
    deliver = ("stream", "run", "c", "--to", f"file:{out}", "--table", "readings", "--once")
    run(wal_trail, *deliver)
    wal_trail.execute("insert into readings values (1, 1), (2, 2)")
    wal_trail.execute("update readings set value = 3 where id = 1")
    wal_trail.read()
    run(wal_trail, *deliver)
    told = [e for e in map(json.loads, out.read_text().splitlines()) if e["action"] != "M"]
    assert [(e["action"], e["row_key"]) for e in told] == [("I", "1"), ("I", "2"), ("U", "1")]
    assert {e["session_user_name"] for e in told} == {None}
    shown = run(wal_trail, "row-at", "readings", "1", "--at", "now", "--format", "json")
    assert json.loads(shown) == {"row": {"id": 1, "value": 3}}


def test_what_the_worker_lacks_is_said_at_install(
    wal_trail: WalTrail, trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    install = ("install", "--table", "readings", "--capture", "wal", "--sql", "--dsn")
    ddl = "create table readings (id int primary key)"
    trail.execute(ddl)
    said = CliRunner().invoke(app, [*install, trail.database.dsn]).stderr
    assert "wal_level is replica, and the worker needs logical" in said

    role = f"migrator_{wal_trail.database.name[-8:]}"
    wal_trail.execute(ddl)
    assert CliRunner().invoke(app, [*install, wal_trail.database.dsn]).stderr == ""
    wal_trail.execute(f"create role {role} login")
    wal_trail.execute(f"grant pg_read_all_data to {role}; alter table readings owner to {role}")
    dsn = wal_trail.database.dsn.replace("postgres@", f"{role}@")
    said = CliRunner().invoke(app, [*install, dsn]).stderr
    wal_trail.execute(
        f"reassign owned by {role} to postgres; drop owned by {role}; drop role {role}"
    )
    assert f"{role} may not read the WAL" in said
    assert f"alter role {role} replication" in said


def test_a_role_that_lost_replication_is_told_so(wal_trail: WalTrail) -> None:
    wal_trail.execute("create table readings (id int primary key)")
    wal_trail.audit("readings", capture=Capture.WAL)
    worker = wal_trail.worker()
    worker.start()
    worker.turn()
    role = f"plain_{wal_trail.database.name}"
    wal_trail.execute(f"create role {role}; insert into readings values (1)")
    worker.reader.execute(f"set role {role}")
    with pytest.raises(PermissionDeniedError) as raised:
        worker.turn()
    assert "replication" in (raised.value.hint or "")
    wal_trail.execute(f"drop role {role}")


@pytest.mark.parametrize("role", ["reader", "maintainer"])
def test_who_checks_the_trail_sees_the_worker_once_it_is_granted(
    wal_trail: WalTrail, role: Literal["reader", "maintainer"]
) -> None:
    """`audit check` runs as one of these where systemd or cron runs it."""
    wal_trail.execute("create table readings (id int primary key)")
    wal_trail.audit("readings", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("create role wal_guest; grant usage on schema audit to wal_guest")
    kinds = {"worker_stopped", "wal_unlimited", "not_checked"}

    def found() -> list[Finding]:
        wal_trail.execute("set role wal_guest")
        try:
            return [
                f
                for f in check_database(wal_trail.connection, "audit", models=False)
                if f.kind in kinds
            ]
        finally:
            wal_trail.execute("reset role")

    try:
        (refused,) = (one for one in found() if one.subject == "capture from the WAL")
        assert (refused.kind, refused.severity) == ("not_checked", "warning")
        assert "capture_progress" in refused.message
        for statement in render_grants("audit", "postgres", **{role: "wal_guest"}):  # type: ignore[arg-type]
            wal_trail.execute(statement)
        # What was read a moment ago was read by a worker that may still be there.
        assert [one.kind for one in found() if one.kind != "not_checked"] == ["wal_unlimited"]
        wal_trail.execute(
            "update audit.capture_progress set ran_at = ran_at - interval '2 minutes'"
        )
        (stopped, _) = (one for one in found() if one.kind != "not_checked")
        assert stopped.kind == "worker_stopped"
        assert not [one for one in found() if one.subject == "capture from the WAL"]
        of_owner = [f.kind for f in check_database(wal_trail.connection, "audit", models=False)]
        assert not {"executable_by_others", "readable_by_others"} & {*of_owner}
        with connect(wal_trail.database.dsn, purpose="capture") as worker:
            worker.execute("select pg_advisory_lock(1)")
            assert "worker_stopped" not in [one.kind for one in found()]
    finally:
        wal_trail.execute("drop owned by wal_guest; drop role wal_guest")


def test_the_worker_says_which_transactions_a_new_slot_waits_for(
    wal_trail: WalTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(_: object, slot: str) -> None:
        maker = wal_trail.database.connect()
        maker.pgconn.nonblocking = 0
        text = f"select pg_create_logical_replication_slot('{slot}', 'pgoutput')"
        maker.pgconn.send_query(text.encode())
        try:
            while not wal_trail.execute("select 1 from pg_replication_slots where active"):
                pass
            found.extend(capture_findings(wal_trail.connection))
        finally:
            wal_trail.execute("commit prepared 'left open'")
            while maker.pgconn.get_result():
                pass

    found: list[Finding] = []
    wal_trail.execute("create table readings (id int primary key)")
    wal_trail.audit("readings", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("select pg_drop_replication_slot(slot_name) from audit.capture_progress")
    wal_trail.execute("begin; insert into readings values (1); prepare transaction 'left open'")
    monkeypatch.setattr("audit_toolkit.wal.worker.create_slot", make)
    wal_trail.read()
    assert wal_trail.said[-2].startswith("the replication slot is there once these have ended")
    assert "the prepared transaction 'left open'" in wal_trail.said[-2]
    assert FindingKind.SLOT_MISSING in {finding.kind for finding in found}
    assert "slot_missing" not in kinds(wal_trail)


def test_no_value_comes_from_the_wal_after_it_was_erased(
    wal_trail: WalTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c audit.wait_for_wal=200ms")
    wal_trail.execute("create table people (id int primary key, name text)")
    wal_trail.audit("people", capture=Capture.WAL)
    wal_trail.execute("insert into people values (1, 'Jo')")
    wal_trail.read()
    wal_trail.execute("delete from people")
    words = ("redact", "people", "1", "--column", "name", "--reason", "asked for", "--apply")
    said = run(wal_trail, *words, code=1)
    assert "changes to public.people are still in the WAL" in said
    assert "audit capture run" in said
    wal_trail.read()
    assert "2 events of 1 key" in run(wal_trail, *words)
    wal_trail.read()
    assert not [e for e in wal_trail.events() if "Jo" in f"{e['old_text']}{e['new_text']}"]


def test_an_export_says_what_is_still_in_the_wal(
    wal_trail: WalTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c audit.wait_for_wal=200ms")
    wal_trail.execute("create table people (id int primary key, name text)")
    wal_trail.audit("people", capture=Capture.WAL)
    wal_trail.execute("insert into people values (1, 'Jo')")
    run(wal_trail, "subject", "people", "1")  # triggers record it
    wal_trail.read()
    wal_trail.execute("update people set name = 'Joan'")
    said = run(wal_trail, "subject", "people", "1", code=3)
    assert "not included: changes that are still in the WAL: start the worker" in said
    assert "Joan" not in said
    wal_trail.read()
    assert "Joan" in run(wal_trail, "subject", "people", "1")
    wal_trail.execute("select pg_drop_replication_slot(slot_name) from audit.capture_progress")
    run(wal_trail, "subject", "people", "1", code=3)
