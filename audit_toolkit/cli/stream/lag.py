"""`audit stream lag`."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.cli.stream.common import show_lag
from audit_toolkit.stream import find_consumer, read_consumers
from audit_toolkit.stream.metrics import prometheus


class LagFormat(StrEnum):
    """How `lag` prints."""

    TEXT = "text"
    JSON = "json"
    PROMETHEUS = "prometheus"


def lag(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this consumer.", show_default=False)
    ] = None,
    output: Annotated[LagFormat, typer.Option("--format", help="Output format.")] = LagFormat.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Show how far behind consumers are."""
    with open_database(dsn, config) as connection:
        found = (
            [find_consumer(connection, name, schema=audit_schema)]
            if name
            else read_consumers(connection, schema=audit_schema)
        )
    if output is LagFormat.PROMETHEUS:
        print(prometheus(found), end="")
    elif output is LagFormat.JSON:
        keys = ("name", "event_id", "lag_events", "lag_seconds", "is_active", "failures")
        print(json.dumps([{k: getattr(c, k) for k in keys} for c in found], indent=2))
    else:
        for consumer in found:
            print(visible(f"{consumer.name}  {show_lag(consumer)}"))
