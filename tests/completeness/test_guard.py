"""`audit guard`: DDL that would take capture or the trail away is refused, save through our commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from audit_toolkit.config import Capture, TrailSettings
from audit_toolkit.plan import apply
from audit_toolkit.schema.install import plan_trail, plan_trail_upgrade
from tests.completeness.conftest import Audit
from tests.plugins.trail import Trail

TABLES = """
    create table orders (id int primary key, status text);
    create table visits (id int, at date, primary key (id, at)) partition by range (at);
    create table visits_2026 partition of visits for values from ('2026-01-01') to ('2027-01-01');
"""

STATE = """
    select 'trigger', tgrelid::regclass::text, tgname, tgenabled::text from pg_trigger
    union all
    select 'table', oid::regclass::text, relname, relispartition::text from pg_class where relkind in ('r', 'p')
    union all
    select 'function', p.oid::regprocedure::text, md5(p.prosrc), p.proconfig::text from pg_proc as p
    where pronamespace = 'audit'::regnamespace
    order by 1, 2, 3
"""


@pytest.fixture
def guarded(trail: Trail, audit: Audit) -> Trail:
    """Two audited tables, and the guard."""
    trail.execute(TABLES)
    trail.audit("orders")
    trail.audit("visits")
    trail.execute("insert into orders values (1, 'new')")
    audit("guard", "on", "--reason", "from now on")
    return trail


@contextmanager
def refused(trail: Trail) -> Iterator[None]:
    """Everything in here is refused by the guard."""
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="the guard refuses"):
        yield
    trail.execute("rollback")


REFUSED = [
    'alter table orders disable trigger "00_audit_row"',
    "alter table orders disable trigger all",
    "alter table orders disable trigger user",
    'alter table orders enable trigger "00_audit_row"',
    'alter table orders enable replica trigger "00_audit_truncate"',
    'alter trigger "00_audit_row" on orders rename to "zz"',
    'drop trigger "00_audit_row" on orders',
    'create or replace trigger "00_audit_row" after insert on orders execute function suppress()',
    "set session_replication_role = replica; alter table orders disable trigger all",
    "set audit.guard = 'open'; alter table orders disable trigger all",
    'alter table visits disable trigger "00_audit_rows"',
    "alter table visits_2026 disable trigger all",
    'drop trigger "00_audit_truncate_rows" on visits_2026',
    "drop table orders",
    "drop table visits cascade",
    "drop schema public cascade",
    "drop function audit.capture_public__orders() cascade",
    "drop function audit.image_of(anyelement, boolean)",
    "create or replace function audit.refuse_change() returns trigger language plpgsql as 'begin return null; end'",
    "alter function audit.refuse_change() reset all",
    'alter table audit.logged_actions disable trigger "00_audit_append_only"',
    'alter table audit.logged_actions_tail disable trigger "00_audit_append_only"',
    'drop trigger "00_audit_append_only" on audit.logged_actions_tail',
    "drop table audit.logged_actions_tail",
    "drop table audit.captured_tables",
]


def test_what_takes_capture_or_the_trail_away_is_refused(guarded: Trail) -> None:
    """Each by itself; as nothing is changed, all on one database."""
    guarded.execute(
        "create function suppress() returns trigger language plpgsql as 'begin return null; end'"
    )
    before = guarded.execute(STATE)
    for statement in REFUSED:
        print(statement)  # pytest shows the last one where the test fails
        with refused(guarded):
            guarded.execute(statement)
        guarded.execute("reset all")
        assert guarded.execute(STATE) == before, statement


def leaf_of_now(trail: Trail) -> str:
    return str(
        trail.execute(
            "select leaf::text from audit.leaves() where lower_bound <= now() and upper_bound > now()"
        )[0][0]
    )


def test_a_partition_of_the_trail_goes_by_maintenance_alone(guarded: Trail) -> None:
    leaf = leaf_of_now(guarded)
    for statement in (
        f"drop table {leaf}",
        f"alter table audit.logged_actions detach partition {leaf}",
    ):
        with refused(guarded):
            guarded.execute(statement)


def test_the_rest_of_ddl_goes_on(guarded: Trail) -> None:
    guarded.execute("""
        alter table orders add column note text, add check (id > 0);
        alter table orders rename to sales;
        alter table sales rename to orders;
        create trigger mine after insert on orders for each row execute function suppress_redundant_updates_trigger();
        alter table orders disable trigger mine;
        drop trigger mine on orders;
        create table other (id int);
        create function other() returns int language sql as 'select 1';
        drop function other();
        drop table other;
        create table visits_2027 partition of visits for values from ('2027-01-01') to ('2028-01-01');
        alter table visits detach partition visits_2026;
        drop table visits_2026;
    """)


def test_our_own_commands_go_on(guarded: Trail, audit: Audit) -> None:
    audit("pause", "--table", "orders", "--reason", "import")
    audit("resume", "--table", "orders", "--reason", "done")
    guarded.audit("orders", capture=Capture.STATEMENT)
    guarded.audit("orders")
    guarded.execute("select audit.note_changes()")
    audit("partitions", "run", "--ahead", "9")
    apply(plan_trail_upgrade("audit"), guarded.connection)
    guarded.release("orders")
    guarded.execute("drop table orders")
    guarded.release("visits")
    audit("check")


def test_old_partitions_leave_through_maintenance(guarded: Trail, audit: Audit) -> None:
    guarded.execute("select audit.ensure_partitions(30)")
    audit("partitions", "run", "--retention", "1 month")
    assert audit("guard", "status").stdout.startswith("the guard is on since")


def test_the_trail_says_when_it_was_on(guarded: Trail, audit: Audit) -> None:
    audit("guard", "on", code=2)
    audit("guard", "off", "--reason", "server upgrade")
    guarded.execute("alter table orders disable trigger all")
    audit("guard", "off", "--reason", "again", code=2)
    said = [e["new_row"] for e in guarded.events() if (e["new_row"] or {}).get("change") == "guard"]
    assert [(one["guard"], one["reason"]) for one in said] == [
        ("on", "from now on"),
        ("off", "server upgrade"),
    ]
    status = json.loads(audit("guard", "status", "--format", "json").stdout)
    assert (status["state"], status["reason"]) == ("off", "server upgrade")


@pytest.mark.parametrize(
    "act",
    [
        "drop event trigger audit_guard_ddl",
        "alter event trigger audit_guard_drop disable",
        "alter event trigger audit_guard_drop enable",
        "drop function audit.guard_ddl() cascade",
    ],
)
def test_a_guard_that_is_gone_is_found(guarded: Trail, audit: Audit, act: str) -> None:
    audit("check")
    guarded.execute(act)
    found = json.loads(audit("check", "--format", "json", code=3).stdout)["findings"]
    assert "guard_missing" in {finding["kind"] for finding in found}
    assert "the guard is broken" in audit("guard", "status", code=3).stdout
    if "function" not in act:
        audit("guard", "on")
        audit("check")


def test_who_may_not_make_event_triggers_is_told_who_may(trail: Trail, audit: Audit) -> None:
    trail.execute("drop role if exists guard_owner; create role guard_owner login")
    try:
        apply_owner = TrailSettings(owner="guard_owner")
        apply(plan_trail(apply_owner), trail.connection)
        trail.execute(f'grant create on database "{trail.database.name}" to guard_owner')
        result = audit(
            "guard", "on", "--dsn", trail.database.dsn.replace("postgres@", "guard_owner@"), code=1
        )
        assert "event triggers need a superuser" in result.stderr
        assert "create event trigger audit_guard_ddl" in audit("guard", "on", "--sql").stdout
    finally:
        trail.execute(
            "reassign owned by guard_owner to postgres; drop owned by guard_owner; drop role guard_owner"
        )
