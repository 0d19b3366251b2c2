"""Erasure in archives: what was archived of the rows is redacted as the trail is, and the files are written anew.

All of it is one transaction of the database. The archived events that may be meant are brought into a table that
only this transaction sees, and that `redact` takes for a detached partition. Then each file that has one of them is
written anew under another name, compared with what it replaces, and read back; so is what verifies a sealed
partition, without the salts that were destroyed. With the commit the database names the new manifests; after it they
are written, and what they replace is removed (`unfinished`). Interrupted before, files are left that nothing names;
the next redaction removes them.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.archive.columns import COLUMNS, NAMES, arrow_schema, as_table
from audit_toolkit.archive.digest import Digest
from audit_toolkit.archive.exports import read_exports, save_exports
from audit_toolkit.archive.manifest import (
    MOST_BYTES,
    ArchivedFile,
    Manifest,
    Origin,
    Replaced,
    difference,
    fingerprint,
    newest,
    read_manifests,
)
from audit_toolkit.archive.optional_packages import parquet
from audit_toolkit.archive.origin import after, read_origin, require_own
from audit_toolkit.archive.query import VIEW, opened
from audit_toolkit.archive.sealed import seal_problems
from audit_toolkit.archive.store import EVENTS, FOLDER, SEALS, Store, split_address
from audit_toolkit.archive.unfinished import Unfinished, finish_redaction, note_unfinished
from audit_toolkit.archive.verify import BATCH, read_back, read_file
from audit_toolkit.archive.write import OPTIONS, Hashing, write_seal_file
from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.names import QualifiedName
from audit_toolkit.schema.install import SLOTS
from audit_toolkit.seals.leaves import read_relations, read_seeds
from audit_toolkit.seals.partition import redacted_part
from audit_toolkit.seals.salts import IDS
from audit_toolkit.templates import query, render
from audit_toolkit.trail import BROUGHT, ErasedFile, Wanted
from audit_toolkit.trail.event import redaction_of

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

ROWS_AT_ONCE = 2000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OWN = re.compile(r"-r\d+(?:-\d+|-[0-9a-f]{12})?\.(?:parquet|json)")
_TIMES = tuple(place for place, column in enumerate(COLUMNS) if column.arrow == "timestamp")
_ID, _SLOTS = NAMES.index("event_id"), tuple(NAMES.index(name) for name in SLOTS)
_JSON = tuple(NAMES.index(name) for name in ("old_row", "new_row", "context"))
_LEAVE = "or redact what is in the database alone: --leave-archives"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one archive has of this database."""

    store: Store
    counting: tuple[Manifest, ...]
    """The manifests whose files hold events."""
    every: tuple[Manifest, ...]
    recorded: dict[str, str]
    """Of each partition's manifest, by its name, the address that the database has of it."""
    exports: str | None = None
    """The address by which the database knows its exports."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The files with events."""
        return tuple(dict.fromkeys(file.path for one in self.counting for file in one.files))


