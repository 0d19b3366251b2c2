"""A database with the trail installed, and short words for what tests do to it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from audit_toolkit.capture import (
    check_rule,
    free_function,
    plan_capture,
    plan_uninstall,
    select_tables,
)
from audit_toolkit.capture.render import Target, unpublished
from audit_toolkit.catalog import Installed, Table, read_installed, read_relations, read_table
from audit_toolkit.config import TableRule, TrailSettings
from audit_toolkit.connection import connect
from audit_toolkit.plan import Plan, Step, apply
from audit_toolkit.schema import plan_trail
from tests.plugins.database import Connection, Database, MakeDatabase, TemplateDatabase

SCHEMA = "audit"

EVENTS = """
    select *, transaction_id::text as transaction_id, old_row::text as old_text, new_row::text as new_text
    from audit.logged_actions
    order by event_id
"""


@dataclass(frozen=True, slots=True)
class Trail:
    """A database that has the trail."""

    database: Database

    @property
    def connection(self) -> Connection:
        """The connection of `execute`."""
        return self.database.connection

    def execute(self, query: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Run SQL; the rows of its last statement."""
        return self.database.execute(query, params)

    def table(self, name: str) -> Table:
        """A table as the catalogue has it."""
        return _table(self.connection, name)

    def target(self, name: str, **rule: Any) -> Target:
        """A table with a rule."""
        return check_rule(self.table(name), TableRule(**rule))

    def audit(self, name: str, **rule: Any) -> Plan:
        """Install capture on a table."""
        return audit(self.connection, name, **rule)

    def installed(self, name: str) -> Installed | None:
        """What captures a table."""
        return _installed(self.connection, self.table(name))

    def release(self, name: str) -> None:
        """Take capture off a table."""
        there = self.installed(name)
        assert there is not None
        from_wal = there.options.get("capture") == "wal"
        plan = plan_uninstall(there.table, SCHEMA, function=there.function, from_wal=from_wal)
        apply(plan, self.connection)

    def events(self) -> list[dict[str, Any]]:
        """All events in the order of their ids; numbers in rows as `Decimal`, which keeps their scale."""
        with self.database.connect() as connection:
            set_json_loads(lambda text: json.loads(text, parse_float=Decimal), connection)
            return connection.cursor(row_factory=dict_row).execute(EVENTS).fetchall()

    def story(self) -> list[tuple[str, str | None]]:
        """All events as (action, key)."""
        return [(event["action"], event["row_key"]) for event in self.events()]


def audit(connection: Connection, name: str, **rule: Any) -> Plan:
    """Install capture on a table, or change it."""
    table = _table(connection, name)
    there = read_installed(connection, SCHEMA)
    former = next((one for one in there if one.table == table.name), None)
    function = former.function if former else free_function(table.name, there)
    plan = plan_capture(
        replace(check_rule(table, TableRule(**rule)), function_name=function),
        SCHEMA,
        former_triggers=former.trigger_names if former else (),
    )
    if former and former.options.get("capture") == "wal" and rule.get("capture") != "wal":
        unpublish = unpublished(table.name, SCHEMA, former.function)
        plan = replace(plan, steps=(*plan.steps, Step(why="-", statements=unpublish)))
    apply(plan, connection)
    return plan


def _table(connection: Connection, name: str) -> Table:
    relation = select_tables(read_relations(connection), [name], trail_schema=SCHEMA)[0]
    return read_table(connection, relation)


def _installed(connection: Connection, table: Table) -> Installed | None:
    found = read_installed(connection, SCHEMA)
    return next((there for there in found if there.table == table.name), None)


def install_trail(dsn: str) -> None:
    """Put the trail into the database of that address."""
    with connect(dsn) as connection:
        apply(plan_trail(TrailSettings()), connection)


@pytest.fixture(scope="session")
def trail_template(template_database: TemplateDatabase) -> str:
    """A template that has the trail and nothing else."""
    return template_database("trail", install_trail)


@pytest.fixture
def trail(make_database: MakeDatabase, trail_template: str) -> Trail:
    """A new database with the trail, and no tables."""
    return Trail(make_database(template=trail_template))


def warnings(trail: Trail, query: str) -> list[str]:
    """What the server warns of while it answers."""
    said: list[str] = []

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        said.append(notice.message_primary or "")

    trail.connection.add_notice_handler(hear)
    trail.execute(query)
    trail.connection.remove_notice_handler(hear)
    return said
