"""Maintenance beside others: their transactions, locks, settings and publications."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from datetime import timedelta

import psycopg
import psycopg.sql
import pytest
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from audit_toolkit.connection import connect, prepare_session
from audit_toolkit.errors import BusyError
from audit_toolkit.plan import single_flight
from tests.plugins.rotating import START, Rotating, months
from tests.plugins.trail import SCHEMA

HOSTILE = {
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "1min",
    "lock_timeout": "1min",
    "idle_in_transaction_session_timeout": "1min",
    "idle_session_timeout": "1min",
    "transaction_timeout": "1min",
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "search_path": "nowhere",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "check_function_bodies": "off",
    "row_security": "off",
    "backslash_quote": "off",
    "escape_string_warning": "off",
    "enable_partition_pruning": "off",
    "constraint_exclusion": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "jit": "on",
    "xmloption": "document",
    "lc_monetary": "C",
    "client_min_messages": "error",
    "default_toast_compression": "pglz",
}


def test_a_run_under_hostile_settings_of_its_role(rotating: Rotating) -> None:
    """All at once, as each is pinned or without effect by itself."""
    rotating.fill(START, START, "1 day")
    before = rotating.leaves()
    version = rotating.connection.info.server_version
    for name, value in HOSTILE.items():
        if name != "transaction_timeout" or version >= 170000:
            rotating.execute(
                psycopg.sql.SQL("alter database {} set {} to {}")
                .format(
                    psycopg.sql.Identifier(rotating.database.name),
                    psycopg.sql.Identifier(name),
                    psycopg.sql.Literal(value),
                )
                .as_string(rotating.connection)
            )
    with connect(rotating.database.dsn) as connection:
        rotating.connection = connection
        assert rotating.leaves() == before
        outcomes = rotating.run(START.replace(year=START.year + 1), retention=months(2))
        assert {outcome.result.value for outcome in outcomes} == {"done"}
        # Without our connection the functions of the trail see to it themselves.
        row = "select count(*), count(upper_bound) from audit.leaves() where not is_tail"
        connection.execute("set standard_conforming_strings = off")
        connection.execute("set quote_all_identifiers = on")
        (counted,) = connection.execute(row).fetchall()
        assert counted[0] == counted[1] > 0
        assert connection.execute("select audit.ensure_partitions(12)").fetchone() is not None


def test_every_session_pins_or_withstands(rotating: Rotating) -> None:
    """Which is what `prepare_session` is for: the bounds read the same, whatever was set before."""
    before, version = rotating.leaves(), rotating.connection.info.server_version
    for name, value in HOSTILE.items():
        if name == "transaction_timeout" and version < 170000:
            continue  # PostgreSQL 17 brought it
        with connect(rotating.database.dsn) as connection:
            rotating.connection = connection
            connection.execute(f"set {name} = '{value}'")
            prepare_session(connection)
            if name.endswith("timeout"):
                assert connection.execute(f"show {name}").fetchone() == ("0",), name
            assert rotating.leaves() == before, name


def test_a_publication_for_all_tables(rotating: Rotating) -> None:
    rotating.execute("create publication everything for all tables")
    rotating.fill(START, START, "1 day")
    outcomes = rotating.run(START.replace(year=START.year + 1), retention=months(2))
    assert {outcome.result.value for outcome in outcomes} == {"done"}
    without_key = rotating.execute(
        "select relname from pg_class where relnamespace = 'audit'::regnamespace and relkind in ('r', 'p')"
        " and relreplident <> 'f'"
        " and not exists (select from pg_index where indrelid = pg_class.oid and indisprimary)"
    )
    assert without_key == []


def test_who_holds_the_lock_is_named(rotating: Rotating) -> None:
    dsn = rotating.database.dsn
    with (
        single_flight(dsn, SCHEMA),
        pytest.raises(BusyError, match="another run") as busy,
        single_flight(dsn, SCHEMA),
    ):
        pass
    assert "pid" in busy.value.message
    with rotating.database.connect(autocommit=False, application_name="squatter") as squatter:
        squatter.execute("lock table audit.maintenance in share mode")
        with (
            pytest.raises(
                BusyError, match=f"not a run of the toolkit .pid {squatter.info.backend_pid}"
            ),
            single_flight(dsn, SCHEMA),
        ):
            pass


@pytest.mark.parametrize("table", ["partition_lifecycle", "logged_actions"])
def test_a_run_does_not_wait_for_ever_to_look(
    rotating: Rotating, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setattr("audit_toolkit.cli.monitoring.LONGEST", 0.3)
    with rotating.database.connect(autocommit=False, application_name="squatter") as squatter:
        squatter.execute(f"lock table audit.{table} in access exclusive mode".encode())
        pid = squatter.info.backend_pid
        answer = CliRunner().invoke(app, ["maintain", "--dsn", rotating.database.dsn])
    assert answer.exit_code == 5, answer.output
    assert f"pid {pid}" in answer.stderr
    assert f"ACCESS EXCLUSIVE on audit.{table}" in answer.stderr


@pytest.mark.thorough
def test_no_transaction_of_the_application_loses_to_finalize(rotating: Rotating) -> None:
    """REPEATABLE READ, written, with a snapshot from before the detach: it reads on, and commits."""
    leaf = rotating.read().bounded[0]
    rotating.fill(START, START, "1 day")
    with rotating.database.connect(autocommit=False) as reader:
        reader.execute("select count(*) from audit.logged_actions")
        with rotating.database.connect() as other:
            other.execute("set statement_timeout = '100ms'")
            with pytest.raises(psycopg.errors.QueryCanceled):
                other.execute(
                    f"alter table audit.logged_actions detach partition {leaf.name} concurrently"
                )
        reader.rollback()
    # A pending detach, and a transaction that began before anybody completes it.
    with closing(rotating.database.connect(autocommit=False)) as application:
        application.execute("set transaction isolation level repeatable read")
        application.execute("create temporary table written as select txid_current()")
        outcomes: list[str] = []
        finalizer = threading.Thread(
            target=lambda: outcomes.extend(o.result.value for o in rotating.run())
        )
        finalizer.start()
        deadline = time.monotonic() + 30
        while finalizer.is_alive() and time.monotonic() < deadline:
            application.execute("select count(*) from audit.logged_actions")
            application.execute(f"select count(*) from {leaf.name}")
            assert rotating_sees(rotating)
        application.commit()
        finalizer.join()
    assert outcomes[0] == "deferred"
    assert [o.result.value for o in rotating.run()] == ["done"]
    assert rotating.read().pending is None


def rotating_sees(rotating: Rotating) -> bool:
    """What monitoring asks, while FINALIZE holds its locks: it answers within its lock timeout."""
    with connect(rotating.database.dsn) as connection:
        connection.execute("set lock_timeout = '2s'")
        return bool(Rotating(rotating.database, connection, rotating.now).read().leaves)


@pytest.mark.parametrize(
    "table", ["maintenance", pytest.param("partition_lifecycle", marks=pytest.mark.thorough)]
)
def test_who_has_a_row_that_a_run_needs_is_named(rotating: Rotating, table: str) -> None:
    """What was done is said all the same, and what could not be noted is a step that failed."""
    rotating.fill(START - timedelta(days=40), START, "2 days")
    rotating.run(START)
    rotating.execute("update public.clock set at = %s", [START + timedelta(days=200)])
    options = ["--now", (START + timedelta(days=200)).isoformat(), "--trust-clock"]
    options += ["--retention", "2 months", "--lock-timeout", "50ms"]
    with rotating.database.connect(autocommit=False, application_name="night job") as squatter:
        squatter.execute("select from audit.maintenance for update")
        if table == "partition_lifecycle":
            squatter.rollback()
            squatter.execute("lock table audit.partition_lifecycle in exclusive mode")
        answer = CliRunner().invoke(
            app, ["partitions", "run", *options, "--dsn", rotating.database.dsn]
        )
        pid = squatter.info.backend_pid
    assert answer.exit_code == 1, answer.output
    assert "done      create    Partitions ahead" in answer.stdout
    assert f"pid {pid} (postgres, night job) has " in answer.stdout
    assert f"on audit.{table} since" in answer.stdout


def test_what_was_done_is_said_when_the_checks_cannot_look(
    rotating: Rotating, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit_toolkit.cli.monitoring.LONGEST", 0.3)
    rotating.run(START)
    rotating.execute("update public.clock set at = %s", [START + timedelta(days=200)])
    now = ["--now", (START + timedelta(days=200)).isoformat(), "--trust-clock"]
    with rotating.database.connect(autocommit=False, application_name="squatter") as squatter:
        squatter.execute("lock table audit.home in access exclusive mode")
        answer = CliRunner().invoke(app, ["maintain", *now, "--dsn", rotating.database.dsn])
    assert answer.exit_code == 1, answer.output
    assert "done      create    Partitions ahead" in answer.stdout
    assert "failed    check     Check the trail" in answer.stdout
    assert "(postgres, squatter) holds ACCESS EXCLUSIVE on audit.home" in answer.stdout
