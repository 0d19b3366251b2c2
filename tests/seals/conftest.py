"""A trail with a few hundred events, a key outside of the database, and words to seal it and to tamper with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from audit_toolkit.config import TrailSettings
from audit_toolkit.connection import connect
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from audit_toolkit.seals import (
    new_key,
    write_key,
)
from tests.plugins.database import MakeDatabase, TemplateDatabase
from tests.plugins.trail import Trail
from tests.plugins.trail import audit as audit_table
from tests.seals.words import Sealed

ORDERS = """
    create table orders (id int primary key, status text, note jsonb);
"""
EVENTS = """
    insert into orders select n, 'new', jsonb_build_object('n', n, 'who', 'Zoë') from generate_series(1, 300) as n;
    update orders set status = 'paid' where id % 2 = 0;
    update orders set id = -id where id = 7;
    delete from orders where id between 10 and 20;
"""


def fill(dsn: str) -> None:
    """The trail of the template."""
    with connect(dsn) as connection:
        apply(plan_trail(TrailSettings()), connection)
        connection.execute(ORDERS)
        audit_table(connection, "orders")
        with connection.transaction():
            connection.execute(
                """select set_config('audit.context', '{"actor": "user:1"}', true)"""
            )
            connection.execute(EVENTS)


@pytest.fixture(scope="session")
def sealed_template(template_database: TemplateDatabase) -> str:
    """A template with events, none sealed."""
    return template_database("seals", fill)


@pytest.fixture
def unsealed(make_database: MakeDatabase, sealed_template: str, tmp_path: Path) -> Sealed:
    """Events, none sealed, and a key."""
    sealed = Sealed(Trail(make_database(template=sealed_template)), tmp_path)
    write_key(sealed.key, new_key("example.com/shop"))
    return sealed


@pytest.fixture
def sealed(unsealed: Sealed) -> Sealed:
    """The same, sealed."""
    run = unsealed.seal()
    assert run.events == 462
    return unsealed


Cli = Callable[..., object]
