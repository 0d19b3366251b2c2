"""`audit coverage`: which tables were captured when, as the trail itself says it."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.cli import times
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema, Utc
from audit_toolkit.errors import UsageError

if TYPE_CHECKING:
    from audit_toolkit.completeness.coverage import Stretch
    from audit_toolkit.names import QualifiedName

    Coverage = dict[QualifiedName, tuple[Stretch, ...]]

Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Start of a period: show everything that held in it.",
        show_default=False,
    ),
]


def coverage(
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TIME",
            help=f"The moment: {times.HELP}. [default: now]",
            show_default=False,
        ),
    ] = None,
    since: Since = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="End of the period.", show_default=False),
    ] = None,
    utc: Utc = False,
    output: OutputFormat = Format.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Show which tables were captured at a time.

    With the options of each, its gaps, and the event that proves it; what only the registry says is marked.
    `audit maintain` records in the trail how tables are captured whenever that has changed.
    """
    from audit_toolkit.completeness.coverage import read_coverage
    from audit_toolkit.trail.rows.lookup import require_readable_trail

    if at and (since or until):
        raise UsageError("--at is one moment, --since and --until are a time: give one of the two")
    moment = times.parse_past(at, "--at", utc=utc) if at else None
    begin = times.parse_past(since, "--since", utc=utc) if since else None
    end = times.parse_past(until, "--until", utc=utc) if until else None
    if begin and end and begin >= end:
        raise UsageError("--since must be earlier than --until")
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
        found = read_coverage(connection, audit_schema)
    if begin is None and end is None:
        _show_moment(found, moment or datetime.now(UTC), output, utc=utc)
    else:
        _show_time(found, begin, end, output, utc=utc)


def _show_moment(found: Coverage, moment: datetime, output: Format, *, utc: bool) -> None:
    from audit_toolkit.cli.output import visible
    from audit_toolkit.completeness.coverage import covered_at

    there = {name: covered_at(stretches, moment) for name, stretches in found.items()}
    if output is Format.JSON:
        tables = [
            {"table": str(name), "capture": "off", "reason": "capture had not begun"}
            if one is None
            else one.as_dict()
            for name, one in there.items()
        ]
        print(json.dumps({"at": moment.isoformat(), "tables": tables}, indent=2))
        return
    print(f"at {times.show_moment(moment, utc=utc)}:")
    for name, one in there.items():
        said = "not captured: capture had not begun" if one is None else _said(one, utc=utc)
        print(f"  {visible(str(name))}: {visible(said)}")
    if not there:
        print("  the trail knows of no table")


def _show_time(
    found: Coverage, begin: datetime | None, end: datetime | None, output: Format, *, utc: bool
) -> None:
    from audit_toolkit.cli.output import visible

    shown = {
        name: [
            one
            for one in stretches
            if (end is None or one.since < end)
            and (begin is None or one.until is None or one.until > begin)
        ]
        for name, stretches in found.items()
    }
    if output is Format.JSON:
        stretches = [one.as_dict() for ones in shown.values() for one in ones]
        print(json.dumps({"stretches": stretches}, indent=2))
        return
    for name, ones in shown.items():
        print(f"{visible(str(name))}:")
        for one in ones:
            print(f"  {visible(_said(one, utc=utc))}")
        if not ones:
            print("  not captured: capture had not begun, or had ended")


def _said(one: Stretch, *, utc: bool) -> str:
    from audit_toolkit.config import option_words

    since = times.show_moment(one.since, utc=utc)
    until = "" if one.until is None else f" until {times.show_moment(one.until, utc=utc)}"
    states = {
        "on": f"captured since {since}{until}",
        "off": f"not captured since {since}{until}",
        "unknown": f"captured with a gap at some time since {since}{until}",
    }
    parts = [states[one.capture]]
    if one.rule is not None:
        parts.append(shlex.join(option_words(one.rule)) or "every column")
    if one.reason:
        parts.append(one.reason if one.who is None else f"{one.reason} ({one.who})")
    return f"{'; '.join(parts)} [{one.said_by}]"
