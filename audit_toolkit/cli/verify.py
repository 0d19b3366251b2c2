"""`audit verify`: does the trail still match its seals?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.cli.check_output import CheckFormat, FailOn, ReportFormat, end_with
from audit_toolkit.cli.database import find_address, open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.seal_options import PublicKeys, read_public_keys
from audit_toolkit.cli.times import show_moment
from audit_toolkit.errors import UsageError
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.findings import Report as Findings
from audit_toolkit.plurals import counted
from audit_toolkit.seals import Checkpoint, Note, read_outside
from audit_toolkit.seals import verify as verify_trail

if TYPE_CHECKING:
    from audit_toolkit.archive import Manifest, Store
    from audit_toolkit.seals import GoneEvents, PublicKey, Report


def verify(
    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help="Checkpoints kept outside the database: a folder, a file, s3://bucket/path. Repeatable.",
            show_default=False,
        ),
    ] = None,
    key: PublicKeys = None,
    archive: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="AUDIT_ARCHIVE",
            help="Also verify this archive against the same tree.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Verify only events sealed after this checkpoint: its file, or its number of events.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", metavar="N", min=1, help="Number of connections to verify on."
        ),
    ] = 1,
    output: CheckFormat = ReportFormat.TEXT,
    fail_on: FailOn = Severity.WARNING,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Verify that no sealed event was changed.

    Reads every event, recomputes the tree, and compares it with the newest checkpoint and with every checkpoint
    kept outside. Names each event that differs. Exits with code 3 on findings.
    """
    keys = read_public_keys(key)
    outside = read_outside(checkpoints or ())
    archived = _Archived.open(archive) if archive else None
    first, since_note = _read_since(since) if since else (0, None)
    if since_note and since_note[1] not in {note for _, note in outside}:
        outside.append(since_note)
    with open_database(dsn, config) as connection, _progress() as progress:
        report = verify_trail(
            connection,
            audit_schema,
            keys=keys,
            outside=[*outside, *(archived.notes() if archived else ())],
            since=first,
            jobs=jobs,
            dsn=find_address(dsn, config),
            progress=progress,
        )
    if since_note is None and report.checkpoint and first > report.checkpoint.size:
        sealed = counted(report.checkpoint.size, "event")
        raise UsageError(f"--since: {first:,} is more than what is sealed, {sealed}")
    if archived:
        report.findings += archived.findings(keys, report)
    _warn(report)
    details = report.details() if output is not ReportFormat.TEXT else {}
    end_with(
        Findings(
            command="verify",
            findings=tuple(report.findings),
            heading=_heading(report),
            verdict=_verdict(report, first),
            details=details,
        ),
        output,
        fail_on,
    )


@dataclass(frozen=True, slots=True)
class _Archived:
    """The partitions of an archive that have a seal."""

    store: Store
    manifests: tuple[Manifest, ...]

    @classmethod
    def open(cls, url: str) -> _Archived:
        from audit_toolkit.archive import Store, newest, read_manifests

        store = Store.open(url)
        store.require_reachable()
        return cls(store, tuple(m for m in newest(read_manifests(store)) if m.seal))

    def notes(self) -> list[tuple[str, str]]:
        """The checkpoints of their seals, which have to be of the same tree."""
        from audit_toolkit.archive import seal_note

        notes = [(m.seal.path, seal_note(self.store, m)) for m in self.manifests if m.seal]
        return [(path, note) for path, note in notes if note]

    def findings(self, keys: Sequence[PublicKey], report: Report) -> list[Finding]:
        """What in them differs from what was sealed, and whose redactions they have no signature of."""
        from audit_toolkit.archive import compare_seal

        found: list[Finding] = []
        for manifest in self.manifests:
            compared = compare_seal(self.store, manifest, keys)
            found += [_damaged(manifest, problem) for problem in compared.problems]
            found += [
                _not_signed(manifest, redaction, report)
                for redaction in sorted(compared.unsigned - set(report.unsigned))
            ]
        return found


def _damaged(manifest: Manifest, problem: str) -> Finding:
    return Finding(
        kind=FindingKind.ARCHIVE_DAMAGED,
        severity=Severity.ERROR,
        subject=manifest.label,
        message=problem,
        remedy="bring the archive back from a backup",
    )


def _not_signed(manifest: Manifest, redaction: int, report: Report) -> Finding:
    """A redaction that the archive has no signature of, and the database does not say it had none."""
    which = f"event {redaction}" if redaction else "no event is named"
    return Finding(
        kind=FindingKind.REDACTION_UNSIGNED,
        severity=Severity.ERROR if redaction in report.signed else Severity.WARNING,
        subject=manifest.label,
        message=f"what a redaction left there has no signature ({which}): values beside the redacted ones may "
        "have changed",
        remedy="bring the seal of this partition back from a backup, or compare what is left with one",
    )


def _read_since(text: str) -> tuple[int, tuple[str, str] | None]:
    """The number of events, and the checkpoint that has it, which is one that was kept outside like any other."""
    if text.isdecimal():
        return int(text), None
    found = read_outside([text])[-1]
    try:
        return Checkpoint.parse(Note.parse(found[1]).text).size, found
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


def _heading(report: Report) -> str:
    """What was looked at, for people."""
    checkpoint = report.checkpoint
    if checkpoint is None:
        return ""
    sealed = counted(checkpoint.size, "event")
    when = show_moment(datetime.fromisoformat(checkpoint.sealed_at))
    return f"{sealed} sealed, up to event {checkpoint.up_to_id}, at {when}"


def _verdict(report: Report, since: int) -> str:
    """What came of it, for people."""
    if report.checkpoint is None:
        return "" if report.findings else "nothing was sealed yet: audit seal"
    if report.alarms:
        said = [f"FAILED: {counted(len(report.alarms), 'finding')}"]
    else:
        before = f" (those before entry {since:,} were not read)" if since else ""
        said = [f"OK: {report.what_matches}{before}"]
    said += [
        f"{one.events:,} were dropped with {one.partition}{_told(one)}, "
        + (f"archived at {one.archive}" if one.archive else "not archived")
        for one in report.gone
    ]
    if report.redacted:
        said.append(f"{counted(report.redacted, 'value')} redacted, as R events say")
    if report.signed:
        said.append(f"{counted(len(report.signed), 'redaction')} signed by a sealer")
    if report.unsigned:
        said.append(
            f"{counted(len(report.unsigned), 'redaction')} announced, but not signed by a sealer"
        )
    if report.unsealed:
        said.append(f"{counted(report.unsealed, 'event')} not sealed yet")
    if report.outside:
        agree = "agrees" if report.outside == 1 else "agree"
        said.append(f"{counted(report.outside, 'checkpoint')} kept outside {agree}")
    return "; ".join(said)


def _told(gone: GoneEvents) -> str:
    how = " by hand" if gone.by_hand else ""
    return f"{how} by {gone.by} (event {gone.event})" if gone.by else f"{how} (event {gone.event})"


def _warn(report: Report) -> None:
    if report.checkpoint and not report.outside:
        print(
            "warning: no checkpoint that was kept outside agrees or was given (--checkpoints PLACE); without one, "
            "whoever can write the database and sign could have written all of it anew",
            file=sys.stderr,
        )
    if report.checkpoint and report.keys_from == "database":
        print(
            "warning: the keys are those that the database names (--key FILE names the one that you kept)",
            file=sys.stderr,
        )
