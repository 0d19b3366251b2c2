"""`audit blame`: show who last changed each column of a row, and when."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.cli import times
from audit_toolkit.cli.columns import require_columns
from audit_toolkit.cli.options import (
    AlembicConfig,
    Dsn,
    Format,
    Hide,
    OutputFormat,
    TrailSchema,
    Utc,
)
from audit_toolkit.cli.output import show_value, visible
from audit_toolkit.cli.row_output import (
    Key,
    Table,
    find_table,
    opened,
)
from audit_toolkit.trail.blame import find_blame

if TYPE_CHECKING:
    from audit_toolkit.exact_json import Json
    from audit_toolkit.trail import Event


def blame(
    table: Table,
    key: Key,
    output: OutputFormat = Format.TEXT,
    hide: Hide = None,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show who last changed each column of a row, and when."""
    with opened(dsn, config) as connection:
        find_table(connection, table, audit_schema)
        found = find_blame(connection, table, tuple(key), schema=audit_schema)
    require_columns(hide, "--hide", [origin.column for origin in found.origins], table)
    origins = [origin for origin in found.origins if origin.column not in (hide or ())]
    for gap in found.gaps:
        _say_gap(gap, utc=utc)
    if found.gone is not None:
        verb = "truncated away" if found.gone.row_key is None else "deleted"
        said = f"the row was {verb} ({_said(found.gone, utc=utc)}); these are its last values"
        print(f"note: {said}", file=sys.stderr)
    if output is Format.JSON:
        gone = found.gone and found.gone.event_id
        columns: list[Json] = [o.as_dict() for o in origins]
        print(exact_json.dumps({"columns": columns, "gone_event_id": gone}, ascii_only=True))
        return

    width = max((len(visible(o.column)) for o in origins), default=0)
    for origin in origins:
        said = "not known" if origin.event is None else _said(origin.event, utc=utc)
        print(f"{visible(origin.column):<{width}}  {show_value(origin.value)}  ({said})")


def _say_gap(gap: Event, *, utc: bool) -> None:
    capture = visible(str((gap.new_row or {}).get("capture", "off")))
    when = times.show_moment(gap.action_tstamp, utc=utc)
    print(f"warning: capture was {capture} at {when} (event {gap.event_id})", file=sys.stderr)


def _said(event: Any, *, utc: bool) -> str:
    when = times.show_moment(event.action_tstamp, utc=utc)
    return f"{visible(event.actor)}, {when}, event {event.event_id}"
