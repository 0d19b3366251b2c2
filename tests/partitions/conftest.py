"""Trails whose clock the tests set, and an audited table in one."""

from __future__ import annotations

import pytest

from audit_toolkit.capture import check_rule, plan_capture, select_tables
from audit_toolkit.catalog import read_relations, read_table
from audit_toolkit.config import TableRule
from audit_toolkit.plan import apply
from tests.plugins.rotating import Rotating
from tests.plugins.trail import SCHEMA


@pytest.fixture(autouse=True)
def _clock(simulated_clock: None) -> None:
    """The clock of every test here."""


@pytest.fixture
def orders(rotating: Rotating) -> Rotating:
    """A trail with an audited table that the writers write to."""
    rotating.execute("create table orders (id bigint generated always as identity, status text)")
    relation = select_tables(read_relations(rotating.connection), ["orders"], trail_schema=SCHEMA)
    table = read_table(rotating.connection, relation[0])
    apply(plan_capture(check_rule(table, TableRule()), SCHEMA), rotating.connection)
    return rotating
