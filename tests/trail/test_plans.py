"""The plans of our queries on a trail of 200 000 events in three leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from psycopg import sql

from audit_toolkit.templates import render
from audit_toolkit.trail import Action, Filter, cut_page, find_range, find_subject, history_query
from audit_toolkit.trail.history.filter import Reach
from audit_toolkit.trail.history.ordering import WINDOW
from audit_toolkit.trail.history.row_events import own_events
from audit_toolkit.trail.rows.lookup import trail_table
from tests.plugins.database import MakeDatabase, TemplateDatabase
from tests.plugins.trail import Trail, audit, install_trail

UPDATES = frozenset({Action.UPDATE})
EVENTS = 200_000
ROWS = 50_000
LEAVES = 3

_TABLES = "create table orders (id bigint primary key, v int); create table moved (like orders including all)"
_FILL = f"""
    alter table audit.logged_actions disable trigger user;
    insert into audit.logged_actions
        (schema_name, table_name, action, row_key, old_row, new_row, action_tstamp)
    select 'public', 'orders', 'U', g % {ROWS},
        jsonb_build_object('id', g % {ROWS}, 'v', 1), jsonb_build_object('id', g % {ROWS}, 'v', 2),
        date_trunc('month', now() at time zone 'UTC') at time zone 'UTC'
            + (g * {LEAVES} / {EVENTS}) * interval '1 month' + interval '10 days'
    from generate_series(0, {EVENTS} - 1) as g;
    insert into audit.logged_actions
        (schema_name, table_name, action, row_key, old_row_key, old_row, new_row)
    values
        ('public', 'moved', 'U', '2', '1', '{{"id": 1}}', '{{"id": 2}}'),
        ('public', 'moved', 'U', '3', '2', '{{"id": 2}}', '{{"id": 3}}');
    insert into audit.logged_actions (schema_name, table_name, action) values ('public', 'orders', 'T');
    analyze audit.logged_actions;
