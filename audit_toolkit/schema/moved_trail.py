"""Drift of the place: a trail that was moved, ids that repeat, capture on a subscriber, or that was off for a while."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import parse_comment
from audit_toolkit.catalog.trail import TrailObjects
from audit_toolkit.config import Capture
from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import QualifiedName, quote_identifier, quote_literal
from audit_toolkit.remedies import install_command, psql_command
from audit_toolkit.schema.captured_tables import Unregistered, read_interrupted, read_unregistered
from audit_toolkit.schema.location import LAST_ID, Ids, TrailLocation, read_ids, read_location
from audit_toolkit.templates import query

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

Subscribed = dict[QualifiedName, dict[str, Any]]


def cluster_findings(connection: Connection, objects: TrailObjects) -> Iterator[Finding]:
    """What came of moving the trail, or of replicating it.

    Raises what psycopg raises where this role may not read the place, the sequence or the events.
    """
    yield from subscriber_findings(objects, _read_subscribed(connection))
    with whatever_is_there():
        yield from _own_findings(connection, objects)


def unregistered_captures(
    connection: Connection, objects: TrailObjects
) -> frozenset[QualifiedName]:
    """Tables with capture triggers that somebody took out of the registry, to which installing puts them back.

    None where the trail was moved: `audit adopt` notes its tables again.
    """
    refused = import_psycopg().errors.InsufficientPrivilege
    with suppress(refused), whatever_is_there(), connection.transaction():
        if not read_location(connection, objects.schema).moved:
            functions = read_unregistered(connection, objects.schema).functions
            tables = (objects.captured_by(f) for f in objects.functions if f.name in functions)
            return frozenset(table for table in tables if table)
    return frozenset()


def whatever_is_there() -> suppress:
    """Tables that an older release lacks, or that were dropped, are reported by other findings."""
    errors = import_psycopg().errors
    return suppress(
        errors.InvalidSchemaName,
        errors.UndefinedTable,
        errors.UndefinedFunction,
        errors.UndefinedColumn,
    )


def _own_findings(connection: Connection, objects: TrailObjects) -> Iterator[Finding]:
    state, ids = read_location(connection, objects.schema), read_ids(connection, objects.schema)
    yield from place_findings(objects.schema, state, ids)
    if not state.moved:
        yield from interruption_findings(sorted(read_interrupted(connection, objects.schema)))
        yield from registry_findings(objects, read_unregistered(connection, objects.schema))


def place_findings(schema: str, state: TrailLocation, ids: Ids) -> Iterator[Finding]:
    """A trail that is in another place than it was, and ids that run backwards."""
    trail = f"{quote_identifier(schema)}.logged_actions"
    remedy = adopt_command(schema, renumber=ids.need_renumbering)

    def finding(kind: FindingKind, severity: Severity, message: str) -> Finding:
        return Finding(kind=kind, severity=severity, subject=trail, message=message, remedy=remedy)

    if state.moved:
        yield finding(FindingKind.TRAIL_MOVED, Severity.WARNING, _how_moved(state))
    elif state.new_timeline:
        yield finding(
            FindingKind.TIMELINE_CHANGED,
            Severity.WARNING,
            "the server was failed over, or recovered to a point in time: its timeline was "
            f"{state.noted[0].timeline} and is now {state.present.timeline}",
        )
    if ids.run_out or (ids.newest_id or 0) > LAST_ID:
        yield _beyond(trail, ids)
    elif ids.behind:
        given_again = f"; {ids.disordered} events have such ids" if ids.disordered else ""
        yield finding(
            FindingKind.SEQUENCE_BEHIND,
            Severity.ERROR,
            f"the next event gets the id {ids.next_id}, and the highest is {ids.newest_id}{given_again}",
        )
    if ids.doubled:
        yield finding(
            FindingKind.EVENT_IDS_DOUBLED,
            Severity.ERROR,
            f"{ids.doubled} ids are used by several events, the first is {ids.first_doubled}: "
            "their histories run backwards",
        )


def _beyond(trail: str, ids: Ids) -> Finding:
    """An id that no sequence comes to: by setval(), or of an event that was inserted by hand."""
    if not ids.run_out:
        detail = (
            f"an event has the id {ids.newest_id}, which did not come from the sequence: it "
            "was inserted by hand"
        )
        remedy = "find out who inserted it; leave the sequence as it is"
    else:
        detail = (
            f"somebody set the id sequence: the next id is {ids.next_id} of {2**63 - 1}, "
            "and after the last one every write to an audited table fails"
        )
        sequence = quote_literal(f"{trail}_event_id_seq")
        last = f"coalesce(max(event_id) filter (where event_id < {LAST_ID}), 1)"
        remedy = psql_command(f"select setval({sequence}, {last}) from {trail}")  # noqa: S608 - a remedy
    return Finding(
        kind=FindingKind.IDS_RUN_OUT,
        severity=Severity.ERROR,
        subject=trail,
        message=detail,
        remedy=remedy,
    )


def _how_moved(state: TrailLocation) -> str:
    present = state.present
    if not state.noted:
        return "it does not know which cluster and database it is in"
    if len(state.noted) > 1:
        return "events of a trail from another place were restored into it"
    noted = state.noted[0]
    if present.system_identifier != noted.system_identifier:
        return (
            f"it was moved from another cluster (system identifier {noted.system_identifier}, "
            f"now {present.system_identifier}): transaction numbers may repeat"
        )
    if present.database_oid != noted.database_oid:
        return f"it was moved here from another database, {noted.database_name}"
    return "it was restored over the existing trail"


def adopt_command(schema: str, *, renumber: bool = False) -> str:
    """The command that makes the trail go on where it is."""
    words = ["audit", "adopt", *(["--renumber"] if renumber else []), "--reason", "REASON"]
    return shlex.join([*words, *(["--audit-schema", schema] if schema != "audit" else [])])


def interruption_findings(tables: Sequence[QualifiedName]) -> Iterator[Finding]:
    """Capture that is on, and was off for a while."""
    for table in tables:
        yield Finding(
            kind=FindingKind.CAPTURE_INTERRUPTED,
            severity=Severity.ERROR,
            subject=str(table),
            message="a trigger was disabled or changed since capture was installed: changes made "
            "meanwhile are unknown",
            remedy=shlex.join(["audit", "resume", "--table", table.plain, "--reason", "REASON"]),
        )


def registry_findings(objects: TrailObjects, found: Unregistered) -> Iterator[Finding]:
    """Capture that somebody took out of the registry, with or without its triggers."""
    on = set()
    for function in objects.functions:
        table = objects.captured_by(function) if function.name in found.functions else None
        if table is not None:
            on.add(table)
            options = parse_comment(function.comment).get("options", {})
            message = (
                "it has capture triggers, and its row of captured_tables was removed: a rename, or "
            )
            message += "triggers that were off for a while, would not be noticed"
            yield _unregistered(table, message, options)
    for one in found.tables:
        if one.table not in on:
            message = f"it is captured, says event {one.event_id}; nothing captures it, and no event says why"
            yield _unregistered(one.table, message, one.options)


def _unregistered(table: QualifiedName, message: str, options: Mapping[str, Any]) -> Finding:
    return Finding(
        kind=FindingKind.CAPTURE_UNREGISTERED,
        severity=Severity.ERROR,
        subject=str(table),
        message=message,
        remedy=install_command(table, options) + " --upgrade",
    )


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, and each remedy before those that rely on it.

    Statements come before commands; and capture that is off is switched on before an upgrade, which would
    refuse it, or an installation, which would leave nothing to resume.
    """
    return sorted(findings, key=_order)


