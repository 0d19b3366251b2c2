from __future__ import annotations

import hashlib

import psycopg
import pytest

from audit_toolkit.config import Capture, Mask, OnOversize, TableRule
from audit_toolkit.errors import RuleError
from tests.plugins.trail import Trail

FILES = "create table files (id int primary key, name text, body text, raw bytea, meta json)"
NUL = '{"a": "\\u0000"}'


@pytest.fixture
def files(trail: Trail) -> Trail:
    trail.execute(FILES)
    return trail


def test_by_default_the_write_fails_and_nothing_is_lost(files: Trail) -> None:
    files.audit("files")
    with pytest.raises(psycopg.Error, match="unsupported Unicode escape sequence") as caught:
        files.execute("insert into files (id, meta) values (1, %s)", [NUL])
    assert "audit.capture_public__files()" in str(caught.value.diag.context)
    assert files.execute("select count(*) from files") == [(0,)]
    assert files.events() == []


def test_marked_values_are_known_by_size_and_hash(files: Trail) -> None:
    files.audit("files", on_oversize=OnOversize.MARK)
    size = 17 * 1024 * 1024
    files.execute(
        "insert into files values (1, 'a', repeat('x', %s), repeat('y', %s)::bytea, %s)",
        [size, size, NUL],
    )
    files.execute("update files set name = 'b'")
    files.execute("update files set body = 'small'")
    files.execute("delete from files")
    inserted, renamed, changed, deleted = files.events()

    def mark(value: bytes) -> dict[str, object]:
        digest = hashlib.sha256(value).hexdigest()
        return {"audit:oversize": {"bytes": len(value), "sha256": digest}}

    row = inserted["new_row"]
    assert row == {
        "id": 1,
        "name": "a",
        "body": mark(b"x" * size),
        "raw": mark(b"y" * size),
        "meta": mark(NUL.encode()),
    }
    assert (renamed["old_row"], renamed["new_row"]["name"]) == (row, "b")
    assert changed["new_row"]["body"] == "small"
    assert deleted["old_row"]["body"] == "small"


@pytest.mark.parametrize(
    ("document", "marked"),
    [(NUL, True), ('{"a": "\\\\u0000"}', False), ('{"a": "\\\\\\u0000"}', True), ("[1]", False)],
)
def test_only_what_json_cannot_hold_is_marked(files: Trail, document: str, marked: bool) -> None:
    files.audit("files", on_oversize=OnOversize.MARK)
    files.execute("insert into files (id, meta) values (1, %s)", [document])
    assert ("audit:oversize" in str(files.events()[0]["new_row"]["meta"])) is marked


def test_a_masked_value_shows_no_hash(files: Trail) -> None:
    files.audit("files", on_oversize=OnOversize.MARK, mask=(Mask(column="meta"),))
    files.execute("insert into files (id, meta) values (1, %s)", [NUL])
    assert files.events()[0]["new_row"]["meta"] == "[redacted]"


@pytest.mark.parametrize("hidden", [{"exclude": ("body", "meta")}, {"only": ("name",)}])
def test_hidden_columns_leave_no_mark(files: Trail, hidden: dict[str, tuple[str, ...]]) -> None:
    files.audit("files", on_oversize=OnOversize.MARK, **hidden)
    files.execute("insert into files (id, body, meta) values (1, repeat('x', 17000000), %s)", [NUL])
    row = files.events()[0]["new_row"]
    assert not {"body", "meta"} & set(row)


def test_statement_capture_cannot_mark() -> None:
    with pytest.raises(RuleError, match="--capture row"):
        TableRule(capture=Capture.STATEMENT, on_oversize=OnOversize.MARK)
