"""Whatever goes past capture, or is done to its events, is named: table, key, operation, transaction."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from audit_toolkit.config import Capture, Mask, Store, TrailSettings
from audit_toolkit.findings import FindingKind
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from audit_toolkit.witness import Names, Witness, drop, read_server
from tests.plugins.trail import audit
from tests.witness.conftest import Watch

SHOP = """
    create table orders (id int primary key, status text, total numeric, at timestamptz, tags text[]);
    insert into orders values
        (1, 'new', 10.0, '2026-01-02 03:04:05+00', '{a,b}'), (2, 'new', 20, null, null), (3, 'new', 30, null, '{}');
"""
OFF = 'alter table orders disable trigger "00_audit_row"; {0}; alter table orders enable always trigger "00_audit_row"'
IN_REPLICA = (
    'alter table orders enable trigger "00_audit_row"; set session_replication_role = replica; {0};'
    ' reset session_replication_role; alter table orders enable always trigger "00_audit_row"'
)
NO_GUARD = (
    "alter table audit.logged_actions disable trigger all; set session_replication_role = replica; {0};"
    ' reset session_replication_role; alter table audit.logged_actions enable always trigger "00_audit_append_only"'
)
MISSING, FORGED = FindingKind.CHANGE_WITHOUT_EVENT, FindingKind.EVENT_WITHOUT_CHANGE
FUNCTION = "create or replace function audit.capture_public__orders() returns trigger language plpgsql as $${0}$$"
AUDIT = "audit.logged_actions"
ENABLED = """
    do $$ declare one name; begin
        for one in select tgname from pg_trigger where tgrelid = 'orders'::regclass loop
            execute format('alter table orders enable always trigger %I', one);
        end loop;
    end $$
"""
SILENCED = """
    do $$ declare leaf regclass; begin
        for leaf in select relid from pg_partition_tree('audit.logged_actions') loop
            execute format('alter table %s disable trigger all', leaf);
        end loop;
    end $$;
    {0}
