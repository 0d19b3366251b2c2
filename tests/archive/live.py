"""Exports of partitions in use."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow.parquet as pq

from audit_toolkit.archive import (
    LiveExport,
    Store,
    archiver,
    check_catalogue,
    export_live,
    newest,
    read_back,
    read_catalogue,
    read_expected,
)
from audit_toolkit.partitions import Policy, Run, Stage
from tests.archive.detaching import HARD_EVENTS
from tests.plugins.rotating import EVENT, START, Rotating
from tests.plugins.trail import SCHEMA

ONE = """
    insert into audit.logged_actions (action_tstamp, schema_name, table_name, action, row_key, new_row)
    values (%s, 'public', 'orders', 'I', '1', '{"id": 1.50}')
"""


def fill(rotating: Rotating, days: int = 40) -> None:
    """Events of several tables and months, up to the present."""
    oldest = rotating.read().bounded[0].lower
    rotating.execute(HARD_EVENTS, [oldest, START + timedelta(days=days - 40)])


def few(rotating: Rotating) -> None:
    """A few events of two tables and two months."""
    oldest = rotating.read().bounded[0].lower
    for table in ("orders", "items"):
        rotating.execute(EVENT.replace("orders", table), [oldest, START, "9 days"])


def export(rotating: Rotating, store: Store, **options: Any) -> LiveExport:
    return export_live(
        rotating.connection, store, SCHEMA, now=rotating.now, **{"wait": 10.0} | options
    )


def in_folder(store: Store) -> list[int]:
    """What a reader of the plain folder finds."""
    store.filesystem.invalidate_cache()
    found: list[int] = []
    for path in store.files("events", ".parquet"):
        if not path.rpartition("/")[2].startswith(
            "._"
        ):  # hidden from Spark, DuckDB and pyarrow alike
            with store.filesystem.open(store.path(path), "rb") as file:
                found += pq.read_table(file, columns=["event_id"])["event_id"].to_pylist()
    return sorted(found)


def in_trail(rotating: Rotating) -> list[int]:
    return [
        row[0]
        for row in rotating.execute("select event_id from audit.logged_actions order by event_id")
    ]


def archive_all(
    rotating: Rotating, store: Store, *, again: bool = False, iceberg: str | None = None
) -> list[str]:
    """`audit archive run`."""
    policy = Policy(archived_only=True, archive_again=again)
    run = Run(
        connection=rotating.connection, schema=SCHEMA, policy=policy, now=lambda: rotating.now
    )
    run.archive = archiver(run, store.url, lambda _: lambda _: None, iceberg)
    return [outcome.result.value for outcome in run.stage(Stage.ARCHIVE)]


def problems(rotating: Rotating, store: Store) -> tuple[tuple[str, str], ...]:
    catalogue = read_catalogue(store)
    broken = [p for m in newest(catalogue.manifests) for p in read_back(store, m).problems]
    assert broken == []
    found = check_catalogue(store, catalogue, read_expected(rotating.connection, SCHEMA))
    return tuple((finding.subject, finding.message) for finding in found)
