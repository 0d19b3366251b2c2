"""`audit baseline` of a table that is read from the WAL, while rows are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import psycopg

from audit_toolkit.capture.baseline import Progress, take_baseline
from audit_toolkit.config import Capture
from audit_toolkit.connection import connect
from tests.wal.conftest import WalTrail, run


@contextmanager
def late_worker(trail: WalTrail, begin: Event) -> Iterator[None]:
    """A worker that begins to read once it is told to, or half a second after."""
    end = Event()
    worker = trail.worker()
    worker.start(wait=False)

    def work() -> None:
        begin.wait()
        end.wait(0.5)
        while not end.is_set():
            worker.turn()
            end.wait(0.05)

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        begin.set()
        end.set()
        thread.join()
        worker.writer.close()


def test_a_snapshot_comes_after_the_events_of_the_changes_that_it_shows(
    wal_trail: WalTrail,
) -> None:
    wal_trail.execute("create table readings (id int primary key, value int)")
    wal_trail.execute("insert into readings select number, 0 from generate_series(1, 4) as number")
    wal_trail.audit("readings", capture=Capture.WAL)
    wal_trail.read()
    written = Event()

    def write(progress: Progress) -> None:
        if not written.is_set():
            with psycopg.connect(wal_trail.database.dsn) as connection:
                connection.execute("update readings set value = 1 where id = 2")
                connection.execute("update readings set value = 2 where id = 2")
                connection.execute("delete from readings where id = 4")
                connection.execute("insert into readings values (4, 7)")
            written.set()

    with late_worker(wal_trail, written), connect(wal_trail.database.dsn) as connection:
        take_baseline(
            connection,
            wal_trail.target("readings", capture=Capture.WAL),
            "audit",
            batch_rows=1,
            on_progress=write,
        )
    wal_trail.read()
    story: dict[Any, list[str]] = {}
    for event in wal_trail.events():
        if event["row_key"]:
            story.setdefault(event["row_key"], []).append(event["action"])
    assert story == {"1": ["S"], "2": ["U", "U"], "3": ["S"], "4": ["D", "I"]}
    run(wal_trail, "reconcile", "--table", "readings")
