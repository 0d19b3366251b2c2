"""`audit status`: what is audited, since when and how; what is not, and why."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from audit_toolkit.capture.status import read_status
from audit_toolkit.catalog import read_trail
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.monitoring import TIMEOUT, Timeout, impatient
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.config import option_words
from audit_toolkit.errors import UsageError
from audit_toolkit.plurals import counted

if TYPE_CHECKING:
    from datetime import datetime

    from audit_toolkit.capture.status import Audited, Status


def status(
    output: OutputFormat = Format.TEXT,
    audit_schema: TrailSchema = "audit",
    timeout: Timeout = TIMEOUT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Show audited tables, their options, events and size.

    Also which tables are not audited, and who may read the trail. Above a million events, counts are
    estimated from a sample. `audit check` says whether capture is in order.
    """
    with (
        open_database(dsn, config) as connection,
        impatient(connection, audit_schema, timeout),
    ):
        if not read_trail(connection, audit_schema):
            raise UsageError(
                f"the database has no audit trail in the schema {audit_schema}",
                hint="create one: audit install --table NAME",
            )
        found = read_status(connection, audit_schema)
    if output is Format.JSON:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found)


def _print(found: Status) -> None:
    about = "about " if found.estimated else ""
    print(f"audited ({len(found.audited)}):")
    for table in found.audited:
        for line in _lines(table, about):
            print(f"  {visible(line)}")
    print(f"not audited ({len(found.not_audited)}):")
    for one in found.not_audited:
        print(f"  {visible(one.table)}: {visible(one.why)}")
    print(f"the trail: {counted(found.partitions, 'partition')}, {_size(found.bytes)} with indexes")
    print("readable by: " + visible(", ".join(found.readers)) + " (audit access says how)")
    if not found.readable:
        print("events are not counted: this role may not read the trail")


def _lines(table: Audited, about: str) -> list[str]:
    since = f", since {_moment(table.since)}" if table.since else ""
    state = "" if table.state == "on" else f" [{table.state}]"
    until_then = " (triggers, until the worker reads it)"
    by = until_then if table.capture == "wal" and table.assurance == "trigger" else ""
    lines = [f"{table.table}{state}: {table.capture}{by}{since}"]
    if table.state == "off":
        lines.append("  changes are not recorded: for the reason and the remedy, run audit check")
    if table.options:
        lines.append(f"  {shlex.join(option_words(table.options))}")
    if table.events is not None and table.bytes is not None:
        last = f", the last {_moment(table.last_event)}" if table.last_event else ""
        lines.append(f"  {about}{counted(table.events, 'event')}, {_size(table.bytes)}{last}")
    if table.gaps:
        lines.append(
            f"  {counted(table.gaps, 'gap')}: audit history {shlex.quote(table.table)} --action gap"
        )
    return lines


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "never"


def _size(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} TB"
