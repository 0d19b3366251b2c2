"""What each page says."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime

import pytest

from audit_toolkit.stream import Terms
from audit_toolkit.trail import Erasure, redact
from tests.plugins.trail import Trail
from tests.stream.delivery import Memory, deliver
from tests.web.conftest import Browse, events_of, link, text_of
from tests.web.shop import acting


def test_a_row_is_told_in_plain_words(browse: Browse) -> None:
    told = text_of(browse().get("/row?table=orders&key=1"))
    assert (
        "support:joe changed total from 19.90 to 14.90 and note from please ring twice to empty"
        in told
    )
    assert "ticket 4711: shipping was charged twice" in told
    assert "customer:ada changed status from new to paid and paid from no to yes" in told
    assert "support:joe changed cart .city from Bern to Basel" in told
    assert told.index("ticket 4711") < told.index("customer:ada created orders 1")


def test_blame_names_who_gave_each_column_its_value(browse: Browse) -> None:
    told = text_of(browse().get("/row?table=orders&key=1")).partition("As it is now")[2]
    assert "total 14.90 support:joe" in told
    assert "status paid customer:ada" in told


def test_a_row_as_it_was(shop: Trail, browse: Browse) -> None:
    [(paid,)] = shop.execute(
        "select action_tstamp from audit.logged_actions where new_row ->> 'status' = 'paid' order by 1 limit 1"
    )
    client = browse()
    then = text_of(
        client.get("/row", params={"table": "orders", "key": "1", "at": paid.isoformat()})
    )
    assert "total 19.90 paid yes" in then.partition("As it was on")[2]
    before = text_of(client.get("/row?table=orders&key=1&at=2020-01-01"))
    assert "does not reach back" in before or "was not there then" in before
    assert "still to come" in text_of(client.get("/row?table=orders&key=1&at=2999-01-01"))


def test_a_deleted_row_says_so_and_how_it_comes_back(shop: Trail, browse: Browse) -> None:
    client = browse()
    told = text_of(client.get("/row?table=orders&key=2"))
    assert "not there now" in told
    assert "deleted by batch:cleanup" in told
    [(event,)] = shop.execute("select event_id from audit.logged_actions where action = 'D'")
    assert f"audit revert --event {event}" in told
    gone = text_of(client.get("/deleted?table=orders"))
    assert "batch:cleanup deleted orders 2" in gone
    assert "there again" not in gone
    shop.execute("insert into orders (id, total) values (2, 6)")
    assert "there again" in text_of(client.get("/deleted?table=orders"))


def test_two_versions_side_by_side(shop: Trail, browse: Browse) -> None:
    first, *_, last = [
        event["event_id"]
        for event in shop.events()
        if event["table_name"] == "orders" and event["row_key"] == "1"
    ]
    told = text_of(browse().get(f"/compare?table=orders&key=1&a={first}&b={last}"))
    assert "total 19.90 14.90" in told
    assert "cart .city Bern Basel" in told
    assert "2 columns are the same" in told
    other = browse().get(f"/compare?table=orders&key=1&a=1&b={last}")  # of a customer
    assert other.status_code == 404


def test_an_event_shows_json_inside(shop: Trail, browse: Browse) -> None:
    [(event,)] = shop.execute(
        "select event_id from audit.logged_actions where action = 'U' and new_row -> 'cart' ->> 'city' = 'Basel'"
    )
    response = browse().get(f"/events/{event}")
    assert "<mark>Bern</mark>" in response.text
    assert "<mark>Basel</mark>" in response.text
    assert "6 columns stayed as they were" in text_of(response)


def test_a_transaction_tells_what_else_it_did(shop: Trail, browse: Browse) -> None:
    [(number,)] = shop.execute(
        "select transaction_id::text from audit.logged_actions where context ->> 'actor' = 'hr:eva' limit 1"
    )
    told = text_of(browse().get(f"/transactions/{number}"))
    assert "hr:eva changed customers 1" in told
    assert told.index("hr:eva created salaries 1") < told.index("hr:eva changed salaries 1")
    assert browse().get("/transactions/1").status_code == 404


def test_a_person_and_a_request(browse: Browse) -> None:
    client = browse()
    person = text_of(client.get("/person?actor=support:joe"))
    assert "customers 1" in person
    assert "orders 1" in person
    assert "hr:eva" not in person
    request = text_of(client.get("/request?request=req-1"))
    assert "customer:ada created customers 1" in request
    assert "support:joe" not in request
    assert "batch:cleanup" not in request


@pytest.mark.parametrize(
    ("query", "there", "not_there"),
    [
        ("table=orders&action=delete", "deleted orders 2", "created orders 1"),
        ("table=orders&column=total&action=update", "ticket 4711", "ticket 4712"),
        ("reason=TICKET 4712", "ticket 4712", "ticket 4711"),
        ("actor=hr:eva", "salaries 1", "support:joe"),
        ("until=2020-01-01", "Nothing matches", "orders 1"),
        ("since=2020-01-01", "orders 1", "Nothing matches"),
    ],
)
def test_filters(browse: Browse, query: str, there: str, not_there: str) -> None:
    told = text_of(browse().get(f"/events?{query}")).partition("Show Reset")[2]
    assert there in told
    assert not_there not in told


def test_pages_joined_are_the_history(shop: Trail, browse: Browse) -> None:
    for n in range(60):
        shop.execute("insert into stock values ('us', %s, 1)", [n])
    client = browse()
    found: list[str] = []
    address: str | None = "/table?table=stock"
    while address:
        page = client.get(address)
        found += [line for line in events_of(page) if line not in found]
        address = link(page, "next")
    wanted = [str(e["event_id"]) for e in shop.events() if e["table_name"] == "stock"]
    assert found == wanted[::-1]
    newer = client.get(link(page, "prev") or "")
    assert events_of(newer)[-1] == found[found.index(events_of(page)[0]) - 1]


def test_search_finds_rows_events_and_transactions(shop: Trail, browse: Browse) -> None:
    client = browse()
    told = text_of(client.get("/search?q=1"))
    for row in ("customers 1", "orders 1", "salaries 1", "Event 1"):
        assert row in told
    assert "stock" not in told
    assert client.get("/search?q=1&table=public.orders", follow_redirects=False).headers[
        "location"
    ] == ("/row?table=public.orders&key=1")
    joe = client.get("/search?q=support:joe")
    assert "/person?actor=support%3Ajoe" in joe.text
    composite = client.get("/search", params={"q": '["eu", 42]'})
    assert 'stock ["eu", 42]' in text_of(composite)
    assert client.get("/search", follow_redirects=False).status_code == 303


def test_export_is_what_is_shown(shop: Trail, browse: Browse) -> None:
    client = browse()
    events = json.loads(client.get("/row?table=orders&key=1&format=json").text)["events"]
    assert [event["row_key"] for event in events] == ["1"] * 4
    assert events[1]["changed"] == {"note": ["please ring twice", None], "total": [19.90, 14.90]}
    shop.execute("insert into customers values (7, '=1+1', null, null)")
    rows = list(csv.DictReader(io.StringIO(client.get("/table?table=customers&format=csv").text)))
    assert len(rows) == 4
    with acting(shop.connection, actor="=cmd()"):
        shop.execute("delete from customers where id = 7")
    reader = csv.DictReader(io.StringIO(client.get("/person?actor==cmd()&format=csv").text))
    assert [row["action"] for row in reader] == ["D"]


def test_a_table_as_it_was(shop: Trail, browse: Browse) -> None:
    client = browse()
    now = datetime.now(UTC).isoformat()
    told = text_of(client.get("/as-it-was", params={"table": "orders", "at": now}))
    assert "14.90" in told
    assert "History" in told
    assert "had no rows then" in text_of(client.get("/as-it-was?table=orders&at=2020-01-01"))
    assert "still to come" in text_of(client.get("/as-it-was?table=orders&at=2999-01-01"))
    assert "not a valid time" in text_of(client.get("/as-it-was?table=orders&at=soon"))


def test_status(shop: Trail, browse: Browse) -> None:
    client = browse()
    told = text_of(client.get("/status"))
    assert "never off" in told
    assert "partitions for" in told
    assert "not sealed" in told
    shop.execute("alter table orders disable trigger all")
    shop.execute("create table nobody (id int primary key)")
    told = text_of(client.get("/status"))
    assert "public.orders off: changes are not recorded" in told
    assert "1 table is not recorded" in told


def test_status_of_streams(shop: Trail, browse: Browse) -> None:
    client = browse()
    assert "Streams" not in text_of(client.get("/status"))
    deliver(shop, Memory(lambda _: "refused no"), "lake", Terms(tries=1))
    shop.execute("delete from orders")
    told = text_of(client.get("/status"))
    assert re.search(r"lake does not run \d+ events? behind", told)
    assert "its sink refused" in told


def test_a_renamed_table_is_one_table(shop: Trail, browse: Browse) -> None:
    shop.execute("alter table orders rename to purchases")
    shop.execute("alter table purchases rename column total to sum")
    shop.execute("update purchases set sum = 3 where id = 1")
    client = browse()
    told = text_of(client.get("/row?table=purchases&key=1"))
    assert "changed sum from 14.90 to 3.00" in told
    assert "changed sum from 19.90 to 14.90" in told or "changed total from 19.90 to 14.90" in told
    assert client.get("/row?table=orders&key=1").status_code == 404
    assert "support:joe changed purchases 1" in text_of(client.get("/person?actor=support:joe"))


def test_unusual_events_have_words(shop: Trail, browse: Browse) -> None:
    shop.execute("truncate stock")
    shop.execute("update orders set id = 11 where id = 1")
    shop.execute("drop table salaries")
    client = browse()
    assert "emptied stock: every row is gone" in text_of(client.get("/table?table=stock"))
    assert "Its key was 1 before" in text_of(client.get("/row?table=orders&key=11"))
    assert "ticket 4711" in text_of(client.get("/row?table=orders&key=11"))
    assert "hr:eva created salaries 1" in text_of(client.get("/row?table=salaries&key=1"))
    assert "dropped" in text_of(client.get("/"))


def test_what_was_redacted_is_shown_as_such(shop: Trail, browse: Browse) -> None:
    with shop.database.connect() as connection:
        erasure = Erasure(
            table="orders", rows=["1"], columns=["note"], reason="asked to", ticket="7"
        )
        redact(connection, erasure, apply=True)
    client = browse()
    told = text_of(client.get("/row?table=orders&key=1"))
    assert "redacted (event " in told
    assert "audit:redacted" not in told
    shown = text_of(client.get("/table?table=orders"))
    assert "redacted values of orders for good" in shown
    assert "asked to" in shown
