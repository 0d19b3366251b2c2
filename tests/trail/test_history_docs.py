"""Every block of docs/history.md, run as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.plugins.command import Audit
from tests.plugins.docs import blocks
from tests.plugins.trail import Trail
from tests.timetravel.words import say


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute("create table orders (id int primary key, total numeric)")
    trail.execute("create table stock (region text, n int, primary key (region, n))")
    trail.audit("orders")
    trail.audit("stock")
    say(trail, actor="alice", tenant="eu")
    trail.execute("insert into orders values (42, 1.10), (43, 2), (50, 3)")
    trail.execute("update orders set total = 5 where id = 42")
    trail.execute("delete from orders where id = 43")
    trail.execute("insert into stock values ('eu', 7), ('us', 7)")
    return trail


def test_the_commands(shop: Trail, audit: Audit) -> None:
    found: dict[str, list[int]] = {}
    for line in "".join(blocks("history", "console")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "audit"
        result = audit(*arguments)
        assert result.exit_code == 0
        found[line] = [int(number) for number in re.findall(r"event (\d+) ·", result.stdout)]
    assert list(found.values()) == [
        *([1, 4], [1, 2, 3, 4, 5], [5], []),
        *([1, 2, 3, 4, 5, 6, 7], [5], [7, 6, 5]),
        *([1, 2, 4, 5], [6], [2, 3, 5]),
        *([4, 5], [2, 3], [2, 3]),
    ]


def test_the_python(
    shop: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("history", "python")
    code = compile(block, "docs/history.md", "exec")
    names: dict[str, object] = {"dsn": shop.database.dsn}
    exec(code, names)  # noqa: S102 - our own documentation
    assert [event.event_id for event in names["older"]] == [2, 3]  # type: ignore[attr-defined]
    assert [event.event_id for event in names["some"]] == [1, 2, 4, 5]  # type: ignore[attr-defined]
    assert len(capsys.readouterr().out.splitlines()) == 5
    shop.execute("delete from orders")
    exec(code, names)  # noqa: S102 - it goes on behind what it has seen
    assert len(capsys.readouterr().out.splitlines()) == 2