@dataclass(slots=True, kw_only=True)
class Archives:
    """The archives that a database knows of, for `redact`: an archive that moved is at `url` now."""

    connection: Connection
    schema: str
    url: str | None = None
    _brought: bool = False
    _kept: list[Kept] = field(default_factory=list)
    _stale: set[int] = field(default_factory=set)
    _todo: list[Unfinished] = field(default_factory=list)

    def may_write(self) -> bool:
        """Whether this role is the owner of the trail, or a member of it: it notes where archives are."""
        (row,) = fetch(self.connection, query("trail"), {"schema": self.schema})
        return bool(row["owned"])

    def prepare(self) -> None:
        """Before the transaction: finish a redaction that was interrupted."""
        if self._are_known() and not self.connection.autocommit:
            raise UsageError(
                "a redaction that reaches archives removes files once it is committed",
                hint="use a connection in autocommit mode",
            )
        finish_redaction(self.connection, self.schema)

    def bring(self, wanted: Wanted, *, apply: bool) -> None:
        """Bring archived events that may be meant into the transaction.

        Raises `AuditError` where an archive is not to be reached, not what the database recorded, or not its own.
        """
        if self.url:
            _require_there(Store.open(self.url))
        if not self._are_known():
            return
        if apply:
            # Nothing is archived or sealed meanwhile.
            self._run("archive/hold_back")
        origin = read_origin(self.connection, self.schema)
        self._kept = list(self._known(origin))
        if apply:
            self._tidy(origin)
        self._run("archive/bring", owner=self._owner())
        self._brought = True
        for kept in self._kept:
            if kept.paths:
                self._copy(kept, wanted)
        for relation in read_relations(self.connection, self.schema):
            if relation.endswith(BROUGHT):
                continue
            found = self._fetch("archive/differing", relation=relation)
            self._stale |= {row["event_id"] for row in found}
            self._run("archive/leave_present", relation=relation)
        self._run("archive/index")

    def find(self, events: Collection[int]) -> tuple[str, ...]:
        """The files that hold any of these events, or of those that were redacted in the database alone."""
        wanted = {*events, *self._stale}
        found: dict[str, None] = {}
        for kept in self._kept:
            found |= dict.fromkeys(_holding(kept.store, kept.paths, wanted))
        return tuple(found)

    def rewrite(
        self, events: Collection[int], redaction: int, notes: Mapping[int, str]
    ) -> tuple[ErasedFile, ...]:
        """Write the files anew that hold any of these events, and note the manifests that go with them.

        `notes` are those that redactions of this transaction were signed with.
        Raises `AuditError` where a file differs from what it should replace by anything else.
        """
        origin = read_origin(self.connection, self.schema)
        files: list[ErasedFile] = []
        for kept in self._kept:
            work = _Rewriting(self.connection, self.schema, kept, origin, redaction, notes)
            work.run({*events, *self._stale})
            if work.todo:
                self._todo.append(work.todo)
                files += work.written
        if self._todo:
            note_unfinished(self.connection, self.schema, self._todo, datetime.now(UTC))
        return tuple(files)

    def take_away(self) -> None:
        """Have the database forget the archived events, which it took for a detached partition."""
        if self._brought:
            self._run("archive/take_away")

    def finish(self) -> None:
        """After the commit: publish the manifests, and remove what they replace."""
        finish_redaction(self.connection, self.schema)

    def _are_known(self) -> bool:
        entries = self._fetch("partitions/entries")
        exports = read_exports(self.connection, self.schema).archives
        return any(e["archive"] for e in entries) or any(e.sha256 or e.pending for e in exports)

    def _known(self, origin: Origin) -> Iterator[Kept]:
        """The archives that the database named, with what counts there."""
        given = Store.open(self.url) if self.url else None
        places: dict[str, tuple[Store, dict[str, str]]] = {}
        counting: dict[str, list[Manifest]] = {}
        for entry in self._fetch("partitions/entries"):
            if not entry["archive"]:
                continue
            store, name = Store.of(entry["archive"], given)
            manifest = _read_recorded(store, name, entry, origin)
            places.setdefault(store.root, (store, {}))[1][name] = entry["archive"]
            if manifest not in counting.setdefault(store.root, []):
                counting[store.root].append(manifest)
        exports: dict[str, str] = {}
        for one in read_exports(self.connection, self.schema).archives:
            if one.pending:
                raise AuditError(
                    f"an export of {one.pending.leaf} was interrupted, and its files may hold such events",
                    hint=f"finish it first (audit archive export), {_LEAVE}",
                )
            if one.sha256:
                root, _ = split_address(f"{one.archive}/")
                moved = given and one.name and given.has(one.name)
                store = given if given and moved else Store.open(root)
                if one.name and not store.has(one.name):
                    raise AuditError(
                        f"the archive {store.root} lacks {one.name}, the last manifest that this database recorded",
                        hint=f"bring it back, name where it is (--archive URL), {_LEAVE}",
                    )
                places.setdefault(store.root, (store, {}))
                exports[store.root] = one.archive
        for root, (store, recorded) in places.items():
            every = read_manifests(store, origin.place)
            require_own(self.connection, store, origin, every)
            ranges = [m for m in newest(every) if m.exported] if root in exports else []
            yield Kept(
                store=store,
                counting=(*counting.get(root, ()), *ranges),
                every=tuple(every),
                recorded=recorded,
                exports=exports.get(root),
            )

    def _tidy(self, origin: Origin) -> None:
        """Remove what a killed redaction wrote; refuse other files that no manifest names, as they may hold values."""
        for kept in self._kept:
            named = {file.path for one in kept.every for file in one.all_files}
            strays = [
                path
                for folder in (EVENTS, SEALS)
                for path in kept.store.files(f"{folder}/{origin.place}")
                if path not in named
            ]
            for path in strays:
                if not _OWN.search(posixpath.basename(path)):
                    raise AuditError(
                        f"the archive has a file that no manifest names, and that may hold such events: {path}",
                        hint="finish what was interrupted (audit archive run, or export), or remove the file",
                    )
                kept.store.remove(kept.store.path(path))

    def _copy(self, kept: Kept, wanted: Wanted) -> None:
        """Copy the events that may be meant into the table of the transaction."""
        sql = render("queries/names_of", trail_schema=self.schema)
        asked = {"schemas": [wanted.table.schema], "names": [wanted.table.name]}
        called = fetch(self.connection, sql, asked)
        names, keys = json.dumps(called), None
        if wanted.keys is not None:
            pairs = [
                (row["row_key"], row["old_row_key"])
                for relation in read_relations(self.connection, self.schema)
                for row in self._fetch("archive/key_changes", {"names": names}, relation=relation)
            ]
            keys = wanted.keys
        with opened(kept.store, kept.paths) as lake:
            where, values = _named(called)
            if keys is not None:
                changes = f"select distinct row_key, old_row_key from {VIEW} where old_row_key is not null and {where}"  # noqa: S608 - names of ours
                pairs += lake.execute(changes, values).fetchall()
                keys = sorted(linked_keys(keys, pairs))
                where += " and (list_contains(?, row_key) or list_contains(?, old_row_key))"
                values += [keys, keys]
            if wanted.whole_transactions:
                rows = [
                    (row["transaction_id"], row["began"])
                    for relation in read_relations(self.connection, self.schema)
                    for row in self._fetch(
                        "archive/transactions_of", {"names": names, "keys": keys}, relation=relation
                    )
                ]
                lake.execute("create temp table shared (transaction_id bigint, began bigint)")
                lake.execute(
                    f"insert into shared select transaction_id, epoch_us(transaction_tstamp) from {VIEW} where {where}",  # noqa: S608 - names of ours
                    values,
                )
                if rows:
                    lake.executemany("insert into shared values (?, ?)", rows)
                where = (
                    f"({where}) or (transaction_id, epoch_us(transaction_tstamp)) in (from shared)"
                )
            columns = ", ".join(
                f"epoch_us({name})" if place in _TIMES else name for place, name in enumerate(NAMES)
            )
            result = lake.execute(f"select {columns} from {VIEW} where {where}", values)  # noqa: S608 - names of ours
            statement = render(
                "archive/copy_in", leaf=QualifiedName("pg_temp", BROUGHT), columns=COLUMNS
            )
            with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
                while found := result.fetchmany(ROWS_AT_ONCE):
                    for row in found:
                        copy.write_row(_with_times(row))

    def _owner(self) -> str:
        (row,) = fetch(self.connection, query("trail"), {"schema": self.schema})
        return str(row["owner"])

    def _run(self, template: str, **values: Any) -> None:
        sql = render(template, schema=self.schema, table=BROUGHT, **values)
        for statement in filter(str.strip, sql.split(";\n")):
            self.connection.execute(statement.encode())

    def _fetch(self, template: str, asked: Any = None, **values: Any) -> list[dict[str, Any]]:
        sql = render(template, schema=self.schema, table=BROUGHT, **values)
        return fetch(self.connection, sql, asked)


