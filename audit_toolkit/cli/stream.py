"""`audit stream`: consumers of the trail, which deliver its events to somewhere else."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli import times
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema, Utc
from audit_toolkit.errors import BusyError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

    from audit_toolkit.stream import Consumer, Progress, Terms

    Connection = psycopg.Connection[Any]

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The consumer, as `audit stream list` names it.")
]
Events = Annotated[
    list[int] | None,
    typer.Option(
        "--event",
        metavar="EVENT",
        min=1,
        help="Only this event. Repeatable. Without it: all.",
        show_default=False,
    ),
]


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


class LagFormat(StrEnum):
    """How `lag` prints."""

    TEXT = "text"
    JSON = "json"
    PROMETHEUS = "prometheus"


def run(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The consumer; a new one begins with --from.")
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="ADDRESS",
            envvar="AUDIT_STREAM_TO",
            help="Where events go: file:PATH, https://…, nats://…, redis://…, kafka://… or "
            "python:MODULE:NAME.",
            show_default=False,
        ),
    ],
    body: Annotated[
        BodyFormat, typer.Option("--body", help="How events look there.")
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
        str | None, typer.Option(metavar="WHO", help="Only what this actor did.")
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only events whose context says so. Repeatable: all are needed.",
        ),
    ] = None,
    changed: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Only what changed this column.")
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="Where a new consumer begins: at the beginning, with what commits from now on (now), "
            f"behind an event (its number), or at a time: {times.HELP}.",
        ),
    ] = "beginning",
    once: Annotated[
        bool, typer.Option("--once", help="End when everything that is certain was delivered.")
    ] = False,
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, max=10_000, help="Events in a batch, at most.")
    ] = 500,
    tries: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="So often an event is refused before it is a dead letter."
        ),
    ] = 5,
    after_refusal: Annotated[
        Refused,
        typer.Option(
            "--after-refusal",
            help="Whether later events of the row of a dead letter go on or wait.",
        ),
    ] = Refused.GO_ON,
    hold_retention: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN",
            help="Partitions with events that were not delivered stay so much longer, at most.",
            show_default=False,
        ),
    ] = None,
    utc: Utc = False,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Deliver events to a sink, from where this consumer stopped.

    Each event arrives at least once, those of a row in their order. Of several instances of a consumer one
    delivers; another takes over when it ends. Runs until Ctrl-C, or with --once until all was delivered.
    """
    from audit_toolkit.stream import (
        AfterRefusal,
        FormatName,
        Terms,
        find_format,
        open_sink,
        parse_address,
    )
    from audit_toolkit.stream import run as run_consumer
    from audit_toolkit.stream.run import find_origin

    where = _begin(start, utc=utc)
    address = parse_address(to)
    wanted = _wanted(table, action, actor, context, changed, where)
    with closing(open_sink(address)) as sink, open_database(dsn, config) as connection:
        terms = Terms(
            wanted=wanted,
            batch=batch,
            tries=tries,
            after_refusal=AfterRefusal(after_refusal.value),
            once=once,
            told={"to": address.shown, "body": body.value},
            hold_for=_span(hold_retention),
        )
        form = find_format(FormatName(body.value), find_origin(connection, audit_schema))
        steps = run_consumer(connection, name, sink, form, terms, begin=where, schema=audit_schema)
        with closing(steps):
            _report(name, steps, terms)


def _report(name: str, steps: Any, terms: Terms) -> None:
    delivered = aside = 0
    said: str | None = None
    try:
        for step in steps:
            delivered += step.delivered
            aside += step.put_aside
            said = _say(name, step, said, once=terms.once)
    except KeyboardInterrupt:
        pass
    print(f"{name}: {_number(delivered, 'event')} delivered", file=sys.stderr)
    if aside:
        print(
            f"{_number(aside, 'event')} put aside: audit stream dead-letters list {name}",
            file=sys.stderr,
        )


def _say(name: str, step: Progress, said: str | None, *, once: bool) -> str | None:
    """Tell what has to be known, once as long as it is the same."""
    from audit_toolkit.cli.output import visible

    text: str | None = None
    if step.waits_for is not None:
        if once:
            raise BusyError(
                f"another instance of {name} is delivering (pid {step.waits_for})",
                hint="it delivers what there is; stop it first to do it here",
            )
        text = (
            f"another instance of {name} is delivering (pid {step.waits_for}); waiting for its end"
        )
    elif step.error is not None:
        text = f"the sink did not take it: {step.error}; trying again"
    if text is not None and text != said:
        print(visible(text), file=sys.stderr)
    return text if text or not (step.delivered or step.is_idle) else None


