"""What did not match: legal, a finding, or not to be judged. Asks the trail what rows were before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.findings import FindingKind
from audit_toolkit.names import Sql
from audit_toolkit.templates import render
from audit_toolkit.wal import lsn_text
from audit_toolkit.witness.findings import Found, of_rows
from audit_toolkit.witness.match import Leftovers, OfTrail, Written, agree, differing_columns
from audit_toolkit.witness.tables import Watched
from audit_toolkit.witness.values import Image, image_text, read_image

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_AT_ONCE = 500
"""Rows for which the trail is asked at a time."""


@dataclass(frozen=True, slots=True)
class _Before:
    """What the trail says of a row before a change."""

    image: Image
    is_reshaped: bool = False
    """Whether DDL came in between."""


class Judge:
    """Judges one transaction after the other."""

    def __init__(self, connection: Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema

    def judge(self, left: Leftovers) -> Iterator[Found]:
        """The findings of a transaction; what cannot be judged is added to its counts."""
        groups: defaultdict[tuple[int, str], list[Written]] = defaultdict(list)
        for one in left.written:
            groups[one.table.oid, one.action].append(one)
        for changes in groups.values():
            missing = self._without_events(left, changes)
            yield from self._of_rows(
                left, FindingKind.CHANGE_WITHOUT_EVENT, [(one, ()) for one in missing]
            )
        yield from self._of_rows(
            left,
            FindingKind.EVENT_DIFFERS,
            [(change, (event.event_id,)) for change, event in left.differing],
            sorted({name for pair in left.differing for name in differing_columns(*pair)}),
        )
        yield from self._of_rows(
            left, FindingKind.EVENT_WITHOUT_CHANGE, [(one, (one.event_id,)) for one in left.told]
        )
        for kind, tables in (
            (FindingKind.CHANGE_WITHOUT_EVENT, left.truncated),
            (FindingKind.EVENT_WITHOUT_CHANGE, left.not_truncated),
        ):
            for table in tables:
                yield self._found(left, kind, table, "T", [None])
        yield from self._of_trail(left)
        for table in left.silenced:
            if self._has_events(table):
                yield Found(
                    kind=FindingKind.CHANGE_WITHOUT_EVENT,
                    subject=str(table.name),
                    message="the registry of captured tables lost it, and no event says that capture ended "
                    f"(transaction {left.xid}, at {lsn_text(left.commit_lsn)})",
                    operation=None,
                    xid=left.xid,
                    committed_at=left.committed_at,
                    lsn=lsn_text(left.commit_lsn),
                    remedy="find out who did it (audit check), then install capture again",
                )

    def _of_rows(
        self,
        left: Leftovers,
        kind: FindingKind,
        found: Sequence[tuple[Any, tuple[int, ...]]],
        columns: Sequence[str] = (),
    ) -> Iterator[Found]:
        groups: defaultdict[tuple[int, str], list[tuple[Any, tuple[int, ...]]]] = defaultdict(list)
        for one, events in found:
            groups[one.table.oid, one.action].append((one, events))
        for group in groups.values():
            first = group[0][0]
            keys = [_shown_key(one) for one, _ in group]
            events = tuple(number for _, numbers in group for number in numbers)
            yield self._found(left, kind, first.table, first.action, keys, events, columns)

    def _found(
        self,
        left: Leftovers,
        kind: FindingKind,
        table: Watched,
        action: str,
        keys: list[str | None],
        events: tuple[int, ...] = (),
        columns: Sequence[str] = (),
    ) -> Found:
        return of_rows(
            kind,
            str(table.name),
            action,
            keys,
            xid=left.xid,
            commit_lsn=left.commit_lsn,
            committed_at=left.committed_at,
            event_ids=events,
            columns=tuple(columns),
        )

    def _of_trail(self, left: Leftovers) -> Iterator[Found]:
        groups: defaultdict[str, list[OfTrail]] = defaultdict(list)
        for one in left.of_trail:
            groups[one.action].append(one)
        at = f"transaction {left.xid}, at {lsn_text(left.commit_lsn)}"
        for action, events in groups.items():
            kind, words = _OF_TRAIL[action]
            numbers = tuple(one.event_id for one in events)
            shown = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
            what = f"events {shown}" if len(numbers) > 1 else f"event {shown}"
            if action == "T":
                what = "partition " + ", ".join(sorted(one.table for one in events)[:10])
            keys = [f"{one.table} {one.key or ''}".strip() for one in events if one.table]
            yield Found(
                kind=kind,
                subject=f"{self._schema}.logged_actions",
                message=f"{what} {words} ({at})",
                operation={"U": "update", "D": "delete", "T": "truncate", "I": "insert"}[action],
                keys=tuple(sorted(keys)[:10]),
                count=len(events),
                xid=left.xid,
                committed_at=left.committed_at,
                lsn=lsn_text(left.commit_lsn),
                event_ids=numbers[:10],
                remedy="find out who did it, and what it was: audit verify",
            )

    def _has_events(self, table: Watched) -> bool:
        sql = render("witness/has_events", schema=self._schema, table=table.name)
        return bool(fetch(self._connection, sql)[0]["has_events"])

    # changes without an event

    def _without_events(self, left: Leftovers, changes: list[Written]) -> list[Written]:
        """Those of them that should have one. All are of one table, and alike."""
        missing: list[Written] = []
        for start in range(0, len(changes), _AT_ONCE):
            missing += self._some_without_events(left, changes[start : start + _AT_ONCE])
        return missing

    def _some_without_events(self, left: Leftovers, changes: list[Written]) -> list[Written]:
        table, action = changes[0].table, changes[0].action
        if table.when is None and (action != "U" or table.log_unchanged):
            return changes
        before: list[_Before | str | None] = [_own_before(change) for change in changes]
        unknown = [n for n, was in enumerate(before) if was is None] if action in "UD" else []
        if unknown:
            asked = self._before(left, table, [changes[number] for number in unknown])
            for number, was in zip(unknown, asked, strict=True):
                before[number] = was
        suspects: list[tuple[Written, list[Image]]] = []
        for change, was in zip(changes, before, strict=True):
            verdict = was if isinstance(was, str) else _verdict(change, was)
            if isinstance(verdict, str):
                left.unjudged[str(table.name), verdict] += 1
            elif verdict and not isinstance(was, str):
                images: list[Image] = [was.image] if was else []
                if change.after is not None:
                    images.append(change.image(change.after))
                suspects.append((change, images))
        if table.when is None:
            return [change for change, _ in suspects]
        return self._meeting(left, table, suspects)

    def _meeting(
        self, left: Leftovers, table: Watched, suspects: list[tuple[Written, list[Image]]]
    ) -> list[Written]:
        """Those of which an image meets the condition of the table."""
        images = [image for _, given in suspects for image in given]
        if not images:
            return []
        errors = import_psycopg()
        sql = render(
            "witness/meets",
            table=table.name,
            condition=Sql((table.when or "true").replace("%", "%%")),
        )
        try:
            with self._connection.transaction():
                values = {"images": [image_text(image) for image in images]}
                rows = fetch(self._connection, sql, values)
        except errors.Error:
            left.unjudged[str(table.name), "its condition cannot be evaluated now"] += len(suspects)
            return []
        met = {row["number"] for row in rows}
        found, number = [], 0
        for change, given in suspects:
            if met.intersection(range(number + 1, number + len(given) + 1)):
                found.append(change)
            number += len(given)
        return found

    def _before(
        self, left: Leftovers, table: Watched, changes: list[Written]
    ) -> list[_Before | str | None]:
        """What the trail says of the rows; None where it says nothing, or why it does not help."""
        asked = [change.was for change in changes]
        values = {
            "oid": table.oid,
            "schema_name": table.schema,
            "table_name": table.table,
            "transaction_id": str(left.xid),
            "moment": left.committed_at,
        }
        psycopg = import_psycopg()
        try:
            with self._connection.transaction():
                rows = self._ask(values | {"keys": asked})
        except psycopg.Error:
            if len(changes) == 1:
                return [None]  # what is left of the trail does not reach so far
            return [found for change in changes for found in self._before(left, table, [change])]
        return [self._as_before(left, table, row) for row in rows]

    def _as_before(
        self, left: Leftovers, table: Watched, row: dict[str, Any]
    ) -> _Before | str | None:
        if row["is_own"] and left.forgot:
            return "a row that a very large transaction changed more than once"
        image = read_image(row["before"])
        if image is None:
            return None
        return _Before(image, row["is_reshaped"] or not table.is_noted)

    def _ask(self, values: dict[str, Any]) -> list[dict[str, Any]]:
        return fetch(
            self._connection,
            render("witness/before", schema=self._schema.replace("%", "%%")),
            values,
        )


def _verdict(change: Written, was: _Before | None) -> bool | str:
    """Whether a change without an event is suspect, as far as the row goes; or why that cannot be told."""
    table = change.table
    if change.action == "I":
        return True
    if change.action == "D":
        return was is not None
    if change.before == change.after:
        return table.log_unchanged
    if was is None:
        if table.when is not None:
            return True  # suspect if the new row meets the condition
        return "a row that the trail does not know: take a baseline (audit baseline)"
    is_same = agree(change, was.image)
    if is_same:
        if table.masked:
            return "an update that changed nothing but, perhaps, a masked column"
        return table.log_unchanged
    if is_same is None or was.is_reshaped:
        return "an update after DDL that changed the table"
    return True


def _own_before(change: Written) -> _Before | None:
    """The old row, where the WAL has the whole of it."""
    image = change.old_image
    return None if image is None else _Before(image)


def _shown_key(one: Any) -> str | None:
    return one.key if one.table.key else None


_OF_TRAIL = {
    "U": (FindingKind.EVENT_CHANGED, "was changed, and no redaction says so"),
    "D": (FindingKind.EVENT_REMOVED, "was deleted from the trail"),
    "I": (FindingKind.EVENT_FORGED, "says it is of another transaction than the one that wrote it"),
    "T": (FindingKind.EVENT_REMOVED, "was truncated"),
}
