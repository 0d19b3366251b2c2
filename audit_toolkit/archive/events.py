"""Events that have left the database, from the archive, by rising id."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from audit_toolkit.archive.full_images import Place, Whole
from audit_toolkit.archive.manifest import MOST_BYTES, Manifest, difference
from audit_toolkit.archive.query import VIEW, opened
from audit_toolkit.archive.store import Store, split_address
from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError
from audit_toolkit.templates import render
from audit_toolkit.trail import Event

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

ROWS_AT_ONCE = 2000
MEMORY = "512MB"
"""What sorting takes at most; the rest is in files, for as long as it lasts."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAMES = tuple(field.name for field in fields(Event) if field.compare)  # the columns


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedEvents:
    """The events of all partitions that are archived and no longer part of the trail."""

    store: Store
    files: tuple[str, ...]
    last: int
    """The highest id among them; 0 without any."""
    lost: tuple[str, ...] = ()
    """Partitions that were dropped without an archive: nobody has their events any more."""

    def read(self, after: int) -> Iterator[Event]:
        """Those behind an event, by rising id, with whole rows; memory does not grow with them.

        Raises `AuditError` where only what an event changed was stored, and the event before it is missing.
        """
        if after >= self.last:
            return
        with (
            tempfile.TemporaryDirectory(prefix="audit-toolkit-") as directory,
            opened(self.store, self.files) as connection,
        ):
            connection.execute(f"set memory_limit = '{MEMORY}'")
            connection.execute(f"set temp_directory = '{directory}'")
            whole = Whole(partial(_before, connection))
            result = connection.execute(
                f"select {event_columns()} from {VIEW} where event_id > ? order by event_id",  # noqa: S608 - names of ours
                [after],
            )
            while rows := result.fetchmany(ROWS_AT_ONCE):
                yield from whole.complete(list(map(as_event, rows)))


def _before(connection: Any, places: Sequence[Place], event_id: int) -> Iterator[Event]:
    """The events of these rows before that one."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"select {event_columns()} from {VIEW} where event_id < ?"  # noqa: S608 - names of ours
            " and (schema_name, table_name, row_key) in (select unnest(?), unnest(?), unnest(?)) order by event_id",
            [event_id, *map(list, zip(*places, strict=True))],
        )
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            yield from map(as_event, rows)


def archived_events(connection: Connection, store: Store, schema: str) -> ArchivedEvents:
    """The events that have left this database, as its own record of archived partitions names them.

    Raises `AuditError` where a partition is detached and not archived yet, or a manifest is not the one that the
    database recorded.
    """
    files: dict[str, None] = {}
    lost = []
    for entry in fetch(connection, render("partitions/entries", schema=schema)):
        if entry["state"] not in ("detached", "dropped"):
            continue
        if entry["archive"]:
            files |= dict.fromkeys(file.path for file in read_recorded(store, entry).files)
        elif entry["state"] == "dropped":
            lost.append(entry["name"])
        else:
            raise AuditError(
                f"the partition {entry['name']} is detached, and not archived yet: its events would be left out",
                hint=f"archive it first: audit archive run --archive {store.url}",
            )
    last = _last(store, tuple(files)) if files else 0
    return ArchivedEvents(store=store, files=tuple(files), last=last, lost=tuple(lost))


def read_recorded(store: Store, entry: dict[str, Any]) -> Manifest:
    """The manifest of a partition; raises `AuditError` where it is not the one that the database recorded."""
    _, name = split_address(entry["archive"])
    manifest = Manifest.from_bytes(store.read_bytes(name, most=MOST_BYTES), name)
    digest, recorded = entry["archive_digest"], entry["archive_manifest"]
    if what := difference(manifest, digest=digest, recorded=recorded):
        raise AuditError(
            f"{entry['name']}: {what} differs from the one that this database recorded",
            hint="for details, run: audit archive verify",
        )
    return manifest


def _last(store: Store, files: tuple[str, ...]) -> int:
    with opened(store, files) as connection:
        return int(connection.execute(f"select max(event_id) from {VIEW}").fetchone()[0] or 0)  # noqa: S608 - names of ours


def event_columns() -> str:
    """What DuckDB is asked for, for `as_event`."""
    return ", ".join(
        "epoch_us(action_tstamp) as action_tstamp" if name == "action_tstamp" else name
        for name in _NAMES
    )


def as_event(row: tuple[Any, ...]) -> Event:
    """An event of the columns of `event_columns`."""
    values = dict(zip(_NAMES, row, strict=True))
    values["action_tstamp"] = _EPOCH + timedelta(microseconds=values["action_tstamp"])
    return Event.from_record(values)
