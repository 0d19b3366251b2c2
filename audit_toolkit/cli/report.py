"""`audit report`: what was so in a period, on paper."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.cli import times
from audit_toolkit.cli.check import check_database
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema, Utc
from audit_toolkit.cli.review import read_period
from audit_toolkit.cli.seal_options import PublicKeys, read_public_keys
from audit_toolkit.cli.whole_file import require_place, write_whole
from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.evidence import (
    Period,
    Verification,
    as_html,
    as_json,
    as_markdown,
    gather,
)
from audit_toolkit.evidence.report import exact, utc
from audit_toolkit.findings import FINDINGS
from audit_toolkit.plurals import counted
from audit_toolkit.seals import read_outside
from audit_toolkit.trail.rows.lookup import require_readable_trail

if TYPE_CHECKING:
    from typing import Any

    import psycopg

    from audit_toolkit.evidence import EvidenceReport

    Connection = psycopg.Connection[Any]


class PaperFormat(StrEnum):
    """How a report is written."""

    MARKDOWN = "markdown"
    HTML = "html"
    JSON = "json"


_RENDERERS = {
    PaperFormat.MARKDOWN: as_markdown,
    PaperFormat.HTML: as_html,
    PaperFormat.JSON: as_json,
}


class FrameworkName(StrEnum):
    """What a report is for."""

    ALL = "all"
    SOC2 = "soc2"
    HIPAA = "hipaa"
    PCI = "pci"
    GDPR = "gdpr"
    PART11 = "part11"


def report(
    begin: Annotated[
        str, typer.Option("--from", metavar="TIME", help=f"Start of the period: {times.HELP}.")
    ],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="End of the period.")] = "now",
    profile: Annotated[
        FrameworkName,
        typer.Option(help="Sections in the order of this framework, with its controls."),
    ] = FrameworkName.ALL,
    output: Annotated[
        PaperFormat, typer.Option("--format", help="Output format.")
    ] = PaperFormat.MARKDOWN,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write it to this file.", show_default=False
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Also compare every event with its seal.")
    ] = False,
    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help="With --verify: checkpoints kept outside the database. Repeatable.",
            show_default=False,
        ),
    ] = None,
    key: PublicKeys = None,
    archive: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="AUDIT_ARCHIVE",
            help="Also check that this archive has everything that was dropped.",
            show_default=False,
        ),
    ] = None,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Write a report for auditors about a period.

    Covers coverage, gaps, access, seals, retention, restores, erasures, checks, drills and reviews, read in one
    snapshot; each line has the command and the SQL that repeat it. Exits with code 3 if anything needs attention;
    the report is written in any case.
    """
    if (checkpoints or key) and not verify:
        raise UsageError(
            "--checkpoints and --key are what --verify compares with", hint="add --verify"
        )
    period = read_period(begin, end, utc=utc)
    if file is not None:
        require_place(file, "-o")
    verification = _verification(checkpoints or [], key or []) if verify else None
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
        period = _until_now(connection, period)
        evidence = gather(
            connection,
            audit_schema,
            period,
            profile=profile.value,
            command=_command(
                period, profile, output, audit_schema, archive, verification=verification
            ),
            check=lambda: check_database(
                connection, audit_schema, models=False, archive=archive, config=config
            ),
            check_words=("--archive", archive) if archive else (),
            verification=verification,
        )
    _write(_RENDERERS[output](evidence), file)
    _end(evidence)


def _until_now(connection: Connection, period: Period) -> Period:
    """The period up to now by the server's clock, which events go by: later ones must not come into it."""
    [row] = fetch(connection, "select clock_timestamp() as now")
    end = min(period.end, row["now"])
    if end <= period.begin:
        raise UsageError(
            f"--from is in the future: the server's clock is at {utc(end)}",
            hint="set the clocks of this machine and of the server",
        )
    return Period(begin=period.begin, end=end)


def _verification(checkpoints: list[str], keys: list[Path]) -> Verification:
    words = [word for place in checkpoints for word in ("--checkpoints", place)]
    words += [word for path in keys for word in ("--key", str(path))]
    return Verification(
        keys=read_public_keys(keys), outside=read_outside(checkpoints), words=tuple(words)
    )


def _command(
    period: Period,
    profile: FrameworkName,
    output: PaperFormat,
    schema: str,
    archive: str | None,
    *,
    verification: Verification | None,
) -> str:
    words = ["audit", "report", "--from", exact(period.begin), "--to", exact(period.end)]
    words += ["--profile", profile.value, "--format", output.value]
    words += ["--verify", *verification.words] if verification else []
    words += ["--archive", archive] if archive else []
    words += ["--audit-schema", schema] if schema != "audit" else []
    return shlex.join(words)


def _write(text: str, file: Path | None) -> None:
    if file is None:
        # Whatever the locale: HTML says that it is UTF-8, and Markdown is.
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
        return
    write_whole(file, text, "-o")
    print(f"wrote {file}", file=sys.stderr)


def _end(report: EvidenceReport) -> None:
    if report.alarms:
        print(f"{counted(report.alarms, 'line')} to look at", file=sys.stderr)
        raise typer.Exit(FINDINGS)