def _require_there(store: Store) -> None:
    store.require_reachable()
    if store.is_local and not Path(store.root).is_dir():
        raise UsageError(
            f"--archive: there is no folder {store.root}", hint="name where the archive is now"
        )


def _read_recorded(store: Store, name: str, entry: dict[str, Any], origin: Origin) -> Manifest:
    """The manifest that the database recorded of a partition; raises `AuditError` where it cannot be written anew."""
    try:
        manifest = Manifest.from_bytes(store.read_bytes(name, most=MOST_BYTES), name)
    except AuditError as error:
        raise AuditError(
            f"the archive of {entry['name']} cannot be read: {error.message}",
            hint=f"bring it back, name where it is (--archive URL), {_LEAVE}",
        ) from error
    digest, recorded = entry["archive_digest"], entry["archive_manifest"]
    if what := difference(manifest, digest=digest, recorded=recorded):
        raise AuditError(
            f"{entry['name']}: {what} differs from the one that this database recorded",
            hint="for details, run: audit archive verify",
        )
    if manifest.place != origin.place or manifest.version == 1:
        raise AuditError(
            f"the archive of {entry['name']} is that of another database, or from before 0.3, and is not written anew",
            hint=f"redact it where it was written, {_LEAVE}",
        )
    return manifest


def _named(names: Iterable[dict[str, Any]]) -> tuple[str, list[Any]]:
    """The events of a table under all its names, as a condition of DuckDB's."""
    parts, values = [], list[Any]()
    for name in names:
        parts.append("(schema_name = ? and table_name = ? and event_id > ? and event_id <= ?)")
        values += [name[of] for of in ("schema_name", "table_name", "after_id", "until_id")]
    return f"action in ('I', 'U', 'D', 'S', 'E') and ({' or '.join(parts) or 'false'})", values


