"""Erasure: values that nobody may keep are replaced in every event that has them, and an R event tells of it."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from audit_toolkit import exact_json
from audit_toolkit.attribution.attach import apply_context
from audit_toolkit.attribution.current import current_document
from audit_toolkit.catalog import find_relation
from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.errors import AuditError, UnknownTableError, UsageError
from audit_toolkit.names import QualifiedName, quote_identifier
from audit_toolkit.templates import render
from audit_toolkit.trail.revert.database_errors import database_errors
from audit_toolkit.trail.rows.keys import key_parts, normalise_key, read_key_columns

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


BROUGHT = "audit_archived_events"
"""The table of the transaction that archived events are brought into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What is to be erased, and why."""

    table: str
    reason: str
    rows: Sequence[str] = ()
    """Primary keys; without any, every row that the table ever had."""
    columns: Sequence[str] = ()
    context_keys: Sequence[str] = ()
    keys: bool = False
    """Also replace the primary keys of the rows."""
    query: bool = False
    """Also the text of the statements."""
    ticket: str | None = None
    force: bool = False
    """Also in partitions that are held."""
    leave_archives: bool = False
    """Although archives may hold such events: these are left as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What was erased, or would be."""

    table: QualifiedName
    redactions: tuple[int, ...]
    """The R events: one for each set of names that the columns had; none for a plan."""
    events: int
    keys: int
    """How many keys the rows of these events have, or had."""
    columns: tuple[str, ...]
    context_keys: tuple[str, ...]
    partitions: tuple[str, ...]
    held: tuple[str, ...] = ()
    """Partitions that are held, with the reasons."""
    archived: tuple[str, ...] = ()
    """Partitions that are in an archive, which may hold such events."""
    with_query: int = 0
    """Events of these rows that keep the text of their statement."""
    reached: bool = False
    """Whether archives were looked into."""
    files: tuple[str, ...] = ()
    """Files of archives: those that were written in place of others, or for a plan those that would be replaced."""

    signed: tuple[int, ...] = ()
    """The R events with a signature of what is left of sealed events."""

    def as_dict(self) -> dict[str, Any]:
        """The redaction as JSON values."""
        return {
            "table": [self.table.schema, self.table.name],
            "redactions": list(self.redactions),
            "events": self.events,
            "keys": self.keys,
            "columns": list(self.columns),
            "context_keys": list(self.context_keys),
            "partitions": list(self.partitions),
            "held": list(self.held),
            "archived": list(self.archived),
            "with_query": self.with_query,
            "archives_reached": self.reached,
            "files": list(self.files),
            "signed": list(self.signed),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events may be meant: what archives are searched for."""

    table: QualifiedName
    keys: Sequence[str] | None
    whole_transactions: bool
    """Also of events that share a transaction with these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedFile:
    """A file that an archive has in place of one with the values."""

    path: str
    sha256: str


class Archives(Protocol):
    """What was archived, for a redaction to reach it (`audit_toolkit.archive.Archives`)."""

    def may_write(self) -> bool:
        """Whether this role may note where archives are, as the owner of the trail may."""
        ...

    def prepare(self) -> None:
        """Finish what was interrupted; outside of the transaction."""

    def bring(self, wanted: Wanted, *, apply: bool) -> None:
        """Have the database find archived events that may be meant, for the transaction."""

    def find(self, events: Collection[int]) -> tuple[str, ...]:
        """The files that would be replaced."""
        ...

    def rewrite(
        self, events: Collection[int], redaction: int, notes: Mapping[int, str]
    ) -> tuple[ErasedFile, ...]:
        """Write the files anew that hold any of these events; `notes` are the signed ones, by redaction."""
        ...

    def take_away(self) -> None:
        """Have the database forget what was brought."""

    def finish(self) -> None:
        """After the commit: remove what was replaced."""


class RedactionSigner(Protocol):
    """Who signs what redactions leave of sealed events (`audit_toolkit.seals.RedactionSigner`)."""

    def require_owner(self) -> None:
        """Raise for a role that cannot read what it should sign."""

    def before(self, events: Collection[int]) -> None:
        """Note what these events are, before anything of them is erased."""

    def sign(self, redaction: int, events: Collection[int], erasure: Erased) -> str | None:
        """The signed note of what is left; None where nothing of it was sealed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was erased of some events at once."""

    columns: Collection[str]
    """Under the names that they had."""
    context_keys: Collection[str]
    keys: bool
    query: bool


def redact(
    connection: Connection,
    erasure: Erasure,
    *,
    apply: bool,
    schema: str = "audit",
    archives: Archives | None = None,
    signer: RedactionSigner | None = None,
) -> Redaction:
    """Erase values from all events of the rows, under all keys and names that they had; or say what would be.

    All of it is one transaction: what is interrupted has changed nothing, save that former files of archives may still
    be there, which the next redaction or run of maintenance removes. Nobody who writes waits for it; sealing,
    maintenance and archiving do. What was erased is in the files of the server until VACUUM FULL (docs/gdpr.md).
    Needs the right to execute `redact` (audit grants --redactor), and the owner of the trail where archives are to be
    reached, outside of a transaction; and where a `signer` signs what is left of sealed events. Raises `UsageError` for
    what cannot be asked, and `AuditError` for held partitions, archives, and whatever else the server refuses.
    """
    _require_sense(erasure)
    table, keys = _find(connection, schema, erasure)
    if archives and (erasure.leave_archives or not archives.may_write()):
        archives = None
    if signer and apply:
        signer.require_owner()
    work = _Work(connection, schema, erasure, table, keys, archives, signer)
    with database_errors("redact"):
        if archives and apply:
            archives.prepare()
        with connection.transaction():
            # Sealing, maintenance and archiving take the same locks: who comes second is told so.
            connection.execute("set local lock_timeout = '3s'")
            if apply and current_document():
                apply_context(connection)
            done = work.apply() if apply else work.plan()
            if archives and not apply:
                # What was brought from archives does not stay.
                raise import_psycopg().Rollback
        if archives and apply:
            archives.finish()
    return done


def _require_sense(erasure: Erasure) -> None:
    if not (erasure.columns or erasure.context_keys or erasure.keys or erasure.query):
        raise UsageError(
            "nothing to redact is named", hint="add --column, --context, --keys or --query"
        )
    if erasure.keys and not erasure.rows:
        raise UsageError("--keys needs the keys of rows", hint="name them behind the table")


@dataclass(frozen=True, slots=True)
class _Done:
    """Events of which values were erased, and no event says so yet."""

    said: dict[str, Any]
    own: dict[str, Any]
    note: str | None

    @property
    def redaction(self) -> int:
        """The number of the event that has to say so."""
        number: int = self.said["redaction"]
        return number


@dataclass(frozen=True, slots=True)
class _Work:
    """A redaction, within its transaction."""

    connection: Connection
    schema: str
    erasure: Erasure
    table: QualifiedName
    keys: list[str]
    archives: Archives | None
    signer: RedactionSigner | None

    def plan(self) -> Redaction:
        """Find what would be erased."""
        self.bring(apply=False)
        found = [self.ask(some) for some in self.sets()]
        files = self.archives.find(_events(found)) if self.archives else ()
        return self.summed(found, (), files)

    def apply(self) -> Redaction:
        """Erase it."""
        self.bring(apply=True)
        found, redactions = list[dict[str, Any]](), list[int]()
        erased: list[_Done] = []
        for some in self.sets():
            said = self.ask(some)
            found.append(said)
            if not self.archives:
                _require_reachable(said, self.erasure)
            if self.archives or self.signer:
                erased += self.erase(said["groups"])
            else:
                redactions += [number for number, _ in self.call("redact", said["groups"])]
        files: tuple[str, ...] = ()
        if self.archives:
            erased, files = self.reach(self.archives, _events(found), erased)
        elif self.signer:
            self.announce(erased, ())
        redactions += [done.redaction for done in erased]
        signed = tuple(done.redaction for done in erased if done.note)
        return replace(self.summed(found, redactions, files), signed=signed)

    def bring(self, *, apply: bool) -> None:
        """Have archived events found, too."""
        if self.archives:
            shared = bool(self.erasure.context_keys or self.erasure.query)
            wanted = Wanted(table=self.table, keys=self.keys or None, whole_transactions=shared)
            self.archives.bring(wanted, apply=apply)

    def sets(self) -> list[list[str] | None]:
        """The keys, by what is erased at once: with --keys, the events of one row get one key in place of its own."""
        if not self.keys:
            return [None]
        return [[key] for key in self.keys] if self.erasure.keys else [self.keys]

    def ask(self, keys: list[str] | None) -> dict[str, Any]:
        """Which events hold what is to be erased."""
        question = {
            "row_keys": keys,
            "columns": list(self.erasure.columns),
            "with_keys": self.erasure.keys,
        }
        sql = render("queries/redactable", trail_schema=self.schema)
        [row] = fetch(self.connection, sql, self.asked() | question)
        said: dict[str, Any] = row["said"]
        _require_known(self.table, said, keys)
        return said

    def asked(self) -> dict[str, Any]:
        """What the functions of the trail take."""
        return {
            "schema_name": self.table.schema,
            "table_name": self.table.name,
            "context_keys": list(self.erasure.context_keys),
            "with_query": self.erasure.query,
            "force": self.erasure.force,
            "reason": self.erasure.reason,
            "ticket": self.erasure.ticket,
        }

    def call(self, function: str, groups: list[dict[str, Any]]) -> list[tuple[Any, dict[str, Any]]]:
        """Call a function for each group of events; what it returns, with what it was told."""
        sql = render(f"queries/{function}", trail_schema=self.schema)
        done = []
        for group in groups:
            own = {
                "ids": group["ids"],
                "columns": group["columns"],
                "with_keys": self.erasure.keys and group["is_own"],
            }
            [row] = fetch(self.connection, sql, self.asked() | own)
            done.append((next(iter(row.values())), own))
        return done

    def erase(self, groups: list[dict[str, Any]]) -> list[_Done]:
        """Erase values of each group of events, and sign what is left."""
        done = []
        for group in groups:
            if self.signer:
                self.signer.before(group["ids"])
            [(said, own)] = self.call("erase_events", [group])
            note = None
            if self.signer:
                what = Erased(
                    columns=own["columns"],
                    context_keys=self.erasure.context_keys,
                    keys=own["with_keys"],
                    query=self.erasure.query,
                )
                note = self.signer.sign(said["redaction"], own["ids"], what)
            done.append(_Done(said, own, note))
        return done

    def reach(
        self, archives: Archives, events: set[int], erased: list[_Done]
    ) -> tuple[list[_Done], tuple[str, ...]]:
        """Write the files of archives anew, then the events that say what was erased, and which files there are now."""
        if not erased and archives.find(events):
            # Redacted in the database alone before: an event says that the archive follows.
            nothing = {"ids": [], "columns": list(self.erasure.columns), "is_own": False}
            erased = self.erase([nothing])
        notes = {done.redaction: done.note for done in erased if done.note}
        written = archives.rewrite(events, erased[0].redaction, notes) if erased else ()
        archives.take_away()
        self.announce(erased, written)
        return erased, tuple(file.path for file in written)

    def announce(self, erased: list[_Done], written: Sequence[ErasedFile]) -> None:
        """Write the events that say what was erased."""
        files = [{"path": file.path, "sha256": file.sha256} for file in written]
        sql = render("queries/announce_redaction", trail_schema=self.schema)
        told = {"files": exact_json.dumps(files) if files else None}
        for done in erased:
            more = {"erased": exact_json.dumps(done.said), "note": done.note}
            fetch(self.connection, sql, self.asked() | done.own | told | more)

    def summed(
        self, found: list[dict[str, Any]], redactions: Sequence[int], files: tuple[str, ...]
    ) -> Redaction:
        """What was found, or done, as one."""

        def together(name: str) -> tuple[Any, ...]:
            return tuple(dict.fromkeys(value for said in found for value in said.get(name, ())))

        return Redaction(
            table=self.table,
            redactions=tuple(redactions),
            events=len(_events(found)),
            keys=sum(said["keys"] for said in found),
            columns=together("columns"),
            context_keys=tuple(self.erasure.context_keys),
            partitions=tuple(name for name in together("partitions") if not name.endswith(BROUGHT)),
            held=together("held"),
            archived=together("archived"),
            with_query=sum(said["with_query"] for said in found),
            reached=self.archives is not None,
            files=files,
        )


def _events(found: list[dict[str, Any]]) -> set[int]:
    return {number for said in found for group in said["groups"] for number in group["ids"]}


def _require_known(table: QualifiedName, said: dict[str, Any], rows: list[str] | None) -> None:
    """Raise `UsageError` for a column or a row that the trail never had: nobody is to believe it erased."""
    if said["unknown"]:
        names = ", ".join(quote_identifier(name) for name in said["unknown"])
        raise UsageError(
            f"{table} has no column {names}, and no event has one of that name",
            hint=f"audit history {table} shows the columns, under their present names",
        )
    for one in said["renamed"]:
        raise UsageError(
            f"the column {quote_identifier(one['was'])} of {table} is called {quote_identifier(one['now'])} now",
            hint=f"name it by its present name: --column {shlex.quote(one['now'])}",
        )
    if rows and not said["found"]:
        raise UsageError(
            f"no such row in the trail: {table} {', '.join(rows)}",
            hint="keys are those that the row has or had, a JSON array for a key of several columns; of a table "
            "that never had one, all rows are redacted: without a key",
        )


def _require_reachable(said: dict[str, Any], erasure: Erasure) -> None:
    """Raise `AuditError` where a value would stay that nothing here can erase."""
    if said["archived_here"]:
        raise AuditError(
            f"partitions with these events are archived already: {', '.join(said['archived_here'])}",
            hint="once they are dropped (audit partitions run), redact what is left with --leave-archives",
        )
    if said["archived"] and not erasure.leave_archives:
        raise AuditError(
            f"archives may hold such events: {', '.join(said['archived'])}",
            hint="run audit redact as the owner of the trail, who can have them written anew, or add "
            "--leave-archives to redact what is in the database alone",
        )


def _find(connection: Connection, schema: str, erasure: Erasure) -> tuple[QualifiedName, list[str]]:
    """The table, and the keys as the trail has them; of a table that is gone as they were given."""
    try:
        relation = find_relation(connection, erasure.table)
    except UnknownTableError:
        schema, dot, name = erasure.table.partition(".")
        if not dot:
            raise
        return QualifiedName(schema, name), list(erasure.rows)
    columns = read_key_columns(connection, relation.oid)
    table = relation.root or relation.name
    if not columns:
        return table, list(erasure.rows)  # it may have had a key
    # A former key may be of a former type, and one that was erased is of none.
    known = [(normalise_key(connection, columns, key_parts(key)), key) for key in erasure.rows]
    given = [key for normal, key in known if normal is None]
    found = [normal for normal, _ in known if normal is not None]
    return table, [*_with_equal(connection, schema, relation.oid, found), *given]


def _with_equal(connection: Connection, schema: str, oid: int, keys: list[str]) -> list[str]:
    """The keys as the trail has them (1.5 as 1.50), for who may read it: the type may be anybody's."""
    asked = {"function": f"{quote_identifier(schema)}.equal_keys(regclass, text)", "relation": oid}
    [may] = fetch(
        connection,
        "select has_function_privilege(to_regprocedure(%(function)s), 'execute') as ask",
        asked,
    )
    if not may["ask"]:
        return keys
    sql = render("queries/keys_equal_to", trail_schema=schema)
    rows = fetch(connection, sql, asked | {"keys": keys})
    return [row["key"] for row in rows]
