"""`audit archive export`: export new events of partitions that are in use."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.archive import Store, export_live
from audit_toolkit.archive.iceberg import register_own
from audit_toolkit.cli.archive.common import (
    Url,
    manifest_row,
    progress_bar,
    shown,
)
from audit_toolkit.cli.follow import describe_blocker
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.partition_run import (
    Iceberg,
    Rotation,
)
from audit_toolkit.cli.times import parse_moment
from audit_toolkit.errors import UsageError
from audit_toolkit.plurals import counted

if TYPE_CHECKING:
    from audit_toolkit.archive import LiveExport


def export(
    archive: Url,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only events from this time on: a time, or a month such as 2026-03 (UTC).",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only events before this time: a time, or a month. Default: everything that is "
            "final by now.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="How long to wait for open transactions to end."
        ),
    ] = 10,
    iceberg: Iceberg = None,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Export new events of partitions that are in use.

    Each event once, up to where no open transaction can add any. Safe to re-run: the next run
    continues where this one ended, even after a kill. When a partition is archived, its exported files
    become part of its archive.
    """
    options = Rotation(dsn=dsn, config=config, audit_schema=audit_schema)
    first, last = _bound(since, "--since"), _bound(until, "--until")
    if first and last and first >= last:
        raise UsageError("--since must be earlier than --until")
    store = Store.open(archive)
    with options.open_alone() as opened, progress_bar(None) as advance:
        found = export_live(
            opened.connection,
            store,
            audit_schema,
            now=datetime.now(UTC),
            since=first,
            until=last,
            wait=wait,
            progress=lambda _: advance,
        )
        if iceberg:
            register_own(opened.connection, store, audit_schema, iceberg)
    _print_export(found, output)


def _bound(text: str | None, option: str) -> datetime | None:
    """The moment of an option; a month begins in UTC, as the folders do."""
    if text is None:
        return None
    month = re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text.strip())
    return parse_moment(f"{month[0]}-01 00:00+00:00" if month else text, option)


def _print_export(found: LiveExport, output: Format) -> None:
    if output is Format.JSON:
        held = [describe_blocker(blocker) for blocker in found.held_by]
        rows = [manifest_row(manifest) for manifest in found.manifests]
        values = {"exported": rows, "up_to_event": found.reach, "held_by": held}
        print(json.dumps(values | {"left_out": found.left_out}, indent=2))
        return
    for manifest in found.manifests:
        print(f"exported  {shown(manifest.label)}: {counted(manifest.events, 'event')}")
    if not found.manifests:
        print("nothing new to export" if found.held_by else "nothing new")
    for blocker in found.held_by:
        print(describe_blocker(blocker), file=sys.stderr)
    for text in found.left_out:
        print(text, file=sys.stderr)
