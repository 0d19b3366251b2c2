"""How commands end that cannot go on: one voice, no traceback, the right exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins.command import Audit
from tests.plugins.seeds import some_quick
from tests.plugins.trail import Trail

AUDIT = [sys.executable, "-c", "from audit_toolkit.cli.app import main; main()"]


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (["--bogus"], "no such option: --bogus", "audit --help"),
        (["bogus"], "no such command 'bogus'", "audit --help"),
        (["history", "--bogus"], "no such option: --bogus", "audit history --help"),
        (
            ["blame", "orders", "-5"],
            "no such option: -5",
            "a key that starts with a dash comes last, after --: orders -- -5",
        ),
        (["history", "--limit", "x"], "--limit: should be a valid integer", "audit history --help"),
        (["verify", "--jobs", "x"], "--jobs: should be a valid integer", "audit verify --help"),
        (
            ["--log-format", "x", "check"],
            "--log-format: 'x' is not one of 'text', 'json'",
            "audit --help",
        ),
        (["row-at", "orders"], "missing argument 'KEY'", "audit row-at --help"),
        (["diff", "orders"], "missing option '--from'", "audit diff --help"),
        (["history", "--format", "x"], "--format: 'x' is not one of", "audit history --help"),
        (["history", "--since"], "--since needs a value", "audit history --help"),
        (["history", "--utc=1"], "--utc takes no value", "audit history --help"),
        (["partitions", "bogus"], "no such command 'bogus'", "audit partitions --help"),
    ],
)
def test_what_typer_refuses(audit: Audit, arguments: list[str], said: str, hint: str) -> None:
    done = audit(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"error: {said}")
    assert second == f"hint: {hint}".replace("audit", second.split()[1], 1)


@pytest.mark.parametrize("arguments", [["partitions"], ["archive"], ["indexes"]])
def test_a_group_alone_shows_its_help(audit: Audit, arguments: list[str]) -> None:
    done = audit(*arguments)
    assert done.exit_code == 2
    assert "error" not in done.stdout + done.stderr.splitlines()[0]
    assert "Commands:" in done.stdout + done.stderr


@pytest.fixture
def long_trail(trail: Trail) -> Trail:
    trail.execute("create table t (id int primary key, v text)")
    trail.audit("t")
    trail.execute("insert into t select i, repeat('x', 500) from generate_series(1, 2000) i")
    return trail


FULL = Path("/dev/full")
COMMANDS = [
    ["history", "--format", "jsonl"],
    ["history", "t", "--limit", "0"],
    ["history", "--format", "csv"],
    ["table-at", "t", "--at", "now"],
    ["table-at", "t", "--at", "now", "--guard-cells"],
    ["table-at", "t", "--at", "now", "--format", "json"],
    ["diff", "t", "--from", "1 hour ago"],
]


@pytest.mark.parametrize("command", some_quick(COMMANDS, COMMANDS[::3]), ids=" ".join)
def test_a_closed_pipe_ends_quietly(long_trail: Trail, command: list[str]) -> None:
    with subprocess.Popen(
        [*AUDIT, *command, "--dsn", long_trail.database.dsn],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.skipif(not FULL.exists(), reason="a device of Linux")
@pytest.mark.parametrize("command", [COMMANDS[0], ["history", "t", "1"]], ids=" ".join)
def test_a_full_disk_is_one_line(long_trail: Trail, command: list[str]) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [*AUDIT, *command, "--dsn", long_trail.database.dsn],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"error: could not write the output: No space left on device\n"


def test_errors_of_the_server_are_harmless(trail: Trail, audit: Audit) -> None:
    trail.execute("create table t (id int primary key, v text)")
    trail.audit("t")
    trail.execute("insert into t values (1, E'\\x1b[31mred')")
    trail.execute("alter table t alter v type int using null")
    done = audit("row-at", "t", "1", "--at", "now")
    assert done.exit_code == 1
    assert "\x1b" not in done.stderr
    assert '"\\u001b[31mred"' in done.stderr


@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        (">&-", 1, "error: could not write the output: Bad file descriptor\n"),
        (">&- <&-", 1, "error: could not write the output: Bad file descriptor\n"),
        (">/dev/null 2>&-", 0, ""),
        (">&- 2>&- <&-", 1, ""),
    ],
)
def test_streams_that_are_closed(streams: str, code: int, said: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$@" --version {streams}', "sh", *AUDIT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["history", "--transaction", "99999999999999999999"],
        ["history", "--transaction", "9" * 5000],
        ["history", "--before", "99999999999999999999"],
        ["history", "--after", "9" * 40],
        ["history", "--limit", "99999999999999999999"],
        ["transaction", "18446744073709551615"],
        ["show", "99999999999999999999"],
        ["revert", "--event", "99999999999999999999"],
        ["restore", "t", "1", "--event", "99999999999999999999"],
    ],
)
def test_numbers_out_of_range(trail: Trail, audit: Audit, arguments: list[str]) -> None:
    trail.execute("create table t (id int primary key)")
    trail.audit("t")
    done = audit(*arguments, "--dsn", trail.database.dsn)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_what_only_the_server_refuses(trail: Trail, audit: Audit) -> None:
    trail.execute("create table t (id int primary key)")
    trail.audit("t")
    trail.execute("drop function audit.row_image_at cascade")
    done = audit("row-at", "t", "1", "--at", "now", "--dsn", trail.database.dsn)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["history", "\udcff"],
        ["stream", "reset", "\udcff", "--to", "now"],
        ["stream", "run", "\udcff", "--to", "file:events.jsonl", "--once"],
        ["stream", "run", "lake", "--to", "file:events.jsonl", "--once", "--table", "\udcff"],
    ],
)
def test_bytes_that_are_no_text(audit: Audit, arguments: list[str]) -> None:
    """The shell passes what it has: Python reads each byte that is no UTF-8 as half a surrogate."""
    result = audit(*arguments, code=2)
    assert "\\udcff' is not valid UTF-8" in result.stderr
