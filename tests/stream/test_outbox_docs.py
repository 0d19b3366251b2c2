"""Every block of docs/outbox.md, run as it stands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from audit_toolkit.templates import split_statements
from tests.plugins.command import Audit
from tests.plugins.docs import blocks
from tests.plugins.trail import Trail


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute("create table orders (id int primary key, status text)")
    trail.audit("orders")
    trail.execute("insert into orders values (42, 'paid')")
    return trail


@pytest.fixture
def engine(shop: Trail) -> Iterator[Engine]:
    made = create_engine(shop.database.dsn.replace("postgresql://", "postgresql+psycopg://", 1))
    yield made
    made.dispose()


def refunds(trail: Trail) -> list[tuple[str, str | None, object]]:
    found = [(e["action"], e["row_key"], e["new_row"]) for e in trail.events()][1:]
    assert found[0] == ("U", "42", {"id": 42, "status": "refunded"})
    return found[1:]


REFUND = ("E", "42", {"name": "order.refunded", "payload": {"amount": "4.90"}})


def test_python(shop: Trail, engine: Engine, audit: Audit) -> None:
    mapped, driver = blocks("outbox", "python")
    exec(compile(mapped, "docs/outbox.md", "exec"), {"engine": engine, "Order": Order})  # noqa: S102 - our own documentation
    assert refunds(shop) == [REFUND]
    assert shop.events()[-1]["context"] == {"actor": "support:joe"}
    commands = [
        line for block in blocks("outbox", "console") for line in block.splitlines() if line
    ]
    outputs = [audit(*shlex.split(line)[1:]) for line in commands]
    assert [output.exit_code for output in outputs] == [0, 0, 0]
    assert all("order.refunded by support:joe" in output.stdout for output in outputs[:2])
    assert "record_event" in outputs[2].stdout
    shop.execute("update orders set status = 'paid'")
    connection = shop.database.connect(autocommit=False)
    exec(compile(driver, "docs/outbox.md", "exec"), {"connection": connection})  # noqa: S102
    assert refunds(shop)[-1] == REFUND


def test_sql(shop: Trail) -> None:
    (block,) = blocks("outbox", "sql")
    for statement in split_statements(block):
        shop.execute(statement)
    assert refunds(shop) == [REFUND]
