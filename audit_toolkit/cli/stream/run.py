"""`audit stream run`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli import times
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.follow import describe_blocker
from audit_toolkit.cli.history import parse_action, parse_claim
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema, Utc
from audit_toolkit.cli.outage import PATIENCE, ride_out
from audit_toolkit.cli.output import visible
from audit_toolkit.cli.stream.common import parse_begin
from audit_toolkit.errors import AuditError, BusyError, UsageError
from audit_toolkit.partitions import Span
from audit_toolkit.plurals import counted
from audit_toolkit.stream import (
    AfterRefusal,
    FormatName,
    Terms,
    Wanted,
    find_format,
    open_sink,
    parse_address,
)
from audit_toolkit.stream import run as run_consumer
from audit_toolkit.stream.consumers import find_consumer, is_known, partitions_left
from audit_toolkit.stream.read_ahead import quick_switches
from audit_toolkit.stream.run import find_origin
from audit_toolkit.trail.history.audited_tables import known_tables
from audit_toolkit.trail.history.cursor import find_position
from audit_toolkit.trail.rows.lookup import Tables, find_tables

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.archive import ArchivedEvents
    from audit_toolkit.stream import Progress

    Connection = psycopg.Connection[Any]


ONCE_PATIENCE = 60.0
"""Seconds that --once waits for a sink which takes nothing, and for transactions that stay open."""


class BodyFormat(StrEnum):
    """How events look outside."""

    EVENT = "event"
    DEBEZIUM = "debezium"
    CLOUDEVENTS = "cloudevents"
    CLOUDEVENTS_BINARY = "cloudevents-binary"


class Refused(StrEnum):
    """What becomes of the later events of a row."""

    GO_ON = "go-on"
    HOLD = "hold"


def run(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Name of the consumer; a new one starts at --from."),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="ADDRESS",
            envvar="AUDIT_STREAM_TO",
            help="Sink to deliver to: file:PATH, https://…, nats://…, redis://…, kafka://… or "
            "python:MODULE:NAME.",
            show_default=False,
        ),
    ],
    body: Annotated[
        BodyFormat, typer.Option("--body", help="Format of the messages.")
    ] = BodyFormat.EVENT,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", "-t", metavar="TABLE", help="Only this table. Repeatable."),
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ACTION", help="Only events of this kind, as for audit history. Repeatable."
        ),
    ] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="WHO", help="Only events by this actor.")
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only events with this value in their context. Repeatable: all must match.",
        ),
    ] = None,
    changed: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Only events that changed this column.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="Where a new consumer starts: beginning, now (with events that commit from now on), after the "
            f"event of this id, or at a time: {times.HELP}. [default: beginning]",
            show_default=False,
        ),
    ] = None,
    from_archive: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="First deliver events that are only in this archive, in order of their ids.",
            show_default=False,
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Exit when everything up to now is delivered.")
    ] = False,
    give_up_after: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Exit when the sink has accepted nothing for this long; with --once, also when an open transaction "
            "may still add earlier events. [default: 60 with --once, else never]",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=10_000, help="Maximum number of events in a batch."),
    ] = 1000,
    tries: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Attempts to deliver an event before it becomes a dead letter."
        ),
    ] = 5,
    after_refusal: Annotated[
        Refused,
        typer.Option(
            "--after-refusal",
            help="After a dead letter, deliver later events of its row, or hold them.",
        ),
    ] = Refused.GO_ON,
    hold_retention: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN",
            help="Keep partitions with undelivered events at most this much longer.",
            show_default=False,
        ),
    ] = None,
    utc: Utc = False,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Deliver events to a sink, resuming where it stopped.

    Each event arrives at least once, the events of a row in order. If several instances of a consumer run, one
    delivers, and another takes over when it ends. Runs until Ctrl-C; with --once, until everything is delivered.
    """
    where = parse_begin(start or "beginning", utc=utc)
    if from_archive and where is None:
        raise UsageError(
            "--from-archive cannot be combined with --from now", hint="leave out one of them"
        )
    address = parse_address(to)
    wanted = _wanted(table, action, actor, context, changed, where)
    report = _Report(name, once=once)
    with closing(open_sink(address)) as sink:

        def deliver(connection: Connection) -> None:
            came_from = report.begin(connection, audit_schema)
            if report.is_first:
                _say_at_start(connection, name, start, wanted, audit_schema)
            past = _past(connection, from_archive, audit_schema) if from_archive else None
            if past is None and where == 0 and report.is_first:
                _say_what_left(connection, name, audit_schema)
            terms = Terms(
                wanted=wanted,
                batch=batch,
                tries=tries,
                after_refusal=AfterRefusal(after_refusal.value),
                once=once,
                told={"to": address.shown, "body": body.value},
                hold_for=_span(hold_retention),
                past=past,
                patience=ONCE_PATIENCE if once and give_up_after is None else give_up_after,
            )
            form = find_format(FormatName(body.value), find_origin(connection, audit_schema))
            steps = run_consumer(
                connection,
                name,
                sink,
                form,
                terms,
                begin=where,
                schema=audit_schema,
                came_from=came_from,
            )
            with closing(steps), quick_switches():
                report.follow(steps)

        try:
            ride_out(partial(open_database, dsn, config), deliver, 0 if once else PATIENCE)
        except KeyboardInterrupt:
            if not report.connections:
                raise
    report.end()


