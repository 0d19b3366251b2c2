"""`audit context` and `audit psql`, run as a user runs them."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

import audit_toolkit
from audit_toolkit.cli.app import app
from tests.context.bouncer import Bouncer
from tests.context.conftest import Shop

REASON = 'ticket 123: it\'s "odd" \\ -c x=y é\U0001f600 $(true)'


def ask(*arguments: str, **environment: str) -> Result:
    """Run `audit …` in this process."""
    return CliRunner().invoke(app, list(arguments), env=environment)


def audit(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `audit …` in a process of its own, which psql can take over."""
    return subprocess.run(
        [sys.executable, "-m", "audit_toolkit", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONUTF8": "1", **environment},
    )


def test_context_shows_what_is_sent_and_what_is_seen(shop: Shop) -> None:
    told = ask("context", "actor=user:42", "reason=a=b", "--dsn", shop.dsn, "--format", "json")
    assert told.exit_code == 0, told.stderr
    answer = json.loads(told.stdout)
    sent = {"actor": "user:42", "reason": "a=b"}
    assert answer["sends"] == sent
    assert json.loads(answer["server_sees"].pop("context")) == sent
    assert answer["server_sees"] == {
        "session_user_name": "postgres",
        "role_name": None,
        "application_name": "audit-toolkit/cli",
        "client_addr": answer["server_sees"]["client_addr"],
    }
    assert shop.trail.events() == []


def test_context_as_text(shop: Shop) -> None:
    lines = ask("context", "actor=\x1b[2Jx", "--dsn", shop.dsn).stdout.splitlines()
    assert lines[0] == 'sends:       {"actor":"\\u001b[2Jx"}'
    assert lines[1:3] == ["server sees:", '  context            {"actor":"\\u001b[2Jx"}']
    assert ask("context", "--dsn", shop.dsn).stdout.startswith("sends:       nothing\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["context", "actor"], 2, "'actor' is not KEY=VALUE"),
        (["context", "password=x"], 2, "the key 'password', which is the name of a secret"),
        (["context", "--dsn", "postgresql://127.0.0.1:1/x"], 4, "cannot connect"),
        (["psql"], 2, "a console needs a reason"),
        (["psql", "--reason", "  "], 2, 'add a reason: audit psql --reason "ticket 123"'),
    ],
)
def test_refusals(arguments: list[str], code: int, message: str) -> None:
    told = ask(*arguments)
    assert told.exit_code == code
    assert message in told.stderr
    assert told.stdout == ""


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_psql_carries_who_and_why(shop: Shop) -> None:
    script = (
        "insert into orders (note) values ('one'); \\c\n insert into orders (note) values ('two')"
    )
    arguments = ["psql", "--reason", f" {REASON}\n", "--dsn", shop.dsn, "--", "-X", "-q", "-c"]
    for statement in script.split("\\c\n"):
        told = audit(*arguments, statement)
        assert (told.returncode, told.stdout) == (0, ""), told.stderr
    one, two = (shop.contexts()[note] for note in ("one", "two"))
    assert one["actor"] == f"os:{pwd.getpwuid(os.getuid()).pw_name}"
    assert (one["reason"], one["source"]) == (REASON, "psql")
    assert f"console: {two['console']}" in told.stderr
    assert one["console"] != two["console"]


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_psql_keeps_passwords_off_its_command_line_and_ends_as_psql_ends(shop: Shop) -> None:
    dsn = shop.dsn.replace("postgres@", "postgres:geheim@")
    command = r"\! tr '\0' ' ' < /proc/$PPID/cmdline; echo $PGPASSWORD; exit 0"
    told = audit(
        "psql",
        "--reason",
        "r",
        "--dsn",
        dsn,
        "--",
        "-X",
        "-c",
        command,
        "-c",
        "select 1/0",
        PGOPTIONS="-c work_mem=7MB",
    )
    assert told.returncode == 1
    assert "division by zero" in told.stderr
    if sys.platform == "linux":
        cmdline, _, password = told.stdout.strip().rpartition(" ")
        assert "geheim" not in cmdline
        assert password == "geheim"
    kept = audit(
        "psql",
        "--reason",
        "r",
        "--dsn",
        dsn,
        "--",
        "-XAtc",
        "show work_mem",
        PGOPTIONS="-c work_mem=7MB",
    )
    assert kept.stdout == "7MB\n"


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_psql_is_refused_by_pgbouncer_which_would_share_the_session(
    shop: Shop, make_bouncer: Callable[[str], Bouncer]
) -> None:
    dsn = make_bouncer(shop.dsn).dsn
    told = audit("psql", "--reason", "r", "--dsn", dsn, "--", "-Xc", "select 1")
    assert told.returncode == 2
    assert "unsupported startup parameter" in told.stderr


def test_no_psql(shop: Shop) -> None:
    told = ask("psql", "--reason", "r", "--dsn", shop.dsn, PATH="/nowhere")
    assert told.exit_code == 1
    assert "psql is not installed" in told.stderr


def test_a_duty_to_say_why(shop: Shop) -> None:
    shop.trail.audit("receipts", require_context="reason")
    connection = shop.database.connect()
    audit_toolkit.attach(connection)
    insert: Any = "insert into receipts (note) values ('one')"
    with pytest.raises(psycopg.Error, match=r"public\.receipts needs the key 'reason'") as caught:
        connection.execute(insert)
    assert "set_config('audit.context', '{\"reason\": \"…\"}', true)" in str(
        caught.value.diag.message_hint
    )
    with audit_toolkit.context(actor="a"), pytest.raises(psycopg.Error, match="needs the key"):
        connection.execute(insert)
    with audit_toolkit.context(actor="a", reason="r"):
        connection.execute(insert)
    assert shop.contexts() == {"one": {"actor": "a", "reason": "r"}}
