"""Labels of enums and columns that were renamed so that rows are not as their events are read."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import QualifiedName
from audit_toolkit.schema.moved_trail import whatever_is_there
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def renamed_findings(connection: Connection, schema: str) -> Iterator[Finding]:
    """Tables whose rows no baseline has recorded since labels of their enums, or columns, exchanged their names.

    None where this role may not read the trail, or the trail is of a release that does not note them.
    """
    for row in _read(connection, "registry/relabelled", schema):
        yield Finding(
            kind=FindingKind.LABELS_RENAMED,
            severity=Severity.WARNING,
            subject=str(_table(row)),
            message="labels of an enum were renamed: events of before have the former ones, also in keys",
            remedy=_baseline(row, schema) or "add a primary key: audit baseline needs one",
        )
    for row in _read(connection, "registry/exchanged", schema):
        yield Finding(
            kind=FindingKind.COLUMNS_EXCHANGED,
            severity=Severity.WARNING,
            subject=str(_table(row)),
            message="columns exchanged names, or took former ones, and rows were written before the trail noted "
            "that: their values may be in other columns",
            remedy=_baseline(row, schema) or "audit maintain",
        )


def _read(connection: Connection, template: str, schema: str) -> Sequence[dict[str, Any]]:
    refused = import_psycopg().errors.InsufficientPrivilege
    with suppress(refused), whatever_is_there(), connection.transaction():
        return fetch(connection, render(template, schema=schema))
    return ()


def _table(row: Mapping[str, Any]) -> QualifiedName:
    return QualifiedName(row["schema_name"], row["table_name"])


def _baseline(row: Mapping[str, Any], schema: str) -> str:
    """The command that records the rows; empty where there is no key."""
    if not row["has_key"]:
        return ""
    words = ["audit", "baseline", "--table", _table(row).plain, "--reason", "REASON"]
    return shlex.join([*words, *(["--audit-schema", schema] if schema != "audit" else [])])
