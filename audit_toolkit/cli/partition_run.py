"""What `audit partitions` and `audit maintain` share: the options of a run, and the run itself."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from audit_toolkit.cli.database import find_address, open_database
from audit_toolkit.cli.monitoring import not_for_ever
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.timeouts import as_timeout
from audit_toolkit.cli.times import parse_moment
from audit_toolkit.config import Interval
from audit_toolkit.errors import AuditError
from audit_toolkit.findings import FINDINGS
from audit_toolkit.partitions import (
    Outcome,
    Policy,
    Result,
    Run,
    Span,
    Stage,
    Task,
    is_standby,
    plan_partitions,
    succeeded,
)
from audit_toolkit.plan import Plan, single_flight

if TYPE_CHECKING:
    from datetime import datetime


FAILED = 1


class IntervalChoice(StrEnum):
    """How much time a partition holds."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    AUTO = "auto"


Iceberg = Annotated[
    str | None,
    typer.Option(
        metavar="CATALOG",
        envvar="AUDIT_ICEBERG",
        help="Register the archive's files in this Apache Iceberg catalog: sqlite:///…, "
        "postgresql://…, https://… (REST), or a name in pyiceberg's configuration; see "
        "docs/lake.md.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The options of a run, as typed; `takes_rotation` gives them to a command."""

    retention: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN",
            envvar="AUDIT_RETENTION",
            help="Detach partitions older than this: '24 months', '90 days'. Default: keep "
            "everything.",
            show_default=False,
        ),
    ] = None
    quarantine: Annotated[
        str,
        typer.Option(
            metavar="SPAN", help="How long to keep a detached partition before dropping it."
        ),
    ] = "7 days"
    no_drop: Annotated[bool, typer.Option("--no-drop", help="Detach, but never drop.")] = False
    archive: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="AUDIT_ARCHIVE",
            help="Write detached partitions to Parquet here (a folder, s3://, gs://, az://), and "
            "drop only what was verified.",
            show_default=False,
        ),
    ] = None
    iceberg: Iceberg = None
    interval: Annotated[
        IntervalChoice | None,
        typer.Option(
            help="Time range of new partitions; auto: what suits the number of events a day. "
            "Default: as before.",
            show_default=False,
        ),
    ] = None
    ahead: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of future partitions. Default: 45 days, 12 weeks or 6 months.",
            show_default=False,
        ),
    ] = None
    blocking_detach: Annotated[
        bool,
        typer.Option(
            "--blocking-detach",
            help="With a DEFAULT partition: detach under a lock, for milliseconds.",
        ),
    ] = False
    lock_timeout: Annotated[
        str,
        typer.Option(metavar="TIME", help="How long a step may block writes before it is retried."),
    ] = "2s"
    statement_timeout: Annotated[
        str,
        typer.Option(metavar="TIME", help="How long a step that blocks nobody may take."),
    ] = "30min"
    now: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            hidden=True,
            help="Use this time instead of the server's, for a rehearsal.",
        ),
    ] = None
    trust_clock: Annotated[
        bool,
        typer.Option(
            "--trust-clock",
            help="Trust the clock even if the newest event, the last run or this machine's clock "
            "contradict it.",
        ),
    ] = False
    dsn: Dsn = None
    config: AlembicConfig = None
    audit_schema: TrailSchema = "audit"

    @property
    def moment(self) -> datetime | None:
        """What takes the place of the server's clock."""
        return parse_moment(self.now, "--now") if self.now else None

    def policy(self) -> Policy:
        """The policy they make; raises `UsageError`."""
        by_rate = self.interval is IntervalChoice.AUTO
        return Policy(
            interval=None if by_rate or self.interval is None else Interval(self.interval.value),
            interval_by_rate=by_rate,
            ahead=self.ahead,
            retention=Span.parse(self.retention, "--retention") if self.retention else None,
            quarantine=Span.parse(self.quarantine, "--quarantine"),
            drop=not self.no_drop,
            archived_only=self.archive is not None,
            blocking_detach=self.blocking_detach,
            trust_clock=self.trust_clock,
        )

    @contextmanager
    def open(self) -> Iterator[Run]:
        """A run on the database that the command is about."""
        policy, moment = self.policy(), self.moment
        with open_database(self.dsn, self.config) as connection:
            yield Run(
                connection=connection,
                schema=self.audit_schema,
                policy=policy,
                now=lambda: moment,
                lock_timeout=as_timeout(self.lock_timeout, "--lock-timeout"),
                statement_timeout=as_timeout(self.statement_timeout, "--statement-timeout"),
                on_step=lambda step: _say(f"{step.why} …"),
                on_retry=lambda number, why: _say(f"attempt {number}: {why}"),
            )

    @contextmanager
    def open_alone(self) -> Iterator[Run]:
        """The same, while no other run goes on; raises `BusyError` when one does."""
        address = find_address(self.dsn, self.config)
        with (
            single_flight(address, self.audit_schema),
            self.open() as run,
            not_for_ever(run.connection, run.schema),
        ):
            yield run


