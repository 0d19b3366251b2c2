"""Enums of which labels were renamed: rows have other values, and perhaps other keys, than their events."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def label_findings(connection: Connection, schema: str) -> Iterator[Finding]:
    """Tables whose rows no baseline has recorded since labels of their enums were renamed.

    None where this role may not read the trail, or the trail is of a release that does not note labels.
    """
    errors = import_psycopg().errors
    rows = []
    with (
        suppress(errors.InsufficientPrivilege, errors.UndefinedTable, errors.UndefinedFunction),
        connection.transaction(),
    ):
        rows = fetch(connection, render("registry/relabelled", schema=schema))
    for row in rows:
        table = QualifiedName(row["schema_name"], row["table_name"])
        words = ["audit", "baseline", "--table", table.plain, "--reason", "REASON"]
        words += ["--audit-schema", schema] if schema != "audit" else []
        yield Finding(
            kind=FindingKind.LABELS_RENAMED,
            severity=Severity.WARNING,
            subject=str(table),
            message="labels of an enum were renamed: events of before have the former ones, also in keys",
            remedy=shlex.join(words)
            if row["has_key"]
            else "add a primary key: audit baseline needs one",
        )