def linked_keys(keys: Iterable[str], pairs: Iterable[tuple[str | None, str | None]]) -> set[str]:
    """All keys that lead to these by changes of keys, whenever these were; the database decides which are meant."""
    others: dict[str, set[str]] = {}
    for one, other in pairs:
        if one is not None and other is not None:
            others.setdefault(one, set()).add(other)
            others.setdefault(other, set()).add(one)
    found, todo = set(keys), list(keys)
    while todo:
        new = others.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return found


def _with_times(row: tuple[Any, ...]) -> tuple[Any, ...]:
    values = list(row)
    for place in _TIMES:
        if values[place] is not None:
            values[place] = _EPOCH + timedelta(microseconds=values[place])
    return tuple(values)


def _holding(store: Store, paths: Sequence[str], events: Collection[int]) -> list[str]:
    """Those of these files that hold any of the events; reads the column of ids alone."""
    if not paths or not events:
        return []
    with opened(store, paths, filename=True) as lake:
        lake.execute("create temp table wanted (event_id bigint)")
        wanted = sorted(events)
        for start in range(0, len(wanted), 100_000):
            some = wanted[start : start + 100_000]
            lake.execute("insert into wanted select unnest(?::bigint[])", [some])
        rows = lake.execute(
            f"select distinct filename from {VIEW} where event_id in (from wanted)"  # noqa: S608 - names of ours
        ).fetchall()
    names = {str(name) for (name,) in rows}
    return [path for path in paths if any(name.endswith(path) for name in names)]


