"""Every block of docs/python.md, run as it stands."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

import audit_toolkit
from audit_toolkit import trail
from tests.plugins.drivers import async_engine, run
from tests.plugins.trail import Trail

DOCUMENT = Path(__file__).parents[2] / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S)


def block(place: int, **names: Any) -> dict[str, Any]:
    """Run a block of the document with these names; all that is defined then."""
    exec(compile(BLOCKS[place], f"docs/python.md: {place}", "exec", dont_inherit=True), names)  # noqa: S102 - our own documentation
    return names


def last_update(trail: Trail) -> int:
    return max(int(e["event_id"]) for e in trail.events() if e["action"] == "U")


def test_every_block_is_known_and_has_at_most_ten_lines() -> None:
    assert len(BLOCKS) == 4
    assert max(len(code.strip().splitlines()) for code in BLOCKS) <= 10


def test_sync(orders: Trail, engine: Engine) -> None:
    names = block(0, Session=Session)
    with Session(engine) as session:
        feed = names["activity"](session, 1)
        assert [line.split("  ")[1] for line in feed] == [
            "postgres: total",
            "postgres: status",
            "postgres: id, total, status",
        ]
        names["undo"](session, last_update(orders))
    assert orders.execute("select total::text from orders") == [("1.10",)]
    assert orders.events()[-1]["context"]["reason"] == "undo button"


def test_fastapi(orders: Trail) -> None:
    event = last_update(orders)
    undone: list[dict[str, Any]] = []

    async def main() -> None:
        async with async_engine(orders.database.dsn, "psycopg") as engine:
            audit_toolkit.attach(engine)
            names = block(2, **block(1, sessions=async_sessionmaker(engine)))
            app: FastAPI = names["app"]
            app.add_middleware(audit_toolkit.ContextMiddleware)
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
                feed = (await client.get("/orders/1/activity")).json()
                assert [sorted(event["what"]) for event in feed[:2]] == [["total"], ["status"]]
                assert (await client.post(f"/events/{event}/undo")).status_code == 200
                again = await client.post(f"/events/{event}/undo")  # it is so already
                assert again.status_code == 200
                undone.append(orders.events()[-1]["context"])
                orders.execute("update orders set total = 7")
                refused = await client.post(f"/events/{event}/undo")
                assert refused.status_code == 409
                assert "was changed since" in refused.json()["detail"]

    run(main())
    assert orders.execute("select total::text from orders") == [("7",)]
    (context,) = undone
    assert context["reverts"] == {"events": [event]}
    assert context["route"] == "/events/{event_id}/undo"


def test_a_stream(orders: Trail) -> None:
    names = block(3, trail=trail, AsyncSession=AsyncSession, datetime=datetime)
    moment = orders.events()[1]["action_tstamp"]

    async def main() -> Any:
        async with (
            async_engine(orders.database.dsn, "psycopg") as engine,
            AsyncSession(engine) as s,
        ):
            return await names["sum_at"](s, moment)

    assert str(run(main())) == "3.10"
