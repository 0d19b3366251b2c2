"""`audit archive register`: create or update an Apache Iceberg table of the archive."""

from __future__ import annotations

from audit_toolkit.archive import Store, Target, read_manifests
from audit_toolkit.archive import register as register_files
from audit_toolkit.cli.archive.common import (
    From,
    Url,
    whose,
)
from audit_toolkit.cli.options import TrailSchema
from audit_toolkit.cli.partition_run import (
    Iceberg,
)
from audit_toolkit.errors import UsageError
from audit_toolkit.plurals import counted


def register(
    archive: Url,
    iceberg: Iceberg = None,
    place: From = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Create or update an Apache Iceberg table of the archive.

    Its files are registered, not copied. `audit archive run`, `audit archive export` and
    `audit maintain` do the same with --iceberg (AUDIT_ICEBERG).
    """
    if iceberg is None:
        raise UsageError(
            "no Iceberg catalog given", hint="add --iceberg CATALOG, or set AUDIT_ICEBERG"
        )
    target = Target.parse(iceberg, audit_schema)
    store = Store.open(archive)
    store.require_reachable()
    manifests = read_manifests(store)
    found = register_files(store, whose(manifests, place), manifests, target)
    print(f"{target.table}: {counted(found.added, 'file')} added, {found.removed} removed")
    print(f"metadata: {found.metadata}")
