"""`audit maintain`: all the work for cron in one run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli.check import check_database
from audit_toolkit.cli.check_output import print_lines
from audit_toolkit.cli.monitoring import not_for_ever
from audit_toolkit.cli.options import Format, OutputFormat
from audit_toolkit.cli.partition_run import (
    FAILED,
    Rotation,
    exit_code,
    plan_tasks,
    print_outcomes,
    print_standby,
    print_tasks,
    rotate,
    takes_rotation,
)
from audit_toolkit.cli.seal_options import (
    KEY_VARIABLE,
    CheckpointTo,
    SignerCommand,
    Timestamp,
    find_key,
    find_places,
    find_signer,
)
from audit_toolkit.cli.whole_file import write_metrics
from audit_toolkit.errors import AuditError, BusyError
from audit_toolkit.findings import FINDINGS, SCHEMA_VERSION, Finding, Report
from audit_toolkit.partitions import (
    Outcome,
    Policy,
    Result,
    Thresholds,
    check_partitions,
    is_standby,
    partition_report,
)
from audit_toolkit.schema.captured_tables import note_changes, note_coverage
from audit_toolkit.schema.location import note_timeline
from audit_toolkit.seals import open_sink, run_seal
from audit_toolkit.tracing import span

if TYPE_CHECKING:
    from audit_toolkit.partitions import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run did, and what is left to be done by somebody."""

    standby: bool = False
    outcomes: tuple[Outcome, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def report(self) -> Report:
        """The findings as `audit check` reports them."""
        return Report(command="maintain", findings=self.findings)

    @property
    def exit_code(self) -> int:
        """1 when a step failed, else 3 when there are findings."""
        return exit_code(self.outcomes) or (FINDINGS if self.report.failing() else 0)

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        words = {0: "ok", FAILED: "failed", FINDINGS: "findings"}
        return {
            "schema_version": SCHEMA_VERSION,
            "status": "standby" if self.standby else words[self.exit_code],
            "outcomes": [outcome.as_dict() for outcome in self.outcomes],
            "findings": [finding.as_dict() for finding in self.findings],
        }


@takes_rotation
def maintain(
    rotation: Rotation,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")
    ] = False,
    textfile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write Prometheus metrics of the partitions to this file, atomically.",
            show_default=False,
        ),
    ] = None,
    seal_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar=KEY_VARIABLE,
            help="Seal new events first, with this private key, as audit seal does.",
            show_default=False,
        ),
    ] = None,
    signer: SignerCommand = None,
    checkpoint_to: CheckpointTo = None,
    timestamp: Timestamp = None,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Run routine maintenance; intended for cron.

    Seals events if a key is given, manages partitions and the archive, then runs `audit check`. Safe
    to re-run. Exits with code 5 if another run is in progress, 1 if a step failed, 3 if all steps
    succeeded and the check found something. Does nothing on a standby.
    """
    if dry_run:
        _dry_run(rotation, output)
        return
    sealing = Sealing(
        key=find_key(seal_key),
        signer=signer,
        places=find_places(checkpoint_to),
        timestamp=timestamp,
    )
    # Outside of the connection, so that a run that cannot connect leaves a span, too.
    with span("maintain") as running, rotation.open_alone() as run:
        running.note(schema=run.schema)
        summary = _maintain(rotation, run, textfile, sealing)
        running.note(exit_code=summary.exit_code, findings=len(summary.findings))
    if output is Format.JSON:
        print(json.dumps(summary.as_dict(), indent=2))
    elif summary.standby:
        print_standby()
    else:
        print_outcomes(summary.outcomes)
        print_lines(summary.report)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """The options of sealing; nothing is sealed without a key."""

    key: Path | None
    signer: str | None
    places: list[str]
    timestamp: str | None


def _seal(run: Run, sealing: Sealing) -> list[Outcome]:
    """Seal what is certain, before anything is detached; what goes wrong is an outcome like any other."""
    if sealing.key is None:
        return []
    what, message, hint, result = "Seal new events", "", None, Result.DONE
    try:
        done = run_seal(
            run.connection,
            run.schema,
            find_signer(sealing.key, sealing.signer),
            sinks=[open_sink(place) for place in sealing.places],
            timestamp=sealing.timestamp,
        )
        what = f"{what}: {done.events:,}"
        if done.failed:
            result, message, hint = Result.FAILED, str(done.failed[0].failed), done.failed[0].hint
    except AuditError as error:
        if run.connection.closed:
            raise
        result, message, hint = Result.FAILED, error.message, error.hint
    return [Outcome(stage="seal", what=what, leaf=None, result=result, message=message, hint=hint)]


def _maintain(rotation: Rotation, run: Run, textfile: Path | None, sealing: Sealing) -> Summary:
    if is_standby(run.connection):
        return Summary(standby=True)
    outcomes = [*_seal(run, sealing), *rotate(rotation, run)]
    findings: tuple[Finding, ...] = ()
    try:
        with not_for_ever(run.connection, run.schema):
            findings = _look(rotation, run)
    except BusyError as error:
        # What was done before is said all the same.
        what, message, hint = "Check the trail", error.message, error.hint
        outcomes.append(
            Outcome(
                stage="check",
                what=what,
                leaf=None,
                result=Result.FAILED,
                message=message,
                hint=hint,
            )
        )
    outcomes += run.finished("maintain", outcomes)
    if textfile:
        _write_metrics(run, textfile)
    return Summary(outcomes=tuple(outcomes), findings=findings)


def _look(rotation: Rotation, run: Run) -> tuple[Finding, ...]:
    """Note how tables are captured, and check the trail."""
    note_changes(run.connection, run.schema)
    note_coverage(run.connection, run.schema)
    note_timeline(run.connection, run.schema)
    policy = Policy(trust_clock=run.policy.trust_clock)
    return tuple(
        check_database(
            run.connection,
            run.schema,
            now=run.now(),
            models=False,
            policy=policy,
            archive=rotation.archive,
        )
    )


def _dry_run(rotation: Rotation, output: Format) -> None:
    with rotation.open() as run:
        tasks = plan_tasks(run)
    if output is Format.JSON:
        print(json.dumps({"status": "dry_run", "tasks": [t.as_dict() for t in tasks]}, indent=2))
    else:
        print_tasks(tasks)


def _write_metrics(run: Run, textfile: Path) -> None:
    partitions = run.read()
    findings = check_partitions(partitions, run.policy, Thresholds())
    report = partition_report(partitions, findings, needs_archive=run.policy.archived_only)
    write_metrics(textfile, report.as_prometheus())