def takes_rotation(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Rotation`, which it takes as its first parameter."""
    names = [field.name for field in fields(Rotation)]
    hints = get_type_hints(Rotation, include_extras=True)
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(Rotation)
    ]

    @wraps(command)
    def with_options(**values: Any) -> None:
        rotation = Rotation(**{name: values.pop(name) for name in names})
        command(rotation, **values)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_options


def rotate(rotation: Rotation, run: Run) -> list[Outcome]:
    """All stages in their order. What fails is an outcome like any other; a standby is left alone."""
    if is_standby(run.connection):
        return []
    with with_archive(rotation, run):
        for stage in Stage:
            run.stage(stage)
        if rotation.archive:
            run.outcomes += reach_archive(run, rotation.archive)
        run.outcomes += register_archive(rotation, run)
    run.outcomes += run.finished("partitions", run.outcomes)
    return run.outcomes


def reach_archive(run: Run, url: str) -> list[Outcome]:
    """A failure where the archive cannot be reached, even when there was nothing to write.

    Finishes a redaction that was interrupted, for the owner of the trail.
    """
    from audit_toolkit.archive import Store, require_finished

    try:
        Store.open(url).require_reachable()
        require_finished(run.connection, run.schema)
    except AuditError as error:
        what = f"Connect to the archive {url}"
        return [
            Outcome(
                stage=Stage.ARCHIVE,
                what=what,
                leaf=None,
                result=Result.FAILED,
                message=error.message,
                hint=error.hint,
            )
        ]
    return []


@contextmanager
def with_archive(rotation: Rotation, run: Run) -> Iterator[None]:
    """Give a run the archive of `--archive`, and a look at what it wrote before anything is dropped.

    Events are counted on stderr where somebody looks: as they are written, and as they are read back.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from audit_toolkit.archive import archive_gate, archiver

    run.gate = archive_gate(run, rotation.archive)
    columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed:,.0f} events"))
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bars:

        def counter(leaf: str) -> Callable[[int], None]:
            task = bars.add_task(leaf, total=None)
            return lambda events: bars.advance(task, events)

        if rotation.archive:
            run.archive = archiver(run, rotation.archive, counter, rotation.iceberg)
        yield


def register_archive(rotation: Rotation, run: Run) -> list[Outcome]:
    """Bring the Iceberg table of --iceberg in line with the archive, if there is one."""
    if not rotation.iceberg or not rotation.archive:
        return []
    what = "Register the archive's files in the Iceberg table"
    return [run.attempt(Task(stage=Stage.ARCHIVE, what=what, plan=Plan(steps=(), atomic=False)))]


def plan_tasks(run: Run) -> tuple[Task, ...]:
    """What a run would do, as things are now, with the timeouts of this one."""
    return tuple(run.timed(task) for task in plan_partitions(run.read(), run.policy))


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """A line for each outcome, for people."""
    for outcome in outcomes:
        print(f"{outcome.result:<9} {outcome.stage:<9} {outcome.what}")
        for note in filter(None, (outcome.message, outcome.hint)):
            print(f"{'':<19} {note}")
    if not outcomes:
        print("nothing to do")


def print_standby() -> None:
    """That nothing is done on a standby, for people."""
    print("the server is a standby: nothing to do here, maintenance runs on the primary")


def print_tasks(tasks: tuple[Task, ...]) -> None:
    """A line for each task, for people."""
    for task in tasks:
        print(f"{task.stage:<9} {task.what}")
        if task.deferred or task.refused:
            print(f"{'':<9} not now: {task.deferred or task.refused}")
    if not tasks:
        print("nothing to do")


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """1 when a step failed, 3 when somebody has to look first, else 0."""
    if not succeeded(outcomes):
        return FAILED
    return FINDINGS if any(o.result is Result.REFUSED for o in outcomes) else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)
