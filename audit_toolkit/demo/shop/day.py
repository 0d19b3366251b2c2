"""A day in the shop: the application takes orders, and somebody corrects one by hand."""

from __future__ import annotations

import json
import os
from decimal import Decimal

import psycopg
from models import Customer, Order
from sqlalchemy import create_engine, make_url, select, text
from sqlalchemy.orm import Session

SET_CONTEXT = "select set_config('audit.context', :context, true)"

url = os.environ["DATABASE_URL"]
engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))


def web_request(session: Session, actor: str, request: str) -> None:
    """Say who acts in this transaction, as middleware would."""
    session.execute(
        text(SET_CONTEXT), {"context": json.dumps({"actor": actor, "request": request})}
    )


# The application, through SQLAlchemy.
with Session(engine) as session, session.begin():
    web_request(session, "customer:ada", "POST /orders")
    ada = Customer(name="Ada", email="ada@example.com")
    session.add(ada)
    session.flush()
    session.add(Order(customer_id=ada.id, total=Decimal("19.90"), note="ring twice"))
    session.add(Order(customer_id=ada.id, total=Decimal("5.00")))

with Session(engine) as session, session.begin():
    web_request(session, "customer:ada", "POST /orders/1/pay")
    order = session.scalars(select(Order).where(Order.id == 1)).one()
    order.status = "paid"

# Support, by hand and through psycopg, with a reason.
with psycopg.connect(url) as connection:
    context = {"actor": "support:joe", "reason": "ticket 4711: shipping was charged twice"}
    connection.execute("select set_config('audit.context', %s, true)", [json.dumps(context)])
    connection.execute("update orders set total = 14.90, note = null where id = 1")
    connection.execute("delete from orders where id = 2")
