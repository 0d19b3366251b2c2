"""Reconciliation: a table against what its trail, replayed, says of it; and each event against the one before it.

One snapshot sees all of it (REPEATABLE READ): a change and its event are committed together, so writers may go on.
The server compares, and sends what differs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.capture import Target, check_condition
from audit_toolkit.catalog import Installed, Table, read_installed, read_relations, read_table
from audit_toolkit.completeness.continuity import (
    Break,
    Emptied,
    Reach,
    Step,
    different,
    find_breaks,
)
from audit_toolkit.completeness.coverage import read_registry
from audit_toolkit.config import Capture, TableRule
from audit_toolkit.connection import fetch, prepare_session, refusals
from audit_toolkit.errors import AuditError, RuleError
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import render
from audit_toolkit.trail.event import Row

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

FETCH_SIZE = 500
"""Rows that the server is asked for at a time."""
_LAST = 2**63 - 1
_SHOWN = 60
"""Characters of a value that a message shows."""


class Outcome(StrEnum):
    """What came of one table."""

    EQUAL = "equal"
    DIFFERENT = "different"
    NOT_RECONCILED = "not reconciled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What came of one table; `findings` are the first of each kind, and `counts` has how many there are."""

    table: QualifiedName
    outcome: Outcome
    rows: int | None = None
    events: int | None = None
    counts: Mapping[FindingKind, int] = field(default_factory=dict)
    """How many of each kind of finding there are."""
    notes: tuple[str, ...] = ()
    """How far it could be compared, and what explains a difference."""
    findings: tuple[Finding, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        return {
            "table": str(self.table),
            "outcome": self.outcome.value,
            "rows": self.rows,
            "events": self.events,
            "notes": list(self.notes),
            "counts": {kind.value: count for kind, count in self.counts.items()},
            "findings": [finding.as_dict() for finding in self.findings],
        }


@contextmanager
def one_snapshot(connection: Connection) -> Iterator[None]:
    """A transaction whose statements all see the same moment, and which changes nothing."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        prepare_session(connection)
        # prepare_session() lets sessions write, which this one has no need of.
        connection.execute("set local transaction_read_only = on")
        yield


def reconcile(
    connection: Connection,
    tables: Iterable[QualifiedName],
    schema: str,
    *,
    limit: int = 10,
) -> Iterator[Reconciliation]:
    """Compare tables with their trail, one after the other, within `one_snapshot`.

    Of each kind of finding the first `limit` of a table are named, and all are counted. Memory does not grow with
    the size of the table. Raises what psycopg raises where this role may not read the trail.
    lock: ACCESS SHARE on the table.
    """
    installed = {one.table: one for one in read_installed(connection, schema)}
    functions = {one.function for one in installed.values()}
    registered = read_registry(connection, schema) or {}
    # Tables in the registry without a capture function have lost it.
    lost = [name for name, entry in registered.items() if entry.function not in functions]
    wanted = list(tables) or sorted({*installed, *lost})
    relations = {
        relation.name: relation
        for relation in read_relations(connection, {name.name for name in wanted})
    }
    left = _left_until(connection, schema)
    for name in wanted:
        if name not in relations or name not in installed:
            yield _not_reconciled(
                name, "it is not audited", remedy=f"audit install --table {name.plain}"
            )
            continue
        table = read_table(connection, relations[name])
        try:
            compared = _prepare(connection, table, installed[name], schema, left=left, limit=limit)
        except _NotComparableError as error:
            yield _not_reconciled(name, error.why, remedy=error.remedy)
            continue
        try:
            with connection.transaction(), refusals():
                done = compared.run()
        except AuditError as error:
            # The whole row is missing before an update of which only what it changed was stored.
            done = _not_reconciled(name, error.message, remedy="audit verify")
        yield done


class _NotComparableError(Exception):
    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


def _not_reconciled(table: QualifiedName, why: str, *, remedy: str) -> Reconciliation:
    finding = Finding(
        kind=FindingKind.NOT_RECONCILED,
        severity=Severity.WARNING,
        subject=str(table),
        message=f"not compared with the trail: {why}",
        remedy=remedy,
    )
    return Reconciliation(
        table=table,
        outcome=Outcome.NOT_RECONCILED,
        counts={finding.kind: 1},
        findings=(finding,),
    )


def _left_until(connection: Connection, schema: str) -> datetime | None:
    [row] = fetch(connection, render("reconcile/left", schema=schema))
    until: datetime | None = row["until"]
    return until


def _prepare(
    connection: Connection,
    table: Table,
    installed: Installed,
    schema: str,
    *,
    left: datetime | None,
    limit: int,
) -> _Compared:
    rule = TableRule.from_dict(installed.options)
    target = Target(table=table, rule=rule, function_name=installed.function)
    values = target.values(schema)
    [facts] = fetch(connection, render("reconcile/facts", **values))
    if not facts["may_read"]:
        raise _NotComparableError(
            "this role may not read it", f"grant select on {table.name} to the role"
        )
    if facts["rows_are_hidden"]:
        raise _NotComparableError(
            "row security hides rows from this role", "run it as a role with BYPASSRLS"
        )
    recorded = json.loads(installed.comment).get("key")
    if recorded is not None and not target.has_key(tuple(recorded), installed.numbering):
        raise _NotComparableError(
            "its primary key has changed since capture was installed",
            f"audit install --table {table.name.plain}",
        )
    if gone := [column for column in target.hidden if table.column(column) is None]:
        raise _NotComparableError(
            f"its hidden column {gone[0]!r} is gone or was renamed", "audit check"
        )
    try:
        check_condition(connection, table, rule, schema)
    except RuleError as error:
        raise _NotComparableError(
            f"its condition cannot be evaluated: {error}", "audit check"
        ) from None
    computed = [column.name for column in table.columns if column.generated]
    left_out = sorted({*target.hidden, *facts["disguised"], *computed} - set(table.key))
    asked = values | {"left_out": left_out, "names": facts["names"]}
    marks = _read_marks(connection, asked, facts["retyped"])
    is_left = left is not None and (facts["whole_since"] is None or facts["whole_since"] < left)
    return _Compared(
        connection=connection,
        target=target,
        values=asked,
        marks=marks,
        reach=Reach(
            whole_after=None if is_left or facts["has_other_partitions"] else facts["whole_after"],
            gaps=marks.gaps,
            attached=marks.attached,
            detached=marks.detached,
        ),
        left=left if is_left else None,
        limit=limit,
        hidden=tuple(c for c in left_out if c not in computed),
        computed=tuple(computed),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marks:
    """The events about a table as a whole, by what they mean for its rows."""

    emptied: tuple[int, ...]
    gaps: tuple[int, ...]
    attached: tuple[int, ...]
    detached: tuple[int, ...]
    columns: tuple[tuple[int, frozenset[str]], ...]
    """What DDL changed: the event that says so, and the columns as they are called now."""

    def changed_since(self, event_id: int) -> frozenset[str]:
        """The columns that DDL changed after an event."""
        found = (columns for at, columns in self.columns if at > event_id)
        return frozenset().union(*found)


def _read_marks(
    connection: Connection, values: Mapping[str, Any], retyped: Sequence[str]
) -> _Marks:
    emptied, gaps, attached, detached = [], [], [], []
    columns = [(_LAST, frozenset(retyped))]
    masked = frozenset[str]()
    for row in fetch(connection, render("reconcile/marks", **values)):
        said, at = json.loads(row["said"] or "{}"), row["event_id"]
        match row["action"], said:
            case "T", _:
                emptied.append(at)
            case "G", _:
                gaps.append(at)
            case "M", {"change": "dropped"}:
                emptied.append(at)
            case "M", {"change": "partitions"}:
                attached += [at] if said.get("attached") else []
                detached += [at] if said.get("detached") else []
            case "M", {"change": "capture", "options": dict(options)}:
                # A value masked before may differ in the trail from what masking would give now.
                columns.append((at, masked))
                masked = frozenset(map(str, options.get("mask") or ()))
            case "M", {"change": "columns"}:
                columns.append((at, _changed_columns(said, json.loads(row["columns"] or "{}"))))
    columns.append((_LAST, masked))
    return _Marks(
        emptied=tuple(emptied),
        gaps=tuple(gaps),
        attached=tuple(attached),
        detached=tuple(detached),
        columns=tuple(columns),
    )


def _changed_columns(said: Mapping[str, Any], called: Mapping[str, Any]) -> frozenset[str]:
    names = {name for what in ("retyped", "added", "dropped") for name in said.get(what) or ()}
    return frozenset(names | {called[name]["now"] for name in names if name in called})


@dataclass(slots=True, kw_only=True)
class _Found:
    """Findings of a table: all are counted, the first of each kind are kept."""

    limit: int
    counts: Counter[FindingKind] = field(default_factory=Counter)
    kept: list[Finding] = field(default_factory=list)
    redacted: tuple[str, ...] = ()
    """Columns of a table without a key that are left out, as values of them were redacted."""

    def wants(self, kind: FindingKind) -> bool:
        """Count one more, and say whether it is to be named."""
        self.counts[kind] += 1
        return self.counts[kind] <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    connection: Connection
    target: Target
    values: Mapping[str, Any]
    marks: _Marks
    reach: Reach
    left: datetime | None
    """Up to when events have left, where that may be why a row has none."""
    limit: int
    hidden: tuple[str, ...]
    computed: tuple[str, ...]

    def run(self) -> Reconciliation:
        """Compare rows and events."""
        found = _Found(limit=self.limit)
        explained: Counter[str] = Counter()
        if self.target.table.key:
            self._compare_rows(found, explained)
            if not self.target.rule.when:
                self._follow_events(found)
        else:
            self._compare_copies(found)
        [counts] = fetch(self.connection, self._render("reconcile/counts"))
        return Reconciliation(
            table=self.target.table.name,
            outcome=Outcome.DIFFERENT if found.counts else Outcome.EQUAL,
            rows=counts["rows"],
            events=counts["events"],
            counts=dict(found.counts),
            notes=tuple(self._notes(counts, explained, found.redacted)),
            findings=tuple(found.kept),
        )

    # -- rows -----------------------------------------------------------------------------------------

    def _compare_rows(self, found: _Found, explained: Counter[str]) -> None:
        for key, known, present in self._stream("audit_rows", self._render("reconcile/compare")):
            last, action = self._last_event(key)
            if last is None:
                self._judge_unknown(found, explained, key)
                continue
            was = None if known is None else exact_json.loads(known)
            now = None if present is None else exact_json.loads(present)
            columns = different(now, was, self.marks.changed_since(last))
            if was is not None and now is not None and not columns:
                explained["DDL"] += 1
            elif any(gap > last for gap in self.marks.gaps):
                self._add_in_gap(found, key, last)
            elif now is None and any(at > last for at in self.marks.detached):
                explained["partitions"] += 1
            elif found.wants(kind := _kind(was, now)):
                found.kept.append(self._row_finding(kind, key, last, action, was, now, columns))

    def _judge_unknown(self, found: _Found, explained: Counter[str], key: str) -> None:
        if self.reach.whole_after is None and self.left is not None:
            explained["retention"] += 1
            return
        if not found.wants(FindingKind.ROW_UNKNOWN):
            return
        if (whole := self.reach.whole_after) is not None and not any(
            at > whole for at in self.marks.attached
        ):
            severity = Severity.ERROR
            why = f"the trail has no event of it, and had one of every row after event {whole}"
            remedy = "find out who wrote it with capture off; " + self._baseline
        else:
            severity = Severity.WARNING
            why = (
                "the trail has no event of it: it is older than capture, or came while capture was off "
                "or with a partition"
            )
            remedy = self._baseline
        found.kept.append(self._finding(FindingKind.ROW_UNKNOWN, severity, key, why, remedy))

    def _add_in_gap(self, found: _Found, key: str, last: int) -> None:
        if found.wants(FindingKind.CHANGED_IN_GAP):
            gap = max(self.marks.gaps)
            why = f"it is not as event {last} left it; capture was off in between (event {gap})"
            found.kept.append(
                self._finding(
                    FindingKind.CHANGED_IN_GAP, Severity.WARNING, key, why, self._baseline
                )
            )

    def _row_finding(
        self,
        kind: FindingKind,
        key: str,
        last: int,
        action: str,
        was: Row | None,
        now: Row | None,
        columns: Sequence[str],
    ) -> Finding:
        if kind == FindingKind.ROW_MISSING:
            why = f"event {last} is the last of it, and leaves a row that the table does not have"
        elif kind == FindingKind.ROW_REAPPEARED:
            how = "deletes it" if action == "D" else "leaves no row"
            why = f"event {last} is the last of it, and {how}; the table has the row"
        else:
            why = (
                f"it is not as event {last} left it: {_values(columns, was, now, 'trail', 'table')}"
            )
        return self._finding(kind, Severity.ERROR, key, why, self._history(key))

    def _compare_copies(self, found: _Found) -> None:
        if (
            self.marks.gaps
            or self.marks.attached
            or self.marks.detached
            or self.left
            or self.reach.whole_after is None
        ):
            # Identical rows cannot be distinguished: one missing event would shift all others.
            found.counts[FindingKind.NOT_RECONCILED] += 1
            found.kept.append(
                self._finding(
                    FindingKind.NOT_RECONCILED,
                    Severity.WARNING,
                    None,
                    "it has no primary key, and the trail does not have all that ever happened to its rows",
                    f"add a primary key, then {self._baseline}",
                )
            )
            return
        changed = sorted(self.marks.changed_since(0))
        emptied = max(self.marks.emptied, default=0)
        asked = self._render("reconcile/redacted_columns", emptied=emptied)
        found.redacted = tuple(row["column"] for row in fetch(self.connection, asked))
        sql = self._render(
            "reconcile/compare_copies",
            emptied=emptied,
            left_out=[*self.values["left_out"], *changed, *found.redacted],
        )
        for _, image, more in self._stream("audit_copies", sql):
            kind = FindingKind.ROW_UNKNOWN if more > 0 else FindingKind.ROW_MISSING
            if found.wants(kind):
                side = "more than its events say" if more > 0 else "fewer than its events say"
                why = f"the table has {abs(more)} rows {side} that are {_cut(image)}"
                found.kept.append(
                    self._finding(kind, Severity.ERROR, None, why, self._history(None))
                )

    # -- events ---------------------------------------------------------------------------------------

    def _follow_events(self, found: _Found) -> None:
        marks = sorted({*self.marks.emptied, *self.reach.gaps})
        sql = self._render("reconcile/suspects", marks=marks)
        for (key,) in self._stream("audit_suspects", sql):
            for broken in find_breaks(self._history_of(key), self.reach, self.marks.changed_since):
                if found.wants(FindingKind.EVENT_OUT_OF_LINE):
                    found.kept.append(self._break_finding(key, broken))

    def _history_of(self, key: str) -> Iterator[Step | Emptied]:
        waiting = list(self.marks.emptied)
        sql = self._render("reconcile/events_of_key", key=key)
        for row in self._stream("audit_events", sql):
            event_id, action, row_key, old_row_key, transaction, old, new = row
            while waiting and waiting[0] < event_id:
                yield Emptied(event_id=waiting.pop(0))
            before = None if old is None else exact_json.loads(old)
            after = None if new is None else exact_json.loads(new)
            if action == "U" and after is not None:
                after = _in_order_of(before, after)
            arrives, leaves = row_key == key, old_row_key == key
            yield Step(
                event_id=event_id,
                transaction=transaction,
                action=action,
                takes=None if action == "S" or (arrives and old_row_key is not None) else before,
                brings=None if leaves and not arrives else after,
            )

    def _break_finding(self, key: str, broken: Break) -> Finding:
        event = broken.event_id
        if broken.previous is None:
            why = f"event {event} finds a row there, and the trail has no event before it that brought it"
        elif broken.found is None:
            why = f"event {event} brings a row that was there already, by event {broken.previous}"
        elif broken.left is None:
            why = f"event {event} finds a row there, and event {broken.previous} left none"
        else:
            values = _values(broken.columns, broken.left, broken.found, "left", "found")
            why = f"event {event} does not find what event {broken.previous} left: {values}"
        return self._finding(
            FindingKind.EVENT_OUT_OF_LINE, Severity.ERROR, key, why, self._history(key)
        )

    # -- words ----------------------------------------------------------------------------------------

    def _notes(
        self, counts: Mapping[str, Any], explained: Counter[str], redacted: Sequence[str]
    ) -> Iterator[str]:
        left_out = {
            "hidden columns": self.hidden,
            "computed columns": self.computed,
            "columns with redacted values": redacted,
        }
        for what, columns in left_out.items():
            if columns:
                yield f"{what} are not compared: {', '.join(columns)}"
        if not self.target.table.key:
            yield "it has no primary key: rows were counted, and events not followed row by row"
        if self.target.rule.when:
            yield "it records some rows only (--when): those that it has now were compared, and events not followed"
        if self.target.table.key and self.reach.whole_after is None and not explained["retention"]:
            yield "rows may be older than the trail: an event that is missing at the beginning of a row is not noticed"
        if self.target.table.key and counts["without_key"]:
            yield f"{counts['without_key']} events do not say which row they are about, and were not followed"
        if explained["DDL"]:
            yield f"{explained['DDL']} rows differ in columns that DDL changed since their last event"
        if explained["partitions"]:
            yield f"{explained['partitions']} rows came or went with a partition"
        if explained["retention"]:
            yield (
                f"{explained['retention']} rows have no event: "
                f"those of before {self.left:%Y-%m-%d} have left the trail"
            )

    @property
    def _baseline(self) -> str:
        return f"audit baseline --table {self.target.table.name.plain}"

    def _history(self, key: str | None) -> str:
        import shlex

        table = self.target.table.name.plain
        return shlex.join(["audit", "history", table, *([] if key is None else [key])])

    def _finding(
        self, kind: FindingKind, severity: Severity, key: str | None, message: str, remedy: str
    ) -> Finding:
        name = str(self.target.table.name)
        if self.target.rule.capture is Capture.WAL:
            remedy = (
                f"first read what is still in the WAL: audit capture run --once; then: {remedy}"
            )
        return Finding(
            kind=FindingKind(kind),
            severity=severity,
            subject=name if key is None else f"{name} {key}",
            message=message,
            remedy=remedy,
        )

    # -- the server -----------------------------------------------------------------------------------

    def _render(self, template: str, **more: Any) -> str:
        return render(template, **(dict(self.values) | more))

    def _last_event(self, key: str) -> tuple[int | None, str]:
        rows = fetch(self.connection, self._render("reconcile/last_event", key=key))
        return (rows[0]["event_id"], rows[0]["action"]) if rows else (None, "")

    def _stream(self, name: str, sql: str) -> Iterator[tuple[Any, ...]]:
        with self.connection.cursor(name) as cursor:
            cursor.itersize = FETCH_SIZE
            cursor.execute(sql)
            yield from cursor


def _kind(was: Row | None, now: Row | None) -> FindingKind:
    if now is None:
        return FindingKind.ROW_MISSING
    return FindingKind.ROW_REAPPEARED if was is None else FindingKind.ROW_DIFFERS


def _in_order_of(before: Row | None, changed: Row) -> Row:
    """The whole image after an update; with --store changes the event holds only what changed."""
    return (before or {}) | changed


def _values(
    columns: Sequence[str], one: Row | None, other: Row | None, one_is: str, other_is: str
) -> str:
    said = (
        f"{column} {one_is} {_cut(exact_json.dumps((one or {}).get(column)))}, "
        f"{other_is} {_cut(exact_json.dumps((other or {}).get(column)))}"
        for column in columns
    )
    return "; ".join(said)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
