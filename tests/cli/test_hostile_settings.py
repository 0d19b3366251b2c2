"""Every command says and does the same, whatever settings somebody gave its role.

All settings at once in the suite; `nox -s settings-proof` (SETTINGS_PROOF=1) tries each alone, SETTINGS_PROOF=3 three
at a time.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from psycopg import sql
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from audit_toolkit.connection import connect
from tests.plugins.database import Database, MakeDatabase, TemplateDatabase
from tests.plugins.trail import audit, install_trail

pytestmark = pytest.mark.thorough

SETTINGS = {
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "escape_string_warning": "off",
    "quote_all_identifiers": "on",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "search_path": "nowhere",
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "xmlbinary": "hex",
    "xmloption": "document",
    "client_encoding": "LATIN1",
    "lc_messages": "C",
    "lc_monetary": "C",
    "row_security": "off",
    "session_replication_role": "replica",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "default_table_access_method": "heap",
    "default_toast_compression": "pglz",
    "check_function_bodies": "off",
    "createrole_self_grant": "set, inherit",
    "plan_cache_mode": "force_generic_plan",
    "jit_above_cost": "0",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_indexonlyscan": "off",
    "enable_partition_pruning": "off",
    "enable_nestloop": "off",
    "enable_sort": "off",
    "work_mem": "64kB",
    "default_tablespace": "nowhere",
    "temp_tablespaces": "nowhere",
    "constraint_exclusion": "off",
    "client_min_messages": "error",
    "lock_timeout": "100ms",
    "statement_timeout": "500ms",
    "idle_in_transaction_session_timeout": "100ms",
    "idle_session_timeout": "100ms",
    "transaction_timeout": "500ms",
}
SINCE = {"transaction_timeout": 170000, "createrole_self_grant": 160000}
AT_ONCE = int(os.environ.get("SETTINGS_PROOF", len(SETTINGS)))
BUNDLES = [tuple(SETTINGS)[first : first + AT_ONCE] for first in range(0, len(SETTINGS), AT_ONCE)]
LATER = timedelta(days=200)
"""So that there is something to detach and to archive."""

PREPARED = """
    create table orders (
        id integer primary key, status text, at timestamptz, price numeric, weight float8, blob bytea, span interval,
        said jsonb, note text
    );
    create index orders_status_idx on orders (status);
    create table customers (id integer primary key, name text);
    insert into customers values (1, E'a\\\\b''c "ä€"');
"""
WRITTEN = r"""
    insert into orders values
        (1, 'new', '2026-03-29 01:30+00', 1.50, 0.1, '\x00ff', '1 day 02:00', '{"a": 1.0}', '<a/>'),
        (2, E'it''s \\ "ä"', '-infinity', 'NaN', 'NaN', '', '-3 mons', 'null', null);
    update orders set status = 'paid', price = 1.5, weight = 1e300 where id = 1;
    delete from orders where id = 2;
    insert into orders values (3, 'back\slash', null, null, null, null, null, null, null);
"""
READING = """
    check --timeout 60
    status --timeout 60
    access
    history orders --utc
    history orders 1 --format json --utc
    history --utc
    show 2 --utc
    row-at orders 1 --at 2999-01-01
    row-at orders 1 --at now
    table-at orders --at now --utc
    table-at orders --at now --format json --utc
    diff orders --from 2020-01-01 --to now --utc
    blame orders 1 --utc
    restore orders 2 --event 2
    restore orders 2 --event 2 --sql
    revert --event 3
    revert --event 3 --sql
    partitions list --timeout 60
    partitions plan --ahead 12 --sql
    partitions check --format json --timeout 60
    partitions check --format nagios --timeout 60
    indexes check --timeout 60
    indexes fix --dry-run
    indexes progress
    grants --reader postgres
    context reason=why
    install --table customers --sql
    install --table orders --mask status --sql
    uninstall --table orders --sql
    publication --sql
    upgrade --sql
"""
CHANGING = """
    maintain --archive PLACE
    partitions run --ahead 9 --retention '1 month' --trust-clock
    partitions list --timeout 60
    archive run --archive PLACE
    archive run --archive PLACE --again
    archive list --archive PLACE
    archive verify --archive PLACE
    archive adopt --archive PLACE
    partitions hold OLDEST --reason why
    partitions release OLDEST
    partitions attach OLDEST --reason why
    partitions convert-default
    pause --table orders --reason why
    resume --table orders --reason why
    baseline --table orders
    mark before --reason why
    revert --event 3 --apply --reason why
    restore orders 2 --event 2 --apply --reason why
    indexes create 'create index orders_at_idx on public.orders (at)'
    indexes fix
    maintain --archive PLACE
    adopt --reason why
    check --timeout 60 --archive PLACE
    history orders --format json --utc
    table-at orders --at now --format json
