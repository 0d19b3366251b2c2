"""Events of partitions that are still part of the trail, as Parquet: what is closed and new, each event once.

An export is noted in the database before its first file is written. A run that was killed is finished by the next one:
the events of a range never change, so what is there already stays, and what is missing is added. Whoever reads the
folder meanwhile has no event twice, and none vanishes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.archive.columns import NAMES
from audit_toolkit.archive.exports import (
    Exported,
    Pending,
    ranges_of,
    read_exports,
    save_exports,
    widest,
)
from audit_toolkit.archive.manifest import (
    Manifest,
    Origin,
    Range,
    fingerprint,
    newest,
    read_manifests,
)
from audit_toolkit.archive.origin import read_origin, require_own
from audit_toolkit.archive.store import EVENTS, FOLDER, Store, is_unfinished
from audit_toolkit.archive.unfinished import require_finished
from audit_toolkit.archive.verify import Progress, read_back, unwatched
from audit_toolkit.archive.watermark import find_reach
from audit_toolkit.archive.write import Names, Selection, make_manifest, write_files
from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions import (
    Entry,
    Leaf,
    Partitions,
    PartitionState,
    is_standby,
    read_partitions,
)
from audit_toolkit.templates import render
from audit_toolkit.trail.history.follow import Blocker

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

WAIT = 10.0
"""Seconds that running transactions are given to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveExport:
    """What a run exported."""

    manifests: tuple[Manifest, ...] = ()
    reach: int | None = None
    """The last event that was certain; None where none was."""
    held_by: tuple[Blocker, ...] = ()
    """Open transactions that keep what is newer back."""
    left_out: tuple[str, ...] = ()
    """Partitions with events that are not exported, with the reason."""


def export_live(
    connection: Connection,
    store: Store,
    schema: str,
    *,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    wait: float = WAIT,
    progress: Callable[[str], Progress] = lambda _: unwatched,
) -> LiveExport:
    """Write what is new of the attached partitions to the store, up to where no open transaction can add anything.

    Each partition's range is written, read back, compared with a digest computed by the server, and noted, one after
    the other. `since` and `until` (not included) limit it to events of that time. Raises `UsageError` on a standby,
    `AuditError` when the store fails or another database writes there too.
    Run by the owner of the trail, or by an archiver who may read the trail. Lock: ACCESS SHARE on a partition while
    it is read.
    """
    if is_standby(connection):
        raise UsageError(
            "the server is a standby, where exports cannot be recorded",
            hint="run it on the primary",
        )
    by_function = _require_right(connection, schema)
    require_finished(connection, schema)
    store.require_reachable()
    work = _Work(connection, store, read_origin(connection, schema), now, by_function)
    work.tidy()
    done = [*work.finish_interrupted()]
    earlier = work.manifests()
    require_own(connection, store, work.origin, earlier)
    reach = find_reach(
        connection,
        schema,
        read_exports(connection, schema),
        f"{work.origin.system_identifier}/{work.origin.timeline}",
        wait=wait,
    )
    save_exports(connection, schema, reach.exports, now, by_function=by_function)
    partitions = read_partitions(connection, schema, now=now)
    if reach.event_id is not None:
        wanted = Range(
            reach=reach.event_id,
            since=since.isoformat() if since else None,
            until=until.isoformat() if until else None,
        )
        for entry in _chosen(partitions, since, until):
            for manifest in work.export(entry, wanted, earlier, progress(entry.name)):
                done.append(manifest)
                earlier.append(manifest)
    return LiveExport(
        manifests=tuple(done),
        reach=reach.event_id,
        held_by=reach.held_by,
        left_out=tuple(_left_out(partitions)),
    )


def finish_interrupted(
    connection: Connection, store: Store, schema: str, *, now: datetime
) -> list[Manifest]:
    """Finish the export to that archive that was killed, if one was; before its partition is archived, for one."""
    if not read_exports(connection, schema).of(store.address(FOLDER)).pending:
        return []
    by_function = _require_right(connection, schema)
    work = _Work(connection, store, read_origin(connection, schema), now, by_function)
    return list(work.finish_interrupted())


