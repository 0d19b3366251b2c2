"""The statements of `sql_templates/wal` on one connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from audit_toolkit.names import wal_publication
from audit_toolkit.templates import render, render_statements


@dataclass(frozen=True, slots=True)
class Statements:
    """Runs them for the trail in a schema."""

    connection: psycopg.Connection[Any]
    schema: str

    @property
    def names(self) -> dict[str, Any]:
        """What every template is rendered with."""
        return {
            "schema": self.schema,
            "publication": wal_publication(self.schema),
            "hidden": (),
        }

    def fetch(self, template: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a query."""
        with self.connection.cursor(row_factory=dict_row) as cursor:
            text = render(f"wal/{template}", **self.names)
            return cursor.execute(text, parameters or None).fetchall()

    def run(
        self, template: str, *, parameters: Mapping[str, Any] | None = None, **values: Any
    ) -> None:
        """Statements of a template: with `values` as parameters, or as what is rendered where there are none."""
        rendered = self.names | (values if parameters is not None else {})
        for statement in render_statements(f"wal/{template}", **rendered):
            given = values if parameters is None and "%(" in statement else None
            self.connection.execute(statement, given)
