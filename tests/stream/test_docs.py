"""Every block of docs/streams.md: consoles are run where nothing outside is needed, else read; Python is run."""

from __future__ import annotations

import shlex
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer.main

from audit_toolkit.cli.app import app
from audit_toolkit.stream import Outcome, parse_address
from tests.cli.commands import commands
from tests.plugins.command import Audit
from tests.plugins.docs import blocks
from tests.plugins.trail import Trail
from tests.stream.delivery import Memory, deliver

OUTSIDE = ("https://", "nats://", "redis://", "kafka://", "s3://")


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute("create table orders (id int primary key, total numeric)")
    trail.audit("orders")
    trail.execute("insert into orders values (1, 10), (2, 5.5)")
    trail.execute("select audit.record_event('order.refunded', '{}', 'orders', '1')")
    return trail


def lines() -> list[str]:
    found = [line for block in blocks("streams", "console") for line in block.splitlines()]
    return [line for line in found if line.startswith("audit ")]


@pytest.mark.usefixtures("shop")
def test_commands_that_need_nothing_outside(audit: Audit, tmp_path: Path) -> None:
    own = [line for line in lines() if not any(scheme in line for scheme in OUTSIDE)]
    assert len(own) == 8
    for line in own:
        ran = audit(*shlex.split(line)[1:])
        assert ran.exit_code == 0, (line, ran.output)
    assert (tmp_path / "events.jsonl").read_text().count("\n") == 3
    assert (tmp_path / "refunds.jsonl").read_text().count("\n") == 1


def test_commands_that_need_something_outside() -> None:
    outside = [line for line in lines() if any(scheme in line for scheme in OUTSIDE)]
    assert len(outside) == 5
    command = dict(commands(typer.main.get_command(app)))["stream run"]
    for line in outside:
        with command.make_context("run", shlex.split(line)[3:]) as context:
            assert parse_address(context.params["to"]).scheme in line


def run(mark: str) -> dict[str, Any]:
    (code,) = (block for block in blocks("streams", "python") if mark in block)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/streams.md", "exec"), names)  # noqa: S102 - our own documentation
    return names


def test_a_function(shop: Trail, capsys: pytest.CaptureFixture[str]) -> None:
    index = run("def index")["index"]
    sink = Memory()
    deliver(shop, sink)
    assert index(sink.taken) is None
    assert "public.orders:1" in capsys.readouterr().out
    assert index([]) is None
    assert Outcome(done=0).error is None


def test_a_read_model(shop: Trail) -> None:
    refresh = run("def refresh")["refresh"]
    shop.execute("create table totals (total numeric); insert into totals values (0)")
    shop.execute("create table totals_done (done bigint)")
    model = shop.database.connect(autocommit=False)
    refresh(shop.connection, model)
    assert shop.execute("select total from totals") == [(Decimal("15.5"),)]
    shop.execute("update orders set total = 3 where id = 1")
    shop.execute("delete from orders where id = 2")
    for _ in range(2):
        refresh(shop.connection, model)
        assert shop.execute("select total from totals") == [(Decimal(3),)]
