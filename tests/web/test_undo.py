"""Undo with a seat belt."""

from __future__ import annotations

import html
import re
from typing import Any

from audit_toolkit.web import Viewer
from tests.plugins.trail import Trail
from tests.web.conftest import Browse, text_of


def editor(**options: Any) -> Any:
    chosen: dict[str, Any] = {"actor": "support:ann", "may_undo": True} | options
    return lambda _request: Viewer(**chosen)


def event_of(shop: Trail, condition: str) -> int:
    [(number,)] = shop.execute(f"select event_id from audit.logged_actions where {condition}")
    return int(number)


TICKET = "context ->> 'reason' like 'ticket 4711%'"


def form_of(page: Any) -> dict[str, str]:
    form = page.text.partition('method="post"')[2]
    return {
        name: html.unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form)
    }


def test_a_change_is_taken_back_by_the_viewer_with_a_reason(shop: Trail, browse: Browse) -> None:
    client = browse(undo=True, authorize=editor())
    page = client.get(f"/undo?event={event_of(shop, TICKET)}")
    told = text_of(page)
    assert "orders 1 is put back" in told
    assert "total 14.90 19.90" in told
    assert shop.execute("select total from orders where id = 1") == [(shop_decimal("14.90"),)]
    done = client.post(
        "/undo", data=form_of(page) | {"reason": "it was right"}, follow_redirects=False
    )
    assert done.status_code == 303
    shown = text_of(client.get(done.headers["location"]))
    assert "support:ann changed orders 1: total from 14.90 to 19.90" in shown
    assert "it was right" in shown
    assert shop.execute("select total, note, cart ->> 'city' from orders where id = 1") == [
        (shop_decimal("19.90"), "please ring twice", "Basel")
    ]
    last = shop.events()[-1]["context"]
    assert last["actor"] == "support:ann"
    assert last["reverts"] == {"events": [event_of(shop, TICKET)]}
    again = client.get(f"/undo?event={event_of(shop, TICKET)}")
    assert "so already" in text_of(again)


def test_a_deleted_row_comes_back_and_a_transaction_goes(shop: Trail, browse: Browse) -> None:
    client = browse(undo=True, authorize=editor())
    row = client.get("/row?table=orders&key=2")
    [link] = re.findall(r'href="(/undo\?event=\d+)"', row.text)
    page = client.get(link)
    assert "orders 2 comes back" in text_of(page)
    client.post("/undo", data=form_of(page) | {"reason": "they paid"})
    assert shop.execute("select count(*) from orders where id = 2") == [(1,)]
    [(number,)] = shop.execute(
        "select transaction_id::text from audit.logged_actions where context ->> 'actor' = 'hr:eva' limit 1"
    )
    page = client.get(f"/undo?transaction={number}")
    assert "salaries 1 goes away" in text_of(page)
    client.post("/undo", data=form_of(page) | {"reason": "not yet"})
    assert shop.execute("select count(*) from salaries") == [(0,)]


def test_a_conflict_is_shown_and_nothing_happens(shop: Trail, browse: Browse) -> None:
    client = browse(undo=True, authorize=editor())
    event = event_of(shop, TICKET)
    page = client.get(f"/undo?event={event}")
    shop.execute("update orders set total = 1 where id = 1")
    late = client.post("/undo", data=form_of(page) | {"reason": "too late"})
    assert late.status_code == 409
    assert "Something has changed since" in text_of(late)
    shown = client.get(f"/undo?event={event}")
    assert "orders 1 was changed since" in text_of(shown)
    assert 'method="post"' not in shown.text
    assert shop.execute("select total from orders where id = 1") == [(shop_decimal("1.00"),)]


