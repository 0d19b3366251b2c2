"""The database that every test gets: alone in it, from a template, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.plugins.cluster import Server, meets
from tests.plugins.database import Database, Databases, MakeDatabase, TemplateDatabase


def exists(databases: Databases, name: str) -> bool:
    query = "select from pg_database where datname = %s"
    return databases.connection.execute(query, [name]).rowcount == 1


@pytest.fixture(scope="session")
def stocked_template(template_database: TemplateDatabase) -> str:
    def prepare(dsn: str) -> None:
        with psycopg.connect(dsn) as connection:
            connection.execute("create table stock as select 'tea' as name")

    return template_database("stocked", prepare)


def test_databases_do_not_see_each_other(make_database: MakeDatabase) -> None:
    one, other = make_database(), make_database()
    one.execute("create table t (n int)")
    assert other.execute("select to_regclass('t')") == [(None,)]


def test_a_template_is_copied_not_shared(
    make_database: MakeDatabase, stocked_template: str
) -> None:
    one, other = make_database(template=stocked_template), make_database(template=stocked_template)
    one.execute("delete from stock")
    assert other.execute("select name from stock") == [("tea",)]


def test_a_template_is_made_once(
    template_database: TemplateDatabase, stocked_template: str
) -> None:
    def never(dsn: str) -> None:
        raise AssertionError(dsn)

    assert template_database("stocked", never) == stocked_template


def test_nobody_can_connect_to_a_template(databases: Databases, stocked_template: str) -> None:
    dsn = databases.server.dsn(databases.templates[stocked_template])
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        psycopg.connect(dsn)


@pytest.fixture
def leftovers(databases: Databases) -> Iterator[list[Database]]:
    """Databases that must be gone, with their connections, once the test has been torn down."""
    expected_gone: list[Database] = []
    yield expected_gone
    assert expected_gone
    for database in expected_gone:
        assert database.connection.closed
        assert not exists(databases, database.name)


def test_a_database_goes_even_with_connections_open(
    databases: Databases, leftovers: list[Database], make_database: MakeDatabase
) -> None:
    leftovers.append(make_database())
    leftovers[0].connect(autocommit=False).execute("create table t ()")
    assert exists(databases, leftovers[0].name)


def test_execute_returns_the_rows_of_the_last_statement(database: Database) -> None:
    assert database.execute("select 1; select 2") == [(2,)]
    assert database.execute("select %s::int + %s", [1, 2]) == [(3,)]
    assert database.execute("create table t ()") == []


def test_connections_commit_by_themselves_unless_told_otherwise(database: Database) -> None:
    database.connect().execute("create table committed ()")
    database.connect(autocommit=False).execute("create table pending ()")
    assert database.execute("select to_regclass('committed')::text, to_regclass('pending')") == [
        ("committed", None)
    ]


def test_psql_ends_at_the_first_error(database: Database) -> None:
    answer = database.psql("select 1 + 1;\n", "-At")
    assert (answer.returncode, answer.stdout) == (0, "2\n")
    answer = database.psql("select nothing;\nselect 'reached';\n", "-At")
    assert (answer.returncode, answer.stdout) == (3, "")
    assert 'column "nothing" does not exist' in answer.stderr


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("< 15", False), ("<= 15", True), ("== 15", True), (">= 15", True), (">15", False)],
)
def test_conditions_on_the_version(spec: str, expected: bool) -> None:
    assert meets(15, spec) is expected


def test_a_condition_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a condition"):
        meets(15, "15+")


@pytest.mark.pg(">= 15")
def test_a_marked_test_runs_only_on_such_a_server(cluster: Server) -> None:
    assert cluster.version >= 15


@pytest.mark.pg("< 15")
def test_a_marked_test_runs_only_on_an_older_server(cluster: Server) -> None:
    assert cluster.version < 15
