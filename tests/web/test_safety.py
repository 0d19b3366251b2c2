"""Nothing that somebody wrote into the database runs, deceives, breaks a page or makes it huge."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.plugins.seeds import some_quick
from tests.plugins.trail import Trail
from tests.web.conftest import Browse, text_of
from tests.web.hostile import HOSTILE
from tests.web.shop import acting


@pytest.mark.parametrize("value", some_quick(HOSTILE, HOSTILE[::2]), ids=range(len(HOSTILE)))
def test_hostile_values(shop: Trail, browse: Browse, value: str) -> None:
    shop.execute("create table notes (id text primary key, body text, extra jsonb)")
    shop.audit("notes")
    short = value[:300]
    with acting(
        shop.connection, actor=short, reason=short, request_id=short, other={short: [short]}
    ):
        shop.execute(
            "insert into notes values (%s, %s, jsonb_build_object(%s::text, %s::text))",
            [short, value, short, value],
        )
        shop.execute(
            "update notes set body = %s, extra = jsonb_build_object(%s::text, 1)",
            [value + "!", short],
        )
    client = browse(undo=True)
    for path, query in (
        ("/", {}),
        ("/row", {"table": "notes", "key": short}),
        ("/search", {"q": short}),
        ("/person", {"actor": short}),
        ("/events", {"reason": short, "live": "1"}),
        ("/compare", {"table": "notes", "key": short}),
        ("/undo", {"event": "14"}),
    ):
        response = client.get(path, params=query)
        assert response.status_code == 200, (path, text_of(response))
        assert len(response.content) < 100_000, path
        assert_harmless(response.text)


def assert_harmless(page: str) -> None:
    scripts = re.findall(r"<script\b[^>]*>", page)
    assert len(scripts) == 1
    assert re.search(r"<(img|iframe|object|embed|style|base)\b", page) is None
    for tag in re.findall(r"<[a-z][^<>]*>", page):
        bare = re.sub(r'"[^"]*"|\'[^\']*\'', "", tag)
        assert re.search(r"\son\w+\s*=|\sstyle\s*=", bare) is None, tag
    assert re.search(r'href="\s*(javascript|data):', page, re.IGNORECASE) is None
    for character in "\x1b\x07\u202e\u2066\u200b\ufeff":
        assert character not in re.sub(r'(value|href|action|hx-get)="[^"]*"', "", page)


def test_hostile_names(shop: Trail, browse: Browse) -> None:
    name = '<b>"a.b"\u202e</b>'
    shop.execute(f"create table {quoted(name)} (id int primary key, {quoted('<i>c')} int)")
    shop.audit(quoted(name))
    shop.execute(f"insert into {quoted(name)} values (1, 2)")
    client = browse()
    home = client.get("/")
    assert_harmless(home.text)
    [table] = re.findall(r'href="(/table\?table=[^"]*%3Cb%3E[^"]*)"', home.text)
    page = client.get(table.replace("&amp;", "&"))
    assert page.status_code == 200
    assert_harmless(page.text)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/row?table=orders&key=%00", 400),
        ("/search?q=%00", 400),
        ("/events?actor=%ED%A0%80", 200),
        ("/events/99999999999999999999", 400),
        ("/events/0x1", 400),
        ("/events/-1", 400),
        ("/events?before=abc", 400),
        ("/events?after=5&before=3", 400),
        ("/events?since=2026-01-02&until=2026-01-01", 400),
        ("/events?since=yesterday", 400),
        ("/events?since=0001-01-01T00:00%2B14:00", 400),
        ("/events?action=explode", 400),
        ("/events?column=total", 400),
        ("/events?limit=100000000", 200),
        ("/events?limit=0", 200),
        ("/row?table=orders", 404),
        ("/row?table=orders&key=abc", 404),
        ("/row?table=nope&key=1", 404),
        ("/row?key=1", 404),
        ("/person", 404),
        ("/request", 404),
        ("/compare?table=orders&key=1&a=1&b=2", 404),
        ("/events?format=exe", 404),
        ("/static/../app.py", 404),
        ("/static/%2e%2e/app.py", 404),
        ("/nothing/here", 404),
        ("/transactions/757/more", 404),
    ],
)
def test_odd_questions_have_answers(browse: Browse, path: str, status: int) -> None:
    response = browse().get(path)
    assert response.status_code == status, response.text
    assert "Traceback" not in response.text
    if not path.startswith("/static"):
        assert_harmless(response.text)


def test_headers(browse: Browse) -> None:
    client = browse()
    for path in ("/", "/nope", "/events?format=json"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["cache-control"] == "private, no-store"
        assert headers["x-robots-tag"].startswith("noindex")
        assert headers["x-content-type-options"] == "nosniff"
    page = client.get("/").text
    for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        file = client.get(address)
        assert file.status_code == 200
        assert "immutable" in file.headers["cache-control"]
    assert 'content="noindex' in page


def test_vendored_files_are_those_that_are_named() -> None:
    import hashlib
    from pathlib import Path

    import audit_toolkit.web

    static = Path(audit_toolkit.web.__file__).parent / "static"
    listed = dict(
        re.findall(r"\| `([\w.]+)` \|.*`([0-9a-f]{64})`", (static / "README.md").read_text())
    )
    assert set(listed) == {file.name for file in static.glob("*.js")}
    for name, digest in listed.items():
        assert hashlib.sha256((static / name).read_bytes()).hexdigest() == digest
    assert (static / "htmx.LICENSE").is_file()


def quoted(name: str) -> Any:
    return '"' + name.replace('"', '""') + '"'
