"""Pictures of the page for README and docs: `python -m tests.browser.pictures DIRECTORY`."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

import uvicorn
from playwright.sync_api import sync_playwright

from audit_toolkit.connection import connect
from audit_toolkit.demo.cluster import throwaway_cluster
from audit_toolkit.web import ColumnLabel, Settings, TableLabel, Viewer, create_app
from audit_toolkit.web.serving import listen
from tests.web.shop import fill

SETTINGS = Settings(
    title="Acme",
    tables={
        "orders": TableLabel(
            label="order",
            link="https://shop.example/orders/{key}",
            columns={
                "total": ColumnLabel(unit="EUR"),
                "customer_id": ColumnLabel(label="customer"),
            },
        ),
        "customers": TableLabel(label="customer"),
    },
)
PICTURES = (
    ("home", "/", 1200, "light"),
    ("row", "/row?table=orders&key=1", 1200, "light"),
    ("event", "/events/6", 1200, "dark"),
    ("undo", "/undo?event=5", 1200, "light"),
    ("phone", "/row?table=orders&key=1", 390, "light"),
)


def main(folder: Path) -> None:
    """Take them all."""
    folder.mkdir(parents=True, exist_ok=True)
    with throwaway_cluster() as cluster, listen("127.0.0.1", 0) as (listener, url):
        with connect(cluster.dsn()) as connection:
            connection.execute("create database shop")
        fill(cluster.dsn("shop"))
        app = create_app(
            cluster.dsn("shop"),
            authorize=lambda _request: Viewer(actor="support:ann", may_undo=True),
            settings=SETTINGS,
            undo=True,
        )
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            take(folder, url)
        finally:
            server.should_exit = True
            thread.join()


def take(folder: Path, url: str) -> None:
    """A picture of each."""
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, path, width, scheme in PICTURES:
            page = browser.new_page(
                viewport={"width": width, "height": 700},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page.goto(url.rstrip("/") + path)
            page.screenshot(path=folder / f"{name}.png", full_page=width < 1000)
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