"""


@dataclass(frozen=True, slots=True)
class Bypass:
    """What somebody does, and what the witness says of it."""

    sql: str
    kind: FindingKind
    operation: str | None
    keys: tuple[str, ...]
    subject: str = "public.orders"


BYPASSES = {
    "insert with the trigger disabled": Bypass(
        OFF.format("insert into orders values (9, 'x', 1)"), MISSING, "insert", ("9",)
    ),
    "update with the trigger disabled": Bypass(
        OFF.format("update orders set total = 11 where id = 1"), MISSING, "update", ("1",)
    ),
    "a change of scale alone": Bypass(
        OFF.format("update orders set total = 10.00 where id = 1"), MISSING, "update", ("1",)
    ),
    "a change of an array alone": Bypass(
        OFF.format("update orders set tags = '{b,a}' where id = 1"), MISSING, "update", ("1",)
    ),
    "update of a key with the trigger disabled": Bypass(
        OFF.format("update orders set id = 7 where id = 1"), MISSING, "update", ("7",)
    ),
    "delete with the trigger disabled": Bypass(
        OFF.format("delete from orders where id < 3"), MISSING, "delete", ("1", "2")
    ),
    "in replica mode, the trigger not ALWAYS": Bypass(
        IN_REPLICA.format("delete from orders where id = 2"), MISSING, "delete", ("2",)
    ),
    "trigger dropped": Bypass(
        'drop trigger "00_audit_row" on orders; update orders set status = \'x\' where id = 3',
        MISSING, "update", ("3",),
    ),
    "function replaced by one that does nothing": Bypass(
        FUNCTION.format("begin return null; end")
        + "; insert into orders (id) values (9)", MISSING, "insert", ("9",),
    ),
    "catalogue edited": Bypass(
        "update pg_trigger set tgenabled = 'D' where tgname = '00_audit_row';"
        " alter table orders set (fillfactor = 90); delete from orders where id = 1;"
        " update pg_trigger set tgenabled = 'A' where tgname = '00_audit_row'", MISSING, "delete", ("1",),
    ),
    "truncate with its trigger disabled": Bypass(
        "alter table orders disable trigger all; truncate orders", MISSING, "truncate", ()
    ),
    "two changes, one of them captured": Bypass(
        "begin; update orders set status = 'paid' where id = 1; alter table orders disable trigger all;"
        " update orders set total = 99 where id = 1; alter table orders enable always trigger \"00_audit_row\"; commit",
        MISSING, "update", ("1",),
    ),
    "the function writes another value": Bypass(
        FUNCTION.format(
            "begin insert into audit.logged_actions (schema_name, table_name, action, row_key, new_row) values"
            " ('public', 'orders', 'I', new.id::text, to_jsonb(new) || '{\"total\": 1}'); return null; end"
        )
        + "; insert into orders values (9, 'x', 500)", FindingKind.EVENT_DIFFERS, "insert", ("9",),
    ),
    "the function leaves a column out": Bypass(
        FUNCTION.format(
            "begin insert into audit.logged_actions (schema_name, table_name, action, row_key, new_row) values"
            " ('public', 'orders', 'I', new.id::text, to_jsonb(new) - 'total'); return null; end"
        )
        + "; insert into orders values (9, 'x', 500)", FindingKind.EVENT_DIFFERS, "insert", ("9",),
    ),
    "an event of a change that there was not": Bypass(
        "insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row)"
        " values ('public', 'orders', 'D', '1', '{\"id\": 1}')", FORGED, "delete", ("1",),
    ),
    "an event of a truncate that there was not": Bypass(
        "insert into audit.logged_actions (schema_name, table_name, action) values ('public', 'orders', 'T')",
        FORGED, "truncate", (),
    ),
    "an event of another transaction": Bypass(
        "insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row, transaction_id)"
        " values ('public', 'orders', 'D', '1', '{\"id\": 1}', '3')",
        FindingKind.EVENT_FORGED, "insert", ("public.orders 1",), AUDIT,
    ),
    "an event deleted": Bypass(
        SILENCED.replace("{0}", "delete from audit.logged_actions where row_key = '1'"),
        FindingKind.EVENT_REMOVED, "delete", (), AUDIT,
    ),
    "an event changed": Bypass(
        SILENCED.replace("{0}", "update audit.logged_actions set old_row = '{}' where row_key = '2'"),
        FindingKind.EVENT_CHANGED, "update", ("public.orders 2",), AUDIT,
    ),
    "the trail truncated": Bypass(
        SILENCED.replace("{0}", "truncate audit.logged_actions_2027_01, audit.logged_actions_2027_02"),
        FindingKind.EVENT_REMOVED, "truncate", ("logged_actions_2027_01", "logged_actions_2027_02"), AUDIT,
    ),
    "taken out of the registry": Bypass(
        "delete from audit.captured_tables where table_name = 'orders'", MISSING, None, ()
    ),
}  # fmt: skip


@pytest.fixture
def shop(watch: Watch) -> Watch:
    """An audited table with a history, and a witness that has seen none of it."""
    watch.execute(SHOP.split(";")[0])
    watch.audit("orders")
    watch.execute(SHOP.split(";", 1)[1])
    watch.begin()
    return watch


@pytest.mark.parametrize("bypass", BYPASSES.values(), ids=BYPASSES.keys())
def test_a_bypass_is_named(shop: Watch, bypass: Bypass) -> None:
    shop.execute("update orders set status = 'seen' where id = 3")
    assert shop.found() == []
    shop.execute(bypass.sql)
    found = shop.found()
    assert [(f.kind, f.subject, f.operation, f.keys) for f in found] == [
        (bypass.kind, bypass.subject, bypass.operation, bypass.keys)
    ]
    assert None not in (found[0].xid, found[0].lsn, found[0].committed_at)
    shop.execute(
        "insert into audit.logged_actions (schema_name, table_name, action) values ('audit', 'x', 'V')"
    )
    assert shop.found() == []


ACTS = {
    "insert": "insert into orders values (9, 'x', 500)",
    "update": "update orders set total = 500 where id = 1",
    "delete": "delete from orders where id = 2",
}


RULES: dict[str, dict[str, object]] = {
    "when": {"when": "total >= 10"},
    "changes": {"store": Store.CHANGES},
    "exclude": {"exclude": ("status",)},
    "only": {"only": ("total",)},
    "mask": {"mask": (Mask(column="status"),)},
    "statement": {"capture": Capture.STATEMENT},
    "unchanged": {"log_unchanged": True},
}
QUICK = [("when", "default"), ("exclude", "full"), ("statement", "default")]


@pytest.mark.parametrize(
    ("rule", "identity"),
    [
        pytest.param(*one, marks=() if one in QUICK else pytest.mark.thorough)
        for one in product(RULES, ("default", "full"))
    ],
)
def test_a_bypass_is_named_under_every_rule(watch: Watch, rule: str, identity: str) -> None:
    watch.execute(SHOP.split(";")[0])
    watch.execute(f"alter table orders replica identity {identity}")
    watch.audit("orders", **RULES[rule])
    watch.execute(SHOP.split(";", 1)[1])
    watch.begin()
    for act in ACTS.values():
        watch.execute(f"alter table orders disable trigger all; {act}; {ENABLED}")
    found = watch.found()
    assert [(one.operation, one.keys) for one in found] == [
        ("insert", ("9",)), ("update", ("1",)), ("delete", ("2",)),
    ]  # fmt: skip


def test_a_witness_needs_no_superuser(watch: Watch) -> None:
    role, name = f"owner_{watch.trail.database.name}", watch.trail.database.name
    watch.execute(f"create role {role} replication login; alter database {name} owner to {role}")
    watch.execute(f"grant all on schema public to {role}")
    watch.execute("drop schema audit cascade")
    with watch.trail.database.connect() as other:
        other.execute(f"set session authorization {role}")
        apply(plan_trail(TrailSettings()), other)
        other.execute(SHOP)
        audit(other, "orders")
        with closing(Witness(other)) as witness:
            witness.round()
            other.execute("update orders set total = 3 where id = 3")
            other.execute(OFF.format("update orders set total = 99 where id = 3"))
            found = [one for _ in range(2) for _, one in witness.round().found]
        drop(other, Names.of(other, "audit"), read_server(other, Names.of(other, "audit")))
        assert [one.keys for one in found] == [("3",)]
    watch.execute(f"alter database {name} owner to postgres; reassign owned by {role} to postgres")
    watch.execute(f"drop owned by {role}; drop role {role}")


def test_the_page_has_what_is_tried_here() -> None:
    page = (Path(__file__).parents[2] / "docs" / "witness.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|`]+) \| `(\w+)` \|$", page, re.M)
    assert rows == [(act, bypass.kind.value) for act, bypass in BYPASSES.items()]
