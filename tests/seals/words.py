"""What several tests of seals do to a sealed trail: more events, a redaction, a partition detached and archived."""

from __future__ import annotations

from datetime import UTC, datetime

from audit_toolkit.archive import Manifest, Store, archive_leaf
from audit_toolkit.connection import connect
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions import read_partitions
from audit_toolkit.templates import render
from tests.seals.conftest import Sealed

MORE = "insert into orders select n, 'more', null from generate_series(1000, 1000 + {} - 1) as n"
"""Format it with how many."""


def redact(
    sealed: Sealed, events: list[int], columns: list[str], context: list[str] | None = None
) -> int:
    """Erase values of events, as `audit redact` does once it knows which."""
    with connect(sealed.trail.database.dsn) as connection, connection.transaction():
        row = connection.execute(
            "select audit.redact('public', 'orders', %s, %s, %s, false, false, false, 'asked to')",
            [events, columns, context or []],
        ).fetchone()
    assert row is not None
    return int(row[0])


def detach(sealed: Sealed) -> str:
    """Detach the partition with the events; another one takes what comes."""
    [(partition, bounds)] = sealed.execute(
        "select distinct oid::regclass::text, pg_get_expr(relpartbound, oid) from pg_class "
        "where oid in (select tableoid from audit.logged_actions)"
    )
    sealed.execute(f"alter table audit.logged_actions detach partition {partition}")
    [(later,)] = sealed.execute(f"select audit.make_leaf('{str(partition).split('.')[1]}_2')::text")
    sealed.execute(f"alter table audit.logged_actions attach partition {later} {bounds}")
    sealed.execute(
        "insert into audit.partition_lifecycle (leaf, leaf_name, state, detached_at) "
        f"values ('{partition}', '{str(partition).split('.')[1]}', 'detached', now())"
    )
    return str(partition)


def drop(sealed: Sealed, partition: str) -> None:
    """What maintenance does with a detached partition after its quarantine."""
    [(oid,)] = sealed.execute(f"select '{partition}'::regclass::oid::bigint")
    leaf = QualifiedName("audit", partition.split(".")[1])
    values = {"schema": "audit", "leaf": leaf, "oid": oid, "now": datetime.now(UTC)}
    sealed.execute(render("partitions/drop", archive_digest=None, **values))


def archive(sealed: Sealed, store: Store, partition: str) -> Manifest:
    with connect(sealed.trail.database.dsn) as connection:
        entries = read_partitions(connection, "audit").entries
        entry = next(e for e in entries if e.state == "detached" and f"audit.{e.name}" == partition)
        return archive_leaf(connection, store, "audit", entry, now=datetime.now(UTC))