def _say_at_start(
    connection: Connection, name: str, start: str | None, wanted: Wanted, schema: str
) -> None:
    if start is not None and is_known(connection, name, schema=schema):
        print(
            f"{name} resumes where it stopped; --from is for new consumers (to move this one: audit stream reset)",
            file=sys.stderr,
        )
    _say_if_unknown(connection, wanted, schema)


def _say_what_left(connection: Connection, name: str, schema: str) -> None:
    """A consumer of everything has to know that some of it is elsewhere."""
    known = is_known(connection, name, schema=schema)
    consumer = find_consumer(connection, name, schema=schema) if known else None
    if left := partitions_left(connection, consumer, schema=schema):
        since = " since the last event that was delivered" if consumer else ""
        verb = "has" if left == 1 else "have"
        print(
            f"note: {counted(left, 'partition')} {verb} left the database{since}; "
            "to deliver archived events, add --from-archive URL",
            file=sys.stderr,
        )


def _say_if_unknown(connection: Connection, wanted: Wanted, schema: str) -> None:
    """A consumer of a column that no table has gets nothing, mostly for a misspelling."""
    if wanted.changed is None:
        return
    scope = find_tables(connection, wanted.tables, schema=schema)
    known = known_tables(connection, schema=schema)
    found = [one for one in known if not scope.names or one.table in scope.names]
    if not any(wanted.changed in one.columns for one in found):
        print(
            visible(
                f"note: no table that is captured has a column {wanted.changed} ({scope.table}); only events "
                "from before it was renamed or dropped are delivered"
            ),
            file=sys.stderr,
        )


def _past(connection: Connection, url: str, schema: str) -> ArchivedEvents:
    from audit_toolkit.archive import archived_events
    from audit_toolkit.cli.archive.common import open_store

    find_origin(connection, schema)  # refuses what is no trail
    past = archived_events(connection, open_store(url), schema)
    if past.lost:
        print(
            f"not delivered, because they were dropped without an archive: {', '.join(past.lost)}",
            file=sys.stderr,
        )
    return past


class _Report:
    """What a run tells people, over all of its connections."""

    def __init__(self, name: str, *, once: bool) -> None:
        self.connections = 0
        self._name = name
        self._once = once
        self._delivered = self._aside = 0
        self._said: str | None = None
        self._timeline: int | None = None

    @property
    def is_first(self) -> bool:
        """Whether there was no connection before this one."""
        return self.connections == 1

    def begin(self, connection: Connection, schema: str) -> int | None:
        """A connection begins; the timeline of the one before it, if there was one.

        Raises `AuditError` where the consumer did not come there: it would begin anew.
        """
        before = self._timeline
        self.connections += 1
        if not self.is_first:
            if not is_known(connection, self._name, schema=schema):
                raise AuditError(
                    f"the consumer {self._name} is not in the database to which this run is connected again",
                    hint="compare what was delivered with the trail, then start it with --from EVENT",
                )
            print("connected again", file=sys.stderr)
        self._timeline = find_position(connection, Tables(schema=schema)).timeline
        if before is not None and before != self._timeline:
            print(
                f"note: a standby was promoted (timeline {before}, now {self._timeline}): what it had not received "
                "is no longer in the trail, and may have been delivered",
                file=sys.stderr,
            )
        return before

    def follow(self, steps: Iterable[Progress]) -> None:
        """Tell what has to be known of each step."""
        for step in steps:
            self._delivered += step.delivered
            self._aside += step.put_aside
            self._said = _say(self._name, step, self._said, once=self._once)

    def end(self) -> None:
        """Tell what came of it."""
        print(
            visible(f"{self._name}: {counted(self._delivered, 'event')} delivered"), file=sys.stderr
        )
        if self._aside:
            print(
                f"{counted(self._aside, 'event')} put aside: "
                f"audit stream dead-letters list {shlex.quote(self._name)}",
                file=sys.stderr,
            )


def _say(name: str, step: Progress, said: str | None, *, once: bool) -> str | None:
    """Tell what has to be known, once as long as it is the same."""
    text: str | None = None
    if step.waits_for is not None:
        if once:
            raise BusyError(
                f"another instance of {name} is delivering (pid {step.waits_for})",
                hint="it delivers the events; to deliver them here, stop it first",
            )
        text = f"another instance of {name} is delivering (pid {step.waits_for}); waiting for it to end"
    elif step.held_by:
        text = describe_blocker(step.held_by[0])
    elif step.error is not None:
        text = f"warning: the sink did not accept events: {step.error}; retrying"
        if step.hint:
            text += f"\nhint: {step.hint}"
    if text is not None and text != said:
        print("\n".join(map(visible, text.splitlines())), file=sys.stderr)
    return text if text or not (step.delivered or step.is_idle) else None


def _wanted(
    table: Sequence[str] | None,
    action: Sequence[str] | None,
    actor: str | None,
    context: Sequence[str] | None,
    changed: str | None,
    begin: int | datetime | None,
) -> Any:
    return Wanted(
        tables=tuple(table or ()),
        actions=frozenset(parse_action(text) for text in action or ()),
        actor=actor,
        context=tuple(parse_claim(text) for text in context or ()),
        changed=changed,
        since=begin if isinstance(begin, datetime) else None,
    )


def _span(text: str | None) -> str | None:
    return None if text is None else str(Span.parse(text))