def test_it_needs_a_reason_and_a_form_of_ours(shop: Trail, browse: Browse) -> None:
    client = browse(undo=True, authorize=editor())
    page = client.get(f"/undo?event={event_of(shop, TICKET)}")
    form = form_of(page)
    assert client.post("/undo", data=form | {"reason": " "}).status_code == 400
    whole = form | {"reason": "x"}
    for data, headers in (
        (whole | {"token": "other"}, {}),
        (whole | {"token": ""}, {}),
        (whole, {"sec-fetch-site": "cross-site"}),
        (whole, {"origin": "https://evil.example"}),
    ):
        assert client.post("/undo", data=data, headers=headers).status_code == 403
    client.cookies.clear()
    assert client.post("/undo", data=whole).status_code == 403
    assert client.post("/undo", data={"x": "y" * 70_000}).status_code == 413
    assert shop.execute("select total from orders where id = 1") == [(shop_decimal("14.90"),)]


def test_off_by_default_and_for_whom_it_is_not(shop: Trail, browse: Browse) -> None:
    path = f"/undo?event={event_of(shop, TICKET)}"
    salary = event_of(shop, "table_name = 'salaries' and action = 'U'")
    for client in (
        browse(),
        browse(authorize=editor()),
        browse(undo=True, authorize=editor(may_undo=False)),
        browse(undo=True, authorize=editor(actor=None)),
        browse(undo=True, authorize=editor(hidden={"orders": ["note"]})),
        browse(undo=True, authorize=editor(masked={"orders": ["total"]})),
    ):
        assert client.get(path).status_code == 403
        assert client.post("/undo", data={"event": "5", "reason": "x"}).status_code == 403
    assert "Undo" not in browse().get("/events/5").text
    few = browse(undo=True, authorize=editor(tables=["customers"]))
    theirs, nobodys = few.get(f"/undo?event={salary}"), few.get("/undo?event=99999")
    assert theirs.status_code == nobodys.status_code == 404
    assert text_of(theirs) == text_of(nobodys)


def test_of_a_transaction_they_take_back_what_they_see(shop: Trail, browse: Browse) -> None:
    client = browse(undo=True, authorize=editor(tables=["customers"]))
    [(number,)] = shop.execute(
        "select transaction_id::text from audit.logged_actions where context ->> 'actor' = 'hr:eva' limit 1"
    )
    page = client.get(f"/undo?transaction={number}")
    assert "salaries" not in page.text
    client.post("/undo", data=form_of(page) | {"reason": "old address"})
    assert shop.execute("select email from customers") == [("ada@example.com",)]
    assert shop.execute("select amount from salaries") == [(4200,)]


def test_a_key_that_they_do_not_see_is_in_no_plan(shop: Trail, browse: Browse) -> None:
    shop.execute("create table accounts (iban text primary key, owner text, note text)")
    shop.audit("accounts")
    shop.execute("insert into accounts values ('DE001', 'ada', '')")
    shop.execute("update accounts set owner = 'eve'")
    event = event_of(shop, "table_name = 'accounts' and action = 'U'")
    client = browse(undo=True, authorize=editor(masked={"accounts": ["iban"]}))
    for _ in range(2):
        page = client.get(f"/undo?event={event}")
        assert "DE001" not in page.text
        shop.execute("update accounts set owner = 'joe'")  # a conflict, which has a key, too


def test_what_the_database_refuses_is_no_fault_of_the_page(shop: Trail, browse: Browse) -> None:
    shop.execute("create unique index secret_index on customers (email)")
    shop.execute("insert into customers values (2, 'Bob', 'b@example.com')")
    shop.execute("delete from customers where id = 2")
    shop.execute("insert into customers values (3, 'Bob', 'b@example.com')")
    gone = event_of(shop, "table_name = 'customers' and action = 'D'")
    path = f"/undo?event={gone}"
    for options, told in (({}, True), ({"tables": ["customers"]}, False)):
        client = browse(undo=True, authorize=editor(**options))
        done = client.post("/undo", data=form_of(client.get(path)) | {"reason": "too soon"})
        assert done.status_code == 409
        assert "The database refuses it" in text_of(done)
        assert ("secret_index" in done.text) == told
    assert shop.execute("select count(*) from customers") == [(2,)]


def shop_decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(text)
