from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from audit_toolkit.catalog import read_trail
from audit_toolkit.config import Interval, TrailSettings
from audit_toolkit.connection import connect
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from tests.plugins.database import Database
from tests.plugins.trail import Trail, install_trail

COLUMNS = [
    ("event_id", "bigint"),
    ("action_tstamp", "timestamp with time zone"),
    ("transaction_id", "xid8"),
    ("schema_name", "text"),
    ("table_name", "text"),
    ("action", "text"),
    ("row_key", "text"),
    ("old_row_key", "text"),
    ("old_row", "jsonb"),
    ("new_row", "jsonb"),
    ("context", "jsonb"),
    ("session_user_name", "text"),
    ("role_name", "text"),
    ("application_name", "text"),
    ("client_addr", "inet"),
    ("query", "text"),
    ("transaction_tstamp", "timestamp with time zone"),
]
TAIL = "select leaf::text, lower_bound, upper_bound from audit.leaves() where is_tail"


def undo(database: Database, settings: TrailSettings = TrailSettings()) -> list[str]:  # noqa: B008
    """Run the undo of the trail; the warnings that the server gave."""
    warnings: list[str] = []
    connection = database.connect()
    connection.add_notice_handler(lambda notice: warnings.append(str(notice.message_primary)))
    for statement in plan_trail(settings).undo:
        connection.execute(statement.encode())
    return warnings


def test_the_columns_of_the_contract(trail: Trail) -> None:
    found = trail.execute("""
        select attname, format_type(atttypid, atttypmod) from pg_attribute
        where attrelid = 'audit.logged_actions'::regclass and attnum > 0 order by attnum
    """)
    assert found == COLUMNS
    collated = trail.execute("""
        select attname from pg_attribute a join pg_collation c on c.oid = attcollation
        where attrelid = 'audit.logged_actions'::regclass and collname = 'C' order by attnum
    """)
    assert [name for (name,) in collated] == ["schema_name", "table_name", "row_key", "old_row_key"]
    assert trail.execute("select seqcache from pg_sequence") == [(1,)]


@pytest.mark.parametrize("interval", Interval)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/Sao_Paulo"])
def test_leaves_lie_on_utc_boundaries_without_gaps(
    database: Database, interval: Interval, zone: str
) -> None:
    session = database.connect(options="-c datestyle=SQL,DMY -c timezone=" + zone)
    apply(plan_trail(TrailSettings(interval=interval)), session)
    leaves = database.execute("select lower_bound, upper_bound, is_tail from audit.leaves()")
    now = datetime.now(UTC)
    past, *leaves = leaves
    starts = [lower.astimezone(UTC) for lower, _, _ in leaves]
    assert past == (None, starts[0], False)
    for (_, upper, _), (lower, _, _) in pairwise(leaves):
        assert upper == lower
    for start in starts:
        assert start.time() == datetime.min.time()
        assert interval is not Interval.MONTH or start.day == 1
        assert interval is not Interval.WEEK or start.weekday() == 0
    assert len(leaves) == interval.leaves_ahead + 3  # one before now, one for now, the tail
    assert starts[1] <= now < starts[2]
    assert leaves[-1][1:] == (None, True)


def test_rows_far_in_the_future_have_a_leaf(trail: Trail) -> None:
    trail.execute("create table t (id int primary key)")
    trail.audit("t")
    trail.execute("alter table audit.logged_actions alter action_tstamp set default '2999-01-01'")
    trail.execute("insert into t values (1)")
    [(leaf,)] = trail.execute("select tableoid::regclass::text from audit.logged_actions")
    assert leaf == "audit.logged_actions_tail"


def test_ensure_partitions_moves_the_tail_and_is_idempotent(trail: Trail) -> None:
    assert trail.execute("select audit.ensure_partitions()") == [(0,)]
    [(_, before, _)] = trail.execute(TAIL)
    assert trail.execute("select audit.ensure_partitions(8)") == [(2,)]
    assert trail.execute("select audit.ensure_partitions(8)") == [(0,)]
    [(_, after, _)] = trail.execute(TAIL)
    assert after - before in {timedelta(days=days) for days in range(59, 63)}
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        trail.execute("select audit.ensure_partitions(0)")


def test_a_tail_with_events_is_left_alone(trail: Trail) -> None:
    trail.execute("create table t (id int primary key)")
    trail.audit("t")
    trail.execute("alter table audit.logged_actions alter action_tstamp set default '2999-01-01'")
    trail.execute("insert into t values (1)")
    before = trail.execute("select * from audit.leaves()")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="has events"):
        trail.execute("select audit.ensure_partitions(12)")
    assert trail.execute("select * from audit.leaves()") == before
    assert trail.execute("select count(*) from audit.logged_actions") == [(1,)]


def test_a_changed_interval_goes_on_from_the_last_boundary(trail: Trail) -> None:
    for statement in plan_trail(TrailSettings(interval=Interval.WEEK)).statements:
        if "comment on table audit.logged_actions is" in statement:
            trail.connection.execute(statement.encode())
    trail.execute("select audit.ensure_partitions(60)")
    leaves = trail.execute("select lower_bound, upper_bound from audit.leaves()")
    for (_, upper), (lower, _) in pairwise(leaves):
        assert upper == lower
    weeks = [(upper - lower).days for lower, upper in leaves[9:-1]]
    assert weeks[0] <= 7
    assert set(weeks[1:]) == {7}


