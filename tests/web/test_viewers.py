"""What a viewer may not see is not there: no page, no list, no count, no file names it."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.testclient import TestClient

from audit_toolkit.config import Mask
from audit_toolkit.trail import Erasure, redact
from audit_toolkit.web import Viewer, create_app
from tests.plugins.trail import Trail
from tests.web.conftest import Browse, local, text_of

SECRETS = ("salaries", "4000", "4200", "yearly raise: joe")


def seeing(**options: Any) -> Any:
    return lambda _request: Viewer(actor="support:ann", **options)


PATHS = (
    "/",
    "/events",
    "/events?actor=hr:eva",
    "/events?all=1&reason=raise",
    "/events?format=json&limit=1000",
    "/events?format=csv&limit=1000",
    "/person?actor=hr:eva",
    "/search?q=1",
    "/search?q=joe",
    "/status",
    "/table?table=customers",
    "/row?table=customers&key=1",
    "/row?table=customers&key=1&format=json",
)


def test_of_a_table_that_is_not_theirs_they_learn_nothing(shop: Trail, browse: Browse) -> None:
    client = browse(authorize=seeing(tables=["customers", "orders"]))
    numbers = {e["transaction_id"] for e in shop.events() if e["table_name"] == "salaries"}
    secret = [e["event_id"] for e in shop.events() if e["table_name"] == "salaries"]
    for path in (*PATHS, *(f"/transactions/{number}" for number in numbers)):
        response = client.get(path)
        assert response.status_code == 200, path
        for word in SECRETS:
            assert word not in response.text, (path, word)
    assert "stock" not in client.get("/").text
    for path in (
        "/table?table=salaries",
        "/row?table=salaries&key=1",
        "/deleted?table=salaries",
        "/as-it-was?table=salaries&at=2030-01-01",
        "/compare?table=salaries&key=1",
        "/events?table=salaries",
        *(f"/events/{number}" for number in secret),
    ):
        answer = client.get(path)
        missing = client.get(
            path.replace("salaries", "no_such_table").replace("/events/", "/events/9999")
        )
        assert answer.status_code == 404, path
        assert text_of(answer) == text_of(missing), path
    assert client.get(f"/events?before={secret[0]}").status_code == 200  # names no table


def test_pages_of_what_they_see_are_whole(shop: Trail, browse: Browse) -> None:
    for n in range(40):
        shop.execute("insert into salaries values (%s, 'x', 1)", [100 + n])
    told = text_of(browse(authorize=seeing(tables=["orders"])).get("/events"))
    assert "customer:ada created orders 1" in told
    assert "Older" not in told


def test_a_viewer_of_no_table_sees_none(browse: Browse) -> None:
    client = browse(authorize=seeing(tables=[]))
    for path in ("/", "/events", "/search?q=1", "/status", "/events?format=json"):
        response = client.get(path)
        assert response.status_code == 200
        for word in ("orders", "customers", "salaries", "support:joe"):
            assert word not in response.text, path
    assert client.get("/events/1").status_code == 404


def test_hidden_columns_are_not_there(shop: Trail, browse: Browse) -> None:
    client = browse(authorize=seeing(hidden={"customers": ["email"], "orders": ["total", "cart"]}))
    for path in (
        *PATHS,
        "/row?table=orders&key=1",
        "/row?table=orders&key=1&format=csv",
        "/compare?table=orders&key=1&a=2&b=6",
        "/as-it-was?table=orders&at=" + now(shop),
        "/row?table=orders&key=1&at=" + now(shop),
        "/deleted?table=orders",
        *(f"/events/{n}" for n in (2, 5, 6)),
        *(f"/events/{n}?format=json" for n in (2, 5, 6, 11)),
    ):
        text = client.get(path).text
        for word in ("example.com", "email", "19.90", "14.90", "total", "Basel", "cart"):
            assert word not in text, (path, word)
    assert client.get("/table?table=orders&column=total").status_code == 404
    shop.execute("alter table orders rename column total to sum")
    shop.execute("alter table orders add column total int")
    assert "sum" in client.get("/table?table=orders").text  # it is called otherwise now


def test_masked_columns_change_without_a_value(shop: Trail, browse: Browse) -> None:
    client = browse(authorize=seeing(masked={"public.*": ["email", "total"]}))
    told = text_of(client.get("/row?table=orders&key=1"))
    assert "support:joe changed total from ••• to ••• and note from please ring twice" in told
    for path in (
        "/row?table=orders&key=1",
        "/events?format=json",
        "/events?format=csv",
        "/events/5",
        "/",
    ):
        text = client.get(path).text
        assert "19.90" not in text
        assert "14.90" not in text
        assert "example.com" not in text
    events = json.loads(client.get("/row?table=orders&key=1&format=json").text)["events"]
    assert events[1]["changed"]["total"] == ["•••", "•••"]
    assert events[1]["old_row"]["total"] == "•••"


def test_a_key_that_is_hidden_names_no_row(shop: Trail, browse: Browse) -> None:
    shop.execute("create table accounts (iban text primary key, owner text)")
    shop.audit("accounts")
    shop.execute("insert into accounts values ('DE001', 'ada')")
    client = browse(authorize=seeing(masked={"accounts": ["iban"]}))
    for path in (
        "/",
        "/table?table=accounts",
        "/events?format=json",
        "/search?q=DE001",
        "/events/13",
    ):
        assert "DE001" not in client.get(path).text.replace("q=DE001", "").replace(
            'value="DE001"', ""
        ).replace("DE001</title>", "") or path.startswith("/search"), path
    assert "accounts" not in text_of(client.get("/search?q=DE001"))
    assert client.get("/row?table=accounts&key=DE001").status_code == 404


def test_the_context_is_theirs_as_far_as_it_is_granted(browse: Browse) -> None:
    client = browse(authorize=seeing(context=["reason"]))
    assert "POST /orders" not in client.get("/events/1").text
    assert "req-1" not in client.get("/events/1").text
    assert "ticket 4711" in client.get("/row?table=orders&key=1").text
    assert "POST /orders" in browse().get("/events/1").text


@pytest.mark.parametrize("path", ["/events?all=1&reason={}", "/request?all=1&request={}"])
def test_what_they_do_not_see_of_the_context_they_cannot_guess(browse: Browse, path: str) -> None:
    client = browse(authorize=seeing(context=["endpoint"]))
    right, wrong = (client.get(path.format(text)) for text in ("4711", "no such text"))
    right = client.get(path.format("req-1")) if "request" in path else right
    assert right.status_code == wrong.status_code == 403
    assert text_of(right) == text_of(wrong)
    for shown in ("/events", "/search?q=x"):
        page = client.get(shown).text
        for word in ('name="reason"', "reason=x", "request=x"):
            assert word not in page, shown


def test_a_statement_is_for_who_sees_every_table(shop: Trail, browse: Browse) -> None:
    shop.audit("orders", capture_query=True)
    shop.execute("update orders set note = (select person || amount from salaries) where id = 1")
    number = shop.events()[-1]["event_id"]
    for path in (f"/events/{number}", f"/events/{number}?format=json"):
        assert "from salaries" in browse().get(path).text
        for options in ({"tables": ["orders"]}, {"masked": {"salaries": ["amount"]}}):
            assert "from salaries" not in browse(authorize=seeing(**options)).get(path).text


def test_no_event_tells_of_hidden_columns(shop: Trail, browse: Browse) -> None:
    shop.execute(
        "select audit.record_event('mail.sent', %s, 'customers', '1')",
        [json.dumps({"email": "a@example.com", "sent": {"email": ["b@example.com"]}})],
    )
    shop.audit("customers", mask=(Mask(column="email"),), when="email is not null")
    shop.execute("select audit.note_coverage()")
    shop.execute("update customers set name = 'Ada' where id = 1")
    erasure = Erasure(table="customers", rows=("1",), columns=["email"], reason="asked to")
    with shop.database.connect() as connection:
        redact(connection, erasure, apply=True)
    numbers = [e["event_id"] for e in shop.events() if e["table_name"] == "customers"]
    everything = "".join(browse().get(f"/events/{n}?format=json").text for n in numbers)
    assert everything.count("email") > 8
    client = browse(authorize=seeing(hidden={"customers": ["email"]}))
    for number in numbers:
        for path in (f"/events/{number}", f"/events/{number}?format=json"):
            text = client.get(path).text
            assert "email" not in text, (path, text)
            assert "example.com" not in text, (path, text)


async def asynchronous(_request: Request) -> Viewer:
    return Viewer(tables=["orders"])


@pytest.mark.parametrize(
    ("authorize", "status"),
    [
        (lambda _request: None, 403),
        (lambda _request: RedirectResponse("/login"), 307),
        (
            lambda request: Viewer() if "let-me" in request.cookies else Response(status_code=401),
            401,
        ),
        (asynchronous, 200),
        (functools.partial(asynchronous), 200),
    ],
)
def test_the_application_decides(browse: Browse, authorize: Any, status: int) -> None:
    response = browse(authorize=authorize).get("/", follow_redirects=False)
    assert response.status_code == status
    assert "salaries" not in response.text


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({"client": ("192.0.2.1", 1)}, {}),
        ({}, {"host": "evil.example"}),
        ({}, {"x-forwarded-for": "192.0.2.1"}),
        ({}, {"forwarded": "for=192.0.2.1"}),
    ],
)
def test_without_a_login_only_this_machine_is_answered(
    shop: Trail, options: dict[str, Any], headers: dict[str, str]
) -> None:
    app = create_app(shop.database.connect)
    client = TestClient(
        app, base_url="http://127.0.0.1", **({"client": ("127.0.0.1", 1)} | options)
    )
    response = client.get("/", headers=headers)
    assert response.status_code == 403
    assert "authorize" in response.text
    assert local(app).get("/", headers={"host": "localhost:8340"}).status_code == 200


def now(shop: Trail) -> str:
    [(moment,)] = shop.execute(
        "select to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    )
    return str(moment)
