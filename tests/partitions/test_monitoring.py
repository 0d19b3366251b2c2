"""Monitoring beside locks that last: it answers within its own timeout, and names who is in the way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest
from typer.testing import CliRunner, Result

from audit_toolkit.cli.app import app
from tests.plugins.rotating import Rotating
from tests.plugins.seeds import some_quick

WATCHED = [
    ("check",),
    ("status",),
    ("partitions", "check"),
    ("partitions", "list"),
    ("indexes", "check"),
]
NAGIOS = [("partitions", "check"), ("indexes", "check")]
Audit = Callable[..., Result]


@pytest.fixture
def audit(rotating: Rotating) -> Audit:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--dsn", rotating.database.dsn])

    return call


@contextmanager
def locked(rotating: Rotating, relation: str) -> Iterator[int]:
    """A session that has the lock for which even a SELECT waits."""
    with closing(
        rotating.database.connect(autocommit=False, application_name="night job")
    ) as blocker:
        blocker.execute(f"lock table only {relation} in access exclusive mode")
        yield blocker.info.backend_pid


def test_who_holds_the_trail_is_named(rotating: Rotating, audit: Audit) -> None:
    with locked(rotating, "audit.logged_actions") as pid:
        for command in WATCHED:
            result = audit(*command, "--timeout", "0.2")
            if result.exit_code in (0, 3):  # what reads the catalogue alone
                assert command[0] == "indexes" or command == ("partitions", "list"), result.output
                continue
            assert result.exit_code == 5, result.output
            assert f"pid {pid}" in result.stderr
            assert "night job" in result.stderr
            assert "lock table only audit.logged_actions" in result.stderr
        for command in NAGIOS:
            result = audit(*command, "--format", "nagios", "--timeout", "0.2")
            if result.exit_code == 3:
                assert result.stdout.startswith(f"AUDIT_{command[0].upper()} UNKNOWN - ")
                assert f"pid {pid}" in result.stdout
                assert len(result.stdout.splitlines()) == 1
            else:
                assert command[0] == "indexes", result.output
        assert audit("partitions", "check", "--format", "nagios", "--timeout", "0.2").exit_code == 3


def test_who_holds_a_partition_is_named(rotating: Rotating, audit: Audit) -> None:
    rotating.fill(rotating.now, rotating.now)
    [leaf] = [leaf for leaf in rotating.read().bounded if leaf.filled]
    with locked(rotating, str(leaf.name)) as pid:
        result = audit("partitions", "check", "--timeout", "0.2")
        assert result.exit_code == 5, result.output
        assert f"pid {pid}" in result.stderr
        assert leaf.name.name in result.stderr


def test_a_queue_behind_a_long_reader_is_named(rotating: Rotating, audit: Audit) -> None:
    """The lock is only waited for, and whoever comes later waits behind it."""
    with closing(rotating.database.connect(autocommit=False)) as reader:
        reader.execute("select count(*) from audit.logged_actions")
        waiter = rotating.database.connect(application_name="deploy")
        thread = threading.Thread(target=alter, args=(waiter,))
        thread.start()
        try:
            while not rotating.execute("select 1 from pg_locks where not granted"):
                time.sleep(0.01)
            result = audit("partitions", "check", "--timeout", "0.2")
            assert result.exit_code == 5, result.output
            assert "waits for ACCESS EXCLUSIVE on audit.logged_actions" in result.stderr
            assert "deploy" in result.stderr
        finally:
            waiter.cancel()
            thread.join()
            waiter.close()


def alter(connection: psycopg.Connection[object]) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled), connection.transaction():
        connection.execute("lock table only audit.logged_actions in access exclusive mode")


@pytest.mark.thorough
def test_all_answer_while_a_detach_is_completed(rotating: Rotating, audit: Audit) -> None:
    """FINALIZE waits for old snapshots, with ACCESS EXCLUSIVE on the partition."""
    leaf = rotating.read().bounded[0].name
    interrupt_a_detach(rotating, str(leaf))
    with closing(rotating.database.connect(autocommit=False)) as old:
        old.execute("set transaction isolation level repeatable read")
        old.execute("select 1")
        finalizer = rotating.database.connect(application_name="finalizer")
        statement = f"alter table audit.logged_actions detach partition {leaf} finalize"
        thread = threading.Thread(target=finalizer.execute, args=(statement,))
        thread.start()
        while not rotating.execute(
            "select 1 from pg_locks where mode = 'AccessExclusiveLock' and granted"
            " and relation = %s::regclass::oid",
            [str(leaf)],
        ):
            time.sleep(0.01)
        codes = {command: audit(*command, "--timeout", "1").exit_code for command in WATCHED}
        nagios = audit("partitions", "check", "--format", "nagios", "--timeout", "1")
        assert thread.is_alive()  # all of that was beside it
        old.rollback()
        thread.join()
        finalizer.close()
    assert set(codes.values()) <= {0, 3, 5}, codes
    assert codes["partitions", "list"] == 0
    assert "AUDIT_PARTITIONS" in nagios.stdout
    assert "detach_pending" in nagios.stdout


def interrupt_a_detach(rotating: Rotating, leaf: str) -> None:
    with rotating.database.connect(autocommit=False) as reader:
        reader.execute("select count(*) from audit.logged_actions")
        with rotating.database.connect() as other:
            other.execute("set statement_timeout = '100ms'")
            with pytest.raises(psycopg.errors.QueryCanceled):
                other.execute(
                    f"alter table audit.logged_actions detach partition {leaf} concurrently"
                )


@pytest.mark.parametrize(
    "line",
    [
        ("partitions", "check", "--format", "nagios", "--warning", "soon"),
        ("partitions", "check", "--format=nagios", "--nothing"),
        ("partitions", "check", "--format", "nagios", "--retention", "soon"),
        ("partitions", "check", "--format", "nagios", "--timeout", "0"),
        ("indexes", "check", "--format", "nagios", "--fail-on", "never"),
        ("indexes", "check", "--format", "nagios", "--all", "--table", "x"),
        ("check", "--format", "nagios", "--nothing"),
        ("archive", "verify", "--format", "nagios"),
        ("partitions", "chek", "--format", "nagios"),
    ],
)
def test_nagios_gets_unknown_for_a_line_that_cannot_be_read(
    audit: Audit, line: tuple[str, ...]
) -> None:
    result = audit(*line)
    assert result.exit_code == 3
    assert result.stdout.startswith(f"AUDIT_{line[0].upper()} UNKNOWN - ")
    assert len(result.stdout.splitlines()) == 1


def test_nagios_gets_unknown_for_a_server_that_is_away() -> None:
    line = ["partitions", "check", "--format", "nagios", "--dsn", "postgresql://127.0.0.1:1/x"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 3
    assert "UNKNOWN - cannot connect" in result.stdout


HALF = {
    "maintenance": "drop table audit.maintenance",
    "the record of partitions": "drop table audit.partition_lifecycle",
    "home": "drop table audit.home",
    "what is captured": "drop table audit.captured_tables cascade",
    "a function": "drop function audit.leaves() cascade",
    "the functions that make partitions": "drop function audit.make_leaf(text), audit.ensure_past()",
    "the functions that note changes": "drop function audit.note_changes(text), audit.present_home() cascade",
    "all partitions": """do $$ declare leaf regclass; begin
        for leaf in select inhrelid from pg_inherits where inhparent = 'audit.logged_actions'::regclass
        loop execute 'drop table ' || leaf; end loop; end $$""",
    "what joins the partitions": """do $$ declare leaf regclass; begin
        for leaf in select inhrelid from pg_inherits where inhparent = 'audit.logged_actions'::regclass
        loop execute format('alter table audit.logged_actions detach partition %s', leaf); end loop; end $$""",
    "the comment": "comment on table audit.logged_actions is null",
    "the table itself": "drop table audit.logged_actions cascade",
    "a column": "alter table audit.maintenance drop column last_run_at cascade",
    "the schema": "drop schema audit cascade",
}


@pytest.mark.parametrize(
    "lost", some_quick(HALF, ["home", "a function", "all partitions", "the comment", "the schema"])
)
def test_after_half_a_restore_there_is_a_message(
    rotating: Rotating, audit: Audit, lost: str
) -> None:
    rotating.execute(HALF[lost])
    for command in (("maintain",), ("check",), ("partitions", "list")):
        result = audit(*command)
        assert isinstance(result.exception, SystemExit | None), (command, result.exception)
        assert result.exit_code in (0, 1, 2, 3), result.output
    summary = audit("maintain", "--format", "json")
    if summary.stdout:
        assert json.loads(summary.stdout)["status"] in ("ok", "failed", "findings")
    else:
        assert summary.stderr.startswith("error: "), summary.output