"""


@pytest.fixture(scope="session")
def filled_template(template_database: TemplateDatabase) -> str:
    def fill(dsn: str) -> None:
        import psycopg

        install_trail(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(_TABLES)
            audit(connection, "orders")
            connection.execute(_FILL.encode())

    return template_database("filled", fill)


@pytest.fixture
def filled(make_database: MakeDatabase, filled_template: str) -> Trail:
    return Trail(make_database(template=filled_template))


def explain(trail: Trail, query: str, parameters: Any) -> dict[str, Any]:
    explained = sql.SQL("explain (analyze, format json) ") + sql.SQL(query)
    (plans,) = trail.connection.execute(explained, parameters).fetchall()[0]
    return dict(plans[0])


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def rows_read(plan: dict[str, Any]) -> int:
    """Rows that scans looked at, those that they threw away included."""
    return sum(
        int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for node in nodes(plan)
        if "Scan" in node["Node Type"] and "Relation Name" in node
    )


@pytest.mark.parametrize("limit", [None, 2])
def test_the_history_of_a_row_reads_its_events_only(filled: Trail, limit: int | None) -> None:
    subject = find_subject(filled.connection, "orders", 42)
    explained = explain(filled, *history_query(subject, Filter(limit=limit)))
    plan = explained["Plan"]
    assert plan["Actual Rows"] == (limit or EVENTS / ROWS + 1)
    assert rows_read(plan) <= 2 * (EVENTS / ROWS + 2)
    used = {node.get("Index Name", "") for node in nodes(plan) if node["Actual Rows"]}
    assert any("row_key" in name or "row_idx" in name for name in used)
    assert explained["Execution Time"] < 50


def test_a_row_whose_key_was_changed(filled: Trail) -> None:
    subject = find_subject(filled.connection, "moved", 3)
    assert subject.key_changed
    query, parameters = history_query(subject, Filter(), own_events(filled.connection, subject))
    plan = explain(filled, query, parameters)["Plan"]
    assert plan["Actual Rows"] == 2
    assert rows_read(plan) <= 10


def test_time_prunes_leaves_and_nothing_else(filled: Trail) -> None:
    subject = find_subject(filled.connection, "orders", 42)
    wanted = "select count(*) from audit.logged_actions where row_key = '42' and action_tstamp"
    (last,) = filled.execute("select max(action_tstamp) from audit.logged_actions")[0]
    for days in range(0, 100, 10):
        moment = last - timedelta(days=days)
        for filtered, condition in (
            (Filter(since=moment, actions=UPDATES), ">= %s"),
            (Filter(until=moment, actions=UPDATES), "< %s"),
        ):
            plan = explain(filled, *history_query(subject, filtered))["Plan"]
            assert plan["Actual Rows"] == filled.execute(f"{wanted} {condition}", [moment])[0][0]
    plan = explain(filled, *history_query(subject, Filter(since=last)))["Plan"]
    own = {
        node["Relation Name"]
        for node in nodes(plan["Plans"][0])
        if node.get("Alias", "").startswith("logged_actions") and node["Actual Loops"]
    }
    assert 0 < len(own) < len(filled.execute("select * from audit.leaves()")) - 1


@pytest.mark.parametrize(
    ("low", "high", "keys"),
    [(100, 199, 100), (40_000, 41_999, 2000), (9_950, 10_049, 100), (19_000, 20_500, 1501)],
)
def test_a_range_of_keys_reads_the_events_of_these_keys_only(
    filled: Trail, low: int, high: int, keys: int
) -> None:
    subject = find_subject(filled.connection, "orders")
    wanted = Filter(keys=find_range(filled.connection, subject, low, high))
    plan = explain(filled, *history_query(subject, wanted))["Plan"]
    events = keys * EVENTS // ROWS
    assert plan["Actual Rows"] == events + 1  # and the TRUNCATE
    assert rows_read(plan) <= 3 * events + 10


@pytest.mark.parametrize("after", [None, 150_000])
def test_a_page_reads_its_events_only(filled: Trail, after: int | None) -> None:
    subject = find_subject(filled.connection, "orders")
    wanted = Filter(limit=101, before=100_000 if after is None else None, after=after)
    plan = explain(filled, *history_query(subject, wanted, brief=True))["Plan"]
    assert plan["Actual Rows"] == 101
    assert rows_read(plan) <= 300
    page = cut_page(filled.connection, subject, replace(wanted, limit=100)).wanted
    plan = explain(filled, *history_query(subject, page))["Plan"]
    assert plan["Actual Rows"] == 100
    assert rows_read(plan) <= 200


class TestTail:
    @pytest.fixture
    def last(self, filled: Trail) -> tuple[int, Any]:
        query = "select event_id, action_tstamp from audit.logged_actions order by 2 desc, 1 desc limit 1"
        number, moment = filled.execute(query)[0]
        return number, moment

    def test_a_look_reads_one_event_of_the_recent_leaves(
        self, filled: Trail, last: tuple[int, Any]
    ) -> None:
        query = render("queries/newest_event", trail=trail_table("audit"), recent=True)
        recent = last[1] - timedelta(days=1)
        for after, found in ((last[0], None), (last[0] - 50_000, last[0])):
            parameters = {"after": after, "recent": recent}
            plan = explain(filled, query, parameters)["Plan"]
            assert rows_read(plan) <= 3
            leaves = {n["Relation Name"] for n in nodes(plan) if "Relation Name" in n}
            assert len(leaves) < len(filled.execute("select * from audit.leaves()")) - 1
            with filled.connection.cursor() as cursor:
                row = cursor.execute(query.encode(), parameters).fetchone()
                assert row is not None
                assert row[0] == found

    @pytest.mark.parametrize("key", [None, 42])
    def test_what_is_new_is_read_by_its_numbers(
        self, filled: Trail, last: tuple[int, Any], key: int | None
    ) -> None:
        subject = find_subject(filled.connection, "orders", key)
        reach = Reach(event_id=last[0] - 100, transaction_id=2**40)
        wanted = Filter(after=last[0] - 200, limit=2 * WINDOW)
        plan = explain(filled, *history_query(subject, wanted, reach=reach))["Plan"]
        assert rows_read(plan) <= 420
        assert not any(
            node["Node Type"] == "Seq Scan" for node in nodes(plan) if node["Actual Rows"]
        )


def test_the_newest_events_of_a_table_are_not_sorted(filled: Trail) -> None:
    subject = find_subject(filled.connection, "orders")
    plan = explain(filled, *history_query(subject, Filter(limit=100)))["Plan"]
    assert plan["Actual Rows"] == 100
    assert rows_read(plan) < 1000


def test_tables_of_the_trail_are_found_by_hopping(filled: Trail) -> None:
    query = render("queries/trail_tables", trail=trail_table("audit"))
    plan = explain(filled, query, {})["Plan"]
    assert plan["Actual Rows"] == 2
    assert rows_read(plan) < 100
