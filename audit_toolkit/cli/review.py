"""`audit review`: somebody looked, and says so."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated

import typer

from audit_toolkit.cli import times
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema, Utc
from audit_toolkit.cli.values import visible
from audit_toolkit.errors import UsageError
from audit_toolkit.evidence import Period, note_review
from audit_toolkit.trail.rows.lookup import require_readable_trail


def review(
    by: Annotated[str, typer.Option("--by", metavar="WHO", help="Who reviewed it.")],
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Their conclusion.")],
    begin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help=f"Start of the reviewed period: {times.HELP}.",
            show_default=False,
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="TIME", help="End of the reviewed period.", show_default=False
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="The reviewed report; its SHA-256 is recorded in the event.",
            show_default=False,
        ),
    ] = None,
    utc: Utc = False,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Record that somebody reviewed the trail.

    Writes an event, which `audit report` lists and the next seal covers. Only the owner of the trail may;
    the reviewer is whom --by names.
    """
    if (begin is None) != (end is None):
        raise UsageError("--from and --to belong together", hint="give both, or neither")
    period = None
    if begin is not None and end is not None:
        period = read_period(begin, end, utc=utc)
    sha256 = _sha256(file) if file else None
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
        event_id = note_review(
            connection,
            audit_schema,
            by=by,
            note_text=note,
            period=period,
            file=file.name if file else None,
            sha256=sha256,
        )
    if output is Format.JSON:
        print(json.dumps({"event_id": event_id, "by": by, "sha256": sha256}))
    else:
        print(f"recorded the review by {visible(by)}: event {event_id}")


def read_period(begin: str, end: str, *, utc: bool) -> Period:
    """The period of --from and --to; raises `UsageError` where it is none, or in the future."""
    found = Period(
        begin=times.parse_past(begin, "--from", utc=utc),
        end=times.parse_past(end, "--to", utc=utc),
    )
    if found.begin >= found.end:
        raise UsageError("--from must be earlier than --to")
    return found


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256")
            is_empty = opened.tell() == 0
    except OSError as error:
        raise UsageError(
            f"--file: could not read {file}: {error.strerror}",
            hint="name the report that was reviewed",
        ) from error
    if is_empty:
        raise UsageError(
            f"--file: {file} is empty: there was nothing to review",
            hint="name the report that was reviewed",
        )
    return digest.hexdigest()
