"""`audit stream list`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.cli.stream.common import show_lag
from audit_toolkit.plurals import counted
from audit_toolkit.stream import read_consumers

if TYPE_CHECKING:
    from audit_toolkit.stream import Consumer


def list_consumers(
    output: OutputFormat = Format.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """List consumers with their positions and errors."""
    with open_database(dsn, config) as connection:
        found = read_consumers(connection, schema=audit_schema)
    if output is Format.JSON:
        print(json.dumps([consumer.as_dict() for consumer in found], indent=2))
        return
    for consumer in found:
        _print_consumer(consumer)
    if not found:
        print("there are no consumers: create one: audit stream run NAME --to …", file=sys.stderr)


def _print_consumer(consumer: Consumer) -> None:
    state = f"active, pid {consumer.lease_pid}" if consumer.is_active else "not running"
    to = consumer.options.get("to", "")
    print(visible(f"{consumer.name}  {state}  {to}".rstrip()))
    print(
        f"  {counted(consumer.delivered, 'event')} delivered, at event {consumer.event_id}, {show_lag(consumer)}"
    )
    if consumer.dead_letters:
        print(f"  {counted(consumer.dead_letters, 'dead letter')}")
    if consumer.failures:
        print(
            visible(
                f"  failed {counted(consumer.failures, 'time')} in a row: {consumer.last_error}"
            )
        )
