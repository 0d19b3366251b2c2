"""What `audit check` expects of a trail is what an installation makes; `--update-golden` writes it anew."""

from __future__ import annotations

import pytest

from audit_toolkit.catalog.schema import read_facts
from audit_toolkit.config import TrailSettings
from audit_toolkit.connection import connect
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from audit_toolkit.schema.expected import as_lines, shape_of
from audit_toolkit.templates import template_directory
from tests.plugins.database import Database
from tests.plugins.trail import Trail


def test_the_expectation_is_what_is_installed(trail: Trail, request: pytest.FixtureRequest) -> None:
    file = template_directory() / "expected" / "schema.jsonl"
    found = as_lines(shape_of(read_facts(trail.connection, "audit")))
    if request.config.getoption("--update-golden"):
        file.write_text(found, encoding="utf-8")
    assert found == file.read_text(encoding="utf-8"), "pytest --update-golden, and read the diff"


@pytest.mark.parametrize("schema", ["trail", 'We"ird Schema'])
def test_it_is_the_same_in_a_schema_of_another_name(database: Database, schema: str) -> None:
    with connect(database.dsn) as connection:
        apply(plan_trail(TrailSettings(schema=schema)), connection)
        connection.execute("set search_path = public")
        found = shape_of(read_facts(connection, schema))
    file = template_directory() / "expected" / "schema.jsonl"
    assert as_lines(found) == file.read_text(encoding="utf-8")
