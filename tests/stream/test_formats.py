"""What each format makes of each kind of event, held against its JSON Schema."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import datetime
from itertools import product
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from audit_toolkit import exact_json
from audit_toolkit.stream import FormatName, Message, schema_of
from audit_toolkit.trail import Action, Event, Filter
from audit_toolkit.trail.history.read import read_events
from audit_toolkit.trail.rows.lookup import find_tables
from tests.plugins.trail import Trail
from tests.stream.delivery import Memory, deliver


@pytest.fixture
def story(orders: Trail) -> Trail:
    orders.execute("insert into orders values (1, 5)")
    orders.execute("update orders set v = 6")
    orders.execute("select audit.record_event('order.paid é', '{\"a\": 1.00}', 'orders', '1')")
    orders.execute("delete from orders")
    orders.execute("truncate orders")
    orders.execute("alter table orders rename to sales")
    orders.execute("select audit.note_changes()")
    return orders


def bodies(trail: Trail, body: FormatName) -> list[Message]:
    sink = Memory()
    deliver(trail, sink, body.value, body=body)
    return sink.taken


@pytest.mark.parametrize("body", list(FormatName))
def test_they_fit_their_schema(story: Trail, body: FormatName) -> None:
    schema = schema_of(body)
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema, format_checker=FormatChecker())
    found = bodies(story, body)
    kinds = [message.event.action.value for message in found]
    assert kinds == (list("IUEDT") if body is FormatName.DEBEZIUM else list("IUEDTM"))
    for message in found:
        values = json.loads(message.body)
        assert not list(check.iter_errors(values))
        broken = {k: v for k, v in values.items() if k not in ("source", "event_id")}
        assert list(check.iter_errors(broken))


def test_debezium(story: Trail) -> None:
    found: list[dict[str, Any]] = [json.loads(m.body) for m in bodies(story, FormatName.DEBEZIUM)]
    assert [(e["op"], e.get("before"), e.get("after")) for e in found] == [
        ("c", None, {"id": 1, "v": 5}),
        ("u", {"id": 1, "v": 5}, {"id": 1, "v": 6}),
        ("m", None, None),
        ("d", {"id": 1, "v": 6}, None),
        ("t", None, None),
    ]
    assert found[2]["message"]["prefix"] == "order.paid é"
    assert base64.b64decode(found[2]["message"]["content"]) == b'{"a": 1.00}'
    assert (found[0]["source"]["schema"], found[0]["source"]["table"]) == ("public", "orders")


def test_cloudevents(story: Trail) -> None:
    insert, _, said, *_ = bodies(story, FormatName.CLOUDEVENTS)
    event = json.loads(insert.body)
    assert insert.content_type == "application/cloudevents+json"
    assert (event["type"], event["subject"], event["id"]) == (
        "audit.inserted",
        "public.orders:1",
        insert.id,
    )
    assert event["data"]["new_row"] == {"id": 1, "v": 5}
    assert json.loads(said.body)["type"] == "order.paid é"


def test_cloudevents_in_headers(story: Trail) -> None:
    insert, _, said, *_ = bodies(story, FormatName.CLOUDEVENTS_BINARY)
    assert insert.content_type == "application/json"
    assert insert.headers["ce-specversion"] == "1.0"
    assert said.headers["ce-type"] == "order.paid %C3%A9"
    assert json.loads(insert.body)["new_row"] == {"id": 1, "v": 5}


def test_keys_and_ids(story: Trail) -> None:
    found = bodies(story, FormatName.EVENT)
    assert [m.key for m in found if m.event.action is not Action.DDL] == ["public.orders:1"] * 4 + [
        "public.orders"
    ]
    assert len({m.id for m in found}) == len(found)
    assert [m.topic.rpartition(".")[2] for m in found] == [
        "inserted",
        "updated",
        "event",
        "deleted",
        "truncated",
        "ddl",
    ]


ROWS: tuple[dict[str, Any], ...] = (
    {},
    {"a": None},
    {"a": 1, "b": "x", "c": True, "d": [1, 2], "e": {}},
    {'q"': 'says ": no', "b": 'and ", too', "c": "back\\slash\\"},
    {"a": {"b": 1, "c": [{"d": "e"}]}, "f": [["g", "h"]]},
    {"n": "line\nfeed\ttab\x01\x1f\x7f\u2028 é 😀", "ключ": "значение"},
    {"a": 'x": [1, "y', "b": "]}, {"},
)


def test_the_text_of_an_event_is_that_of_its_values(trail: Trail) -> None:
    """Put together from what PostgreSQL printed, it is the same to the last character."""
    numbers = '{"a": 1.00, "b": 1e3, "c": -0.0, "d": 123456789012345678901234567890.5, "e": 1E-7}'
    printed = [
        text
        for row in (*map(json.dumps, ROWS), numbers, DEEP)
        for (text,) in trail.execute("select (%s::jsonb)::text", [row])
    ]
    record = {
        "event_id": 1,
        "action_tstamp": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - as the queries give it
        "transaction_id": 7,
        "schema_name": 'pub"lic',
        "table_name": "orders\n",
        "row_key": None,
        "old_row_key": "1",
        "session_user_name": "é",
        "role_name": None,
        "application_name": "",
        "client_addr": None,
        "query": "select 'a\\b'",
    }
    compared = 0
    for action in "IUDTSGMBVRE":
        for old, new in product((None, *printed), repeat=2):
            images = {"old_row": old, "new_row": new, "context": new}
            event = Event.from_record(record | images | {"action": action})
            for one in (event, event.without(("a", "b")), replace(event, new_row={"a": "other"})):
                assert one.as_json() == exact_json.dumps(one.as_dict())
                compared += 1
    assert compared > 3000


NESTED = '{"a": {"b": 1}, "c": [1], "k": 1}'
DEEP = '{"x": ' + "[" * 300 + "1" + "]" * 300 + ', "y": 1}'
IMAGES = (
    *map(json.dumps, ROWS),
    '{"a": 1.00, "b": 1, "c": -0.0, "d": 123456789012345678901234567890.5, "e": 1E-7}',
    '{"a": 1.0, "b": 1, "c": 0, "d": 123456789012345678901234567890.5, "e": 1E-7}',
    '{"a": {"b": 2}, "c": [1], "k": 1}',
    '{"a": {"b": 1}, "c": [1], "k": 2}',
    NESTED,
    DEEP,
    "[1, 2]",
    "null",
)


def test_what_the_database_says_was_changed_is_what_was(trail: Trail) -> None:
    """The text that spares Python both images is that of the images, and nothing is said where they have to be seen."""
    trail.execute(
        "insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row, new_row)"
        " select 'public', 'orders', action, '1', old::jsonb, new::jsonb"
        " from unnest(array['I', 'U', 'D', 'T', 'M']) as action,"
        " unnest(%(images)s::text[]) as old, unnest(%(images)s::text[]) as new"
        " where action = 'U' and jsonb_typeof(old::jsonb) = 'object' and jsonb_typeof(new::jsonb) = 'object'"
        " or action <> 'U' and old = new",
        {"images": list(IMAGES)},
    )
    scope = find_tables(trail.connection, (), schema="audit")
    with trail.database.connect() as connection:
        found = list(read_events(connection, scope, Filter(), None, with_changed=True))
    told = [event for event in found if event.changed_text is not None]
    for event in told:
        seen = replace(event)  # by its values alone
        assert event.as_json() == exact_json.dumps(seen.as_dict())
        assert event.holds_changes_only is seen.holds_changes_only
    assert {event.action.value for event in told} == set("IUDTM")
    inside = [e for e in found if e.action is Action.UPDATE and replace(e).changed_paths]
    assert inside
    assert not [event for event in inside if event.changed_text is not None]
