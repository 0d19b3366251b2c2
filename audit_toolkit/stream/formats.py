"""How an event looks outside: as `history` prints it, as Debezium would, or as a CloudEvent.

Each has a JSON Schema in `audit_toolkit/stream/schemas/`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, cast
from urllib.parse import quote

from audit_toolkit import exact_json
from audit_toolkit.stream.messages import Format, Message, row_of
from audit_toolkit.trail import Action, Event
from audit_toolkit.version import __version__


class FormatName(StrEnum):
    """The formats that come with the toolkit."""

    EVENT = "event"
    """As `audit history --format json` prints it."""
    DEBEZIUM = "debezium"
    """Debezium's envelope: before, after, source, op, ts_ms."""
    CLOUDEVENTS = "cloudevents"
    """CloudEvents 1.0, structured; over HTTP and on Kafka also binary: `cloudevents-binary`."""
    CLOUDEVENTS_BINARY = "cloudevents-binary"
    """CloudEvents 1.0, its attributes in headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where events come from, as messages say it."""

    database: str
    schema: str = "audit"
    """The schema of the trail."""
    system_identifier: str | None = None
    """Of the cluster; None where it does not tell this role."""
    trail: str | None = None
    """What tells the trail from the others of its cluster: the OIDs of its database and its table."""

    @property
    def source(self) -> str:
        """The trail as a URI reference."""
        return f"/postgresql/{quote(self.database, safe='')}/{quote(self.schema, safe='')}"

    def id_of(self, event: Event) -> str:
        """The id of its message: the same at each delivery, another than that of any other event.

        The number alone may be given again: what a server had not sent to its standby when that was promoted, or what
        came after the moment to which it was restored. The time tells them apart.
        """
        parts = [part for part in (self.system_identifier, self.trail) if part]
        moment = _times(event.action_tstamp)["ts_us"]
        return f"{'.'.join(parts) or self.database}-{event.event_id}-{moment}"


def find_format(name: FormatName, origin: Origin) -> Format:
    """The function that makes messages of events in that format."""
    match name:
        case FormatName.EVENT:
            return lambda event: _message(event, origin, event.as_json().encode())
        case FormatName.DEBEZIUM:
            return lambda event: _debezium(event, origin)
        case FormatName.CLOUDEVENTS:
            return lambda event: _cloudevent(event, origin)
        case FormatName.CLOUDEVENTS_BINARY:
            return lambda event: _binary_cloudevent(event, origin)


@cache
def schema_of(name: FormatName) -> dict[str, Any]:
    """The JSON Schema of a format's bodies; that of a binary CloudEvent has the event alone."""
    plain = FormatName.EVENT if name is FormatName.CLOUDEVENTS_BINARY else name
    text = files("audit_toolkit.stream").joinpath(f"schemas/{plain}.json").read_text("utf-8")
    return cast("dict[str, Any]", json.loads(text))


_WORDS = {
    Action.INSERT: "inserted",
    Action.UPDATE: "updated",
    Action.DELETE: "deleted",
    Action.TRUNCATE: "truncated",
    Action.SNAPSHOT: "snapshot",
    Action.GAP: "gap",
    Action.DDL: "ddl",
    Action.BOUNDARY: "boundary",
    Action.MARK: "mark",
    Action.REDACTION: "redaction",
    Action.EVENT: "event",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEBEZIUM_OPS = {
    Action.INSERT: "c",
    Action.UPDATE: "u",
    Action.DELETE: "d",
    Action.TRUNCATE: "t",
    Action.SNAPSHOT: "r",
    Action.EVENT: "m",
}


def _message(event: Event, origin: Origin, body: bytes, **more: Any) -> Message:
    return Message(
        id=origin.id_of(event),
        key=row_of(event),
        topic=f"{event.schema_name}.{event.table_name}.{_WORDS.get(event.action, event.action)}",
        body=body,
        event=event,
        **more,
    )


def _as_debezium(event: Event, origin: Origin) -> Any:
    """The envelope of Debezium's connector for PostgreSQL; None for what it has no operation for.

    An event of the application is one of its messages (`m`), with the payload in base64.
    """
    op = _DEBEZIUM_OPS.get(event.action)
    if op is None:
        return None
    source = {
        "version": __version__,
        "connector": "audit-toolkit",
        "name": origin.database,
        **_times(event.action_tstamp),
        "snapshot": "true" if event.action is Action.SNAPSHOT else "false",
        "db": origin.database,
        "sequence": f'["{event.event_id}"]',
        "schema": event.schema_name,
        "table": event.table_name,
        "txId": event.transaction_id,
        "lsn": None,
        "xmin": None,
    }
    envelope = {"op": op, **_times(datetime.now(UTC)), "source": source}
    if event.action is Action.EVENT:
        said = event.new_row or {}
        content = exact_json.dumps(said.get("payload")).encode()
        message = {
            "prefix": said.get("name"),
            "content": base64.b64encode(content).decode("ascii"),
        }
        return envelope | {"message": message}
    gone = event.action in (Action.DELETE, Action.TRUNCATE)
    return envelope | {
        "before": event.old_row,
        "after": None if gone else event.row_after,
        "transaction": {
            "id": str(event.transaction_id),
            "total_order": event.event_id,
            "data_collection_order": event.event_id,
        },
    }


def _attributes(event: Event, origin: Origin) -> dict[str, str]:
    said = event.new_row or {}
    if event.action is Action.EVENT:
        kind = str(said.get("name"))
    else:
        kind = f"audit.{_WORDS.get(event.action, event.action)}"
    return {
        "specversion": "1.0",
        "id": origin.id_of(event),
        "source": origin.source,
        "type": kind,
        "subject": row_of(event),
        "time": event.action_tstamp.isoformat(timespec="microseconds"),
        "sequence": str(event.event_id).rjust(20, "0"),
        "partitionkey": row_of(event),
    }


def _debezium(event: Event, origin: Origin) -> Message | None:
    values = _as_debezium(event, origin)
    if values is None:
        return None
    return _message(event, origin, exact_json.dumps(values).encode())


def _cloudevent(event: Event, origin: Origin) -> Message:
    attributes = _attributes(event, origin) | {"datacontenttype": "application/json"}
    body = f'{exact_json.dumps(attributes)[:-1]}, "data": {event.as_json()}}}'
    return _message(event, origin, body.encode(), content_type="application/cloudevents+json")


def _binary_cloudevent(event: Event, origin: Origin) -> Message:
    # What HTTP cannot have in a header is percent-encoded, as the protocol binding says.
    headers = {
        f"ce-{name}": quote(value, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~")
        for name, value in _attributes(event, origin).items()
    }
    return _message(event, origin, event.as_json().encode(), headers=headers)


def _times(moment: datetime) -> dict[str, int]:
    since = moment - _EPOCH
    microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return {
        "ts_ms": microseconds // 1000,
        "ts_us": microseconds,
        "ts_ns": microseconds * 1000,
    }
