"""What the tests of indexes share: broken databases, and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from audit_toolkit.cli.app import app
from tests.indexes.breakage import TABLES
from tests.plugins.database import Database, MakeDatabase, TemplateDatabase

AuditIndexes = Callable[..., Result]


@pytest.fixture(scope="session")
def stocked_template(template_database: TemplateDatabase) -> str:
    """A template with a partitioned table without indexes, and an ordinary one."""

    def prepare(dsn: str) -> None:
        with psycopg.connect(dsn) as connection:
            connection.execute(TABLES)

    return template_database("indexes", prepare)


@pytest.fixture
def stocked(make_database: MakeDatabase, stocked_template: str) -> Database:
    """A database with a partitioned table without indexes, and an ordinary one."""
    return make_database(template=stocked_template)


@pytest.fixture
def audit_indexes(stocked: Database) -> AuditIndexes:
    """Run `audit indexes …` on that database."""

    def run(*arguments: str, dsn: str = stocked.dsn) -> Result:
        return CliRunner().invoke(app, ["indexes", *arguments, "--dsn", dsn])

    return run


@pytest.fixture
def findings(audit_indexes: AuditIndexes) -> Callable[..., list[dict[str, Any]]]:
    """What `check --format json` finds in schema public, but for advice."""

    def found(*arguments: str) -> list[dict[str, Any]]:
        result = audit_indexes("check", "--format", "json", *(arguments or ("--schema", "public")))
        assert result.exit_code in (0, 3), result.output
        answer: list[dict[str, Any]] = json.loads(result.stdout)["findings"]
        return [finding for finding in answer if finding["severity"] != "info"]

    return found