@dataclass(slots=True)
class _Rewriting:
    """The work in one archive."""

    connection: Connection
    schema: str
    kept: Kept
    origin: Origin
    redaction: int
    notes: Mapping[int, str]
    written: list[ErasedFile] = field(default_factory=list)
    todo: Unfinished | None = None

    @property
    def store(self) -> Store:
        return self.kept.store

    def run(self, events: set[int]) -> None:
        """Write anew whatever has one of these events, or salts that are destroyed."""
        manifests = list(self.kept.every)
        holding = set(_holding(self.store, self.kept.paths, events))
        made: list[tuple[Manifest, Manifest]] = []
        for former in self.kept.counting:
            seal = self._present_seal(former)
            if seal is None and not holding & {file.path for file in former.files}:
                continue
            manifest = self._renew(former, holding, events, seal, manifests)
            manifests.append(manifest)
            made.append((former, manifest))
        if made:
            self._note(made)

    def _present_seal(self, manifest: Manifest) -> dict[str, Any] | None:
        """What verifies the partition, where it has salts that were destroyed since, or lacks a note; else None."""
        if manifest.seal is None:
            return None
        with self.store.fetched(manifest.seal.path) as (copy, sha256):
            if sha256 != manifest.seal.sha256:
                raise _changed(manifest.seal.path)
            content: dict[str, Any] = json.loads(copy.read_bytes())
        blocks = sorted(map(int, content["seeds"]))
        if not blocks:
            return None
        there = read_seeds(self.connection, self.schema, blocks[0], blocks[-1])
        seeds = {
            str(block): {str(node): seed.hex() for node, seed in sorted(there[block].items())}
            for block in blocks
            if block in there
        }
        first, last = blocks[0] * IDS, blocks[-1] * IDS + IDS - 1
        redacted = redacted_part(self.connection, self.schema, first, last, self.notes)
        present: dict[str, Any] = content | {"seeds": seeds} | redacted
        return None if present == content else present

    def _renew(
        self,
        former: Manifest,
        holding: Collection[str],
        events: set[int],
        seal: dict[str, Any] | None,
        earlier: list[Manifest],
    ) -> Manifest:
        with closing(Digest()) as digest:
            files: list[ArchivedFile] = []
            for file in former.files:
                if file.path in holding:
                    files.append(self._rewrite(file, former, events, digest))
                elif problems := read_file(self.store, file, digest):
                    raise AuditError(problems[0], hint="for details, run: audit archive verify")
            kept = [file for file in former.files if file.path not in holding]
            name = f"{self.origin.place}/{former.leaf}-{former.oid}-r{self.redaction}"
            manifest = replace(
                former,
                files=(*kept, *files),
                digest=str(digest),
                seal=write_seal_file(self.store, seal, name) if seal else former.seal,
                created_at=after(earlier, datetime.now(UTC)).isoformat(),
                previous=fingerprint(earlier[-1]),
                origin=self.origin,
                replaces=self._replaced(former),
            )
        wrong = read_back(self.store, manifest).problems or seal_problems(self.store, manifest)
        if wrong:
            raise AuditError(
                f"the redacted archive of {former.label} is not what it should be: {wrong[0]}",
                hint="nothing was changed; for details, run: audit archive verify",
            )
        return manifest

    def _superseded(self, former: Manifest) -> list[Manifest]:
        """The manifests of the same events, which told of what is erased."""
        key = (former.leaf, former.oid)
        return [
            one
            for one in self.kept.every
            if one == former
            or (
                not former.exported
                and ((one.leaf, one.oid) == key or one.is_part_of(former.origin, *key))
            )
        ]

    def _replaced(self, former: Manifest) -> tuple[Replaced, ...]:
        """Their places in the chain, and those of what they replaced."""
        removed = self._superseded(former)
        own = (Replaced(sha256=fingerprint(one), previous=one.previous) for one in removed)
        return tuple(dict.fromkeys([*own, *(link for one in removed for link in one.replaces)]))

    def _rewrite(
        self, file: ArchivedFile, manifest: Manifest, events: set[int], digest: Digest
    ) -> ArchivedFile:
        """Write a file anew, with the redacted events as the database has them."""
        folder = posixpath.dirname(file.path)
        stem = f"{folder}/{manifest.leaf}-{manifest.oid}-r{self.redaction}"
        endings = chain([""], (f"-{number}" for number in count(2)))
        path = next(p for p in (f"{stem}{e}.parquet" for e in endings) if not self.store.has(p))
        with self.store.fetched(file.path) as (copy, sha256):
            if sha256 != file.sha256:
                raise _changed(file.path)
            with self.store.create(path) as target_file:
                target = Hashing(target_file)
                with (
                    parquet().ParquetFile(copy) as former,
                    parquet().ParquetWriter(target, arrow_schema(), **OPTIONS) as writer,
                ):
                    for batch in former.iter_batches(batch_size=BATCH, columns=list(NAMES)):
                        table = self._redacted(batch, events, file.path)
                        digest.add(table)
                        writer.write_table(table)
        self.written.append(ErasedFile(path=path, sha256=target.hexdigest()))
        return ArchivedFile(
            path=path, bytes=target.size, sha256=target.hexdigest(), events=file.events
        )

    def _redacted(self, batch: Any, events: set[int], path: str) -> Any:
        """A batch of events, those that were redacted as the database has them."""
        columns = [column.to_pylist() for column in _as_numbers(batch)]
        places = {number: at for at, number in enumerate(columns[_ID]) if number in events}
        rows = list(zip(*columns, strict=True))
        for number, row in self._present(list(places)).items():
            former = rows[places[number]]
            if not _is_redaction(former, row):
                raise AuditError(
                    f"event {number} of {path} differs from that of the database by more than what was redacted",
                    hint="nothing was changed; find out which of them is right: audit verify, audit archive verify",
                )
            rows[places.pop(number)] = row
        if places:
            raise AuditError(
                f"event {min(places)} of {path} is not to be found in the trail",
                hint="nothing was changed; for details, run: audit archive verify",
            )
        return as_table(rows)

    def _present(self, events: list[int]) -> dict[int, tuple[Any, ...]]:
        if not events:
            return {}
        found = {}
        for relation in read_relations(self.connection, self.schema):
            sql = render("archive/rows_now", relation=relation, columns=COLUMNS)
            for row in fetch(self.connection, sql, {"ids": events}):
                found[row["event_id"]] = tuple(row[name] for name in NAMES)
        return found

    def _note(self, made: list[tuple[Manifest, Manifest]]) -> None:
        """Have the database name the new manifests, and what is to be removed for them."""
        now = datetime.now(UTC)
        removed = {one.name: one for former, _ in made for one in self._superseded(former)}
        rest = [one for one in self.kept.every if one.name not in removed]
        left = [*rest, *(new for _, new in made)]
        for former, new in made:
            if address := self.kept.recorded.get(former.name):
                values = {"archive": self.store.address(new.name), "digest": new.digest, "now": now}
                values |= {"manifest": fingerprint(new), "former": address}
                self.connection.execute(render("archive/replaced", schema=self.schema), values)
        if self.kept.exports:
            last = next((one for one in reversed(left) if one.exported), None)
            exports = read_exports(self.connection, self.schema)
            noted = replace(
                exports.of(self.kept.exports),
                name=last.name if last else None,
                sha256=fingerprint(last) if last else None,
            )
            save_exports(self.connection, self.schema, exports.with_archive(noted), now)
        named = {file.path for one in newest(left) for file in one.all_files}
        paths = {file.path for one in removed.values() for file in one.all_files} - named
        root, _ = split_address(self.store.address(f"{FOLDER}/_"))
        self.todo = Unfinished(
            archive=root,
            manifests={new.name: new.as_bytes().decode() for _, new in made},
            remove=(*removed, *sorted(paths)),
        )


