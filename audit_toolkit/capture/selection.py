"""Which tables are meant, and whether each can be audited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase

from audit_toolkit.catalog import Kind, Relation, resolve
from audit_toolkit.errors import (
    PermissionDeniedError,
    UnknownTableError,
    UnsupportedTableError,
    UsageError,
)
from audit_toolkit.names import NamePattern


def select_tables(
    relations: Sequence[Relation],
    names: Sequence[str],
    *,
    trail_schema: str,
    all_of_schema: str | None = None,
    leave_out: Sequence[str] = (),
) -> list[Relation]:
    """The relations to audit, in the order asked for and without repeats.

    With `all_of_schema`, every table of that schema that can be audited, but those of `leave_out`; it may be
    a pattern of schemas, as in `tenant_*`.
    Raises `UnknownTableError`, `UnsupportedTableError` or `PermissionDeniedError` for a table that was named
    and cannot be audited.
    """
    chosen = _resolve_all(names, relations)
    for relation in chosen:
        refuse_unsupported(relation, trail_schema=trail_schema)
    if all_of_schema is not None:
        swept = [r for r in relations if is_of_schema(r, all_of_schema, relations)]
        left_out = {each for name in leave_out for each in _each_named(name, swept)}
        chosen += [
            r for r in _auditable(relations, all_of_schema, trail_schema) if r not in left_out
        ]
    return list(dict.fromkeys(chosen))


def _resolve_all(names: Sequence[str], relations: Sequence[Relation]) -> list[Relation]:
    """Each among those of its name first, as there may be thousands of both."""
    alike = defaultdict(list)
    for relation in relations:
        alike[relation.name.name.lower()].append(relation)
    found = []
    for name in names:
        try:
            found.append(resolve(name, alike[NamePattern.parse(name).name.lower()]))
        except UnknownTableError:  # said with the nearest names of all
            found.append(resolve(name, relations))
    return found


def is_of_schema(relation: Relation, schema: str, relations: Sequence[Relation]) -> bool:
    """Whether a relation is of the schema, or of one that the pattern matches where none is called so."""
    if any(each.name.schema == schema for each in relations):
        return relation.name.schema == schema
    return not relation.is_system and fnmatchcase(relation.name.schema, schema)


def _each_named(name: str, swept: Sequence[Relation]) -> list[Relation]:
    """What a name means in each of several schemas, of which one has to have it."""
    schemas = dict.fromkeys(relation.name.schema for relation in swept)
    found = []
    for schema in schemas:
        here = [relation for relation in swept if relation.name.schema == schema]
        if len(schemas) == 1:
            return [resolve(name, here)]
        with suppress(UnknownTableError):
            found.append(resolve(name, here))
    return found or [resolve(name, swept)]


def _auditable(relations: Sequence[Relation], schema: str, trail_schema: str) -> list[Relation]:
    candidates = [
        relation
        for relation in relations
        if is_of_schema(relation, schema, relations)
        and relation.name.name != "alembic_version"
        and why_unsupported(relation, trail_schema=trail_schema) is None
    ]
    if not candidates:
        schemas = sorted(
            {
                r.name.schema
                for r in relations
                if not r.is_system and r.kind is Kind.TABLE and r.name.schema != trail_schema
            }
        )
        raise UsageError(
            f"the schema {schema!r} has no table that can be audited",
            hint="schemas with tables: "
            + (", ".join(schemas) or "none; is this the right database?"),
        )
    for relation in candidates:
        refuse_unsupported(relation, trail_schema=trail_schema)
    return candidates


def left_out(
    relations: Sequence[Relation], schema: str, trail_schema: str
) -> list[tuple[Relation, str]]:
    """The tables of a schema with rows of their own that cannot be audited, each with the reason.

    Views have no rows, and the rows of a partition are captured with its table.
    """
    reasons = (
        (relation, why_unsupported(relation, trail_schema=trail_schema))
        for relation in relations
        if is_of_schema(relation, schema, relations)
        and relation.kind not in (Kind.VIEW, Kind.MATERIALIZED_VIEW)
        and relation.root is None
    )
    return [(relation, reason[0]) for relation, reason in reasons if reason]


def refuse_unsupported(relation: Relation, *, trail_schema: str) -> None:
    """Raise an error that says why `relation` cannot be audited, if it cannot."""
    if reason := why_unsupported(relation, trail_schema=trail_schema):
        raise UnsupportedTableError(
            f"{relation.name} cannot be audited: {reason[0]}", hint=reason[1]
        )
    if not relation.may_trigger:
        raise PermissionDeniedError(
            f"permission denied to create a trigger on {relation.name}",
            hint="connect as the owner of the table, or as a member of the owning role",
        )
    if not relation.owned:
        raise PermissionDeniedError(
            f"{relation.name} belongs to another role, and only the owner can set a trigger "
            "to ENABLE ALWAYS",
            hint="connect as the owner of the table, or as a member of the owning role",
        )


def why_unsupported(relation: Relation, *, trail_schema: str) -> tuple[str, str] | None:
    """Why a relation cannot be audited, and what to do instead; None when it can."""
    if relation.is_system:
        return "it is one of PostgreSQL's system catalogs", "name a table of your application"
    if relation.name.schema == trail_schema:
        return "it belongs to the audit trail itself", "name a table of your application"
    if relation.temporary:
        return "it is a temporary table", "audit the table that its rows end up in"
    if relation.kind in (Kind.VIEW, Kind.MATERIALIZED_VIEW):
        return (
            f"it is a {relation.kind.words}",
            "audit the tables beneath it: changes through the view are captured there",
        )
    if relation.kind is Kind.FOREIGN_TABLE:
        return (
            "it is a foreign table, whose rows can change elsewhere unnoticed",
            "audit it in the database it lives in",
        )
    if relation.root is not None:
        return (
            f"it is a partition of {relation.root}",
            f"audit {relation.root}: that covers all partitions",
        )
    return None
