"""Two-phase transactions carry the context like any other; they need a server that allows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from sqlalchemy import create_engine, text

import audit_toolkit
from audit_toolkit.demo.cluster import throwaway_cluster
from tests.context.conftest import Shop, prepare_shop
from tests.plugins.database import Database
from tests.plugins.drivers import url
from tests.plugins.trail import Trail


@pytest.fixture(scope="module")
def two_phase_shop() -> Iterator[Shop]:
    """A shop on a server of its own."""
    with (
        throwaway_cluster(settings={"max_prepared_transactions": "4"}) as cluster,
        ExitStack() as closing,
    ):
        prepare_shop(cluster.dsn())
        connection = closing.enter_context(psycopg.connect(cluster.dsn(), autocommit=True))
        database = Database("postgres", cluster.dsn(), connection, cluster.bin_dir, closing)
        shop = Shop(Trail(database))
        shop.trail.audit("orders")
        yield shop


@pytest.mark.parametrize("strategy", ["pipeline", "statement", "eager"])
def test_sqlalchemy(two_phase_shop: Shop, strategy: str) -> None:
    engine = create_engine(url(two_phase_shop.dsn))
    audit_toolkit.attach(engine, strategy=strategy)  # type: ignore[arg-type]
    with audit_toolkit.context(actor=strategy), engine.connect() as connection:
        for note in (f"{strategy} one", f"{strategy} two"):
            transaction = connection.begin_twophase()
            insert = text("insert into orders (note) values (:note)")
            connection.execute(insert, {"note": note})
            transaction.prepare()
            transaction.commit()
    engine.dispose()
    found = [event for event in two_phase_shop.actors() if event[0].startswith(strategy)]
    assert found == [(f"{strategy} one", strategy), (f"{strategy} two", strategy)]


def test_psycopg(two_phase_shop: Shop) -> None:
    with psycopg.connect(two_phase_shop.dsn) as connection:
        audit_toolkit.attach(connection)
        with audit_toolkit.context(actor="p"):
            for note in ("p one", "p two"):
                connection.tpc_begin(note)
                connection.execute("insert into orders (note) values (%s)", [note])
                connection.tpc_prepare()
                connection.tpc_commit()
    found = [event for event in two_phase_shop.actors() if event[0].startswith("p ")]
    assert found == [("p one", "p"), ("p two", "p")]
