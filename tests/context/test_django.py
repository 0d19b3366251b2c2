"""Django without SQLAlchemy: its own connections, its test client, psycopg 3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import count
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler  # type: ignore[import-untyped]
from django.db import connection, transaction  # type: ignore[import-untyped]
from django.http import HttpResponse  # type: ignore[import-untyped]
from django.test import Client  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

import audit_toolkit
from audit_toolkit.attribution.django import execute_wrapper
from audit_toolkit.errors import ContextError
from tests.context.blocks import block
from tests.context.conftest import Shop
from tests.context.proxy import Proxy
from tests.plugins.django_project import configure, point_to

INSERT = "insert into orders (note) values (%s)"


def insert(note: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [note])


def order(_request: Any, note: str) -> Any:
    insert(note)
    return HttpResponse("done")


urlpatterns = [path("orders/<note>", order)]


def audit_middleware(get_response: Any) -> Any:
    """The middleware of the documentation."""
    return block("def audit_middleware")["audit_middleware"](get_response)


@pytest.fixture
def django_shop(shop: Shop) -> Iterator[Shop]:
    """A shop that Django is connected to."""
    configure()
    point_to(shop.dsn)
    yield shop
    connection.close()


@pytest.fixture
def carried(django_shop: Shop) -> Iterator[Shop]:
    """The same, after what the documentation says for psycopg 3."""
    from django.db.backends import signals  # type: ignore[import-untyped]

    block("django.carry_context()")
    yield django_shop
    signals.connection_created.disconnect(dispatch_uid="audit_toolkit")


def test_requests(carried: Shop) -> None:
    for user in ("7", "8"):
        assert Client().get(f"/orders/{user}", headers={"user": user}).content == b"done"
    assert carried.contexts() == {
        "7": {"actor": "user:7", "route": "/orders/7"},
        "8": {"actor": "user:8", "route": "/orders/8"},
    }


def test_the_wsgi_middleware(carried: Shop) -> None:
    handler = audit_toolkit.WsgiContextMiddleware(WSGIHandler())
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/orders/wsgi",
        "REMOTE_ADDR": "192.0.2.1",
        "HTTP_USER": "7",
        "SERVER_NAME": "shop",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
    }
    response = handler(environ, lambda *_: lambda _data: None)
    assert b"".join(response) == b"done"
    response.close()  # type: ignore[attr-defined]
    claims = carried.contexts()["wsgi"]
    assert (claims["client"], claims["method"], claims["actor"]) == ("192.0.2.1", "GET", "user:7")


def test_atomic_blocks_and_autocommit(carried: Shop) -> None:
    with audit_toolkit.context(actor="a"):
        insert("autocommit")
        with transaction.atomic():
            insert("atomic")
            point = transaction.savepoint()
            insert("undone")
            transaction.savepoint_rollback(point)
            insert("after")
    insert("nobody")
    assert carried.actors() == [
        ("autocommit", "a"),
        ("atomic", "a"),
        ("after", "a"),
        ("nobody", None),
    ]


def test_it_costs_no_round_trip(carried: Shop, proxy: Proxy) -> None:
    assert carried.dsn
    point_to(proxy.dsn)
    with audit_toolkit.context(actor="a"):
        insert("warm")
        proxy.reset()
        insert("counted")
    assert proxy.trips == 1


def test_the_execute_wrapper_of_the_documentation(django_shop: Shop) -> None:
    django_shop.database.execute(INSERT, ["full price"])
    block("connection.execute_wrapper")
    assert django_shop.contexts()["reduced"] == {"actor": "user:42"}


def test_the_execute_wrapper(django_shop: Shop) -> None:
    with connection.execute_wrapper(execute_wrapper):
        with audit_toolkit.context(actor="a"):
            insert("autocommit")
            with transaction.atomic():
                insert("atomic")
        with transaction.atomic():
            with audit_toolkit.context(actor="b"), connection.cursor() as cursor:
                cursor.executemany(INSERT, [["one"], ["two"]])
            insert("after")
        insert("nobody")
    assert django_shop.actors() == [
        ("autocommit", "a"),
        ("atomic", "a"),
        ("one", "b"),
        ("two", "b"),
        ("after", None),
        ("nobody", None),
    ]


_NUMBERS = count()
"""Django knows a model by its name for as long as the process lives."""


def order_model(table: str = "orders") -> Any:
    """The orders as a model of Django."""
    from django.db import models

    values = {
        "id": models.BigAutoField(primary_key=True),
        "note": models.TextField(),
        "Meta": type("Meta", (), {"app_label": "shop", "db_table": table, "managed": False}),
        "__module__": __name__,
    }
    return type(f"Order{next(_NUMBERS)}", (models.Model,), values)


class TestEvents:
    """`record` in a transaction of Django: with it, or not at all."""

    @staticmethod
    def told(shop: Shop) -> list[tuple[Any, ...]]:
        return [
            (e["new_row"]["name"], e["row_key"], (e["context"] or {}).get("actor"))
            for e in shop.trail.events()
            if e["action"] == "E"
        ]

    def test_with_the_transaction_or_not_at_all(self, carried: Shop) -> None:
        model = order_model()
        with audit_toolkit.context(actor="ann"), transaction.atomic():
            order = model.objects.create(note="first")
            audit_toolkit.record("order.placed", {"via": "shop"}, row=order)
            with suppress(ZeroDivisionError), transaction.atomic():
                audit_toolkit.record("order.undone", row=order)
                raise ZeroDivisionError
        with suppress(ZeroDivisionError), transaction.atomic():
            order.note = "other"
            order.save()
            audit_toolkit.record("order.changed", row=order)
            raise ZeroDivisionError
        assert self.told(carried) == [("order.placed", str(order.pk), "ann")]
        transactions = {e["transaction_id"] for e in carried.trail.events()}
        assert len(transactions) == 1

    def test_on_commit(self, carried: Shop) -> None:
        """What runs after the commit has a transaction of its own, and does not run without a commit."""
        order = order_model().objects.create(note="first")

        def note() -> None:
            audit_toolkit.record("order.announced", row=order)

        with suppress(ZeroDivisionError), transaction.atomic():
            transaction.on_commit(note)
            raise ZeroDivisionError
        assert self.told(carried) == []
        with transaction.atomic():
            transaction.on_commit(note)
            assert self.told(carried) == []
        assert self.told(carried) == [("order.announced", str(order.pk), None)]

    def test_through_the_connection_and_in_autocommit(self, carried: Shop) -> None:
        audit_toolkit.record("day.closed", on=connection)
        with transaction.atomic():
            audit_toolkit.record("day.opened", on=connection)
            transaction.set_rollback(True)
        assert self.told(carried) == [("day.closed", None, None)]

    def test_a_table_of_another_schema(self, carried: Shop) -> None:
        carried.database.execute(
            "create schema sales; create table sales.orders (id bigint primary key, note text)"
        )
        carried.trail.audit("sales.orders")
        order = order_model('sales"."orders').objects.create(id=7, note="there")
        audit_toolkit.record("order.placed", row=order)
        found = [(e["schema_name"], e["table_name"]) for e in carried.trail.events()]
        assert found == [("sales", "orders")] * 2

    def test_a_row_that_is_not_saved(self, carried: Shop) -> None:
        with pytest.raises(ContextError, match="not saved yet"):
            audit_toolkit.record("order.placed", row=order_model()(note="new"))
        assert self.told(carried) == []
