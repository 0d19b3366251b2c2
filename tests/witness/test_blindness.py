"""What the witness cannot see, it says; what was seen twice is told once."""

from __future__ import annotations

import json
import re

import psycopg
import pytest

from audit_toolkit.errors import BusyError, PermissionDeniedError
from audit_toolkit.findings import FindingKind
from audit_toolkit.witness import Witness
from tests.plugins.command import Audit
from tests.witness.conftest import Watch

BLIND = FindingKind.WITNESS_BLIND
HERE = "from pg_replication_slots where database = current_database()"
OFF, ON = (
    f'alter table orders {verb} trigger "00_audit_row"' for verb in ("disable", "enable always")
)
ORDERS = "create table orders (id int primary key, total numeric)"
BYPASS = f"{OFF}; {{0}}; {ON}"


@pytest.fixture
def shop(watch: Watch) -> Watch:
    """An audited table and its witness."""
    watch.execute(ORDERS)
    watch.audit("orders")
    watch.begin()
    return watch


BLINDED = {
    "slot dropped": f"select pg_drop_replication_slot(slot_name) {HERE}",
    "slot advanced": f"select pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) {HERE}",
    "publication dropped": "drop publication audit_witness",
    "publication altered": "alter publication audit_witness set (publish = 'insert')",
    "trail taken out": "alter publication audit_witness drop table audit.logged_actions",
    "trail taken out for a while": (
        "alter publication audit_witness drop table audit.logged_actions; insert into orders values (3, 3);"
        " alter publication audit_witness add table audit.logged_actions"
    ),
    "table taken out": "alter publication audit_witness drop table orders",
    "table taken out for a while": (
        "alter publication audit_witness drop table orders; insert into orders values (3, 3);"
        " alter publication audit_witness add table orders"
    ),
    "table filtered": (
        "alter publication audit_witness drop table orders;"
        " alter publication audit_witness add table orders (id)"
    ),
}


@pytest.mark.parametrize("act", BLINDED.values(), ids=BLINDED.keys())
def test_whatever_blinds_it_is_a_finding_and_then_it_sees_again(shop: Watch, act: str) -> None:
    if "(id)" in act and shop.trail.connection.info.server_version < 150000:
        pytest.skip("column lists came with 15")
    for statement in act.split("; "):
        shop.execute(statement)
    found = shop.found()
    assert [one.kind for one in found if one.kind is not FindingKind.EVENT_WITHOUT_CHANGE] == [
        BLIND
    ]
    shop.execute("insert into orders values (1, 1)")
    assert shop.found() == []
    shop.execute(BYPASS.format("delete from orders where id = 1"))
    assert [one.operation for one in shop.found()] == ["delete"]


def test_a_witness_that_was_killed_tells_nothing_twice_and_misses_nothing(shop: Watch) -> None:
    shop.execute(BYPASS.format("insert into orders values (1, 1)"))
    kept = shop.execute(
        "select (summary -> 'seen')::bigint from audit.maintenance where command = 'witness'"
    )[0][0]
    assert len(shop.found()) == 1
    # As if it had been killed between keeping and advancing, or the server had lost the advance.
    shop.execute("insert into orders values (2, 2)")
    shop.end()
    shop.cluster.kill()
    shop.cluster.start()
    with psycopg.connect(shop.trail.database.dsn, autocommit=True) as connection:
        connection.execute(
            'alter table orders disable trigger "00_audit_row"; delete from orders where id = 2'
        )
    witness = Witness(_open(shop))
    found = [one for number in range(3) for _, one in witness.round().found]
    assert [(one.operation, one.keys) for one in found] == [("delete", ("2",))]
    assert int(str(kept)) < witness.state.seen


def _open(shop: Watch) -> psycopg.Connection[tuple[object, ...]]:
    return shop.trail.database.connect()


def test_one_instance_runs(shop: Watch) -> None:
    with shop.trail.database.connect() as other, pytest.raises(BusyError, match="another instance"):
        Witness(other)


def test_one_that_runs_and_does_nothing_is_found_whatever_the_clock_says(
    shop: Watch, audit: Audit
) -> None:
    assert "witness_stopped" not in audit("check").stdout
    for hour in ("-1 hour", "1 hour"):
        shop.execute(
            f"update audit.maintenance set last_run_at = now() + interval '{hour}' where command = 'witness'"
        )
        assert "witness_stopped" in audit("check").stdout


def test_a_role_without_replication_is_told_what_it_needs(watch: Watch) -> None:
    role = f"plain_{watch.trail.database.name}"
    watch.execute(f"create role {role}; grant all on schema audit to {role}")
    with watch.trail.database.connect() as other:
        other.execute(f"set role {role}")
        with pytest.raises(PermissionDeniedError) as raised:
            Witness(other)
    watch.execute(f"drop owned by {role}; drop role {role}")
    assert "replication" in (raised.value.hint or "")


def test_commands(shop: Watch, audit: Audit) -> None:
    shop.end()
    assert audit("witness", "run", "--once", code=0).stdout == ""
    shop.execute(BYPASS.format("insert into orders values (7, 1)"))
    lines = audit("witness", "run", "--once", "--format", "json", code=3).stdout.splitlines()
    finding, summary = map(json.loads, lines)
    assert (finding["kind"], finding["subject"], finding["keys"]) == (
        "change_without_event",
        "public.orders",
        ["7"],
    )
    assert (summary["findings"], summary["ok"]) == (1, False)
    assert "change_without_event" in audit("check", code=3).stdout
    assert "key 7" in audit("report", "--from", "2026-01-01", "--to", "now").stdout
    status = json.loads(audit("witness", "status", "--format", "json", code=0).stdout)
    assert (status["findings"], status["open_findings"], status["is_running"]) == (1, 1, False)
    assert "watched: public.orders: all changes" in audit("witness", "status", code=0).stdout
    assert (
        "audit_witness_findings_total 1"
        in audit("witness", "status", "--format", "prometheus", code=0).stdout
    )
    audit("review", "--by", "jo", "--note", "an import of mine", code=0)
    assert "change_without_event" not in audit("check").stdout
    audit("witness", "drop", code=0)
    assert shop.execute("select from pg_publication") == []
    assert (
        shop.execute("select from pg_replication_slots where database = current_database()") == []
    )
    audit("witness", "status", code=2)


def test_a_slot_that_the_server_gave_up_is_a_finding_with_its_bounds(shop: Watch) -> None:
    shop.execute("alter system set max_slot_wal_keep_size = '1MB'")
    shop.execute("select pg_reload_conf()")
    try:
        for _ in range(50):
            shop.execute("select pg_logical_emit_message(false, 'x', 'y'), pg_switch_wal()")
            shop.execute("checkpoint")
            if shop.execute(f"select wal_status {HERE}") == [("lost",)]:
                break
        (found,) = shop.found()
    finally:
        shop.execute("alter system reset max_slot_wal_keep_size")
        shop.execute("select pg_reload_conf()")
    assert found.kind is BLIND
    assert "replication slot was lost" in found.message
    assert re.search("between [0-9A-F/]+ and [0-9A-F/]+ was not compared", found.message)
    shop.execute(BYPASS.format("insert into orders values (1, 1)"))
    assert [one.operation for one in shop.found()] == ["insert"]