def _order(finding: Finding) -> tuple[bool, bool, bool]:
    remedy = finding.remedy
    is_resume = remedy.startswith("audit resume ")
    return finding.severity is Severity.WARNING, remedy.startswith("audit "), not is_resume


def subscriber_findings(objects: TrailObjects, subscribed: Subscribed) -> Iterator[Finding]:
    """Capture of what arrives by logical replication, beside the trail that arrives or unseen."""
    captured = _captured(objects)
    trail_tables = {QualifiedName(objects.schema, table.name) for table in objects.tables}
    arriving = sorted(
        name for name in subscribed if name in trail_tables and _holds_events(name.name)
    )
    if arriving and captured:
        row = subscribed[arriving[0]]
        trail = QualifiedName(objects.schema, "logged_actions").sql
        yield Finding(
            kind=FindingKind.TRAIL_SUBSCRIBED,
            severity=Severity.ERROR,
            subject=str(arriving[0]),
            message=f"it receives the events of another server (subscription {row['subscription']}), "
            "and tables are captured here too: ids are used twice, and each replicated "
            "change has two events",
            remedy=(
                f"on the publisher: alter publication {quote_identifier(row['publications'][0])} "
                f"drop table {trail}; then here: "
            )
            + psql_command(
                f"alter subscription {quote_identifier(row['subscription'])} refresh publication"
            ),
        )
    for table, options in sorted(captured.items()):
        if table in subscribed and options.get("capture") == Capture.STATEMENT.value:
            yield Finding(
                kind=FindingKind.STATEMENT_ON_SUBSCRIBER,
                severity=Severity.ERROR,
                subject=str(table),
                message="it is replicated to this server, which does not run statement triggers for "
                "it: changes are not recorded",
                remedy=install_command(table, options | {"capture": Capture.ROW.value})
                + " --upgrade",
            )


def _holds_events(name: str) -> bool:
    return name.startswith("logged_actions") and not name.endswith("_seq")


def _captured(objects: TrailObjects) -> dict[QualifiedName, dict[str, Any]]:
    """The tables with triggers that fire, with their options."""
    firing = {trigger.function.name for trigger in objects.triggers if trigger.state in "AR"}
    found = {}
    for function in objects.functions:
        recorded = parse_comment(function.comment)
        if "table" in recorded and function.name in firing:
            name = objects.captured_by(function) or QualifiedName(*recorded["table"])
            found[name] = dict(recorded["options"])
    return found


def _read_subscribed(connection: Connection) -> Subscribed:
    return {
        QualifiedName(row["schema_name"], row["table_name"]): row
        for row in fetch(connection, query("subscribed"))
    }
