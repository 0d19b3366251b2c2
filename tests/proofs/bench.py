"""What the proofs share: a database with the types of the palette, and installation by the library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from audit_toolkit.capture import check_rule, plan_capture, plan_uninstall, select_tables
from audit_toolkit.catalog import Relation, read_relations, read_table
from audit_toolkit.config import TableRule
from audit_toolkit.plan import Plan, apply
from tests.plugins.database import Connection
from tests.plugins.trail import SCHEMA

# As the trigger functions print values; set here by hand, since the replayer trusts nothing of the toolkit.
PLAIN = """
    set timezone = 'UTC'; set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres';
    set bytea_output = 'hex'; set extra_float_digits = 1; set search_path = public
"""


def install(
    connection: Connection,
    name: str,
    rule: TableRule,
    relations: Sequence[Relation] | None = None,
) -> Plan:
    """Install capture on a table, one of `relations` where those were read already; the plan that did it."""
    known = read_relations(connection) if relations is None else relations
    relation = select_tables(known, [name], trail_schema=SCHEMA)[0]
    plan = plan_capture(check_rule(read_table(connection, relation), rule), SCHEMA)
    apply(plan, connection)
    return plan


def release(connection: Connection, name: str, relations: Sequence[Relation]) -> None:
    """Take capture off a table."""
    relation = select_tables(relations, [name], trail_schema=SCHEMA)[0]
    apply(plan_uninstall(relation.name, SCHEMA), connection)


@dataclass(slots=True)
class Bench:
    """The database in which a state machine runs its examples, one after the other, and what it did."""

    dsn: str
    checker: Connection
    version: int
    examples: int = 0
    steps: int = 0
    statements: int = 0
    refused: int = 0
    events: int = 0
    comparisons: int = 0

    def next_schema(self) -> str:
        """The name of the schema of the next example."""
        self.examples += 1
        return f"m{self.examples}"

    def writer(self) -> Connection:
        """A new session for an application."""
        return psycopg.connect(self.dsn, autocommit=True)

    def __str__(self) -> str:
        return (
            f"{self.examples} examples, {self.steps} steps, {self.statements} statements ({self.refused} refused),"
            f" {self.events} events, {self.comparisons} comparisons; 0 differences"
        )
