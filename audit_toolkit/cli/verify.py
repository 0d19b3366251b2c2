"""`audit verify`: is the past what was sealed?"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.seal_options import PublicKeys, read_public_keys

if TYPE_CHECKING:
    from audit_toolkit.seals import Report

FINDINGS = 3


def verify(
    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help="Checkpoints that were kept outside: a folder, a file, s3://bucket/path. Repeatable.",
            show_default=False,
        ),
    ] = None,
    key: PublicKeys = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Read only events sealed after it: its file, or its number of events.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", metavar="N", min=1, help="Verify on so many connections.")
    ] = 1,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Verify that no sealed event was changed.

    Reads every event, computes the tree anew and compares it with the newest checkpoint, and with every one
    that was kept outside. Exit code 3 when something is not what was sealed; events are named.
    """
    from audit_toolkit.cli.database import find_address, open_database
    from audit_toolkit.seals import read_outside
    from audit_toolkit.seals import verify as verify_trail

    keys = read_public_keys(key)
    outside = read_outside(checkpoints or ())
    first = _size_of(since) if since else 0
    with open_database(dsn, config) as connection, _progress() as progress:
        report = verify_trail(
            connection,
            audit_schema,
            keys=keys,
            outside=outside,
            since=first,
            jobs=jobs,
            dsn=find_address(dsn, config),
            progress=progress,
        )
    if output is Format.JSON:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        _print(report, first)
    if report.findings:
        raise typer.Exit(FINDINGS)


def _size_of(text: str) -> int:
    from audit_toolkit.errors import UsageError
    from audit_toolkit.seals import Checkpoint, Note, read_outside

    if text.isdecimal():
        return int(text)
    ((_, note),) = read_outside([text])[-1:]
    try:
        return Checkpoint.parse(Note.parse(note).text).size
    except Exception as error:
        raise UsageError(f"--since: {text} is not a checkpoint") from error


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("verified {task.completed:,.0f} events"))
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task("verify", total=None)
        yield lambda events: bars.advance(task, events)


def _print(report: Report, since: int) -> None:
    for finding in report.findings:
        print(f"{finding.severity:<9} {finding.subject}: {finding.message}")
        print(f"{'':<9} remedy: {finding.remedy}")
    for gone in report.gone:
        where = f"archived at {gone.archive}" if gone.archive else "not archived"
        print(
            f"gone      {gone.partition}: {gone.events:,} sealed events were dropped with it, {where}"
        )
    checkpoint = report.checkpoint
    if checkpoint is None:
        if not report.findings:
            print("nothing was sealed yet: audit seal")
        return
    if report.findings:
        print(
            f"NOT what was sealed: {len(report.findings)} {_plural('finding', len(report.findings))}"
        )
    else:
        before = f" (those before entry {since:,} were not read)" if since else ""
        print(f"OK: {report.verified:,} events are what was sealed{before}")
    print(
        f"sealed up to event {checkpoint.up_to_id} at {checkpoint.sealed_at}, {checkpoint.size:,} in all"
    )
    if report.redacted:
        print(f"{report.redacted:,} values were redacted, as R events say")
    if report.unsealed:
        print(f"{report.unsealed:,} {_plural('event', report.unsealed)} not sealed yet")
    if report.outside:
        print(f"{report.outside:,} {_plural('checkpoint', report.outside)} kept outside agree")
    else:
        print(
            "no checkpoint kept outside was compared: whoever can write the database and sign could have "
            "rewritten all of it (--checkpoints PLACE)",
            file=sys.stderr,
        )
    if report.keys_from == "database":
        print(
            "the keys are those that the database names: name the public key that you kept (--key FILE)",
            file=sys.stderr,
        )


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"
