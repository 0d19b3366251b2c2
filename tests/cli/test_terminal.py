"""What goes to a terminal, to a pager and to a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import sys
from pathlib import Path

import pytest

from audit_toolkit.spreadsheet import guard_cell
from tests.plugins.command import Audit
from tests.plugins.seeds import some_quick
from tests.plugins.trail import Trail


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute("create table t (id int primary key, note text, secret text)")
    trail.audit("t")
    trail.execute("insert into t values (1, E'\\x1b[31mred\\u009b', 'hush'), (2, '=1+1|cmd', '-5')")
    return trail


def on_terminal(dsn: str, *arguments: str, **environment: str) -> str:
    """What the command writes to a terminal of its own."""
    pid, number = pty.fork()
    if pid == 0:  # pragma: no cover - another process
        os.environ.update({"TERM": "xterm", "AUDIT_DATABASE_URL": dsn} | environment)
        code = "from audit_toolkit.cli.app import main; main()"
        os.execv(sys.executable, [sys.executable, "-c", code, *arguments])  # noqa: S606
    written = b""
    while part := _read(number):
        written += part
    os.waitpid(pid, 0)
    os.close(number)
    return written.decode()


def _read(number: int) -> bytes:
    try:
        return os.read(number, 65536)
    except OSError:  # Linux says so where the other end is closed
        return b""


PRINTING = [
    ["history", "--format", "jsonl"],
    ["history", "t", "--format", "csv"],
    ["table-at", "t", "--at", "now"],
    ["table-at", "t", "--at", "now", "--guard-cells"],
    ["table-at", "t", "--at", "now", "--format", "jsonl"],
    ["row-at", "t", "1", "--at", "now"],
    ["diff", "t", "--from", "1 hour ago"],
    ["blame", "t", "1"],
]
QUICK = [PRINTING[0], PRINTING[3], PRINTING[6]]  # one for each way to print


@pytest.mark.parametrize("command", some_quick(PRINTING, QUICK), ids=" ".join)
def test_no_value_reaches_a_terminal_as_it_is(shop: Trail, command: list[str]) -> None:
    written = on_terminal(shop.database.dsn, *command, AUDIT_PAGER="")
    assert "\\u001b[31mred" in written
    assert "\x1b" not in written
    assert "\x9b" not in written


def test_long_text_goes_through_the_pager_in_colour(shop: Trail, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    pager = tmp_path / "pager"
    pager.write_text(f'#!/bin/sh\necho "$LESS" > {kept}\ncat >> {kept}\n')
    pager.chmod(0o755)
    assert on_terminal(shop.database.dsn, "history", "t", AUDIT_PAGER=str(pager)) == ""
    options, *text = kept.read_text().splitlines()
    assert options == "FRX"
    assert "public.t" in text[0]
    assert "\x1b[" in text[0]
    assert "\x1b[31mred" not in "".join(text)
    assert not any(
        "\x1b" in line
        for line in [
            on_terminal(shop.database.dsn, "history", "t", AUDIT_PAGER=str(pager), NO_COLOR="1")
        ]
    )


@pytest.mark.parametrize(
    "pager", some_quick(["", "cat", "/no/such/pager", "head -n 1", "true"], ["", "head -n 1"])
)
def test_a_pager_that_is_none_or_has_enough(shop: Trail, pager: str) -> None:
    shop.execute("insert into t select i, repeat('x', 99), '' from generate_series(3, 900) i")
    written = on_terminal(shop.database.dsn, "history", "t", "--limit", "0", AUDIT_PAGER=pager)
    assert "Traceback" not in written
    assert "error" not in written
    assert ("public.t" in written) == (pager != "true")


def test_without_a_terminal_there_is_no_pager(shop: Trail, audit: Audit) -> None:
    assert audit("history", "t", AUDIT_PAGER="/no/such/pager").stdout.startswith("public.t\n")


@pytest.mark.parametrize("output", ["text", "json", "jsonl", "csv"])
def test_hidden_columns_are_not_shown(shop: Trail, audit: Audit, output: str) -> None:
    shop.execute("update t set secret = 'hidden', note = 'seen' where id = 1")
    whole = audit("history", "t", "--format", output).stdout
    assert "hush" in whole
    assert "hidden" in whole
    part = audit("history", "t", "--format", output, "--hide", "secret").stdout
    assert "seen" in part
    assert "hush" not in part
    assert "hidden" not in part
    number = str(shop.events()[-1]["event_id"])
    assert "hidden" not in audit("show", number, "--hide", "secret").stdout


@pytest.mark.parametrize(
    "command",
    [
        ["table-at", "t", "--at", "now"],
        ["table-at", "t", "--at", "now", "--format", "json"],
        ["table-at", "t", "--at", "now", "--format", "jsonl"],
        ["row-at", "t", "1", "--at", "now"],
        ["row-at", "t", "1", "--at", "now", "--format", "json"],
        ["diff", "t", "--from", "1 hour ago"],
        ["diff", "t", "--from", "1 hour ago", "--format", "json"],
        ["blame", "t", "1"],
        ["blame", "t", "1", "--format", "json"],
    ],
    ids=" ".join,
)
def test_hidden_columns_of_rows_that_were(shop: Trail, audit: Audit, command: list[str]) -> None:
    whole = audit(*command).stdout
    assert "hush" in whole
    part = audit(*command, "--hide", "secret").stdout
    assert "red" in part
    assert "hush" not in part
    assert "secret" not in part


def test_a_difference_in_hidden_columns_alone_is_none(shop: Trail, audit: Audit) -> None:
    (moment,) = shop.execute("select clock_timestamp()")[0]
    shop.execute("update t set secret = 'new'")
    shop.execute("update t set note = 'n' where id = 2")
    command = ["diff", "t", "--from", moment.isoformat(), "--format", "json", "--hide", "secret"]
    (row,) = json.loads(audit(*command).stdout)["rows"]
    assert row["changed"] == {"note": ["=1+1|cmd", "n"]}


@pytest.mark.parametrize(
    ("cell", "guarded"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd", "'+cmd"),
        ("-2+3", "'-2+3"),
        ("@sum(a1)", "'@sum(a1)"),
        ("\t=1", "'\t=1"),
        ("-5", "-5"),
        ("+1.5e3", "+1.5e3"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_cells_of_a_spreadsheet(cell: str, guarded: str) -> None:
    assert guard_cell(cell) == guarded


def test_guarded_csv(shop: Trail, audit: Audit) -> None:
    shop.execute("insert into t values (3, E'@a\\n=b', E'x\\n-y')")
    plain = audit("table-at", "t", "--at", "now").stdout
    rows = list(
        csv.reader(io.StringIO(audit("table-at", "t", "--at", "now", "--guard-cells").stdout))
    )
    assert len(rows) == len(list(csv.reader(io.StringIO(plain)))) == 4
    assert sorted(rows[1:])[1:] == [["2", "'=1+1|cmd", "-5"], ["3", "'@a\n=b", "x\n-y"]]
    shop.execute("select set_config('audit.context', %s, false)", [json.dumps({"actor": "=x"})])
    shop.execute("create table k (id text primary key)")
    shop.audit("k")
    shop.execute("insert into k values ('=2+2')")
    lines = audit("history", "k", "--format", "csv", "--guard-cells").stdout
    assert next(csv.DictReader(io.StringIO(lines)))["row_key"] == "'=2+2"
    assert audit("history", "k", "--guard-cells").exit_code == 2