"""


def prepare(dsn: str) -> None:
    install_trail(dsn)
    with connect(dsn) as connection:
        connection.execute(PREPARED)
        connection.execute("select pg_catalog.set_config('search_path', 'public', false)")
        audit(connection, "orders")
        connection.execute(WRITTEN.encode())


@pytest.fixture(scope="session")
def hostile_template(template_database: TemplateDatabase) -> str:
    return template_database("hostile", prepare)


@pytest.fixture
def copies(make_database: MakeDatabase, hostile_template: str) -> Callable[[], Database]:
    return lambda: make_database(template=hostile_template)


def make_hostile(database: Database, names: tuple[str, ...]) -> None:
    version = database.connection.info.server_version
    role, name = sql.Identifier("postgres"), sql.Identifier(database.name)
    for setting in names:
        if version >= SINCE.get(setting, 0):
            values = (role, name, sql.Identifier(setting), sql.Literal(SETTINGS[setting]))
            statement = sql.SQL("alter role {} in database {} set {} = {}").format(*values)
            if setting == "search_path":
                statement = sql.SQL("alter role {} in database {} set {} = nowhere").format(
                    role, name, sql.Identifier(setting)
                )
            database.connection.execute(statement)


def answers(lines: str, database: Database, place: Path) -> Iterator[tuple[str, int, str]]:
    """What each command says, with its exit code; numbers, times and sums are any."""
    oldest = database.connection.execute(
        "select relname from pg_class join pg_inherits on inhrelid = pg_class.oid"
        " where relname ~ '_\\d+$' and relkind = 'r' order by relname limit 1"
    ).fetchone()
    assert oldest is not None
    for line in filter(None, map(str.strip, lines.splitlines())):
        typed = line.replace("PLACE", str(place)).replace("OLDEST", oldest[0])
        address = [] if typed.startswith("archive list") else ["--dsn", database.dsn]
        result = CliRunner().invoke(app, [*shlex.split(typed), *address])
        assert isinstance(result.exception, SystemExit | None), (line, result.exception)
        said = result.stdout + (result.stderr if result.exit_code in (1, 2, 4, 5) else "")
        said = said.replace(database.name, "DATABASE").replace(str(place), "PLACE")
        yield line, result.exit_code, _any(said)


def _any(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{12,}\b", "HASH", text)
    text = re.sub(r"\d+(\.\d+)?", "#", text)
    return re.sub(r"[ ─]+", " ", text)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "audit_toolkit.partitions.read.clocks", lambda facts, _: (facts["now"] + LATER,) * 3
    )


@pytest.fixture
def expected(
    copies: Callable[[], Database], later: None, tmp_path: Path
) -> list[tuple[str, int, str]]:
    """What a role without settings gets; asked once for all of them."""
    if not _EXPECTED:
        friendly = copies()
        _EXPECTED.extend(
            answer
            for lines in (READING, CHANGING)
            for answer in answers(lines, friendly, tmp_path / "archive")
        )
    return _EXPECTED


_EXPECTED: list[tuple[str, int, str]] = []


@pytest.mark.parametrize(
    "names", BUNDLES, ids=lambda names: "all" if len(names) == len(SETTINGS) else "+".join(names)
)
def test_every_command_under_hostile_settings(
    copies: Callable[[], Database],
    names: tuple[str, ...],
    expected: list[tuple[str, int, str]],
    tmp_path: Path,
) -> None:
    hostile = copies()
    make_hostile(hostile, names)
    found = [
        answer
        for lines in (READING, CHANGING)
        for answer in answers(lines, hostile, tmp_path / "hostile")
    ]
    differing = [(one, other) for one, other in zip(expected, found, strict=True) if one != other]
    assert differing == []
    # What was compared is that they worked.
    assert [(line, code) for line, code, _ in expected if code not in (0, 3)] == [
        ("row-at orders 1 --at 2999-01-01", 2),
        ("partitions check --format nagios --timeout 60", 2),
        ("partitions convert-default", 2),
    ]
