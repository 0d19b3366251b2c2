"""Keys that no index of the trail could take: writes go through, and each row has its history."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest

from audit_toolkit.completeness import reconcile
from audit_toolkit.config import Capture
from audit_toolkit.long_keys import LONGEST, fitting, may_be_long
from audit_toolkit.trail import history
from tests.plugins.command import Audit
from tests.plugins.trail import Trail

LONG: dict[str, Any] = {
    # Nothing of it can be compressed.
    "bytea": b"".join(hashlib.sha256(bytes([n])).digest() for n in range(42)),
    "text": "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(42))[:2688],
}
RULES: tuple[dict[str, Any], ...] = (
    {"capture": Capture.ROW},
    {"capture": Capture.STATEMENT},
    {"capture": Capture.ROW, "store": "delta"},
)


def shown(key: Any) -> str:
    return key if isinstance(key, str) else "\\x" + key.hex()


def digest(text: str) -> str:
    return f"audit:sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@pytest.mark.parametrize("rule", RULES, ids=["row", "statement", "delta"])
@pytest.mark.parametrize("type_name", LONG)
def test_a_row_with_a_long_key_is_as_any_other(
    trail: Trail, type_name: str, rule: dict[str, Any], audit: Audit
) -> None:
    trail.execute(f"create table files (name {type_name} primary key, v int, w int)")
    trail.audit("files", **rule)
    key = LONG[type_name]
    trail.execute("insert into files values (%s, 1, 1), ('short', 1, 1)", [key])
    trail.execute("update files set v = 2")
    trail.execute("update files set name = 'other' where name = %s", [key])
    trail.execute("update files set name = %s where name = 'other'", [key])
    ((moment,),) = trail.execute("select clock_timestamp()")
    trail.execute("delete from files where name = %s", [key])
    found = history(trail.connection, "files", key)
    assert [event.action for event in found] == ["I", "U", "U", "U", "D"]
    assert {event.row_key for event in found} == {
        digest(shown(key)),
        shown(b"other" if type_name == "bytea" else "other"),
    }
    assert found[-1].old_row == {"name": shown(key), "v": 2, "w": 1}
    assert history(trail.connection, "files", digest(shown(key))) == found
    assert [(one.outcome.value, one.rows) for one in reconcile(trail.connection, [], "audit")] == [
        ("equal", 1)
    ]
    audit("restore", "files", shown(key), "--at", str(moment), "--apply", code=0)
    assert trail.execute("select v from files where name = %s", [key]) == [(2,)]
    trail.execute("delete from files where name = %s", [key])
    gone = history(trail.connection, "files", key)[-1].transaction_id
    audit("revert", "--transaction", str(gone), "--apply", "--reason", "a mistake", code=0)
    at = "select v from audit.row_at(null::files, %s, %s)"
    assert trail.execute(at, [shown(key), moment]) == [(2,)]
    assert trail.execute("select v from files where name = %s", [key]) == [(2,)]


def test_keys_of_several_columns(trail: Trail) -> None:
    """As JSON, what its index takes is three times as long."""
    trail.execute("create table parts (a text, b int, primary key (a, b))")
    trail.audit("parts")
    name = re.sub("[0-7]", "\x01", LONG["text"][:1400])
    trail.execute("insert into parts values (%s, 1), (%s, 2)", [name, name])
    whole = json.dumps([name, 1])
    assert len(whole) > LONGEST
    (event,) = history(trail.connection, "parts", (name, 1))
    assert event.row_key == digest(whole) == fitting(whole)
    assert event.new_row == {"a": name, "b": 1}
    assert history(trail.connection, "parts", whole) == [event]


def test_what_was_written_whole_belongs_to_the_same_row(trail: Trail) -> None:
    """Where it can be compressed, an index takes much; earlier releases wrote such keys as they are."""
    trail.execute("create table files (name text primary key, v int)")
    trail.audit("files")
    key = "x" * 3000
    trail.execute(
        "insert into audit.logged_actions (schema_name, table_name, action, row_key, new_row)"
        " values ('public', 'files', 'I', %s, %s)",
        [key, json.dumps({"name": key, "v": 1})],
    )
    assert [event.row_key for event in history(trail.connection, "files", key)] == [key]
    trail.execute("insert into files values (%s, 1)", [key])
    assert [event.row_key for event in history(trail.connection, "files", key)] == [
        key,
        digest(key),
    ]


@pytest.mark.parametrize(
    ("types", "long"),
    [
        (["integer"], False),
        (["uuid", "timestamp(3) with time zone", "character varying(20)"], False),
        (["numeric(12,2)", "double precision"], False),
        (["text"], True),
        (["character varying(500)"], True),
        (["numeric"], True),
        (["integer[]"], True),
        (["a_domain"], True),
    ],
)
def test_which_keys_may_be_long(types: list[str], long: bool) -> None:
    assert may_be_long(types) is long
