"""Whose an archive is: a copy of a database must not write into the archive of the one that it was copied from.

Files and manifests lie in a folder that names the system identifier, the database and the trail. A physical copy has
the same three. So, before anything is written, the newest manifest must come from this timeline and this database,
and the database must know every manifest that counts. After a failover or a restore, `audit archive adopt` says that
it is meant: it writes a manifest of its own, from which on this database, and no other, is the one that writes.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from audit_toolkit.archive.exports import read_exports, unknown_exports
from audit_toolkit.archive.manifest import (
    Catalogue,
    Manifest,
    Origin,
    fingerprint,
    newest,
    read_manifests,
)
from audit_toolkit.archive.store import FOLDER, Store, split_address
from audit_toolkit.archive.unfinished import unfinished_findings
from audit_toolkit.archive.verify import Adoption, Expected, Recorded
from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import query, render
from audit_toolkit.version import __version__

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

ADOPTED = "archive adopt"
"""The row of `maintenance` that names the last adoption by this database."""


def read_origin(connection: Connection, schema: str) -> Origin:
    """The database of a connection, as its manifests name it."""
    (server,) = fetch(connection, query("server_identity"))
    (database,) = fetch(
        connection,
        "select current_database() as database, oid::bigint as oid from pg_catalog.pg_database"
        " where datname = current_database()",
    )
    return Origin(
        system_identifier=server["system_identifier"],
        timeline=server["timeline"],
        database=database["database"],
        database_oid=database["oid"],
        trail=schema,
    )


def read_expected(connection: Connection, schema: str) -> Expected:
    """What the database recorded of all that it ever archived."""
    rows = fetch(connection, render("partitions/entries", schema=schema))
    recorded = {
        Recorded(
            leaf=row["name"],
            state=row["state"],
            archive=row["archive"],
            name=split_address(row["archive"])[1],
            digest=row["archive_digest"],
            fingerprint=row["archive_manifest"],
            lower=row["lower"],
            upper=row["upper"],
        )
        for row in rows
        if row["archive"]
    }
    ordered = sorted(recorded, key=lambda record: (record.name, record.leaf, record.state))
    place = read_origin(connection, schema).place
    exports = read_exports(connection, schema)
    adoption = _adopted(connection, schema)
    return Expected(
        place=place,
        recorded=tuple(ordered),
        exports=exports,
        adoption=adoption,
        unfinished=tuple(unfinished_findings(connection, schema)),
    )


def record_fingerprints(
    connection: Connection, schema: str, catalogue: Catalogue, expected: Expected
) -> list[str]:
    """Note the manifests of partitions that were archived before 0.3; which partitions they are.

    Only for an archive that was verified as a whole, and for the owner of the trail; for anybody else, and on a
    standby, nothing is noted. A database that was not upgraded has no room for it.
    """
    manifests = {manifest.name: manifest for manifest in catalogue.manifests}
    lacking = [
        (record, manifests[record.name])
        for record in expected.recorded
        if record.fingerprint is None and record.name in manifests
    ]
    if not lacking or not fetch(connection, query("may_note_fingerprints"), {"schema": schema}):
        return []
    with connection.transaction():
        for record, manifest in lacking:
            values = {"archive": record.archive, "digest": record.digest}
            values |= {"manifest": fingerprint(manifest)}
            connection.execute(render("archive/fingerprinted", schema=schema, **values))
    return sorted({record.leaf for record, _ in lacking})


def require_own(
    connection: Connection, store: Store, origin: Origin, manifests: list[Manifest]
) -> None:
    """Raise `AuditError` unless what the archive has of this database was written by it, and by no copy of it."""
    reason = _why_foreign(connection, origin, manifests)
    if reason:
        raise AuditError(
            f"the archive {store.url} is used by another database as well: {reason}",
            hint="nothing was written. Give a copy of the database an archive of its own; after a "
            "failover or a restore, if no other database writes there any more, run: audit "
            "archive adopt",
        )


def _why_foreign(connection: Connection, origin: Origin, manifests: list[Manifest]) -> str:
    if not manifests:
        return ""
    last = manifests[-1]
    if last.origin != origin:
        return f"{last.origin} wrote there last; this is {origin}"
    adoptions = [number for number, m in enumerate(manifests) if not m.leaf]
    if adoptions:
        adoption = manifests[adoptions[-1]]
        adopted = _adopted(connection, origin.trail)
        if adopted is None or adopted.fingerprint != fingerprint(adoption):
            return f"a copy of this database adopted it at {adoption.created_at}"
        manifests = manifests[adoptions[-1] :]
    entries = fetch(connection, render("partitions/entries", schema=origin.trail))
    recorded = {(row["name"], row["archive_digest"]) for row in entries}
    exports = read_exports(connection, origin.trail)
    for manifest in unknown_exports(manifests, exports):
        return f"it has {manifest.label}, which this database did not export"
    for manifest in newest(manifests):
        if manifest.exported:
            continue
        known = (manifest.leaf, manifest.digest) in recorded
        if not known and not _is_our_leaf(connection, origin.trail, entries, manifest):
            return f"it has {manifest.leaf}, which this database did not archive"
    return ""


def _is_our_leaf(
    connection: Connection, schema: str, entries: list[dict[str, Any]], manifest: Manifest
) -> bool:
    """Whether it is the archive of a detached partition whose record was lost: the run was killed just before."""
    known = any(
        row["oid"] == manifest.oid and row["current_name"] == manifest.leaf for row in entries
    )
    if not known:
        return False
    leaf = QualifiedName(schema, manifest.leaf)
    found = fetch(connection, render("archive/digest", schema=schema, leaf=leaf))
    return bool(found[0]["digest"] == manifest.digest)


def _adopted(connection: Connection, schema: str) -> Adoption | None:
    rows = fetch(connection, render("archive/adopted", schema=schema), {"command": ADOPTED})
    return Adoption(**rows[0]) if rows else None


def adopt(connection: Connection, store: Store, schema: str, *, now: datetime) -> Origin:
    """Make this database the one that writes what the archive has under its name; see the module."""
    origin = read_origin(connection, schema)
    earlier = read_manifests(store, origin.place)
    manifest = Manifest(
        leaf="",
        oid=0,
        lower=None,
        upper=None,
        digest="",
        events=0,
        files=(),
        created_at=after(earlier, now).isoformat(),
        toolkit=__version__,
        server_version=connection.info.server_version,
        previous=fingerprint(earlier[-1]) if earlier else None,
        columns=(),
        origin=origin,
    )
    adoption = Adoption(
        archive=store.address(FOLDER), name=manifest.name, fingerprint=fingerprint(manifest)
    )
    with connection.transaction():
        connection.execute(
            render(
                "partitions/finished",
                schema=schema,
                command=ADOPTED,
                now=now,
                succeeded=True,
                summary=json.dumps(asdict(adoption)),
            )
        )
        with store.create(manifest.name) as file:
            file.write(manifest.as_bytes())
    return origin


def after(earlier: list[Manifest], now: datetime) -> datetime:
    """A time for the next manifest, so that they sort as they follow each other, whatever clocks do."""
    if not earlier:
        return now
    last = datetime.fromisoformat(earlier[-1].created_at)
    return max(now, last + timedelta(microseconds=1))
