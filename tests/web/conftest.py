"""The page on a database with a past, asked as a browser on this machine asks."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from audit_toolkit.web import create_app
from tests.plugins.database import MakeDatabase, TemplateDatabase
from tests.plugins.trail import Trail
from tests.web.shop import fill

Browse = Callable[..., TestClient]


@pytest.fixture(scope="session")
def shop_template(template_database: TemplateDatabase) -> str:
    """A template of the business."""
    return template_database("page_shop", fill)


@pytest.fixture
def shop(make_database: MakeDatabase, shop_template: str) -> Trail:
    """The business, in a database of its own."""
    return Trail(make_database(template=shop_template))


@pytest.fixture
def browse(shop: Trail) -> Browse:
    """A client of the page on the shop; options as for `create_app`."""

    def make(**options: Any) -> TestClient:
        return local(create_app(shop.database.connect, **options))

    return make


def local(app: Any, **options: Any) -> TestClient:
    """A client on this machine."""
    return TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000), **options)


def text_of(response: Any) -> str:
    """The words of a page, as somebody reads them."""
    body = re.sub(r"<(script|style|title)\b.*?</\1>", "", response.text, flags=re.DOTALL)
    spaced = re.sub(
        r"</(td|th|dt|dd|li|p|h1|h2|option|a|summary|time|button|label|div|caption)>", " ", body
    )
    spaced = re.sub(r"<(b|span)\b", " <\\1", spaced)
    bare = html.unescape(re.sub(r"<[^>]*>", "", spaced))
    return re.sub(r"\s+", " ", bare).replace(" ,", ",").replace(" :", ":")


def events_of(page: Any) -> list[str]:
    """The numbers of the events that a page shows, in its order."""
    return re.findall(r'id="e(\d+)"', page.text)


def link(page: Any, rel: str) -> str | None:
    """Where a page leads on."""
    found = re.search(rf'rel="{rel}" href="([^"]+)"', page.text)
    return html.unescape(found[1]) if found else None
