"""`audit install --ddl`: what DDL does to an audited table is in the trail at once, with the statement that did it."""

from __future__ import annotations

from typing import Any

import pytest

from audit_toolkit.config import Mask
from tests.completeness.conftest import Audit
from tests.plugins.trail import Trail


@pytest.fixture
def told(trail: Trail, audit: Audit) -> Trail:
    """An audited table with an event, and event triggers."""
    trail.execute("create table orders (id int primary key, status text)")
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new')")
    audit("install", "--ddl")
    return trail


def noted(trail: Trail) -> list[dict[str, Any]]:
    return [dict(event["new_row"]) for event in trail.events() if event["action"] == "M"]


def test_columns_are_told_with_the_statement_once(told: Trail) -> None:
    told.execute("alter table orders add column total numeric, alter column id type bigint")
    told.execute("select audit.note_changes()")
    [said] = noted(told)
    assert said["added"] == {"total": "numeric"}
    assert said["ddl"] == {
        "tag": "ALTER TABLE",
        "object": "public.orders",
        "before": {"id": "integer", "status": "text"},
        "after": {"id": "bigint", "status": "text", "total": "numeric"},
    }


def test_what_changes_no_column_is_told_too(told: Trail, audit: Audit) -> None:
    told.execute("""
        alter table orders add constraint positive check (id > 0);
        create trigger mine after insert on orders for each row execute function suppress_redundant_updates_trigger();
        drop trigger mine on orders;
        create policy p on orders using (true);
        alter table orders disable trigger all;
        create table other (id int);
        comment on table orders is 'no change';
    """)
    said = [(one["change"], one["ddl"]["tag"], one["ddl"]["object"]) for one in noted(told)]
    assert said == [
        ("ddl", "ALTER TABLE", "public.orders"),
        ("ddl", "CREATE TRIGGER", "mine on public.orders"),
        ("ddl", "DROP TRIGGER", "mine on public.orders"),
        ("ddl", "CREATE POLICY", "p on public.orders"),
        ("ddl", "ALTER TABLE", "public.orders"),
    ]
    assert "CREATE TRIGGER mine on public.orders" in audit("history", "orders").stdout


def test_renames_drops_and_partitions(told: Trail) -> None:
    told.execute("""
        create table visits (id int, at date, primary key (id, at)) partition by range (at);
        create table visits_2026 partition of visits for values from ('2026-01-01') to ('2027-01-01');
    """)
    told.audit("visits")
    told.execute("insert into visits values (1, '2026-02-03')")
    told.execute(
        "create table visits_2027 partition of visits for values from ('2027-01-01') to ('2028-01-01')"
    )
    told.execute("drop table visits_2027; alter table orders rename to sales; drop table sales")
    said = [(one["change"], one["ddl"]["tag"]) for one in noted(told)]
    assert said == [
        ("partitions", "CREATE TABLE"),
        ("partitions", "DROP TABLE"),
        ("renamed", "ALTER TABLE"),
        ("dropped", "DROP TABLE"),
    ]


def test_our_own_commands_are_no_noise(told: Trail, audit: Audit) -> None:
    told.audit("orders", exclude=("status",))
    audit("pause", "--table", "orders", "--reason", "import")
    audit("resume", "--table", "orders", "--reason", "done")
    audit("guard", "on")
    told.audit("orders")
    told.release("orders")
    assert [one["change"] for one in noted(told)] == ["guard"]
    audit("check")


def test_the_text_of_a_statement_is_kept_only_where_nothing_is_hidden(told: Trail) -> None:
    told.audit("orders", capture_query=True)
    told.execute("alter table orders alter column status set default 'plain'")
    told.audit("orders", capture_query=True, force_capture_query=True, mask=(Mask.parse("status"),))
    told.execute("alter table orders alter column status set default 'secret'")
    texts = [event["query"] for event in told.events() if event["action"] == "M"]
    assert texts == ["alter table orders alter column status set default 'plain'", None]


def test_a_role_without_the_right_is_told(trail: Trail, audit: Audit) -> None:
    assert "create event trigger audit_note_ddl" in audit("install", "--ddl", "--sql").stdout
    audit("install", "--ddl", "--dry-run")
    audit("install", "--ddl")
    assert "already" in audit("install", "--ddl").stdout
    audit("install", "--ddl", "--table", "orders", code=2)
