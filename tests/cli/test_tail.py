"""`audit history --follow` as a process: what it prints and when it ends, with a cursor and without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.plugins.command import Audit
from tests.plugins.trail import Trail

Process = subprocess.Popen[str]


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute("create table orders (id int primary key, v int)")
    trail.audit("orders")
    trail.execute("insert into orders values (1), (2)")
    return trail


@contextmanager
def tail(trail: Trail, *arguments: str, output: str = "jsonl") -> Iterator[Process]:
    """The command at work; killed at the end if it has not ended."""
    command = [sys.executable, "-m", "audit_toolkit", "history", "orders", "--follow"]
    with subprocess.Popen(
        [*command, "--format", output, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"AUDIT_DATABASE_URL": trail.database.dsn},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read(process: Process, number: int) -> list[int]:
    """The ids of the next so many events."""
    assert process.stdout is not None
    return [json.loads(process.stdout.readline())["event_id"] for _ in range(number)]


def wait_until_kept(cursor: Path, event_id: int) -> None:
    while not cursor.exists() or json.loads(cursor.read_text())["event_id"] < event_id:
        time.sleep(0.01)


def end(process: Process) -> tuple[int, str]:
    """Its exit code and what it said on stderr."""
    assert process.stderr is not None
    said = process.stderr.read()
    return process.wait(), said


def test_ctrl_c_ends_it(orders: Trail) -> None:
    with tail(orders) as process:
        assert read(process, 2) == [1, 2]
        orders.execute("insert into orders values (3)")
        assert read(process, 1) == [3]
        process.send_signal(signal.SIGINT)
        assert end(process) == (0, "")


def test_ctrl_c_ends_it_also_in_the_middle_of_a_query(orders: Trail) -> None:
    waiting = "select count(*) from pg_locks where not granted and relation = 'audit.logged_actions'::regclass"
    with tail(orders) as process, orders.connection.transaction():
        read(process, 2)
        orders.execute("lock table audit.logged_actions in access exclusive mode")
        while orders.execute(waiting) == [(0,)]:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert end(process) == (0, "")


def test_a_closed_pipe_ends_it_also_while_nothing_happens(orders: Trail) -> None:
    with tail(orders) as process:
        assert process.stdout is not None
        read(process, 1)
        process.stdout.close()
        assert end(process) == (0, "")


def test_a_closed_pipe_ends_it_in_the_middle(orders: Trail) -> None:
    orders.execute("insert into orders select generate_series(10, 5000)")
    with tail(orders) as process:
        assert process.stdout is not None
        read(process, 1)
        process.stdout.close()
        assert end(process) == (0, "")


@pytest.mark.parametrize("cursor", [True, False])
def test_a_lost_connection(orders: Trail, tmp_path: Path, cursor: bool) -> None:
    arguments = ("--cursor", str(tmp_path / "cursor")) if cursor else ()
    orders.execute("create table notes (id int primary key)")
    orders.audit("notes")
    orders.execute("insert into notes values (1)")  # the tail stands behind it, and yet not there
    with tail(orders, *arguments) as process:
        read(process, 2)
        orders.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        code, said = end(process)
        assert code == 4
        error, hint = said.splitlines()
        assert error.startswith("error: the connection was lost")
        option = "" if cursor else " with --after 2"
        assert (
            hint == f"hint: run the same command{option} to continue after the last printed event"
        )


def test_killed_and_gone_on_behind_the_cursor(orders: Trail, tmp_path: Path) -> None:
    cursor = tmp_path / "cursor"
    seen: list[int] = []
    for number in range(3):
        orders.execute("insert into orders values (%s)", [10 + number])
        with tail(orders, "--cursor", str(cursor)) as process:
            expected = 3 if number == 0 else 1
            seen += read(process, expected)
            # Printed before it is kept: killed in between, it would be printed again.
            wait_until_kept(cursor, max(seen))
            process.kill()
    assert seen == [1, 2, 3, 4, 5]


def test_what_was_printed_and_not_kept_is_printed_again(orders: Trail, tmp_path: Path) -> None:
    cursor = tmp_path / "cursor"
    with tail(orders, "--cursor", str(cursor)) as process:
        read(process, 2)
        wait_until_kept(cursor, 2)
    kept = json.loads(cursor.read_text()) | {"event_id": 1}
    cursor.write_text(json.dumps(kept))
    with tail(orders, "--cursor", str(cursor), "--after", "0", "--limit", "1") as process:
        assert read(process, 1) == [2]


def test_who_holds_it_back_is_named_once(orders: Trail) -> None:
    with tail(orders) as process:
        read(process, 2)
        late = orders.database.connect(autocommit=False, application_name="nightly import")
        late.execute("insert into orders values (3)")
        orders.execute("insert into orders values (4)")
        assert process.stderr is not None
        note = process.stderr.readline()
        assert note.startswith(
            f"note: waiting for the transaction of pid {late.info.backend_pid} of "
        )
        assert "(nightly import) in the database" in note
        assert "open since 20" in note
        late.rollback()
        assert read(process, 1) == [4]
        process.send_signal(signal.SIGINT)
        assert end(process) == (0, "")


def test_text_and_csv_come_as_they_happen(orders: Trail) -> None:
    with tail(orders, "--limit", "1", output="text") as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(lines) == "public.orders\n"
        assert any("inserted 2" in line for line in lines)
        orders.execute("update orders set v = 7 where id = 1")
        assert any("updated 1" in line for line in lines)
        assert any("v  NULL → 7" in line for line in lines)
    with tail(orders, "--after", "2", output="csv") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("event_id,action_tstamp,")
        assert process.stdout.readline().startswith("3,")
        orders.execute("delete from orders where id = 1")
        assert process.stdout.readline().startswith("4,")


def test_where_nothing_is_to_be_seen_yet(orders: Trail) -> None:
    with tail(orders, "7") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == (
            "note: no such row in the trail: public.orders 7; it has not changed since capture "
            "began; waiting for new ones\n"
        )
        orders.execute("insert into orders values (7)")
        assert read(process, 1) == [3]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ("--follow", "--until", "now"),
            "--until cannot be combined with --follow",
            "--limit and --after",
        ),
        (
            ("--follow", "--before", "2"),
            "--before cannot be combined with --follow",
            "leave out one",
        ),
        (
            ("--follow", "--newest-first"),
            "--newest-first cannot be combined with --follow",
            "leave out one",
        ),
        (
            ("--follow", "--format", "json"),
            "--format json cannot be combined with --follow",
            "--format jsonl",
        ),
        (("--cursor", "c"), "--cursor needs --follow", "add --follow"),
        (("--follow", "--cursor", "broken"), "'broken' is not a valid cursor", "use a file"),
        (("--follow", "--cursor", "."), "cannot read the cursor '.'", "use a file"),
        (("--follow", "--cursor", "other"), "belongs to public.notes, not to", "use another file"),
        (("--follow", "--after", "4"), "event 4 is of public.notes", "shows the ids"),
        (("--after", "4"), "event 4 is of public.notes", "shows the ids"),
        (
            ("--before", "4"),
            "event 4 is of public.notes, not of public.orders",
            "shows the ids",
        ),
        (
            ("--before", "2", "--after", "2"),
            "after must be less than before: 2",
            "after=5, before=7",
        ),
        (("--from-key", "x"), "'x' cannot be a key of public.orders", "one value of type integer"),
        (("--from-key", "1", "--from-key", "2"), "'1' '2' cannot be a key", "one value of type"),
        (
            ("--from-key", "2", "--to-key", "1"),
            "from_key must not be greater than to_key: '2' comes after '1'",
            "give the lower key first",
        ),
        (("1", "--to-key", "2"), "a key ('1') cannot be combined with a range", "leave out one"),
        (
            ("--follow", "--since", "soon"),
            "--since: 'soon' is not a valid time",
            "write 2026-11-01",
        ),
    ],
)
def test_bad_input(
    audit: Audit, orders: Trail, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    orders.execute("create table notes (id int primary key)")
    orders.audit("notes")
    orders.execute("insert into orders values (3); insert into notes values (1)")
    Path("broken").write_text("{")
    other = {"event_id": 1, "trail": "audit", "table": "public.notes"}
    Path("other").write_text(json.dumps(other))
    result = audit("history", "orders", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    error, remedy = result.stderr.splitlines()
    assert message in error
    assert hint in remedy


def test_a_cursor_that_cannot_be_written(audit: Audit, orders: Trail) -> None:
    result = audit("history", "orders", "--follow", "--format", "jsonl", "--cursor", "no/such/file")
    assert result.exit_code == 1
    assert "error: cannot write the cursor 'no/such/file'" in result.stderr


class TestNextPage:
    def test_the_command_that_is_named_shows_it(self, audit: Audit, orders: Trail) -> None:
        import shlex

        orders.execute("insert into orders select generate_series(3, 40)")
        orders.execute("insert into orders values (-5)")
        asked = [
            "audit",
            "history",
            "orders",
            "--action",
            "insert",
            "--from-key=-3",
            "--limit",
            "7",
        ]
        pages: list[str] = []
        while asked:
            result = audit(*asked[1:])
            assert result.exit_code == 0
            keys = [line.split()[5] for line in result.stdout.splitlines() if line.startswith("●")]
            pages = [*keys, *pages]
            note = result.stderr.removeprefix("note: older events: ").strip()
            assert note != result.stderr.strip() or not note
            asked = shlex.split(note)
        assert pages == [str(number) for number in range(1, 41)]

    def test_forward(self, audit: Audit, orders: Trail) -> None:
        orders.execute("insert into orders values (3), (4)")
        result = audit("history", "orders", "--after", "1", "--limit", "2", "--to-key", "9")
        assert result.stderr == (
            "note: newer events: audit history orders --to-key 9 --after 3 --limit 2\n"
        )
        result = audit("history", "orders", "--after", "3", "--limit", "2", "--format", "json")
        assert [event["event_id"] for event in json.loads(result.stdout)["events"]] == [4]
        assert result.stderr == ""

    def test_odd_keys_and_secrets(self, audit: Audit, trail: Trail) -> None:
        trail.execute('create table "odd table" (k text primary key, v int)')
        trail.audit('"odd table"')
        trail.execute("""insert into "odd table" values ('-x'); update "odd table" set v = 1""")
        plain = trail.database.dsn
        secret = plain.replace("postgres@", "postgres:secret@")
        for dsn, shown in ((plain, f"--dsn {plain} "), (secret, "")):
            result = audit("history", "--limit", "1", "--dsn", dsn, "--", '"odd table"', "-x")
            assert result.stderr == (
                f"""note: older events: audit history {shown}--before 2 --limit 1 -- '"odd table"' -x\n"""
            )
