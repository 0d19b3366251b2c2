"""A real browser on the page: Debian's Chromium, driven by Playwright. `nox -s browser` runs these."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from audit_toolkit.web import Viewer, create_app
from audit_toolkit.web.serving import listen
from tests.plugins.database import MakeDatabase, TemplateDatabase
from tests.plugins.trail import Trail
from tests.web.shop import fill

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
AXE = os.environ.get("BROWSER_AXE", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These take a browser, which not every machine has: they run where somebody asks for them."""
    if AXE:
        return
    reason = "nox -s browser has the browser and axe-core"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, for the run."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def shop_template(template_database: TemplateDatabase) -> str:
    """A template of the business."""
    return template_database("page_shop", fill)


@pytest.fixture
def shop(make_database: MakeDatabase, shop_template: str) -> Trail:
    """The business, in a database of its own."""
    return Trail(make_database(template=shop_template))


@pytest.fixture
def site(shop: Trail) -> Iterator[str]:
    """The page, served; viewers by the cookie `who`: `few` see the orders only."""

    def viewer_of(request: Any) -> Viewer:
        if request.cookies.get("who") == "few":
            return Viewer(actor="support:few", tables=["orders"], masked={"orders": ["total"]})
        return Viewer(actor="support:ann", may_undo=True)

    app = create_app(shop.database.dsn, authorize=viewer_of, undo=True)
    with listen("127.0.0.1", 0) as (listener, url):
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield url.rstrip("/")
        server.should_exit = True
        thread.join()


class Look:
    """A page of the browser that fails the test where a script or a policy complains."""

    def __init__(self, page: Page, site: str) -> None:
        self.page = page
        self.site = site
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning") and "status of 4" not in message.text:
            self.complaints.append(message.text)

    def at(self, path: str) -> Page:
        """The page of that path."""
        self.page.goto(self.site + path)
        return self.page


@pytest.fixture
def look(browser: Browser, site: str, request: pytest.FixtureRequest) -> Iterator[Look]:
    """A new window; parametrize indirectly with options of a browser context."""
    options: dict[str, Any] = getattr(request, "param", {})
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    found = Look(context.new_page(), site)
    yield found
    context.close()
    assert found.complaints == []
