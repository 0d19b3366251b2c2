"""What was exported of partitions that are still part of the trail, and what the database knows about it.

Each export adds manifests with a range. The database keeps the fingerprint of the last one of each archive, which, by
the chain of manifests, vouches for all before it, and the export that is going on: one that was killed is finished
exactly as it was begun. When the partition is archived, its manifest names the files of its ranges and one more with
the rest, so that whoever reads the plain folder has every event once, at any moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.archive.manifest import Manifest, Origin, Range, fingerprint
from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError
from audit_toolkit.templates import render
from audit_toolkit.trail.history.watermark import Mark

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

COMMAND = "archive export"
"""The row of `maintenance` with all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An export that was begun."""

    leaf: str
    oid: int
    lower: str | None
    upper: str | None
    range: Range

    def is_done_by(self, manifest: Manifest) -> bool:
        """Whether that is its manifest."""
        return (manifest.oid, manifest.exported) == (self.oid, self.range)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What the database knows about its exports to one archive."""

    archive: str
    """The address of the folder of manifests."""
    name: str | None = None
    sha256: str | None = None
    """The last manifest of a range."""
    pending: Pending | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exports:
    """All that the database knows about exports."""

    archives: tuple[Exported, ...] = ()
    marks: tuple[Mark, ...] = ()
    """Not reached when they were noted; of `origin` alone, as another cluster has other numbers."""
    origin: str = ""

    def of(self, archive: str) -> Exported:
        """Those to one archive."""
        found = (one for one in self.archives if one.archive == archive)
        return next(found, Exported(archive=archive))

    def with_archive(self, exported: Exported) -> Exports:
        """The same with another state of one archive."""
        others = tuple(one for one in self.archives if one.archive != exported.archive)
        return replace(self, archives=(*others, exported))

    def knows(self, manifest: Manifest) -> bool:
        """Whether that is the last one of an archive, or of an export that was killed just before it was noted."""
        found = fingerprint(manifest)
        return any(
            one.sha256 == found or (one.pending is not None and one.pending.is_done_by(manifest))
            for one in self.archives
        )


def read_exports(connection: Connection, schema: str) -> Exports:
    """What the database knows about exports; raises `AuditError` where somebody noted what makes no sense."""
    rows = fetch(connection, render("archive/exports", schema=schema), {"command": COMMAND})
    try:
        return _from_json(rows[0]["summary"]) if rows else Exports()
    except (KeyError, TypeError, AttributeError) as error:
        raise AuditError(
            f"what the trail has noted of exports cannot be read: {schema}.maintenance, command {COMMAND!r}",
            hint="a newer audit-toolkit wrote it, or an archiver by hand; if it was the latter, delete that row: "
            "the next export says what it finds in the archive",
        ) from error


def save_exports(
    connection: Connection,
    schema: str,
    exports: Exports,
    now: datetime,
    *,
    by_function: bool = False,
) -> None:
    """Note what the database is to know about exports; an archiver does it by a function of the trail."""
    values = {"schema": schema, "summary": json.dumps(asdict(exports))}
    if by_function:
        connection.execute(render("archiver/note_export", **values))
        return
    run = {"command": COMMAND, "now": now, "succeeded": True}
    connection.execute(render("partitions/finished", **values, **run))


def _from_json(values: dict[str, Any]) -> Exports:
    return Exports(
        archives=tuple(map(_archive, values["archives"])),
        marks=tuple(Mark(**mark) for mark in values["marks"]),
        origin=values["origin"],
    )


def _archive(values: dict[str, Any]) -> Exported:
    begun = values["pending"]
    pending = Pending(**begun | {"range": Range(**begun["range"])}) if begun else None
    return Exported(**values | {"pending": pending})


def ranges_of(
    manifests: Iterable[Manifest], origin: Origin, name: str, oid: int
) -> tuple[Manifest, ...]:
    """The manifests of a partition's ranges; in a database that was restored from a dump, OIDs are others."""
    return tuple(manifest for manifest in manifests if manifest.is_part_of(origin, name, oid))


def widest(ranges: Iterable[Manifest | Range]) -> tuple[Range, ...]:
    """The ranges without those that another one covers."""
    kept: list[Range] = []
    for one in ranges:
        found = one.exported if isinstance(one, Manifest) else one
        if found and not any(other.covers(found) for other in kept):
            kept = [other for other in kept if not found.covers(other)] + [found]
    return tuple(kept)


def unknown_exports(manifests: Sequence[Manifest], exports: Exports) -> Iterator[Manifest]:
    """The ranges that this database did not export: all behind the last one that it knows."""
    ranges = [manifest for manifest in manifests if manifest.exported]
    known = [number for number, one in enumerate(ranges) if exports.knows(one)]
    yield from ranges[max(known) + 1 if known else 0 :]