RELATIONS = ["audit.logged_actions", "audit.logged_actions_tail"]
REFUSED = [
    "update {} set action = 'X'",
    "update {} set action = 'X' where false",
    "delete from {}",
    "truncate {}",
]


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("statement", REFUSED)
def test_the_trail_is_append_only(trail: Trail, statement: str, relation: str, role: str) -> None:
    trail.execute(f"set session_replication_role = {role}")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="append-only"):
        trail.execute(statement.format(relation))


def test_every_leaf_is_guarded(trail: Trail) -> None:
    trail.execute("select audit.ensure_partitions(9)")
    unguarded = trail.execute("""
        select leaf from audit.leaves() where not exists (
            select from pg_trigger where tgrelid = leaf and tgname = '00_audit_append_only' and tgenabled = 'A'
        )
    """)
    assert unguarded == []


def test_default_privileges_give_nobody_the_trail(database: Database) -> None:
    database.execute("""
        alter default privileges grant all on tables to public;
        alter default privileges grant all on sequences to public;
    """)
    install_trail(database.dsn)
    granted = database.execute("""
        select relname, acl.grantee from pg_class, aclexplode(relacl) acl
        where relnamespace = 'audit'::regnamespace and acl.grantee <> relowner
    """)
    assert granted == []


def test_installing_again_changes_nothing(trail: Trail) -> None:
    catalogue = """
        select relname, relkind::text, relacl::text from pg_class where relnamespace = 'audit'::regnamespace
        union all
        select proname, prosrc, proacl::text from pg_proc where pronamespace = 'audit'::regnamespace
        union all
        select 'key', md5(inner_pad), null from audit.mask_key
        order by 1, 2
    """
    before = trail.execute(catalogue)
    install_trail(trail.database.dsn)
    assert trail.execute(catalogue) == before


def test_taking_back_an_empty_trail_leaves_nothing(trail: Trail) -> None:
    assert undo(trail.database) == []
    assert trail.execute("select 1 from pg_namespace where nspname = 'audit'") == []
    assert undo(trail.database) == []


def test_taking_back_a_trail_with_events_keeps_it_and_says_so(trail: Trail) -> None:
    trail.execute("create table t (id int primary key)")
    trail.audit("t")
    trail.execute("insert into t values (1)")
    [warning] = undo(trail.database)
    assert "was kept" in warning
    install_trail(trail.database.dsn)
    trail.execute("insert into t values (2)")
    assert trail.story() == [("I", "1"), ("I", "2")]


def test_taking_back_keeps_what_others_put_into_the_schema(trail: Trail) -> None:
    trail.execute("create table audit.mine (id int)")
    undo(trail.database)
    assert trail.execute(
        "select relname from pg_class where relnamespace = 'audit'::regnamespace"
    ) == [("mine",)]


def test_a_table_of_somebody_else_is_refused(database: Database) -> None:
    database.execute("create schema audit; create table audit.logged_actions (id int)")
    with pytest.raises(psycopg.errors.DuplicateTable, match="was not created by audit-toolkit"):
        apply(plan_trail(TrailSettings()), database.connection)
    assert database.execute(
        "select count(*) from pg_class where relnamespace = 'audit'::regnamespace"
    ) == [(1,)]
    assert read_trail(database.connection, "audit") == {}


def test_a_schema_of_another_role_is_refused(database: Database) -> None:
    database.execute("create schema audit")
    database.execute("create role audit_guest login")
    try:
        database.execute(f'grant create on database "{database.name}" to audit_guest')
        guest = database.connect(user="audit_guest")
        with pytest.raises(Exception, match="belongs to another role"):
            apply(plan_trail(TrailSettings()), guest)
    finally:
        database.execute("drop owned by audit_guest; drop role audit_guest")


@pytest.mark.parametrize("schema", ["trail", "Wei\"rd $$ 100% 'x'", "select", "new\nline\t"])
def test_any_schema_name(database: Database, schema: str) -> None:
    settings = TrailSettings(schema=schema)
    with connect(database.dsn) as connection:
        apply(plan_trail(settings), connection)
        apply(plan_trail(settings), connection)
        recorded: Any = read_trail(connection, schema)
    assert recorded["interval"] == "month"
    assert undo(database, settings) == []
    assert database.execute("select 1 from pg_namespace where nspname = %s", [schema]) == []


def compression_of(trail: Trail, leaves: str) -> list[tuple[str, str]]:
    return trail.execute(f"""
        select distinct attname::text, attcompression::text from pg_attribute
        where attrelid in ({leaves}) and attname in ('old_row', 'new_row') order by 1
    """)


def test_leaves_compress_by_lz4_where_the_server_has_it(trail: Trail) -> None:
    setting = "from pg_settings where name = 'default_toast_compression'"
    [(has_lz4,)] = trail.execute(f"select 'lz4' = any(enumvals) {setting}")
    method = "l" if has_lz4 else ""
    found = compression_of(trail, "select leaf from audit.leaves()")
    assert found == [("new_row", method), ("old_row", method)]


def test_a_compression_chosen_for_the_trail_is_kept(trail: Trail) -> None:
    trail.execute("alter table audit.logged_actions alter old_row set compression pglz")
    trail.execute("select audit.make_leaf('later')")
    assert ("old_row", "p") in compression_of(trail, "select 'audit.later'::regclass")
