"""`audit --log-format json`: whatever is said on stderr is one JSON object a line."""

from __future__ import annotations

import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

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
    assert (entry["level"], entry["command"]) == ("info", "audit stream")
    assert entry["message"] == "lake: 1 event delivered"
    assert datetime.fromisoformat(entry["time"]).tzinfo is not None

    refused = audit("pause", "--table", "nope", "--reason", "x", AUDIT_LOG_FORMAT="json", code=2)
    levels = [entry["level"] for entry in entries(refused.stderr)]
    assert levels == ["error", "hint"]
    assert "nope" in entries(refused.stderr)[0]["message"]
    assert audit("status", "--no-such", AUDIT_LOG_FORMAT="json", code=2).stderr.startswith("{")
    assert audit("--log-format", "xml", "status", code=2).stderr.startswith("error: ")


def test_every_line_is_one_object_and_none_is_lost() -> None:
    below = io.StringIO()
    lines = JsonLines(below, "audit seal")
    lines.write("begun, ")
    assert below.getvalue() == ""
    lines.write('and \x1b[31mended\n\nwarning: a "b" \u2028\nwithout end')
    lines.close()
    assert [(e["level"], e["message"]) for e in entries(below.getvalue())] == [
        ("info", "begun, and \x1b[31mended"),
        ("warning", 'a "b" \u2028'),
        ("info", "without end"),
    ]
    assert "\x1b" not in below.getvalue()