def _require_right(connection: Connection, schema: str) -> bool:
    """Whether the role is an archiver, who notes exports by a function; raises `AuditError` without the right."""
    (row,) = fetch(connection, render("archive/may_export", schema=schema))
    if not row["allowed"]:
        lacking = (
            "an archiver needs to read all of the trail, too"
            if row["is_archiver"]
            else "it may not note what it exported, nor read partitions in use"
        )
        raise AuditError(
            f"the role {row['role']} may not export: {lacking}",
            hint="run audit archive export as the owner of the trail or a member of it, or let an archiver read the "
            "trail: audit grants --archiver ROLE --reader ROLE",
        )
    return bool(row["by_function"])


def _chosen(
    partitions: Partitions, since: datetime | None, until: datetime | None
) -> Iterator[Entry]:
    """The attached partitions with events of that time; what came back from the archive is there already."""
    for leaf in partitions.bounded:
        recorded = partitions.entry(leaf.oid)
        outside = (since and leaf.upper and leaf.upper <= since) or (
            until and leaf.lower and leaf.lower >= until
        )
        if leaf.plain and not outside and not (recorded and recorded.archive):
            yield _as_entry(leaf)


def _as_entry(leaf: Leaf) -> Entry:
    name = leaf.name.name
    return Entry(
        oid=leaf.oid,
        name=name,
        lower=leaf.lower,
        upper=leaf.upper,
        state=PartitionState.ATTACHED,
        current_name=name,
    )


def _left_out(partitions: Partitions) -> Iterator[str]:
    """What has no partition of its own yet is in none of a fixed range."""
    for leaf in partitions.leaves:
        if leaf.has_rows and leaf.is_past:
            yield (
                f"{leaf.name.name} has events from before the first partition, which are not "
                "exported"
            )
        elif leaf.has_rows and (leaf.is_tail or leaf.is_default):
            yield (
                f"{leaf.name.name} has events that are not exported yet: audit maintain moves "
                "them to a partition of their own"
            )


