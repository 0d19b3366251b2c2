"""The condition of a rule (`--when`) read by PostgreSQL, before it decides about anybody's writes."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import Column, Table
from audit_toolkit.condition import called_functions, qualified_names, tokens_of
from audit_toolkit.config import TableRule
from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.errors import RuleError
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_EXAMPLE = "write a condition on the columns of one row, such as: status <> 'draft'"


def check_condition(connection: Connection, table: Table, rule: TableRule, schema: str) -> None:
    """Raise `RuleError` where the condition of a rule cannot be judged on each row of the table.

    It is read by the server, and never run: columns and types are as `table` has them, be it there or
    not. What it calls must be stable, and belong to the owner of the trail or a superuser, as it runs with
    the rights of the trail. Changes nothing; takes no lock.
    """
    if rule.when is None:
        return
    condition = rule.when
    _refuse_foreign_uses(condition, table)
    for other, name in qualified_names(condition):
        if other != "pg_catalog":
            raise RuleError(
                f"--when: {condition!r} names {QualifiedName(other, name)}",
                hint="use column names without the table, and functions with their schema",
            )
    if any(
        token.kind == "word" and token.text in ("select", "table") for token in tokens_of(condition)
    ):
        raise RuleError(
            f"--when: {condition!r} has a subquery, but the condition is evaluated on a single row",
            hint=_EXAMPLE,
        )
    _refuse_functions(connection, condition, schema)
    _have_it_read(connection, condition, table)


def _refuse_foreign_uses(condition: str, table: Table) -> None:
    """Of columns whose type is not PostgreSQL's own it sees the text, so it must not mean anything else."""
    foreign = {column.name: column for column in table.columns if column.plain_type is None}
    tokens = tokens_of(condition)
    for place, token in enumerate(tokens):
        column = foreign.get(token.text) if token.is_name else None
        if column is None or (place and tokens[place - 1].text in (".", "::")):
            continue
        before = tokens[place - 1].text if place else ""
        after = [t.text for t in tokens[place + 1 : place + 3]] + ["", ""]
        is_text = after[:2] == ["::", "text"] or after[0] == "is"
        if not is_text and (_is_own_kind(column) or not _is_equality(before, after)):
            raise RuleError(
                f"--when: column {column.name!r} has the type {column.type_name}, which is "
                "not built into PostgreSQL: a condition sees its values as text",
                hint=f"cast it: {column.name}::text"
                + (
                    ""
                    if _is_own_kind(column)
                    else f"; or {column.name} = '…', {column.name} in ('…', '…')"
                ),
            )


def _is_own_kind(column: Column) -> bool:
    """Whether values may be equal whose text differs, as those of citext."""
    return "foreign" in column.type_parts


def _is_equality(before: str, after: list[str]) -> bool:
    words = ("=", "<>", "!=", "in", "like", "not")
    return after[0] in words or (before in words[:3] and after[0] in ("", ")", "and", "or"))


def _refuse_functions(connection: Connection, condition: str, schema: str) -> None:
    called = called_functions(condition)
    found = fetch(
        connection,
        render("queries/condition_functions", schema=schema),
        {"schemas": [s for s, _ in called], "functions": [name for _, name in called]},
    )
    for row in found:
        own = row["schema_name"] not in (None, "pg_catalog")
        name = QualifiedName(row["schema_name"] or "pg_catalog", row["function_name"])
        problem = None
        if not row["is_there"]:
            # An SQL keyword, such as coalesce or in; otherwise the server reports an unknown column.
            problem, hint = ("which does not exist", "check its spelling") if own else (None, "")
        elif row["is_volatile"]:
            problem = "which is volatile: it could give different answers for the same row"
            hint = "call only functions that are STABLE or IMMUTABLE"
        elif own and not row["is_trusted"]:
            problem = (
                f"which belongs to {row['owner']}, and would run with the rights of the trail's "
                "owner"
            )
            hint = f"change its owner to {row['trail_owner']}, who owns the trail, or do without it"
        elif own and row["namesakes"] > 1:
            problem = "which has several signatures: another one might be chosen one day"
            hint = "give the right one a name of its own"
        elif own and not row["is_callable"]:
            problem = f"which {row['trail_owner']}, who owns the trail, may not execute"
            hint = "grant EXECUTE on it, and USAGE on its schema"
        if problem:
            raise RuleError(f"--when: {condition!r} calls {name}, {problem}", hint=hint)


def _have_it_read(connection: Connection, condition: str, table: Table) -> None:
    """PREPARE reads a statement, names and types and all, and does not even plan it."""
    statement = render("queries/condition", condition=condition, columns=table.columns)
    errors = import_psycopg().errors
    try:
        # Alembic's connection, which autogenerate reads by, has a transaction of its own.
        begin = getattr(connection, "transaction", None)
        with begin(force_rollback=True) if begin else nullcontext():
            connection.execute("set local search_path = pg_catalog, pg_temp")
            connection.execute(f"prepare audit_condition as {statement}")
            connection.execute("deallocate audit_condition")
    except (errors.ProgrammingError, errors.DataError, errors.NotSupportedError) as error:
        said = error.diag.message_primary or "the server cannot parse it"
        raise RuleError(
            f"--when: {condition!r} is not a valid condition on a row of {table.name}: {said}",
            hint=error.diag.message_hint or _hint(table),
        ) from error


def _hint(table: Table) -> str:
    return f"{_EXAMPLE}; {table.name} has " + ", ".join(column.name for column in table.columns)
