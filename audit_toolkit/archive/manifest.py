"""The manifest of an archived partition: without one, nothing counts as archived."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import datetime
from typing import Any
from urllib.parse import quote

from audit_toolkit.archive.store import FOLDER, OLD_FOLDER, Store, is_inside, is_unfinished
from audit_toolkit.errors import AuditError, UsageError

Json = Any
VERSION = 2
MOST_BYTES = 32 * 2**20
"""What is larger is no manifest of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which database wrote it: a copy of a database has another one of these, or is on another timeline."""

    system_identifier: str
    timeline: int
    database: str
    database_oid: int
    trail: str
    """The schema."""

    @property
    def place(self) -> str:
        """The folder of its files and manifests, in Hive's layout."""
        parts = {"system": self.system_identifier, "database": self.database, "trail": self.trail}
        return "/".join(f"{name}={hive_name(value)}" for name, value in parts.items())

    def __str__(self) -> str:
        return (
            f"database {self.database} (OID {self.database_oid}) of system "
            f"{self.system_identifier}, timeline {self.timeline}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedFile:
    """One Parquet file."""

    path: str
    """Relative to the root of the archive."""
    bytes: int
    sha256: str
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Events of a partition that is still part of the trail: those up to an id, and of a span of time where it has one.

    No event up to that id can appear any more, so they are the same events whenever they are asked for.
    """

    reach: int
    """The last `event_id`."""
    since: str | None = None
    until: str | None = None
    """Not included."""

    def covers(self, other: Range) -> bool:
        """Whether it has all that the other one has."""
        return (
            self.reach >= other.reach
            and (
                self.since is None
                or (other.since is not None and _time(self.since) <= _time(other.since))
            )
            and (
                self.until is None
                or (other.until is not None and _time(self.until) >= _time(other.until))
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """A manifest that an erasure removed, as it told of what was erased: its place in the chain."""

    sha256: str
    previous: str | None


class UnsoundError(ValueError):
    """What is wrong with a manifest, in words for people."""


def _values_of(kind: Any, content: Json, what: str) -> dict[str, Any]:
    """The members of a JSON object that makes such a value; raises `UnsoundError` where it cannot."""
    if not isinstance(content, dict):
        raise UnsoundError(f"{what} is not a JSON object")
    if lost := [f.name for f in fields(kind) if f.default is MISSING and f.name not in content]:
        raise UnsoundError(f"{what} lacks {', '.join(lost)}")
    if unknown := sorted(content.keys() - {f.name for f in fields(kind)}):
        raise UnsoundError(f"{what} has {unknown[0]!r}, which this version does not know")
    return dict(content)


def _what_is_wrong(error: Exception) -> str:
    if isinstance(error, UnsoundError):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "it is not JSON"
    return "a value has the wrong type"


def _is_time(text: object) -> bool:
    try:
        datetime.fromisoformat(str(text))
    except ValueError:
        return False
    return isinstance(text, str)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an archived partition consists of, and how to prove it.

    One without a partition (`leaf` is empty) says that a database took over the archive of another. One with a range
    has events of a partition that was not archived yet; the manifest of the whole partition names its files, too.
    """

    leaf: str
    oid: int
    lower: str | None
    upper: str | None
    digest: str
    """That of the database; the same was computed from the files."""
    events: int
    files: tuple[ArchivedFile, ...]
    created_at: str
    toolkit: str
    server_version: int
    previous: str | None
    """The SHA-256 of the manifest that was written before, so that none can vanish unseen."""
    columns: tuple[str, ...]
    origin: Origin | None = None
    """None before 0.3."""
    version: int = VERSION
    exported: Range | None = None
    """Without what ranges before it have."""
    seal: ArchivedFile | None = None
    """What shows without the database that these events were sealed; beside the events, as an erasure replaces it."""
    replaces: tuple[Replaced, ...] = ()
    """Manifests that an erasure removed for this one."""

    @property
    def label(self) -> str:
        """The partition, and which part of it, for people."""
        return f"{self.leaf} up to event {self.exported.reach}" if self.exported else self.leaf

    def is_part_of(self, origin: Origin | None, leaf: str, oid: int) -> bool:
        """Whether it is a range of that partition of that database."""
        if not self.exported or not self.origin or not origin or self.place != origin.place:
            return False
        # Restored from a dump, a partition has another OID.
        same_database = self.origin.database_oid == origin.database_oid
        return self.oid == oid if same_database else self.leaf == leaf

    @property
    def all_files(self) -> tuple[ArchivedFile, ...]:
        """The files with events, and that of the seal."""
        return (*self.files, *([self.seal] if self.seal else ()))

    @property
    def folder(self) -> str:
        """Where it is."""
        return f"{FOLDER}/{self.origin.place}" if self.origin else OLD_FOLDER

    @property
    def name(self) -> str:
        """Its file, which sorts by time."""
        stamp = datetime.fromisoformat(self.created_at)
        return f"{self.folder}/{stamp:%Y%m%dT%H%M%S%f}-{self.leaf or '_adopted'}.json"

    @property
    def place(self) -> str:
        """Whose it is: the folder of a database, or none before 0.3."""
        return self.origin.place if self.origin else ""

    def as_bytes(self) -> bytes:
        """The content of its file."""
        values = asdict(self)
        if self.version == 1:
            del values["origin"]
        if self.exported is None:
            del values["exported"]
        if self.seal is None:
            del values["seal"]
        if not self.replaces:
            del values["replaces"]
        return json.dumps(values, indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> Manifest:
        """Read one; raises `AuditError` when it is none, or names a file outside of the archive."""
        try:
            manifest = cls._read(json.loads(content))
            manifest.require_sound()
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise AuditError(
                f"cannot read the manifest {where}: {_what_is_wrong(error)}",
                hint="it was damaged, forged or written by a newer audit-toolkit: restore the "
                "file from a backup of the archive",
            ) from None
        return manifest

    @classmethod
    def _read(cls, content: Json) -> Manifest:
        values = _values_of(cls, content, "it")
        if not isinstance(values["files"], list) or not isinstance(values["columns"], list):
            raise UnsoundError("its files or columns are not a list")
        files = (_values_of(ArchivedFile, file, "a file of it") for file in values["files"])
        values["files"] = tuple(ArchivedFile(**file) for file in files)
        values["columns"] = tuple(values["columns"])
        former = values.get("replaces", [])
        if not isinstance(former, list):
            raise UnsoundError("what it replaces is not a list")
        replaced = (_values_of(Replaced, one, "what it replaces") for one in former)
        values["replaces"] = tuple(Replaced(**one) for one in replaced)
        for name, kind in (("origin", Origin), ("exported", Range), ("seal", ArchivedFile)):
            part = values.get(name)
            values[name] = kind(**_values_of(kind, part, f"its {name}")) if part else None
        return cls(**values)

    def require_sound(self) -> None:
        """Raise `UnsoundError` unless every value is of its kind and every path stays inside."""
        if self.version not in (1, VERSION):
            raise UnsoundError(f"its version is {self.version!r}")
        part = self.exported or Range(reach=0)
        moments = (self.lower, self.upper, part.since, part.until)
        for moment in (self.created_at, *(one for one in moments if one is not None)):
            if not _is_time(moment):
                raise UnsoundError(f"{moment!r} is not a valid time")
        # Whatever the annotations say, these come from a file that anybody may have written.
        texts: list[object] = [self.leaf, self.digest, self.toolkit, *self.columns]
        texts += [text for file in self.all_files for text in (file.path, file.sha256)]
        texts += [one.sha256 for one in self.replaces]
        texts += [one.previous for one in self.replaces if one.previous is not None]
        numbers: list[object] = [self.oid, self.events, self.server_version, part.reach]
        numbers += [number for file in self.all_files for number in (file.bytes, file.events)]
        if self.origin:
            texts += [self.origin.system_identifier, self.origin.database, self.origin.trail]
            numbers += [self.origin.timeline, self.origin.database_oid]
        if not all(isinstance(text, str) and text.isprintable() for text in texts):
            raise UnsoundError("a text value is not text, or cannot be printed")
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise UnsoundError("a number is missing or negative")
        if "/" in self.leaf or self.leaf.startswith("."):
            raise UnsoundError(f"{self.leaf!r} is not a valid partition name")
        outside = [file.path for file in self.all_files if not is_inside(file.path)]
        if outside:
            raise UnsoundError(f"{outside[0]!r} is not a path inside the archive")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All manifests of an archive, the oldest first, and what is wrong with those that are none."""

    manifests: tuple[Manifest, ...]
    damaged: tuple[tuple[str, str], ...] = ()
    """(file, what is the matter)."""

    def of(self, place: str) -> tuple[Manifest, ...]:
        """Those of one database."""
        return tuple(m for m in self.manifests if m.place == place)


def read_catalogue(store: Store, place: str | None = None) -> Catalogue:
    """What the archive says it has; with `place`, of one database. One damaged manifest hides none of the others."""
    found, damaged = [], []
    folders = [f"{FOLDER}/{place}"] if place is not None else [OLD_FOLDER, FOLDER]
    names = (name for folder in folders for name in store.files(folder, ".json"))
    for name in names:
        if is_unfinished(name):
            continue
        try:
            manifest = Manifest.from_bytes(store.read_bytes(name, most=MOST_BYTES), name)
            if manifest.name != name:
                raise AuditError(f"the manifest {name} should be at {manifest.name}")
            found.append(manifest)
        except AuditError as error:
            damaged.append((name, error.message))
    found.sort(key=lambda manifest: (manifest.place, manifest.name))
    return Catalogue(tuple(found), tuple(damaged))


def read_manifests(store: Store, place: str | None = None) -> list[Manifest]:
    """All manifests, the oldest first; the newest of a partition counts. Raises `AuditError` when one is damaged."""
    catalogue = read_catalogue(store, place)
    for _, message in catalogue.damaged:
        raise AuditError(message, hint="to check all of them, run: audit archive verify")
    return list(catalogue.manifests)


def newest(manifests: list[Manifest] | tuple[Manifest, ...]) -> list[Manifest]:
    """Of each partition the manifest that counts, by time of its events; before it is archived, those of its ranges."""
    found = {(m.place, m.leaf, m.oid): m for m in manifests if m.leaf and not m.exported}
    renewed = {(m.leaf, m.oid) for m in found.values() if m.place}
    kept = [m for m in found.values() if m.place or (m.leaf, m.oid) not in renewed]
    whole = tuple(kept)
    kept += [
        m
        for m in manifests
        if m.exported and not any(m.is_part_of(one.origin, one.leaf, one.oid) for one in whole)
    ]
    return sorted(kept, key=lambda manifest: (manifest.lower or "", manifest.leaf))


def find_manifest(
    store: Store, leaf: str, place: str | None = None, names: Collection[str] = ()
) -> Manifest:
    """The manifest of a partition that counts: of `names`, those that the database recorded, if there is one.

    Raises `UsageError` when there is none, or several databases have one.
    """
    of_leaf = [m for m in read_manifests(store) if m.leaf == leaf and place in (None, m.place)]
    found = [m for m in of_leaf if not m.exported]
    if of_leaf and not found:
        raise UsageError(
            f"{leaf} is not archived: parts of it were exported, and its events are still in "
            "the trail",
            hint="query the trail, or use audit archive query",
        )
    recorded = [manifest for manifest in found if manifest.name in names]
    if recorded and place is None:
        return recorded[-1]
    if not found:
        raise UsageError(
            f"the archive {store.url} has no partition {leaf!r}"
            + (f" of {place}" if place else ""),
            hint="audit archive list shows what the archive has, and from which database",
        )
    places = sorted({manifest.place for manifest in found})
    if len(places) > 1:
        raise UsageError(
            f"the archive has {leaf!r} from several databases, and this database has no "
            "record of any",
            hint="name one of: " + ", ".join(f"--from {name}" for name in places if name),
        )
    return found[-1]


def chain_breaks(manifests: list[Manifest] | tuple[Manifest, ...]) -> list[str]:
    """The partitions whose manifest does not follow the one before it: one was removed or changed."""
    expected: dict[str, str] = {}
    replaced = {(m.place, one.sha256): one.previous for m in manifests for one in m.replaces}
    broken = []
    for manifest in manifests:
        place, link, seen = manifest.place, manifest.previous, set[str]()
        # What an erasure removed is passed over, by what came before it.
        while (
            link and link != expected.get(place) and (place, link) in replaced and link not in seen
        ):
            seen.add(link)
            link = replaced[place, link]
        if link != expected.get(place):
            broken.append(manifest.leaf)
        expected[place] = fingerprint(manifest)
    return broken


def fingerprint(manifest: Manifest) -> str:
    """The SHA-256 of a manifest."""
    return hashlib.sha256(manifest.as_bytes()).hexdigest()


def difference(manifest: Manifest, *, digest: str | None, recorded: str | None) -> str:
    """What of a manifest differs from what the database recorded: its digest, its fingerprint, or nothing."""
    if manifest.digest != digest:
        return "the digest in its manifest"
    return "" if recorded in (None, fingerprint(manifest)) else "its manifest"


def hive_name(text: str) -> str:
    """A value in a folder's name, escaped as Hive does: all else than ASCII stays, or Spark reads it as Latin-1."""
    return "".join(c if ord(c) > 127 else quote(c, safe="") for c in text)
