"""`audit --log-format json`: whatever is said on stderr is one JSON object a line."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from audit_toolkit.cli.json_log import JsonLines
from tests.plugins.command import Audit
from tests.plugins.trail import Trail


def entries(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_errors_and_what_goes_on(trail: Trail, audit: Audit, tmp_path: Path) -> None:
    trail.execute("create table orders (id int primary key)")
    trail.audit("orders")
    trail.execute("insert into orders values (1)")
    sink = f"file:{tmp_path}/events.jsonl"
    done = audit("--log-format", "json", "stream", "run", "lake", "--to", sink, "--once", code=0)
    [entry] = entries(done.stderr)
    assert (entry["level"], entry["command"]) == ("info", "audit stream run")
    assert entry["message"] == "lake: 1 event delivered"
    assert datetime.fromisoformat(entry["time"]).tzinfo is not None

    refused = audit("pause", "--table", "nope", "--reason", "x", AUDIT_LOG_FORMAT="json", code=2)
    levels = [entry["level"] for entry in entries(refused.stderr)]
    assert levels == ["error", "hint"]
    assert "nope" in entries(refused.stderr)[0]["message"]
    assert audit("status", "--no-such", AUDIT_LOG_FORMAT="json", code=2).stderr.startswith("{")
    shown = entries(audit(AUDIT_LOG_FORMAT="json", code=2).stderr)
    assert {entry["level"] for entry in shown} == {"info"}
    for typed in (["--no-such"], ["no-such"], ["stream", "no-such"], ["--log-format", "json"]):
        said = entries(audit(*typed, AUDIT_LOG_FORMAT="json", code=2).stderr)
        assert [entry["level"] for entry in said] == ["error", "hint"]
        assert said[0]["command"] == ("audit stream" if "stream" in typed else "audit")
    assert audit("--log-format", "xml", "status", code=2).stderr.startswith("error: ")


SINK = """
import logging, warnings
warnings.simplefilter("always")
warnings.warn("first\\nsecond")
logger = logging.getLogger("shop")
logger.propagate = False  # pytest has handlers
logger.error("no %s", "stock")
def refuse(messages):
    raise ValueError("first\\nsecond")
"""


def test_what_code_of_the_user_says_has_its_level(
    trail: Trail, audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail.execute("create table orders (id int primary key)")
    trail.audit("orders")
    trail.execute("insert into orders values (1)")
    (tmp_path / "a_sink.py").write_text(SINK)
    monkeypatch.syspath_prepend(tmp_path)
    typed = ("run", "c", "--to", "python:a_sink:refuse", "--once", "--give-up-after", "0")
    said = audit("stream", *typed, AUDIT_LOG_FORMAT="json", code=1).stderr
    assert [(entry["level"], entry["message"].partition(":")[0]) for entry in entries(said)] == [
        ("warning", "UserWarning"),
        ("error", "no stock"),
        ("warning", "the sink did not accept events"),
        ("error", "the sink took nothing for 0 seconds"),
        ("hint", "fix the sink, then run the command again"),
    ]
    assert "first\nsecond" in entries(said)[0]["message"]
    assert "first\nsecond" in entries(said)[3]["message"]


def test_a_crash_is_one_object(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError("first\nsecond")

    before = sys.stderr, warnings.showwarning, logging.lastResort
    monkeypatch.setattr("audit_toolkit.cli.status.open_database", crash)
    [entry] = entries(audit("status", AUDIT_LOG_FORMAT="json", code=1).stderr)
    assert (entry["level"], entry["message"]) == ("error", "ZeroDivisionError: first\nsecond")
    assert entry["traceback"].startswith("Traceback (most recent call last)")
    assert (sys.stderr, warnings.showwarning, logging.lastResort) == before


def test_every_line_is_one_object_and_none_is_lost() -> None:
    below = io.StringIO()
    lines = JsonLines(below, "audit seal")
    lines.write("begun, ")
    assert below.getvalue() == ""
    lines.write('and \x1b[31mended\n\nwarning: a "b" \u2028\nwithout end')
    lines.close()
    assert [(e["level"], e["message"]) for e in entries(below.getvalue())] == [
        ("info", "begun, and \x1b[31mended"),
        ("warning", 'a "b" \u2028\nwithout end'),
    ]
    assert "\x1b" not in below.getvalue()