def _as_numbers(batch: Any) -> Iterator[Any]:
    """Its columns, times as microseconds since 1970, which nothing rounds."""
    for place, name in enumerate(NAMES):
        column = batch.column(name)
        yield column.cast("int64") if place in _TIMES else column


def _is_redaction(former: tuple[Any, ...], present: tuple[Any, ...]) -> bool:
    """Whether an event is another one with values taken away, and nothing else."""
    for place, (before, now) in enumerate(zip(former, present, strict=True)):
        if before == now:
            continue
        if place not in _SLOTS or before is None or now is None:
            return False
        if place in _JSON:
            if not _lacks_only(exact_json.loads(before), exact_json.loads(now)):
                return False
        elif not now.startswith("redacted:"):
            return False
    return True


def _lacks_only(before: Any, now: Any) -> bool:
    if redaction_of(now) is not None:
        return before is not None
    if isinstance(before, dict) and isinstance(now, dict):
        same = before.keys() == now.keys()
        return same and all(_lacks_only(value, now[name]) for name, value in before.items())
    return bool(exact_json.dumps(before) == exact_json.dumps(now))


def _changed(path: str) -> AuditError:
    return AuditError(
        f"{path}: the file was changed since it was written",
        hint="nothing was changed; for details, run: audit archive verify",
    )
