"""The slot of the witness and its publications: made, kept up with what is captured, and dropped.

A publication is a line in a catalogue: it changes no table, and costs a writer nothing. So the witness makes its own
when it begins, and adds what is captured later, where a migration would have to come behind each one that captures a
table. Tables without a replica identity are published without UPDATE and DELETE, which PostgreSQL would refuse.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.errors import AuditError, BusyError, PermissionDeniedError, UsageError
from audit_toolkit.names import MAX_NAME_BYTES, QualifiedName, quote_identifier
from audit_toolkit.remedies import psql_command
from audit_toolkit.templates import query, render, render_statements
from audit_toolkit.wal import create_slot, lsn_text

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.witness.tables import Watched

    Connection = psycopg.Connection[Any]

LOCK_TIMEOUT = "2s"
BATCH_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Names:
    """What is made for the witness of a trail; the name of a slot is one for all databases of a server."""

    schema: str
    slot: str
    publication: str
    """Of the trail, and of what is captured."""
    inserts: str
    """Of captured tables whose UPDATE and DELETE cannot be published."""

    @classmethod
    def of(cls, connection: Connection, schema: str) -> Self:
        """The names for the trail of this schema in this database."""
        sql = "select oid::bigint as oid from pg_database where datname = current_database()"
        (row,) = fetch(connection, sql)
        plain = re.sub("[^a-z0-9_]", "_", schema.lower())[:30]
        if plain != schema:  # as another schema may read the same
            plain += f"_{hashlib.sha256(schema.encode()).hexdigest()[:6]}"
        stem = schema.encode()[: MAX_NAME_BYTES - 20].decode(errors="ignore")
        return cls(
            schema, f"{plain}_witness_{row['oid']}", f"{stem}_witness", f"{stem}_witness_new"
        )

    @property
    def published(self) -> str:
        """Both publications, as pgoutput takes them."""
        return f"{quote_identifier(self.publication)},{quote_identifier(self.inserts)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the server has of a witness, and for one."""

    wal_level: str
    keeps_all_wal: bool
    is_standby: bool
    may_replicate: bool
    role_name: str
    owns_trail: bool
    may_create: bool
    has_slot: bool
    active_pid: int | None
    wal_status: str | None
    confirmed: int | None
    """Up to where the slot was confirmed, as a number."""
    lost_because: str | None
    retained_bytes: int | None
    flushed: int | None
    next_xid: int
    publication: str | None
    """The version of the publication; None where it is not there."""
    inserts: str | None
    own_entries: tuple[int, ...]
    """Under which OIDs the publication has the trail and the registry."""


def read_server(connection: Connection, names: Names) -> Server:
    """The slot and the publications as they are now."""
    values = {"slot": names.slot, "publication": names.publication, "inserts": names.inserts}
    (row,) = fetch(connection, render("witness/server", schema=names.schema, **values))
    numbers = {name: row[name] and int(row[name]) for name in ("confirmed", "flushed")}
    return Server(**{**row, **numbers, "own_entries": tuple(row["own_entries"] or ())})


def require_able(server: Server) -> None:
    """Raise `UsageError` or `PermissionDeniedError` where no witness can run, with what to do about it."""
    if server.is_standby:
        raise UsageError(
            "the server is a standby: the witness runs on the primary",
            hint="connect to the primary",
        )
    if server.wal_level != "logical":
        raise UsageError(
            f"wal_level is {server.wal_level}, and the witness needs logical",
            hint=psql_command("alter system set wal_level = logical") + ", then restart the server",
        )
    role = quote_identifier(server.role_name)
    if not server.may_replicate:
        raise PermissionDeniedError(
            f"the role {role} may not read a replication slot",
            hint=f"as a superuser: alter role {role} replication "
            "(Amazon RDS: grant rds_replication to the role)",
        )
    if not server.owns_trail:
        raise PermissionDeniedError(
            f"the role {role} is not a member of the owner of the trail, as which the witness writes",
            hint="connect as the owner of the trail, or grant its role to this one",
        )


