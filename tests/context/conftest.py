"""A shop whose orders are audited, a proxy that counts round trips, a real PgBouncer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine

from tests.context.bouncer import Bouncer, running_bouncer
from tests.context.proxy import Proxy, running_proxy
from tests.plugins.database import Database, MakeDatabase, TemplateDatabase
from tests.plugins.drivers import url
from tests.plugins.trail import Trail, install_trail

TABLES = """
    create table orders (id bigint generated always as identity primary key, note text unique);
    create table receipts (id bigint generated always as identity primary key, note text);
    create function order_by_phone(note text) returns bigint language sql
        as 'insert into orders (note) values (note) returning id';
"""


class Shop:
    """A database with the trail whose table `orders` is audited."""

    def __init__(self, trail: Trail) -> None:
        self.trail = trail
        self.database: Database = trail.database

    @property
    def dsn(self) -> str:
        return self.database.dsn

    def contexts(self) -> dict[str, Any]:
        """The context of the last event of each note."""
        return {_note(event): event["context"] for event in self.trail.events()}

    def actors(self) -> list[tuple[str, str | None]]:
        """Note and actor of each event, in their order."""
        events = self.trail.events()
        return [(_note(event), (event["context"] or {}).get("actor")) for event in events]


def _note(event: dict[str, Any]) -> str:
    return str((event["new_row"] or event["old_row"])["note"])


def prepare_shop(dsn: str) -> None:
    """Put the trail and the shop's tables into a database."""
    install_trail(dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute(TABLES)


@pytest.fixture(scope="session")
def shop_template(template_database: TemplateDatabase) -> str:
    """A template that has the trail and the shop's tables."""
    return template_database("context_shop", prepare_shop)


@pytest.fixture
def shop(make_database: MakeDatabase, shop_template: str) -> Shop:
    """A new shop."""
    trail = Trail(make_database(template=shop_template))
    trail.audit("orders")
    return Shop(trail)


@pytest.fixture
def make_engine(shop: Shop) -> Iterator[Callable[..., Engine]]:
    """Call it for an engine of the shop that the test alone uses."""
    engines: list[Engine] = []

    def make(driver: str = "psycopg", dsn: str | None = None, **options: Any) -> Engine:
        engines.append(create_engine(url(dsn or shop.dsn, driver), **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def proxy(shop: Shop) -> Iterator[Proxy]:
    """A proxy before the shop's server that counts round trips."""
    with running_proxy(shop.dsn) as proxy:
        yield proxy


@pytest.fixture
def make_bouncer() -> Iterator[Callable[[str], Bouncer]]:
    """Call it with an address for a PgBouncer before it; without PgBouncer, a visible skip."""
    with ExitStack() as stack:
        yield lambda dsn: stack.enter_context(running_bouncer(dsn))
