"""Time travel: a row or a table as it was, and what became of it between two moments.

The server does the work, by the functions `audit.row_at` and `audit.table_at`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.catalog import find_relation
from audit_toolkit.connection import (
    fetch,
    first_line,
    import_psycopg,
    prepared_session,
    refusals,
)
from audit_toolkit.errors import AuditError, RedactedError, UsageError
from audit_toolkit.exact_json import Json
from audit_toolkit.names import Sql, quote_identifier
from audit_toolkit.templates import render
from audit_toolkit.trail.event import Row
from audit_toolkit.trail.rows.keys import read_key_columns
from audit_toolkit.trail.rows.lookup import Subject, find_subject, trail_table

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

FETCH_SIZE = 500
"""Rows that the server is asked for at a time."""
_EVENTS_PER_ROW = 100
"""So many events are read in the time in which one row is looked up at two moments."""
_MOST_LOOKED_UP = 1_000_000
"""Of a time with so many events the table is read, however long the trail: no more are counted."""


OnRedacted = Callable[[], None]
"""Called once where rows have redacted values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A row that was another at the end: inserted (before None), deleted (after None) or changed."""

    key: str
    before: Row | None
    after: Row | None

    @property
    def changed(self) -> dict[str, tuple[Json, Json]]:
        """The columns that differ, each with both values; all columns of a row that came or went."""
        before, after = self.before or {}, self.after or {}
        return {
            column: (before.get(column), after.get(column))
            for column in before | after
            if column not in before
            or column not in after
            or not exact_json.same(before[column], after[column])
        }

    def as_dict(self) -> dict[str, Json]:
        """The difference as JSON values."""
        kind = "inserted" if self.before is None else "deleted" if self.after is None else "changed"
        return {
            "row_key": self.key,
            "kind": kind,
            "changed": self.changed,
            "before": self.before,
            "after": self.after,
        }


def row_at(
    connection: Connection,
    table: str,
    key: object,
    at: datetime,
    *,
    schema: str = "audit",
    on_redacted: OnRedacted | None = None,
) -> Row | None:
    """The row with a key as it was at a moment, in the table's present columns; None without one.

    Of a table that was dropped: as it was captured. Events at the moment itself count. A row with redacted values is
    refused; with `on_redacted`, `{"audit:redacted": N}` stands in their place.
    Raises `AuditError` where the trail does not reach back that far, and what `find_subject` raises.
    """
    require_zone(at)
    subject = find_subject(connection, table, key, schema=schema)
    plain = render("queries/row_at", trail_schema=schema, relation=_relation(subject))

    def find(sql: str, more: dict[str, object]) -> Row | None:
        with answered(), prepared_session(connection):
            for one in subject.keys:
                asked = subject.parameters | {"row_key": one, "at": at} | more
                for row in fetch(connection, sql, asked):
                    if row["image"] is not None:
                        return _row(row["image"])
        return None

    try:
        return find(plain, {})
    except RedactedError:
        if on_redacted is None:
            raise
    on_redacted()
    marked = _with_marks(subject, single=True, csv=False)
    return find(marked, {"columns": list(subject.columns)})


def table_at(
    connection: Connection,
    table: str,
    at: datetime,
    *,
    schema: str = "audit",
    on_redacted: OnRedacted | None = None,
) -> Generator[Row, None, None]:
    """All rows that a table had at a moment, in no order, with flat memory however many they are.

    Until the generator is exhausted or closed, a cursor and a transaction stay open. Rows with redacted values are
    refused; with `on_redacted`, `{"audit:redacted": N}` stands in their place.
    Raises `AuditError` where the trail does not reach back that far, and what `find_subject` raises.
    """
    subject = find_subject(connection, table, schema=schema)
    for image in stream_table_at(connection, subject, at, on_redacted):
        yield exact_json.loads(image)


def stream_table_at(
    connection: Connection, subject: Subject, at: datetime, on_redacted: OnRedacted | None = None
) -> Generator[str, None, None]:
    """Like `table_at`, each row as JSON text."""
    plain = _table_at(subject, at, csv=False)
    try:
        yield from _stream(connection, plain, {"at": at})
    except RedactedError:
        _require_marks(connection, subject, on_redacted)
    else:
        return
    asked = subject.parameters | {"at": at, "columns": list(subject.columns)}
    yield from _stream(connection, _with_marks(subject, csv=False), asked)


def _stream(
    connection: Connection, sql: str, asked: dict[str, object]
) -> Generator[str, None, None]:
    with answered(), prepared_session(connection), connection.cursor("audit_table_at") as cursor:
        cursor.itersize = FETCH_SIZE
        cursor.execute(sql, asked)
        for (image,) in cursor:
            yield image


def copy_table_at(
    connection: Connection,
    subject: Subject,
    at: datetime,
    hide: Collection[str] = (),
    on_redacted: OnRedacted | None = None,
) -> Generator[bytes, None, None]:
    """Like `table_at`, as the bytes of a CSV file with a line of names, as COPY writes it.

    Without the columns that `hide` names. In place of a redacted value stands `redacted (event N)`.
    """
    plain = _table_at(subject, at, csv=True, hide=hide)
    try:
        yield from _copy(connection, plain, {"at": at})
    except RedactedError:
        _require_marks(connection, subject, on_redacted)
    else:
        return
    marked = _with_marks(subject, csv=True, hide=hide)
    yield from _copy(connection, marked, subject.parameters | {"at": at})


def _copy(
    connection: Connection, sql: str, asked: dict[str, object]
) -> Generator[bytes, None, None]:
    with answered(), prepared_session(connection), connection.cursor().copy(sql, asked) as copy:
        # The header is written before the query runs: no file is created if the query is refused.
        names = next(iter(copy), b"")
        for part in copy:
            yield bytes(names) + bytes(part)
            names = b""
        if names:
            yield bytes(names)


def _require_marks(
    connection: Connection, subject: Subject, on_redacted: OnRedacted | None
) -> None:
    """Say that rows have redacted values; raise what is being handled where nobody wants them, or rows have no key."""
    relation = find_relation(connection, str(subject.table)) if on_redacted else None
    if on_redacted is None or not relation or not read_key_columns(connection, relation.oid):
        raise  # noqa: PLE0704 - called where it is handled
    on_redacted()


def _with_marks(
    subject: Subject, *, csv: bool, single: bool = False, hide: Collection[str] = ()
) -> str:
    return render(
        "queries/rows_with_marks",
        trail_schema=subject.schema,
        relation=_relation(subject),
        single=single,
        csv=csv,
        columns=[column for column in subject.columns if column not in hide],
    )


def diff(
    connection: Connection,
    table: str,
    since: datetime,
    until: datetime,
    *,
    schema: str = "audit",
) -> Generator[Difference, None, None]:
    """The rows of a table that were others at `until` than at `since`, by key as text.

    Rows are as they were captured. What changed and changed back is no difference.
    Raises `UsageError` for a table without a primary key, and what `find_subject` raises.
    """
    require_zone(since)
    require_zone(until)
    if since >= until:
        raise UsageError(
            f"since must be earlier than until: {since.isoformat()} is not before "
            f"{until.isoformat()}"
        )
    subject = find_subject(connection, table, schema=schema)
    _require_key(connection, subject)
    trail = trail_table(schema)
    parameters = subject.parameters | {"since": since, "until": until}
    answer = fetch(
        connection,
        render("queries/truncated_between", trail=trail, names=subject.names),
        parameters,
    )
    truncated = answer[0]["truncated"]
    size = parameters | {"most": _MOST_LOOKED_UP, "events_per_row": _EVENTS_PER_ROW}
    large = fetch(
        connection,
        render("queries/diff_size", trail=trail, names=subject.names, truncated=truncated),
        size,
    )[0]["is_large"]
    sql = render(
        "queries/diff_by_table" if large else "queries/diff_by_rows",
        trail=trail,
        trail_schema=schema,
        names=subject.names,
        truncated=truncated,
    )
    with answered(), connection.transaction(), connection.cursor("audit_diff") as cursor:
        for check in ("queries/require_life", "queries/warn_of_gap"):
            connection.execute(render(check, trail_schema=schema), {"row_key": None, **parameters})
        cursor.itersize = FETCH_SIZE
        cursor.execute(sql, parameters)
        for key, before, after in cursor:
            yield Difference(key=key, before=_row(before), after=_row(after))


def _require_key(connection: Connection, subject: Subject) -> None:
    """Raise `UsageError` for a table whose events do not say which row they are about."""
    if not subject.is_there:
        return
    relation = find_relation(connection, str(subject.table))
    if not read_key_columns(connection, relation.oid):
        raise UsageError(
            f"{subject.table} has no primary key: its rows cannot be told apart",
            hint=f"audit history {subject.table.plain} shows its events",
        )


def require_zone(moment: datetime) -> None:
    """Raise `UsageError` for a time that does not say which moment it is."""
    if moment.tzinfo is None:
        raise UsageError(
            f"{moment.isoformat()} has no time zone",
            hint="give one: datetime(…, tzinfo=UTC)",
        )


@contextmanager
def answered() -> Iterator[None]:
    """Turn what the functions of the trail refuse into `AuditError`, with their hint."""
    errors = import_psycopg().errors
    try:
        with refusals():
            yield
    except errors.Error as error:
        if error.sqlstate == "42883" and error.diag.statement_position:
            raise AuditError(
                f"the trail lacks a function of this version: {first_line(error)}",
                hint="run audit upgrade, or grant its execution: audit grants",
            ) from error
        if not _is_of_a_value(error):
            raise
        raise AuditError(
            f"recorded values cannot be read as the present type: {first_line(error)}",
            hint="audit history shows the rows as they were recorded",
        ) from error


def _is_of_a_value(error: psycopg.Error) -> bool:
    """Whether the input of a type refused a value: a domain's check may raise anything, `regclass` finds no table."""
    state = error.sqlstate or ""
    return (
        state[:2] in ("22", "23", "3F", "42", "P0")
        and state != "42501"
        and not error.diag.statement_position
    )


def _table_at(subject: Subject, at: datetime, *, csv: bool, hide: Collection[str] = ()) -> str:
    require_zone(at)
    relation = _relation(subject)
    if relation is None:
        raise UsageError(
            f"{subject.table} no longer exists, so its rows have no type",
            hint="audit row-at shows single rows of it, audit history all its events",
        )
    return render(
        "queries/table_at",
        trail_schema=subject.schema,
        relation=relation,
        relation_name=str(subject.table.plain.replace("%", "%%")),
        csv=csv,
        columns=tuple(
            Sql(quote_identifier(column).replace("%", "%%"))
            for column in subject.columns
            if column not in hide
        )
        if hide
        else (Sql("*"),),
    )


def _relation(subject: Subject) -> Sql | None:
    """The table as SQL that is sent with parameters; None for one that is gone."""
    return Sql(subject.table.sql.replace("%", "%%")) if subject.is_there else None


def _row(image: str | None) -> Row | None:
    return None if image is None else exact_json.loads(image)
