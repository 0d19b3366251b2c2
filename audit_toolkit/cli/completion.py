"""What the shell offers behind `audit …`: tables, columns, keys, marks and partitions of the database.

An option is completed by its metavar, so that every TABLE of every command is. The database is asked
for a second at most, and where it cannot be, nothing is offered and nothing said. Nothing of this is
loaded but when the shell asks.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any

from audit_toolkit.cli.database import find_address
from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.errors import AuditError
from audit_toolkit.names import NamePattern, quote_identifier
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

Asked = Callable[[Any, str], Iterable[str]]
"""Finds the values for the context of a command line and the word that was begun."""

_PATIENCE = {"connect_timeout": 2, "options": "-c statement_timeout=1000 -c lock_timeout=200"}


def complete_values(name: str, command: Any) -> None:
    """Let the parameters of a command offer what their metavar names."""
    for parameter in command.params:
        if finder := _finder(name, parameter):
            # What Typer's own autocompletion= sets, without an option list in each command.
            parameter._custom_shell_complete = _offering(finder)


def _finder(command: str, parameter: Any) -> Asked | None:
    if command == "revert" and parameter.name == "row":
        return _row
    if parameter.name == "to_mark":
        return _marks
    metavar = str(parameter.metavar or "").strip("[]").partition("=")[0].partition("[")[0]
    if metavar == "TABLE":
        return _any_tables if command in _OF_ANY_TABLE else _tables
    return _BY_METAVAR.get(metavar)


def _offering(finder: Asked) -> Callable[[Any, Any, str], list[str]]:
    def offer(context: Any, _parameter: Any, incomplete: str) -> list[str]:
        try:
            found = [v for v in finder(context, incomplete) if v.startswith(incomplete)]
        except (AuditError, OSError, ValueError, import_psycopg().Error):
            return []
        return [_for_the_shell(value) for value in found]

    return offer


def _for_the_shell(value: str) -> str:
    """The value as it has to be typed; zsh and fish quote what they insert by themselves."""
    return shlex.quote(value) if os.environ.get("_AUDIT_COMPLETE", "").endswith("bash") else value


# -- values -------------------------------------------------------------------------------------------


def _tables(context: Any, incomplete: str) -> list[str]:
    return _table_names(context, incomplete, audited=True)


def _any_tables(context: Any, incomplete: str) -> list[str]:
    return _table_names(context, incomplete, audited=False)


def _table_names(context: Any, incomplete: str, *, audited: bool) -> list[str]:
    with _database(context) as connection:
        sql = render(
            "queries/completions", what="tables", trail_schema=_schema(context), audited=audited
        )
        rows = fetch(connection, sql, {})
    return [
        f"{quote_identifier(row['schema_name'])}.{quote_identifier(row['name'])}"
        if "." in incomplete or row["short_name"] is None
        else quote_identifier(row["name"])
        for row in rows
    ]


def _columns(context: Any, _incomplete: str) -> list[str]:
    tables = _named_tables(context)
    with _database(context) as connection:
        sql = render(
            "queries/completions",
            what="columns",
            trail_schema=_schema(context),
            tables=bool(tables),
        )
        return [row["name"] for row in fetch(connection, sql, {"tables": tables})]


def _keys(context: Any, incomplete: str) -> list[str]:
    table = context.params.get("table")
    return _keys_of(context, table, context.params.get("key") or (), incomplete) if table else []


def _row(context: Any, incomplete: str) -> list[str]:
    table, *parts = context.params.get("row") or [None]
    if table is None:
        return _tables(context, incomplete)
    return _keys_of(context, table, parts, incomplete)


def _keys_of(context: Any, table: str, parts: Sequence[str], incomplete: str) -> list[str]:
    """Keys of one column as they are; of several, the values of the column that comes next."""
    from audit_toolkit.trail.rows.lookup import trail_table

    schema = _schema(context)
    sql = render("queries/completions", what="keys", trail_schema=schema, trail=trail_table(schema))
    begins = _begins(parts, incomplete) if parts else [incomplete, *_begins(parts, incomplete)]
    with _database(context) as connection:
        keys = [
            row["name"]
            for begin in begins
            for row in fetch(
                connection, sql, {"table": str(NamePattern.parse(table)), "begin": begin}
            )
        ]
    return list(dict.fromkeys(_next_part(keys, parts)))


def _begins(parts: Sequence[str], incomplete: str) -> list[str]:
    """How a key of several columns may begin in the trail: each value may be text or a number."""
    forms = [[json.dumps(p), p] if _is_number(p) else [json.dumps(p)] for p in parts]
    return [
        "[" + "".join(f"{value}, " for value in values) + begun
        for values in product(*forms)
        for begun in ([f'"{incomplete}', incomplete] if incomplete else [""])
    ]


def _next_part(keys: Iterable[str], parts: Sequence[str]) -> Iterator[str]:
    for key in keys:
        if not key.startswith("["):
            yield key
            continue
        values = json.loads(key)
        if isinstance(values, list) and len(values) > len(parts):
            value = values[len(parts)]
            yield value if isinstance(value, str) else json.dumps(value)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdigit()


def _marks(context: Any, _incomplete: str) -> list[str]:
    from audit_toolkit.trail.rows.lookup import trail_table

    schema = _schema(context)
    with _database(context) as connection:
        sql = render("queries/marks", trail=trail_table(schema), named=False)
        return [row["name"] for row in fetch(connection, sql, {"schema_name": schema})]


def _partitions(context: Any, _incomplete: str) -> list[str]:
    with _database(context) as connection:
        sql = render("queries/completions", what="partitions", trail_schema=_schema(context))
        return [row["name"] for row in fetch(connection, sql, {})]


def _actions(_context: Any, _incomplete: str) -> list[str]:
    from audit_toolkit.trail import Action

    return [action.name.lower() for action in Action]


_BY_METAVAR: dict[str, Asked] = {
    "ACTION": _actions,
    "COLUMN": _columns,
    "KEY": _keys,
    "PARTITION": _partitions,
}
_OF_ANY_TABLE = ("install", "check", "fix")
"""Commands that are about tables which are not audited, too."""


# -- the database -------------------------------------------------------------------------------------


@contextmanager
def _database(context: Any) -> Iterator[Connection]:
    """The database that the command would be about, if it answers at once."""
    address = find_address(context.params.get("dsn"), context.params.get("config"))
    with import_psycopg().connect(
        address, autocommit=True, fallback_application_name="audit-toolkit/shell", **_PATIENCE
    ) as connection:
        yield connection


def _schema(context: Any) -> str:
    return str(context.params.get("audit_schema") or "audit")


def _named_tables(context: Any) -> list[str]:
    """The tables that the command line names so far, as SQL."""
    named = [context.params.get(name) or () for name in ("table", "tables")]
    if not any(named):
        # Parsing stops at the option whose value is being typed, before the arguments.
        named = [context.args[:1]]
    single = [(value,) if isinstance(value, str) else value for value in named]
    return [str(NamePattern.parse(name)) for names in single for name in names]
