"""The sections of a report: each reads one thing, and says it in lines."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from audit_toolkit.capture.status import read_tables
from audit_toolkit.completeness.coverage import (
    Capture,
    Cause,
    Proof,
    Stretch,
)
from audit_toolkit.config import option_words
from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.evidence.reading import Reading, TrailEvent
from audit_toolkit.evidence.report import Line, utc
from audit_toolkit.findings import Severity
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions import Thresholds
from audit_toolkit.plurals import counted
from audit_toolkit.schema.access import POWERS, read_access
from audit_toolkit.templates import query, render


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """How a section is made."""

    title: str
    about: str
    nothing: str
    """What it says where there is nothing to say."""
    build: Callable[[Reading], Iterable[Line]]
    words: tuple[str, ...]
    """The command that shows the same."""
    dated: bool = False
    """Whether it takes the period."""
    of_period: bool = False
    """Whether it says what events of the period say, and so nothing of those that left the trail."""

    def command(self, reading: Reading) -> str:
        """That command, as it is typed."""
        return reading.audit(*self.words, dated=self.dated)


def _span(begin: datetime | None, end: datetime | None) -> str:
    since = f"since {utc(begin)}" if begin else "from the beginning"
    return since if end is None else f"{since} until {utc(end)}"


def _event_line(reading: Reading, event: TrailEvent, text: str, *, alarm: bool = False) -> Line:
    return Line(
        text=text,
        at=event.at,
        event_id=event.event_id,
        command=reading.audit("show", str(event.event_id)),
        sql=reading.last,
        alarm=alarm,
    )


# coverage


def _stretches(reading: Reading) -> list[Stretch]:
    found, reading.last = reading.coverage
    begin, end = reading.period.begin, reading.period.end
    return [
        one
        for stretches in found.values()
        for one in stretches
        if one.since < end and (one.until is None or one.until > begin)
    ]


_CAPTURED = {
    Capture.ON: "captured",
    Capture.OFF: "not captured",
    Capture.UNKNOWN: "captured with a gap at some time",
}


def _coverage(reading: Reading) -> Iterator[Line]:
    for one in _stretches(reading):
        parts = [f"{one.table}: {_CAPTURED[one.capture]} {_span(one.since, one.until)}"]
        if one.rule is not None:
            parts.append(shlex.join(option_words(one.rule)) or "every column")
        if one.reason:
            parts.append(one.reason if one.who is None else f"{one.reason} ({one.who})")
        if one.proof is Proof.REGISTRY:
            parts.append(one.said_by)
        command = reading.audit("coverage", dated=True)
        if one.event_id is not None:
            command = reading.audit("show", str(one.event_id))
        yield Line(
            text="; ".join(parts),
            at=one.since,
            event_id=one.event_id,
            command=command,
            sql=reading.last,
            alarm=one.cause is Cause.FOUND,
        )


def _tables(reading: Reading) -> Iterator[Line]:
    tables = read_tables(reading.connection, reading.schema)
    columns = {
        str(QualifiedName(row["schema_name"], row["table_name"])): row["columns"]
        for row in reading.rows("evidence/tables")
    }
    command, sql = reading.audit("status"), reading.last
    for audited in tables.audited:
        there = columns.get(audited.table)
        said = "the table is gone" if there is None else _recorded(there, audited.options)
        state = "" if audited.state == "on" else f" [capture is {audited.state}]"
        text = f"{audited.table}{state}: {said}"
        yield Line(text=text, command=command, sql=sql, alarm=audited.state != "on")
    for other in tables.not_audited:
        yield Line(text=f"{other.table}: not audited: {other.why}", command=command, sql=sql)


def _recorded(columns: list[str], options: Mapping[str, Any]) -> str:
    """What is kept of the columns of a table."""
    only, left_out = options.get("only", ()), set(options.get("exclude", ()))
    masked = dict(options.get("mask", {}))
    kept = [c for c in columns if (not only or c in only) and c not in left_out and c not in masked]
    hidden = [c for c in columns if c not in kept and c not in masked]
    parts = [f"recorded: {', '.join(kept) or 'nothing in clear'}"]
    if masked:
        parts.append("masked: " + ", ".join(f"{name} ({how})" for name, how in masked.items()))
    if hidden:
        parts.append(f"left out: {', '.join(hidden)}")
    if options.get("when"):
        parts.append(f"only rows where {options['when']}")
    return "; ".join(parts)


def _gaps(reading: Reading) -> Iterator[Line]:
    for event in reading.events("G", changes=("guard", "witness")):
        if event.change == "witness":
            said = f"{event.said.get('subject')}: {event.said.get('message')}"
            yield _event_line(reading, event, f"the witness found: {said}", alarm=True)
            continue
        reason = event.said.get("reason")
        because = f": {reason}" if reason else ""
        if event.change == "guard":
            what = f"the guard was switched {event.said.get('guard')}"
        else:
            what = f"capture of {event.table} {_gap_verb(event)}"
        yield _event_line(reading, event, f"{what} by {event.who}{because}", alarm=False)
    yield from _gaps_begun_before(reading)
    yield from _off_now(reading)


def _gaps_begun_before(reading: Reading) -> Iterator[Line]:
    """What no event of the period says: what held when it began, and what was found later."""
    for row in reading.rows("evidence/guard_before"):
        if row["guard"] == "off":
            because = f": {row['reason']}" if row["reason"] else ""
            yield Line(
                text=f"the guard was off when the period began, turned off by {row['who']}{because}",
                at=row["since"],
                event_id=row["event_id"],
                command=reading.audit("show", str(row["event_id"])),
                sql=reading.last,
            )
    for one in _stretches(reading):
        if one.cause is Cause.FOUND:
            some = " at some time" if one.capture is Capture.UNKNOWN else ""
            why = one.reason or "nobody said why"
            text = f"capture was off{some} {_span(one.since, one.until)}; {why}"
        elif one.cause is Cause.SAID and one.since < reading.period.begin:
            why = "".join((f": {one.reason}" if one.reason else "", f" ({one.who})"))
            text = f"not captured {_span(one.since, one.until)}{why}"
        else:
            continue
        yield Line(
            text=f"{one.table}: {text}",
            at=one.since,
            event_id=one.event_id,
            command=reading.audit("coverage", dated=True),
            sql=reading.last,
            alarm=one.cause is Cause.FOUND,
        )


def _off_now(reading: Reading) -> Iterator[Line]:
    """Tables whose triggers are off while the trail says that they are captured."""
    found, _ = reading.coverage
    known = {str(name) for name, ones in found.items() if ones[-1].capture is not Capture.ON}
    reading.rows("evidence/tables")
    for audited in read_tables(reading.connection, reading.schema).audited:
        if audited.state == "off" and audited.table not in known:
            yield Line(
                text=f"{audited.table}: capture is off now; nobody said since when, or why",
                command=reading.audit("status"),
                sql=reading.last,
                alarm=True,
            )


def _gap_verb(event: TrailEvent) -> str:
    state = event.said.get("capture")
    return f"was {state}" if state in ("paused", "resumed") else f"is {state or 'interrupted'}"


_NO_DDL = ("guard", "drill", "review", "witness")
"""Changes that other sections tell."""


def _ddl(reading: Reading) -> Iterator[Line]:
    found = [e for e in reading.events("M") if e.change not in _NO_DDL]
    for event in found:
        details = {k: v for k, v in event.said.items() if k not in ("change", "relation")}
        more = f": {json.dumps(details, ensure_ascii=False)}" if details else ""
        yield _event_line(
            reading, event, f"{event.table}: {event.change or 'changed'}, by {event.who}{more}"
        )


def _activity(reading: Reading) -> Iterator[Line]:
    kinds = ("insert", "update", "delete", "truncate")
    for row in _changes(reading):
        name = QualifiedName(row["schema_name"], row["table_name"])
        role = f" as {row['role']}" if row["role"] else ""
        made = [kind for kind in kinds if row[f"{kind}s"]]
        counts = ", ".join(counted(row[f"{kind}s"], kind) for kind in made)
        claims = f"; {counted(row['actors'], 'actor')} claimed" if row["actors"] else ""
        words = [word for kind in made for word in ("--action", kind)]
        yield Line(
            text=f"{name}: {row['login']}{role}: {counts}{claims}",
            command=reading.audit(
                "history",
                "--table",
                name.plain,
                *words,
                "--role",
                row["role"] or row["login"],
                dated=True,
            ),
            sql=reading.last,
        )


def _changes(reading: Reading) -> list[dict[str, Any]]:
    """How many changes there are by table; by the name of then, where this role may not follow names."""
    errors = import_psycopg().errors
    with (
        suppress(errors.InsufficientPrivilege, errors.UndefinedTable, errors.UndefinedFunction),
        reading.connection.transaction(),
    ):
        return reading.rows("evidence/activity", follows=True)
    return reading.rows("evidence/activity", follows=False)


# access

_CAN = {
    "read": "can read the trail",
    "write": "can insert events by hand",
    "alter": "can change or drop the trail",
    "silence": "can disable capture",
}


def _access(reading: Reading) -> Iterator[Line]:
    reading.run(query("access"), {"schema": reading.schema})
    command = reading.audit("access")
    for power in POWERS:
        for one in read_access(reading.connection, reading.schema):
            group = "" if one.may_log_in else " (cannot log in)"
            for way in one.ways.get(power, ()):
                yield Line(
                    text=f"{one.role}{group} {_CAN[power]}: {way}",
                    command=command,
                    sql=reading.last,
                )
    for event in reading.events("M"):
        ddl = event.said.get("ddl")
        tag = str(ddl.get("tag", "")) if isinstance(ddl, dict) else ""
        if "POLICY" in tag:
            yield _event_line(reading, event, f"{event.table}: {tag}, by {event.who}")


# seals


def _seals(reading: Reading) -> Iterator[Line]:
    keys = reading.run(render("seals/keys", schema=reading.schema))
    for key in keys:
        yield Line(
            text=f"key {key['vkey']}, first used {utc(key['first_used_at'])}",
            at=key["first_used_at"],
            command=reading.audit("keys", "list"),
            sql=reading.last,
        )
    verify = reading.audit("verify", *(reading.verification.words if reading.verification else ()))
    (row,) = reading.rows("evidence/checkpoints")
    if row["checkpoints"]:
        sealed = f"{row['last_size']:,} events sealed, up to event {row['up_to_id']}"
        span = f"the first {utc(row['first_at'])}, the last {utc(row['last_at'])}"
        text = f"{counted(row['checkpoints'], 'checkpoint')} signed: {span}; {sealed}"
        yield Line(text=text, command=verify, sql=reading.last)
    elif keys:
        yield Line(text="no checkpoint was signed in this period", command=verify, sql=reading.last)
    (newest,) = reading.rows("evidence/sealed_up_to")
    (waiting,) = reading.rows("evidence/unsealed", up_to_id=newest["up_to_id"])
    if keys and waiting["events"]:
        yield Line(
            text=f"{counted(waiting['events'], 'event')} of the period not sealed yet",
            command=verify,
            sql=reading.last,
        )
    if keys:
        yield from _verified(reading, verify)


def _verified(reading: Reading, command: str) -> Iterator[Line]:
    asked = reading.verification
    if asked is None:
        yield Line(
            text="the events were not compared with their seals for this report (--verify does)",
            command=command,
        )
        return
    from audit_toolkit.seals import verify_within

    report = verify_within(
        reading.connection, reading.schema, keys=asked.keys, outside=asked.outside
    )
    for found in report.findings:
        alarm = found in report.alarms
        yield Line(text=f"{found.subject}: {found.message}", command=command, alarm=alarm)
    if not report.alarms:
        agree = "agrees" if report.outside == 1 else "agree"
        outside = f"; {counted(report.outside, 'checkpoint')} kept outside {agree}"
        whose = "" if report.keys_from == "outside" else "; the keys are those of the database"
        yield Line(
            text=report.what_matches
            + f"{outside if report.outside else '; no checkpoint that was kept outside was given'}{whose}",
            command=command,
        )
    for gone in report.gone:
        where = f"archived at {gone.archive}" if gone.archive else "not archived"
        yield Line(
            text=f"{counted(gone.events, 'event')} were dropped with {gone.partition}, {where}",
            command=command,
            alarm=gone.archive is None,
        )


# what goes and what comes back


def _retention(reading: Reading) -> Iterator[Line]:
    (reach,) = reading.rows("evidence/reach")
    if reach["first_event"]:
        yield Line(
            text=f"the trail has events from {utc(reach['first_event'])} to {utc(reach['last_event'])}",
            command=reading.audit("partitions", "list"),
            sql=reading.last,
        )
    entries = reading.rows("evidence/partitions")
    listed, sql = reading.audit("partitions", "list"), reading.last
    for row in entries:
        for verb, moment, more in _fates(row):
            if reading.period.has(moment):
                alarm = verb == "dropped" and not row["archive"]
                text = f"partition {row['name']} {verb} ({_bounds(row)}){more}"
                yield Line(text=text, at=moment, command=listed, sql=sql, alarm=alarm)
        if row["hold_reason"] and row["state"] != "dropped":
            text = f"partition {row['name']} is on hold ({row['held_by']}): {row['hold_reason']}"
            yield Line(text=text, at=row["held_at"], command=listed, sql=sql)


def _fates(row: Mapping[str, Any]) -> Iterator[tuple[str, datetime | None, str]]:
    if not _is_restored(row):
        yield "detached", row["detached_at"], ""
        if row["archive"]:
            yield "archived", row["archived_at"], f", verified: {row['archive']}"
    yield "dropped", row["dropped_at"], "" if row["archive"] else ", not archived"


def _is_restored(row: Mapping[str, Any]) -> bool:
    """Whether it came from the archive: a restore writes all times at once, and holds come and go."""
    return row["archived_at"] is not None and row["archived_at"] == row["detached_at"]


def _bounds(row: Mapping[str, Any]) -> str:
    lower, upper = row["lower_bound"], row["upper_bound"]
    return f"{utc(lower) if lower else 'MINVALUE'} to {utc(upper) if upper else 'MAXVALUE'}"


_RESTORED = "restored from the archive"
"""What `archive restore` writes as the reason of its hold."""


def _restores(reading: Reading) -> Iterator[Line]:
    for row in reading.rows("evidence/partitions"):
        if _is_restored(row) and reading.period.has(row["detached_at"]):
            who = f" by {row['held_by']}" if row["hold_reason"] == _RESTORED else ""
            yield Line(
                text=f"partition {row['name']} restored from {row['archive']}{who}",
                at=row["detached_at"],
                command=reading.audit("partitions", "list"),
                sql=reading.last,
            )
    for event in reading.events("B"):
        reason = event.said.get("reason")
        because = f": {reason}" if reason else ""
        text = f"the trail went on in another place, said by {event.who}{because}"
        yield _event_line(reading, event, text)


def _redactions(reading: Reading) -> Iterator[Line]:
    for event in reading.events("R"):
        said = event.said
        lists = (said.get(name) for name in ("columns", "context"))
        what = [str(name) for names in lists if isinstance(names, list) for name in names]
        what += [words for name, words in _ALSO_ERASED.items() if said.get(name)]
        ticket = f", {said['ticket']}" if said.get("ticket") else ""
        held = ", in spite of a hold" if said.get("despite_hold") else ""
        events = _events_of(said)
        text = f"{event.table}: {event.who} erased {', '.join(what)} in {events}{held}"
        yield _event_line(reading, event, f"{text}: {said.get('reason')}{ticket}")


def _events_of(said: Mapping[str, Any]) -> str:
    number = said.get("events")
    return counted(number, "event") if isinstance(number, int) else "events"


_ALSO_ERASED = {"keys": "the keys", "query": "the statements"}


# what was checked


def _checks(reading: Reading) -> Iterator[Line]:
    for finding in reading.check():
        accepted = f" (accepted: {finding.accepted})" if finding.accepted is not None else ""
        yield Line(
            text=f"{finding.severity}: {finding.subject}: {finding.message} ({finding.kind}){accepted}",
            command=reading.audit("check", *reading.check_words),
            alarm=finding.accepted is None and finding.severity.rank >= Severity.WARNING.rank,
        )
    for row in reading.rows("evidence/maintenance"):
        last = row["last_success_at"]
        succeeded = f"last succeeded {utc(last)}" if last else "never succeeded"
        yield Line(
            text=f"{row['command']}: last ran {utc(row['last_run_at'])}, {succeeded}",
            at=row["last_run_at"],
            command=reading.audit("partitions", "check"),
            sql=reading.last,
            alarm=last is None or reading.now - last >= Thresholds().success_warning,
        )


def _drills(reading: Reading) -> Iterator[Line]:
    for event in reading.events(changes=("drill",)):
        said = event.said
        outcome = "succeeded" if said.get("ok") else f"FAILED: {said.get('problem')}"
        text = (
            f"restore of {said.get('partition')} from {said.get('archive')} {outcome} "
            f"({_events_of(said)}, by {event.who})"
        )
        yield _event_line(reading, event, text, alarm=not said.get("ok"))


def _reviews(reading: Reading) -> Iterator[Line]:
    for event in reading.events(changes=("review",)):
        said = event.said
        of = f" of {said['from']} to {said['to']}" if said.get("from") and said.get("to") else ""
        file = f" [{said.get('file')}, SHA-256 {said['sha256']}]" if said.get("sha256") else ""
        text = (
            f"reviewed by {said.get('by')}{of}: {said.get('note')}{file} (recorded by {event.who})"
        )
        yield _event_line(reading, event, text)


_LIMITS = (
    (
        (
            "reads: no trigger sees a SELECT. pgAudit logs them (pgaudit.log = 'read'); "
            "docs/evidence.md joins its lines with the trail"
        ),
        "",
    ),
    (
        (
            "statements that failed, and logins: a change that was rolled back has no event. "
            "The server's log and pgAudit have them"
        ),
        "show log_statement",
    ),
    (
        (
            "what a superuser does to files or catalogues: checkpoints of seals that are kept outside show "
            "that the past was changed"
        ),
        "select rolname from pg_catalog.pg_roles where rolsuper order by rolname",
    ),
    (
        (
            "who could read or alter earlier: rights are those of now. Policies of audited tables are events where "
            "DDL is recorded (audit install --ddl); no trigger is told what a GRANT was about, and pgAudit logs "
            "GRANT, REVOKE and memberships (pgaudit.log = 'role')"
        ),
        "select evtname from pg_catalog.pg_event_trigger order by evtname",
    ),
    ("the actor is what the application claimed; login and role are the server's", ""),
)


def _limits(reading: Reading) -> Iterator[Line]:
    commands = (("coverage",), ("check",), ("verify",), ("access",), ("history",))
    for (text, sql), words in zip(_LIMITS, commands, strict=True):
        found = fetch(reading.connection, sql) if sql.startswith("select") else []
        names = ", ".join(str(next(iter(row.values()))) for row in found)
        more = f" (now: {names})" if names else ""
        yield Line(text=f"{text}{more}", command=reading.audit(*words), sql=sql)


SECTIONS: Mapping[str, Builder] = MappingProxyType(
    {
        "coverage": Builder(
            title="What was captured, and when",
            about="Every table that the trail knows of, and how it was captured in the period.",
            nothing="no table was captured in this period",
            build=_coverage,
            words=("coverage",),
            dated=True,
            of_period=True,
        ),
        "tables": Builder(
            title="What is recorded of each table",
            about="As things are now: columns that are recorded, masked or left out, and tables that are not audited.",
            nothing="the database has no tables",
            build=_tables,
            words=("status",),
        ),
        "gaps": Builder(
            title="Gaps and pauses",
            about="When capture was paused or resumed, or the guard changed, by whom and why.",
            nothing="no gap, no pause, and the guard was not switched",
            build=_gaps,
            words=("history", "--action", "gap"),
            dated=True,
            of_period=True,
        ),
        "activity": Builder(
            title="Who changed data",
            about="Changes by table and login, as the server knows them. Actors are claims of the application.",
            nothing="no audited table was changed in this period",
            build=_activity,
            words=("history",),
            dated=True,
            of_period=True,
        ),
        "ddl": Builder(
            title="Changes of tables and of capture",
            about="DDL on audited tables, and how capture was changed, as the trail noted it.",
            nothing="no DDL on audited tables was noted in this period",
            build=_ddl,
            words=("history",),
            dated=True,
            of_period=True,
        ),
        "access": Builder(
            title="Who can read, change or silence the trail",
            about="As things are now, and policies that were changed in the period where the trail was told of DDL.",
            nothing="no role has any way to the trail",
            build=_access,
            words=("access",),
            of_period=True,
        ),
        "seals": Builder(
            title="Seals and their verification",
            about="Signed checkpoints of the sealed tree; docs/seals.md says what they prove, and what not.",
            nothing="nothing was sealed: a superuser could have rewritten the past unseen",
            build=_seals,
            words=("verify",),
        ),
        "retention": Builder(
            title="Retention and archive",
            about="How far back the trail goes; partitions that were detached, archived or dropped, or are on hold.",
            nothing="the trail has no events, and no partition was ever detached",
            build=_retention,
            words=("partitions", "list"),
        ),
        "restores": Builder(
            title="Restores",
            about="Partitions that came back from the archive, and moves of the whole trail.",
            nothing="nothing was restored in this period",
            build=_restores,
            words=("partitions", "list"),
            of_period=True,
        ),
        "redactions": Builder(
            title="Erasures",
            about="Values that were erased from the trail, by whom and why. The values themselves are gone.",
            nothing="nothing was erased in this period",
            build=_redactions,
            words=("history",),
            dated=True,
            of_period=True,
        ),
        "checks": Builder(
            title="Checks",
            about="What audit check finds now, and when maintenance last ran.",
            nothing="nothing was found, and maintenance never ran",
            build=_checks,
            words=("check",),
        ),
        "drills": Builder(
            title="Restore drills",
            about="Archived partitions that were restored to see whether that works (audit drill).",
            nothing="no drill in this period",
            build=_drills,
            words=("history",),
            dated=True,
            of_period=True,
        ),
        "reviews": Builder(
            title="Reviews",
            about="Who looked at the trail, as audit review recorded it.",
            nothing="nobody recorded a review in this period",
            build=_reviews,
            words=("history",),
            dated=True,
            of_period=True,
        ),
        "limits": Builder(
            title="What a trigger cannot know",
            about="Said here, so that nobody reads more into this report than it says; with what covers it.",
            nothing="",
            build=_limits,
            words=("check",),
        ),
    }
)
"""By name, in the order of the whole report."""
