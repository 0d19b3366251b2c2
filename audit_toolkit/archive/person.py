"""What archives hold of a person: the events of rows that have left the database with their partition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.archive.events import as_event, event_columns, read_recorded
from audit_toolkit.archive.manifest import Manifest
from audit_toolkit.archive.query import VIEW, opened
from audit_toolkit.archive.redaction import linked_keys
from audit_toolkit.archive.store import Store
from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError
from audit_toolkit.exact_json import Json
from audit_toolkit.templates import render
from audit_toolkit.trail import Event
from audit_toolkit.trail.rows.table_names import TableName

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.trail import Subject
    from audit_toolkit.trail.revert.ordering import Reference

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class PersonArchive:
    """The archived partitions that a database knows of, for `events_of_person`."""

    parts: tuple[tuple[Store, tuple[str, ...]], ...] = ()
    """Each archive, with its files that hold events."""
    missing: tuple[str, ...] = field(default=())
    """What cannot be looked into, and why."""

    @classmethod
    def open(cls, connection: Connection, schema: str, url: str | None = None) -> PersonArchive:
        """The archives that the database recorded; one that was moved is at `url` now.

        What cannot be read is not an error: `missing` names it.
        """
        given = Store.open(url) if url else None
        files: dict[str, tuple[Store, dict[str, None]]] = {}
        missing = []
        for entry in fetch(connection, render("partitions/entries", schema=schema)):
            if entry["state"] not in ("detaching", "detached", "dropped"):
                continue
            if not entry["archive"]:
                missing.append(_without_archive(entry))
                continue
            try:
                store, manifest = _manifest_of(entry, given)
            except AuditError as error:
                missing.append(
                    f"{entry['name']} is archived at {entry['archive']}: {error.message}"
                )
                continue
            found = files.setdefault(store.root, (store, {}))[1]
            found |= dict.fromkeys(file.path for file in manifest.files)
        parts = tuple((store, tuple(paths)) for store, paths in files.values() if paths)
        return cls(parts, tuple(missing))

    def keys_of(self, subject: Subject) -> list[str]:
        """All keys of a table."""
        named, values = _named(subject.names)
        sql = f"select distinct unnest([row_key, old_row_key]) from {VIEW} where {named}"  # noqa: S608 - names of ours
        return sorted({k for rows in self._ask(sql, values) for (k,) in rows if k is not None})

    def events_of(
        self, subject: Subject, keys: Sequence[str], pairs: Sequence[tuple[str | None, str | None]]
    ) -> list[Event]:
        """The events of the rows that ever had one of these keys, or one that changes of keys lead to."""
        found = []
        named, values = _named(subject.names)
        changes = f"select distinct row_key, old_row_key from {VIEW} where old_row_key is not null and {named}"  # noqa: S608 - names of ours
        archived = [pair for rows in self._ask(changes, values) for pair in rows]
        wanted = sorted(linked_keys(keys, [*pairs, *archived]))
        asked = (
            f"select {event_columns()} from {VIEW} where {named} "  # noqa: S608 - names of ours
            "and (list_contains(?, row_key) or list_contains(?, old_row_key))"
        )
        for rows in self._ask(asked, [*values, wanted, wanted]):
            found += [as_event(row) for row in rows]
        return found

    def children(
        self, reference: Reference, names: Sequence[TableName], wanted: Sequence[Mapping[str, Json]]
    ) -> list[str]:
        """The keys of the rows of a table that had any of these values in the columns of a reference."""
        rows = []
        for name in names:
            paths = [_paths(name, column) for column in reference.columns]
            fields = [
                f"coalesce({', '.join(f'{image} -> ?' for _ in some)})"
                for image in ("old_row", "new_row")
                for some in paths
            ]
            named, values = _named([name])
            sql = f"select event_id, row_key, old_row_key, {', '.join(fields)} from {VIEW} where {named}"  # noqa: S608 - names of ours
            places = [path for some in paths for path in some]
            for found in self._ask(sql, [*places, *places, *values]):
                rows += found
        rows.sort(key=lambda row: row[0])
        return list(dict.fromkeys(_keys_with(rows, reference.columns, wanted)))

    def _ask(self, sql: str, values: Sequence[Any]) -> Iterator[list[tuple[Any, ...]]]:
        for store, paths in self.parts:
            with opened(store, paths) as lake:
                yield lake.execute(sql, values).fetchall()


def _without_archive(entry: Mapping[str, Any]) -> str:
    if entry["state"] == "dropped":
        return f"{entry['name']} was dropped and not archived: its events are gone"
    return f"{entry['name']} is detached and not archived yet: audit archive run"


def _manifest_of(entry: dict[str, Any], given: Store | None) -> tuple[Store, Manifest]:
    store, _ = Store.of(entry["archive"], given)
    manifest = read_recorded(store, entry)
    for file in manifest.files:
        if not store.has(file.path):
            raise AuditError(f"the file {file.path} is missing")
    return store, manifest


def _named(names: Sequence[TableName]) -> tuple[str, list[Any]]:
    """The events of rows of a table under its names, as a condition of DuckDB's."""
    one = "(schema_name = ? and table_name = ? and event_id > ? and event_id <= ?)"
    values = [v for n in names for v in (n.table.schema, n.table.name, n.after, n.until)]
    return f"row_key is not null and ({' or '.join(one for _ in names)})", values


def _paths(name: TableName, column: str) -> list[str]:
    """Where images under a name have a column of today, as JSON pointers."""
    former = name.columns if isinstance(name.columns, dict) else {}
    known = [one for one in former if name.column_now(one) == column]
    return [f"/{one.replace('~', '~0').replace('/', '~1')}" for one in [*known, column]]


def _keys_with(
    rows: Sequence[tuple[Any, ...]],
    columns: Sequence[str],
    wanted: Sequence[Mapping[str, Json]],
) -> Iterator[str]:
    """The keys of rows that had any of these values; an update may have stored only what it changed."""
    known: dict[str, dict[str, Json]] = {}
    for _, key, old_key, *fields in rows:
        before = known.pop(old_key or key, {}) | _image(columns, fields[: len(columns)])
        after = before | _image(columns, fields[len(columns) :])
        known[key] = after
        if any(_has(image, values) for values in wanted for image in (before, after)):
            yield key
            if old_key is not None:
                yield old_key


def _image(columns: Sequence[str], fields: Sequence[str | None]) -> dict[str, Json]:
    pairs = zip(columns, fields, strict=True)
    return {column: exact_json.loads(text) for column, text in pairs if text is not None}


def _has(image: Mapping[str, Json], values: Mapping[str, Json]) -> bool:
    return all(column in image and image[column] == value for column, value in values.items())