def create(connection: Connection, names: Names, server: Server) -> None:
    """Make the publications and the slot, as far as they are not there."""
    if not server.publication or not server.inserts:
        if not server.may_create:
            raise PermissionDeniedError(
                f"the role {quote_identifier(server.role_name)} may not create a publication here",
                hint="grant create on the database to it, or run the witness as the owner of the database",
            )
        with connection.transaction():
            for statement in [
                *_drops(names),
                *render_statements(
                    "witness/create",
                    generated=_generated(connection),
                    **_of(names),
                ),
            ]:
                connection.execute(statement)
    if not server.has_slot:
        try:
            create_slot(connection, names.slot)
        except import_psycopg().errors.ConfigurationLimitExceeded as error:
            raise AuditError(
                "all replication slots of the server are in use",
                hint=psql_command("alter system set max_replication_slots = 20")
                + ", then restart the server",
            ) from error


def read_tables(connection: Connection, names: Names) -> list[dict[str, Any]]:
    """What is captured, as records for `Watched`, with the entries of the publications."""
    sql = render("witness/tables", generated=_generated(connection), **_of(names))
    return fetch(connection, sql)


def publish(connection: Connection, names: Names, table: Watched, former: str | None) -> None:
    """Have a table published, and no longer where it was; raises what psycopg does, also without a lock."""
    with connection.transaction():
        connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
        target = names.publication if table.has_identity else names.inserts
        if former is not None:
            _alter(connection, "remove_table", former, table.name)
        _alter(connection, "add_table", target, table.name)


def unpublish(connection: Connection, publication: str, table: QualifiedName) -> None:
    """Have a table not published any more."""
    with connection.transaction():
        connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
        _alter(connection, "remove_table", publication, table)


def peek(connection: Connection, names: Names, upto: int, at_least: int) -> Iterator[list[bytes]]:
    """The messages of whole transactions that were committed up to there, in batches: as many as it takes.

    Within a transaction of the caller. Values are printed as no setting can change.
    """
    connection.execute(render("queries/wal_settings", of_transaction=True))
    with connection.cursor("audit_witness", binary=True) as cursor:
        cursor.itersize = BATCH_ROWS
        cursor.execute(
            query("witness_peek"),
            {
                "slot": names.slot,
                "upto": lsn_text(upto),
                "at_least": at_least,
                "publications": names.published,
            },
        )
        while rows := cursor.fetchmany(BATCH_ROWS):
            yield [data for (data,) in rows]


def drop_slot(connection: Connection, names: Names, server: Server) -> None:
    """Drop the slot, so that no WAL is kept for it. Raises `BusyError` while somebody reads it."""
    if not server.has_slot:
        return
    try:
        connection.execute("select pg_drop_replication_slot(%s)", [names.slot])
    except import_psycopg().errors.ObjectInUse as error:
        raise BusyError(
            f"somebody reads the slot {names.slot} (pid {server.active_pid})",
            hint="end audit witness run first",
        ) from error


def drop(connection: Connection, names: Names, server: Server) -> None:
    """Drop all that was made for the witness; what it found stays in the trail."""
    drop_slot(connection, names, server)
    with connection.transaction():
        for statement in _drops(names):
            connection.execute(statement)
        connection.execute(render("witness/forget", schema=names.schema))


def _drops(names: Names) -> list[str]:
    return render_statements("witness/drop", publication=names.publication, inserts=names.inserts)


def _alter(connection: Connection, verb: str, publication: str, table: QualifiedName) -> None:
    for statement in render_statements(f"witness/{verb}", publication=publication, table=table):
        connection.execute(statement)


def _of(names: Names) -> dict[str, str]:
    return {"schema": names.schema, "publication": names.publication, "inserts": names.inserts}


def _generated(connection: Connection) -> bool:
    """Whether the server can publish generated columns."""
    return connection.info.server_version >= 180000
