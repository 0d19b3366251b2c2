"""The page as a browser shows it: every view, in the dark, on a phone, by keyboard, without JavaScript."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from tests.browser.conftest import AXE, Look
from tests.plugins.trail import Trail
from tests.web.hostile import HOSTILE
from tests.web.shop import acting

VIEWS = (
    "/",
    "/search?q=1",
    "/events",
    "/events?live=1",
    "/events?actor=hr:eva&all=1",
    "/events/5",
    "/events/6",
    "/table?table=orders&column=total",
    "/person?actor=support:joe",
    "/request?request=req-1",
    "/row?table=orders&key=1",
    "/row?table=orders&key=2",
    "/row?table=orders&key=1&at=2020-01-01",
    "/compare?table=orders&key=1",
    "/deleted?table=orders",
    "/as-it-was?table=orders",
    "/status",
    "/undo?event=5",
    "/nothing",
)
PHONE = {"viewport": {"width": 360, "height": 740}}
DARK = {"color_scheme": "dark"}


@pytest.mark.parametrize("look", [{}, DARK, PHONE], indirect=True, ids=["wide", "dark", "phone"])
def test_every_view_is_accessible_and_fits(look: Look) -> None:
    page = look.page
    page.add_init_script(path=AXE)
    found = []
    for path in VIEWS:
        look.at(path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        report: Any = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        found += [
            (path, v["id"], [node["html"][:120] for node in v["nodes"]])
            for v in report["violations"]
            if v["impact"] in ("moderate", "serious", "critical")
        ]
    assert found == [], json.dumps(found, indent=1)


def test_on_paper_is_what_can_be_read_and_nothing_to_press(look: Look) -> None:
    page = look.page
    page.emulate_media(media="print")
    for path in VIEWS:
        look.at(path)
        for what in ("form", "nav", "button", ".button", ".facts a", "select"):
            shown = [one for one in page.locator(what).all() if one.is_visible()]
            assert shown == [], (path, what)
        assert all(one.inner_text().strip() for one in page.locator(".card").all()), path
    look.at("/compare?table=orders&key=1")
    head = page.locator(".sides thead").inner_text()
    assert head.count("UTC, support:joe") == 2


def test_by_keyboard_from_the_search_to_an_event(look: Look) -> None:
    page = look.at("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=1")
    page.get_by_role("link", name="orders 1").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/row?**")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") in ("main", "")
    page.get_by_role("link", name="Details of event 5").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/events/5")
    assert (
        page.get_by_role("heading", level=1).inner_text().startswith("support:joe changed orders 1")
    )


@pytest.mark.parametrize("look", [{"java_script_enabled": False}], indirect=True)
def test_without_javascript(look: Look) -> None:
    page = look.at("/events")
    page.get_by_text("Filters").click()
    page.get_by_label("Kind").select_option("delete")
    page.get_by_role("button", name="Show").click()
    assert page.locator(".entry").count() == 1
    page.get_by_role("link", name="Follow live").click()
    assert "Without JavaScript, load the page again" in page.content()
    look.at("/row?table=orders&key=2").get_by_role("link", name="Bring it back …").click()
    page.get_by_label("Why?").fill("they paid after all")
    page.get_by_role("button", name="Undo, and change 1 row").click()
    assert page.get_by_text("Undone. This is what it changed.").is_visible()
    assert page.get_by_text("they paid after all").first.is_visible()


def test_new_changes_appear_by_themselves(look: Look, shop: Trail) -> None:
    page = look.at("/events?live=1")
    number = page.locator(".entry").count()
    with acting(shop.connection, actor="night:watch"):
        shop.execute("update stock set amount = 5")
    page.get_by_text("night:watch").wait_for(timeout=30_000)
    assert page.locator(".entry").count() == number + 1


def test_an_undo_with_a_conflict(look: Look, shop: Trail) -> None:
    page = look.at("/events/5")
    page.get_by_role("link", name="Undo this change …").click()
    page.get_by_label("Why?").fill("it was right before")
    shop.execute("update orders set total = 3 where id = 1")
    page.get_by_role("button", name="Undo, and change 1 row").click()
    assert page.get_by_text("Something has changed since").is_visible()
    assert page.get_by_text("orders 1 was changed since").is_visible()
    assert page.get_by_role("button", name="Undo").count() == 0
    assert shop.execute("select total from orders where id = 1")[0][0] == 3


def test_hostile_values_run_nowhere(look: Look, shop: Trail) -> None:
    shop.execute("create table notes (id text primary key, body text)")
    shop.audit("notes")
    for number, value in enumerate(HOSTILE):
        with acting(shop.connection, actor=value[:200], reason=value[:200]):
            shop.execute("insert into notes values (%s, %s)", [f"{number}{value[:100]}", value])
    for path in ("/", "/table?table=notes", "/deleted?table=notes"):
        look.at(path)
    for number, value in enumerate(HOSTILE):
        look.at(f"/row?table=notes&key={quote(f'{number}{value[:100]}')}")
        look.at(f"/person?actor={quote(value[:200])}")
        assert look.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_viewer_of_few_tables(look: Look) -> None:
    look.page.context.add_cookies([{"name": "who", "value": "few", "url": look.site}])
    for path in ("/", "/events", "/person?actor=hr:eva", "/search?q=1", "/status"):
        text = look.at(path).inner_text("body")
        for word in ("salaries", "customers", "stock", "4200"):
            assert word not in text, path
    assert "19.90" not in look.at("/row?table=orders&key=1").content()
    assert look.page.get_by_role("link", name="Undo").count() == 0


def test_the_server_goes_in_the_middle(look: Look, shop: Trail) -> None:
    page = look.at("/row?table=orders&key=1")
    name = shop.database.name
    beside = psycopg.connect(shop.database.dsn.replace(name, "postgres"), autocommit=True)
    beside.execute(f"alter database {name} with allow_connections false")
    try:
        beside.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name]
        )
        page.get_by_role("link", name="Compare versions").click()
        assert page.get_by_text("the database did not answer").is_visible()
        look.complaints.clear()  # of the answer 503
    finally:
        beside.execute(f"alter database {name} with allow_connections true")
        beside.close()
    page.reload()
    assert page.get_by_role("heading", name="Versions of orders 1").is_visible()