@dataclass(frozen=True, slots=True)
class _Work:
    connection: Connection
    store: Store
    origin: Origin
    now: datetime
    by_function: bool
    """Whether the role may read the trail and none of its partitions."""

    @property
    def schema(self) -> str:
        return self.origin.trail

    @property
    def archive(self) -> str:
        return self.store.address(FOLDER)

    def manifests(self) -> list[Manifest]:
        return read_manifests(self.store, self.origin.place)

    def note(self, **values: Any) -> None:
        """Change what the database knows about the exports to this archive."""
        exports = read_exports(self.connection, self.schema)
        exported = replace(exports.of(self.archive), **values)
        noted = exports.with_archive(exported)
        save_exports(self.connection, self.schema, noted, self.now, by_function=self.by_function)

    def tidy(self) -> None:
        """Remove the manifest that was being written when a run was killed; the next one has another name."""
        for path in self.store.files(f"{FOLDER}/{self.origin.place}"):
            if is_unfinished(path):
                self.store.remove(self.store.path(path))

    def finish_interrupted(self) -> Iterator[Manifest]:
        exported: Exported = read_exports(self.connection, self.schema).of(self.archive)
        pending = exported.pending
        if pending is None:
            return
        earlier = self.manifests()
        require_own(self.connection, self.store, self.origin, earlier)
        done = next((m for m in earlier if pending.is_done_by(m)), None)
        if done is not None:
            self.note(name=done.name, sha256=fingerprint(done), pending=None)
            return
        attached = self._is_attached(pending)
        if attached is not None:
            yield self._write(pending, earlier, attached=attached)
        else:
            self._remove_files(pending, earlier)
            self.note(pending=None)

    def export(
        self, entry: Entry, wanted: Range, earlier: list[Manifest], progress: Progress
    ) -> Iterator[Manifest]:
        """Export what is new of a partition, if anything is."""
        counting = newest(earlier)
        if any(not m.exported and m.oid == entry.oid and m.origin == self.origin for m in counting):
            return
        without = widest(ranges_of(counting, self.origin, entry.name, entry.oid))
        leaf, part = self._read_from(entry)
        values = Selection(wanted, without, part).as_values()
        asked = render("archive/has_events", leaf=leaf, **values)
        if not fetch(self.connection, asked)[0]["found"]:
            return
        pending = Pending(
            leaf=entry.name,
            oid=entry.oid,
            lower=entry.lower.isoformat() if entry.lower else None,
            upper=entry.upper.isoformat() if entry.upper else None,
            range=wanted,
        )
        self.note(pending=pending)
        yield self._write(pending, earlier, progress)

    def _write(
        self,
        pending: Pending,
        earlier: list[Manifest],
        progress: Progress = unwatched,
        *,
        attached: bool = True,
    ) -> Manifest:
        entry = Entry(
            oid=pending.oid,
            name=pending.leaf,
            lower=datetime.fromisoformat(pending.lower) if pending.lower else None,
            upper=datetime.fromisoformat(pending.upper) if pending.upper else None,
            state=PartitionState.ATTACHED if attached else PartitionState.DETACHED,
        )
        leaf = QualifiedName(self.schema, pending.leaf)
        without = widest(ranges_of(newest(earlier), self.origin, pending.leaf, pending.oid))
        paths = Names(self.store, self.origin, _file_name(pending), earlier, keep=True)
        with self.connection.transaction():
            self.connection.execute("set transaction isolation level repeatable read")
            with self._lent(entry):
                place, part = self._read_from(entry)
                selection = Selection(pending.range, without, part)
                digest = self._digest(leaf, place, selection)
                files = write_files(self.connection, self.store, place, paths, selection, progress)
        made = make_manifest(self.connection, entry, self.origin, digest, files, earlier, self.now)
        manifest = replace(made, exported=pending.range)
        found = read_back(self.store, manifest, progress)
        if found.problems:
            self._remove_files(pending, earlier)
            raise AuditError(
                f"the export of {leaf} does not match its events: {found.problems[0]}",
                hint="its files were removed; find out why the store returns other bytes, then "
                "run the export again",
            )
        with self.store.create(manifest.name) as file:
            file.write(manifest.as_bytes())
        self.note(name=manifest.name, sha256=fingerprint(manifest), pending=None)
        return manifest

    def _read_from(self, entry: Entry) -> tuple[QualifiedName, Entry | None]:
        """The table whose events are read, and the partition, where that is the trail itself."""
        if self.by_function and entry.state is PartitionState.ATTACHED:
            return QualifiedName(self.schema, "logged_actions"), entry
        return QualifiedName(self.schema, entry.name), None

    @contextmanager
    def _lent(self, entry: Entry) -> Iterator[None]:
        """An archiver may read a partition that was detached meanwhile for a transaction."""
        lend = self.by_function and entry.state is not PartitionState.ATTACHED
        values = {"schema": self.schema, "oid": entry.oid, "leaf": None}
        if lend:
            self.connection.execute(render("archiver/freeze", **values))
        yield
        if lend:
            self.connection.execute(render("archiver/thaw", **values))

    def _digest(self, leaf: QualifiedName, place: QualifiedName, selection: Selection) -> str:
        columns = fetch(self.connection, render("archive/columns", leaf=leaf))[0]["columns"]
        if tuple(columns) != NAMES:
            raise AuditError(
                f"{leaf} has columns that an event does not have: {', '.join(columns)}",
                hint="the archive would lose them: drop the added columns",
            )
        values = selection.as_values()
        statement = render("archive/digest_of_range", schema=self.schema, leaf=place, **values)
        digest: str = fetch(self.connection, statement)[0]["digest"]
        return digest

    def _is_attached(self, pending: Pending) -> bool | None:
        """Whether a partition is part of the trail; None where it is gone."""
        values = {"oid": pending.oid, "name": pending.leaf}
        found = fetch(self.connection, render("archive/is_there", schema=self.schema), values)
        return found[0]["attached"] if found else None

    def _remove_files(self, pending: Pending, earlier: list[Manifest]) -> None:
        """Remove what an export wrote that cannot be finished."""
        named = {file.path for manifest in earlier for file in manifest.files}
        name = _file_name(pending)
        for path in self.store.files(f"{EVENTS}/{self.origin.place}"):
            own = path.rpartition("/")[2].startswith((f"{name}.", f"{name}-"))
            if own and path not in named:
                self.store.remove(self.store.path(path))


def _file_name(pending: Pending) -> str:
    return f"{pending.leaf}-{pending.oid}-to-{pending.range.reach}"
