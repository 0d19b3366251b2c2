"""A sealed trail, and what several tests do to it: more events, a redaction, a partition detached and archived."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from audit_toolkit.archive import Archives, Manifest, Store, archive_leaf
from audit_toolkit.connection import connect
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions import read_partitions
from audit_toolkit.seals import (
    FileKey,
    RedactionSigner,
    Report,
    SealRun,
    open_sink,
    read_key,
    read_outside,
    read_public,
    run_seal,
    verify,
)
from audit_toolkit.templates import render
from audit_toolkit.trail import Erasure
from audit_toolkit.trail import redact as redact_trail
from tests.plugins.database import Connection
from tests.plugins.trail import Trail

MORE = "insert into orders select n, 'more', null from generate_series(1000, 1000 + {} - 1) as n"
"""Format it with how many."""
_FORGE = """
    do $$
    declare
        noted bigint := nextval('audit.logged_actions_event_id_seq');
        was text; now text; salt bytea := uuid_send(gen_random_uuid()); kept bytea;
    begin
        insert into audit.redactions values (noted, pg_current_xact_id());
        select new_row::text, ({image})::text into was, now
        from audit.logged_actions where event_id = {event};
        kept := sha256(audit.destroy_salt({event}, 3) || convert_to(was, 'UTF8'));
        update audit.logged_actions set new_row = now::jsonb where event_id = {event};
        insert into audit.redacted_slots
        values ({event}, 3, noted, kept, salt, sha256(salt || convert_to(now, 'UTF8')));
        perform audit.announce_redaction(
            jsonb_build_object('redaction', noted, 'events', 1), 'public', 'orders', '{{{column}}}', '{{}}',
            false, false, false, 'asked to', null, null, null);
        delete from audit.redactions;
    end $$
"""


@dataclass(slots=True)
class Sealed:
    """A database with a trail, and what is kept outside of it."""

    trail: Trail
    folder: Path

    @property
    def key(self) -> Path:
        """The private key."""
        return self.folder / "seal.key"

    @property
    def kept(self) -> Path:
        """Where checkpoints are kept."""
        return self.folder / "kept"

    @property
    def connection(self) -> Connection:
        """That of the owner, in autocommit mode."""
        return self.trail.connection

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run SQL."""
        return self.trail.execute(statement)

    def seal(self, wait: float = 10) -> SealRun:
        """Seal what is certain, and keep the checkpoint."""
        sinks = [open_sink(str(self.kept))]
        return run_seal(self.connection, "audit", read_key(self.key), sinks=sinks, wait=wait)

    def verify(self, jobs: int = 1, since: int = 0) -> Report:
        """Verify everything, with all that is kept outside."""
        with connect(self.trail.database.dsn) as connection:
            return verify(
                connection,
                "audit",
                keys=read_public(self.key),
                outside=read_outside([str(self.kept)]),
                jobs=jobs,
                since=since,
                dsn=self.trail.database.dsn,
            )

    def found(self) -> list[tuple[str, str]]:
        """What verifying finds, as (kind, subject); not that a redaction is not signed where none is."""
        return [(finding.kind, finding.subject) for finding in self.verify().alarms]

    def tamper(self, *statements: str) -> None:
        """Do something as a superuser who switches the guards off, and on again."""
        with psycopg.connect(self.trail.database.dsn) as connection:
            connection.execute("set session_replication_role = replica")
            tables = connection.execute("""
                select c.oid::regclass::text, t.tgname from pg_trigger as t
                join pg_class as c on c.oid = t.tgrelid
                where c.relnamespace = 'audit'::regnamespace and not tgisinternal
            """).fetchall()
            for table, trigger in tables:
                connection.execute(f'alter table {table} disable trigger "{trigger}"'.encode())
            for statement in statements:
                connection.execute(statement.encode())
            for table, trigger in tables:
                there = connection.execute("select to_regclass(%s)", [table]).fetchone()
                if there and there[0]:
                    connection.execute(
                        f'alter table {table} enable always trigger "{trigger}"'.encode()
                    )


def forge_redaction(sealed: Sealed, event: int, column: str, image: str) -> None:
    """What the owner of the trail can do without DDL: all that redact does, but with another new row (SQL of it)."""
    sealed.execute(_FORGE.format(event=event, column=column, image=image))


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


def redact_signed(sealed: Sealed, *rows: str, key: FileKey | None = None, **more: Any) -> int:
    """Erase values of orders as `audit redact --key` does; returns the event that says so."""
    asked = {"table": "orders", "columns": ["note"], "reason": "asked to"} | more
    with connect(sealed.trail.database.dsn) as connection:
        signer = RedactionSigner(
            connection=connection, schema="audit", signer=key or read_key(sealed.key)
        )
        archives = Archives(connection=connection, schema="audit")
        erasure = Erasure(rows=rows, **asked)
        done = redact_trail(connection, erasure, apply=True, archives=archives, signer=signer)
    return done.redactions[0]


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
