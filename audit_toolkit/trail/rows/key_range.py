"""Ranges of keys, compared as the types of the key columns compare, not as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, first_line, import_psycopg, prepared_session
from audit_toolkit.errors import UsageError
from audit_toolkit.templates import query, render
from audit_toolkit.trail.rows.keys import (
    KeyColumn,
    escaped,
    key_parts,
    key_shape,
    key_values,
    read_key_columns,
)
from audit_toolkit.trail.rows.lookup import Subject

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

MOST_SINGLE_KEYS = 1000
"""So many integer keys are looked up one by one; a wider range is read by the length of its keys."""

_INTEGERS = ("smallint", "integer", "bigint")
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRange:
    """Keys from `low` to `high`, both included; of several columns as rows of SQL compare."""

    columns: tuple[KeyColumn, ...]
    low: tuple[str, ...] | None
    high: tuple[str, ...] | None
    singles: tuple[str, ...] = ()
    """All keys of a short range of integers, for the index."""
    spans: tuple[tuple[str, str], ...] = ()
    """A longer one as ranges of text of equal length. Both are empty where text cannot say it."""

    @property
    def parameters(self) -> dict[str, object]:
        """What a query of this range is sent with."""
        values: dict[str, object] = {
            f"{name}_{place}": value
            for name, bound in (("low", self.low), ("high", self.high))
            for place, value in enumerate(bound or ())
        }
        for place, column in enumerate(self.columns):
            values[f"key_name_{place}"] = column.name
        for place, (low, high) in enumerate(self.spans):
            values |= {f"span_low_{place}": low, f"span_high_{place}": high}
        return values | {"single_keys": list(self.singles)}


def find_range(
    connection: Connection, subject: Subject, from_key: object = None, to_key: object = None
) -> KeyRange:
    """The range of a table's keys from one to another; None for one that is open at that end.

    Keys are written as for `find_subject`.

    Raises:
        UsageError: a bound cannot be a key of the table, or the table is gone or has no key, so
            that nothing says how its keys compare.
    """
    columns = _columns(connection, subject)
    low = None if from_key is None else _bound(connection, subject, columns, from_key)
    high = None if to_key is None else _bound(connection, subject, columns, to_key)
    keys = KeyRange(columns=columns, low=low, high=high)
    if (
        low
        and high
        and not fetch(connection, _render("range_order", keys), keys.parameters)[0]["ordered"]
    ):
        raise UsageError(
            f"from_key must not be greater than to_key: {_shown(low)} comes after {_shown(high)}",
            hint="give the lower key first",
        )
    return _with_texts(connection, keys)


@contextmanager
def unreadable_keys(keys: KeyRange | None) -> Iterator[None]:
    """Turn the server's complaint about a key of a former type into a `UsageError`."""
    psycopg = import_psycopg()
    try:
        yield
    except psycopg.DataError as error:
        if keys is None:
            raise
        types = ", ".join(column.type_name for column in keys.columns)
        raise UsageError(
            f"the trail has keys that are not valid {types}: {first_line(error)}",
            hint="the key used to have another type: limit the time to after that change (--since)",
        ) from error


def _columns(connection: Connection, subject: Subject) -> tuple[KeyColumn, ...]:
    (row,) = fetch(connection, query("relation_oid"), {"name": str(subject.table.plain)})
    if row["oid"] is None:
        raise UsageError(
            f"{subject.table} no longer exists, so there is no order of its keys",
            hint="ask for one key, or for all events of the table",
        )
    columns = read_key_columns(connection, row["oid"])
    if not columns:
        raise UsageError(
            f"{subject.table} has no primary key: its rows cannot be told apart",
            hint="leave out the keys to see the history of the whole table",
        )
    return tuple(escaped(column) for column in columns)


def _bound(
    connection: Connection, subject: Subject, columns: Sequence[KeyColumn], key: object
) -> tuple[str, ...]:
    parts = key_parts(key)
    values = key_values(columns, parts)
    if values is None:
        raise _no_key(subject, columns, parts)
    keys = KeyRange(columns=tuple(columns), low=values, high=None)
    errors = import_psycopg().errors
    try:
        with prepared_session(connection):
            fetch(connection, _render("range_bound", keys), keys.parameters)
    except (errors.DataError, errors.IntegrityError) as error:
        raise _no_key(subject, columns, parts) from error
    try:
        with prepared_session(connection):
            (row,) = fetch(connection, _render("range_kept", keys), keys.parameters)
    except errors.DataError as error:
        raise UsageError(
            f"the keys of {subject.table} have no order that the trail can use",
            hint="ask for one key: " + key_shape(columns),
        ) from error
    return tuple(row[f"value_{place}"] for place in range(len(columns)))


def _no_key(subject: Subject, columns: Sequence[KeyColumn], parts: Sequence[str]) -> UsageError:
    return UsageError(
        f"{_shown(parts)} cannot be a key of {subject.table}", hint=key_shape(columns)
    )


def _shown(parts: Sequence[str]) -> str:
    return " ".join(ascii(part) for part in parts)


def _render(name: str, keys: KeyRange) -> str:
    return render(f"queries/{name}", by_range=keys)


def _with_texts(connection: Connection, keys: KeyRange) -> KeyRange:
    (column, *others) = keys.columns
    if others or column.type_name not in _INTEGERS:
        return keys
    # The server accepts more notations of numbers (0x1f, 1_000) than Python.
    (row,) = fetch(connection, _render("range_numbers", keys), keys.parameters)
    low = -_LARGEST - 1 if row["low"] is None else row["low"]
    high = _LARGEST if row["high"] is None else row["high"]
    if high - low < MOST_SINGLE_KEYS:
        return replace(keys, singles=tuple(map(str, range(low, high + 1))))
    return replace(keys, spans=tuple(integer_spans(low, high)))


def integer_spans(low: int, high: int) -> list[tuple[str, str]]:
    """Integers from `low` to `high` as ranges of their texts, the lower text first.

    Texts of one length compare as their numbers do, those of negative numbers the other way round.
    """
    negative = [(f"-{first}", f"-{last}") for first, last in _magnitudes(max(1, -high), -low)]
    return negative + _magnitudes(max(low, 0), high)


def _magnitudes(low: int, high: int) -> list[tuple[str, str]]:
    spans = []
    while low <= high:
        last = min(high, 10 ** len(str(low)) - 1)
        spans.append((str(low), str(last)))
        low = last + 1
    return spans
