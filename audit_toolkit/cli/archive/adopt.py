"""`audit archive adopt`: continue the archive of another database in this one."""

from __future__ import annotations

from datetime import UTC, datetime

from audit_toolkit.archive import adopt as adopt_archive
from audit_toolkit.cli.archive.common import (
    Url,
    open_store,
)
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.partition_run import (
    Rotation,
)


def adopt(
    archive: Url,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Continue the archive of another database in this one.

    For use after a failover or a restore. From then on the other database is refused there. Nothing is
    moved or removed.
    """
    options = Rotation(dsn=dsn, config=config, audit_schema=audit_schema)
    with options.open_alone() as opened:
        origin = adopt_archive(
            opened.connection, open_store(archive), audit_schema, now=datetime.now(UTC)
        )
    print(f"the archive now continues as that of {origin}")