def list_consumers(
    output: OutputFormat = Format.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """List consumers, where they stand and what went wrong."""
    from audit_toolkit.stream import read_consumers

    with open_database(dsn, config) as connection:
        found = read_consumers(connection, schema=audit_schema)
    if output is Format.JSON:
        print(json.dumps([consumer.as_dict() for consumer in found], indent=2))
        return
    for consumer in found:
        _print_consumer(consumer)
    if not found:
        print("there are no consumers: audit stream run NAME --to … makes one", file=sys.stderr)


def _print_consumer(consumer: Consumer) -> None:
    from audit_toolkit.cli.output import visible

    state = f"active, pid {consumer.lease_pid}" if consumer.is_active else "not running"
    to = consumer.options.get("to", "")
    print(visible(f"{consumer.name}  {state}  {to}".rstrip()))
    print(
        f"  {_number(consumer.delivered, 'event')} delivered, at event {consumer.event_id}, {_behind(consumer)}"
    )
    if consumer.dead_letters:
        print(f"  {_number(consumer.dead_letters, 'dead letter')}")
    if consumer.failures:
        print(
            visible(
                f"  failed {_number(consumer.failures, 'time')} in a row: {consumer.last_error}"
            )
        )


def lag(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this consumer.", show_default=False)
    ] = None,
    output: Annotated[LagFormat, typer.Option("--format", help="How to print.")] = LagFormat.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Show how far consumers are behind, in events and seconds."""
    from audit_toolkit.stream import find_consumer, read_consumers
    from audit_toolkit.stream.metrics import prometheus

    with open_database(dsn, config) as connection:
        found = (
            [find_consumer(connection, name, schema=audit_schema)]
            if name
            else read_consumers(connection, schema=audit_schema)
        )
    if output is LagFormat.PROMETHEUS:
        print(prometheus(found), end="")
    elif output is LagFormat.JSON:
        keys = ("name", "event_id", "lag_events", "lag_seconds", "is_active", "failures")
        print(json.dumps([{k: getattr(c, k) for k in keys} for c in found], indent=2))
    else:
        for consumer in found:
            print(f"{consumer.name}  {_behind(consumer)}")


def reset(
    name: Name,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="WHERE",
            help="beginning, now, the last event that was delivered (its number), or a time.",
        ),
    ],
    utc: Utc = False,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Let a consumer go on from another place."""
    from audit_toolkit.stream import reset as reset_consumer

    with open_database(dsn, config) as connection:
        event_id = reset_consumer(
            connection, name, _begin(to, "--to", utc=utc), schema=audit_schema
        )
    print(f"{name} goes on behind event {event_id}", file=sys.stderr)


def drop(
    name: Name,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Forget a consumer with its place and its dead letters."""
    from audit_toolkit.stream import drop as drop_consumer

    with open_database(dsn, config) as connection:
        drop_consumer(connection, name, schema=audit_schema)
    print(f"{name} is forgotten", file=sys.stderr)


def list_letters(
    name: Name,
    output: OutputFormat = Format.TEXT,
    utc: Utc = False,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """List the dead letters of a consumer, the oldest first."""
    from audit_toolkit.cli.output import visible
    from audit_toolkit.stream import find_consumer, read_letters

    with open_database(dsn, config) as connection:
        find_consumer(connection, name, schema=audit_schema)
        found = read_letters(connection, name, schema=audit_schema)
    if output is Format.JSON:
        print(json.dumps([letter.as_dict() for letter in found], indent=2))
        return
    for letter in found:
        row = f"{letter.schema_name}.{letter.table_name} {letter.row_key or ''}".rstrip()
        when = times.show_moment(letter.refused_at, utc=utc)
        due = "; will be delivered again" if letter.is_due else ""
        print(visible(f"event {letter.event_id}  {row}  {when}"))
        tried = f"refused {_number(letter.tries, 'time')}: " if letter.tries else ""
        print(visible(f"  {tried}{letter.reason}{due}"))
    if not found:
        print(f"{name} has no dead letters", file=sys.stderr)


def retry_letters(
    name: Name,
    event: Events = None,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Have dead letters delivered again by the consumer."""
    from audit_toolkit.stream import retry_letters as retry

    with open_database(dsn, config) as connection:
        number = retry(connection, name, event, schema=audit_schema)
        _require_some(connection, name, event, number, audit_schema)
    print(f"{_number(number, 'dead letter')} will be delivered again", file=sys.stderr)


def drop_letters(
    name: Name,
    event: Events = None,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Give up dead letters; their events stay in the trail."""
    from audit_toolkit.stream import forget_letters

    with open_database(dsn, config) as connection:
        number = forget_letters(connection, name, event, schema=audit_schema)
        _require_some(connection, name, event, number, audit_schema)
    print(f"{_number(number, 'dead letter')} given up", file=sys.stderr)


def _require_some(
    connection: Connection, name: str, events: Sequence[int] | None, number: int, schema: str
) -> None:
    from audit_toolkit.stream import read_letters

    if not events or number == len(set(events)):
        return
    there = {letter.event_id for letter in read_letters(connection, name, schema=schema)}
    raise UsageError(
        f"{name} has no such dead letter: {', '.join(str(e) for e in events if e not in there)}",
        hint=f"audit stream dead-letters list {name}",
    )


def _wanted(
    table: Sequence[str] | None,
    action: Sequence[str] | None,
    actor: str | None,
    context: Sequence[str] | None,
    changed: str | None,
    begin: int | datetime | None,
) -> Any:
    from datetime import datetime

    from audit_toolkit.cli.history import parse_action, parse_claim
    from audit_toolkit.stream import Wanted

    return Wanted(
        tables=tuple(table or ()),
        actions=frozenset(parse_action(text) for text in action or ()),
        actor=actor,
        context=tuple(parse_claim(text) for text in context or ()),
        changed=changed,
        since=begin if isinstance(begin, datetime) else None,
    )


def _begin(text: str, option: str = "--from", *, utc: bool) -> int | datetime | None:
    if text == "beginning":
        return 0
    if text == "now":
        return None
    return int(text) if text.isdigit() else times.parse_moment(text, option, utc=utc)


def _span(text: str | None) -> str | None:
    from audit_toolkit.partitions import Span

    return None if text is None else str(Span.parse(text))


def _behind(consumer: Consumer) -> str:
    from audit_toolkit.stream.consumers import MOST_COUNTED

    if not consumer.lag_events:
        return "up to date"
    more = "at least " if consumer.lag_events >= MOST_COUNTED else ""
    seconds = consumer.lag_seconds or 0.0
    return f"{more}{_number(consumer.lag_events, 'event')} and {seconds:.1f} s behind"


def _number(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
