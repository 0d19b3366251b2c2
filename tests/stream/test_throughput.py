"""How fast events leave: all of them, in one run, with the time that it took (`nox -s stream-proof` prints it).

Small by default; `STREAM_EVENTS` says how many. On a machine that does other work, too, the CPU of a batch in the
median and in the quickest tenth says more than the time: consumer, server and receiver work at the same time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from audit_toolkit import stream
from audit_toolkit.stream import FormatName, Terms, open_sink, parse_address
from audit_toolkit.stream.read_ahead import quick_switches
from audit_toolkit.stream.run import find_origin
from tests.plugins.trail import Trail
from tests.stream.servers import nats_server

EVENTS = min(int(os.environ.get("STREAM_EVENTS", "2000")), 200_000)
ORDERS = """
    create table orders (
        id int primary key, customer text, status text, total numeric(12, 2), note text, at timestamptz default now()
    )
"""
CONTEXT = '{"actor": "user:42", "reason": "refund"}'


@pytest.fixture
def filled(trail: Trail) -> Trail:
    """As many inserts as updates."""
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("select set_config('audit.context', %s, false)", [CONTEXT])
    for start in range(0, EVENTS // 2, 10_000):
        trail.execute(
            "insert into orders select n, 'customer ' || n, 'new', n / 7.0, 'please ring twice'"
            " from generate_series(%s::int, %s::int) n",
            [start + 1, min(start + 10_000, EVENTS // 2)],
        )
    trail.execute("update orders set status = 'paid', total = total + 1")
    return trail


@pytest.fixture
def nats_address(tmp_path: Path) -> Iterator[str]:
    with nats_server(tmp_path) as address:
        yield address


def deliver(trail: Trail, to: str) -> int:
    """Deliver everything, and print how long it took."""
    with (
        trail.database.connect() as connection,
        closing(open_sink(parse_address(to))) as sink,
        quick_switches(),  # as the command does
    ):
        form = stream.find_format(FormatName.EVENT, find_origin(connection))
        pid = connection.info.backend_pid
        begun, server, cpu = time.perf_counter(), _on_cpu(pid), time.process_time()
        delivered, each = 0, []
        for step in stream.run(connection, "c", sink, form, Terms(once=True)):
            if step.delivered:
                delivered += step.delivered
                now = time.process_time()
                each.append((now - cpu) / step.delivered * 1e6)
                cpu = now
        took, server = time.perf_counter() - begun, _on_cpu(pid) - server
    each.sort()
    median, quickest = each[len(each) // 2], each[len(each) // 10]
    print(
        f"{delivered} events to {to.partition(':')[0]}: {delivered / took:.0f}/s; CPU of an event in the consumer"
        f" {median:.0f} us (quickest batches {quickest:.0f}), in the server {server / delivered * 1e6:.0f} us"
    )
    return delivered


def _on_cpu(pid: int) -> float:
    """The seconds that a process has been on a CPU; 0 where nothing tells."""
    file = Path(f"/proc/{pid}/schedstat")
    return int(file.read_text().split()[0]) / 1e9 if file.exists() else 0.0


def test_into_a_file(filled: Trail, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    assert deliver(filled, f"file:{file}") == EVENTS
    assert file.read_bytes().count(b"\n") == EVENTS


def test_into_nats(filled: Trail, nats_address: str) -> None:
    import nats

    async def stored(*, make: bool) -> int:
        client = await nats.connect(nats_address)
        context = client.jetstream()
        if make:
            await context.add_stream(name="AUDIT", subjects=["audit.>"])
        info = await context.stream_info("AUDIT")
        await client.close()
        return info.state.messages

    assert asyncio.run(stored(make=True)) == 0
    assert deliver(filled, f"{nats_address}/audit") == EVENTS
    assert asyncio.run(stored(make=False)) == EVENTS
