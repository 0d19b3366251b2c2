"""Whether the archive still has what the database dropped, trusting it to; reads manifests and names, no events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from audit_toolkit.archive.manifest import read_catalogue
from audit_toolkit.archive.origin import read_expected
from audit_toolkit.archive.store import EVENTS, Store
from audit_toolkit.archive.unfinished import unfinished_findings
from audit_toolkit.archive.verify import Expected
from audit_toolkit.errors import AuditError
from audit_toolkit.findings import Finding, FindingKind, Severity

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def archive_findings(connection: Connection, schema: str, url: str) -> Iterator[Finding]:
    """What was dropped here and is not in the archive, or that the archive cannot be reached."""
    try:
        store = Store.open(url)
        store.require_reachable()
        missing = tuple(_missing(store, read_expected(connection, schema)))
    except AuditError as error:
        yield Finding(
            kind=FindingKind.ARCHIVE_UNREACHABLE,
            severity=Severity.ERROR,
            subject=url,
            message=error.message,
            remedy="make sure that the location exists and can be reached, then try again",
        )
        return
    yield from unfinished_findings(connection, schema)
    for leaf, message in missing:
        yield Finding(
            kind=FindingKind.DROPPED_NOT_ARCHIVED,
            severity=Severity.ERROR,
            subject=f"{schema}.{leaf}",
            message=message,
            remedy="restore the archive from a backup; audit archive verify says what else is "
            "missing",
        )


def _missing(store: Store, expected: Expected) -> Iterator[tuple[str, str]]:
    dropped = [record for record in expected.recorded if record.state == "dropped"]
    if not dropped:
        return
    # A database that was renamed, upgraded or moved to another cluster has archives under each of its names.
    places = {record.place for record in dropped}
    catalogues = [read_catalogue(store, place or None) for place in places]
    manifests = {one.name: one for catalogue in catalogues for one in catalogue.manifests}
    present = {
        path
        for place in places
        for path in store.files(f"{EVENTS}/{place}" if place else "", ".parquet")
    }
    for record in dropped:
        manifest = manifests.get(record.name)
        if manifest is None:
            yield (
                record.leaf,
                (
                    f"dropped from this database, but its manifest {record.name} is missing from the "
                    "archive"
                ),
            )
            continue
        lost = [file.path for file in manifest.files if file.path not in present]
        if lost:
            yield (
                record.leaf,
                (
                    f"dropped from this database, but {len(lost)} of its files are missing from "
                    f"the archive: {lost[0]}"
                ),
            )
