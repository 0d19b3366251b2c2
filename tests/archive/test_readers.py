"""Whoever reads Parquet reads the folder of events as it stands; manifests lie beside it, in none's way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit_toolkit.archive import Store
from tests.archive.detaching import archive, detached
from tests.plugins.rotating import Rotating

Row = tuple[int, str, str]


def with_duckdb(folder: Path) -> list[Row]:
    import duckdb

    files = f"{folder}/**/*.parquet"
    query = "select event_id, relation, month from read_parquet(?, hive_partitioning = true)"
    return duckdb.execute(query, [files]).fetchall()


def with_pyarrow(folder: Path) -> list[Row]:
    from pyarrow import dataset

    table = dataset.dataset(folder, partitioning="hive").to_table(["event_id", "relation", "month"])
    return rows_of(table.to_pylist())


def with_pandas(folder: Path) -> list[Row]:
    import pandas  # type: ignore[import-untyped]

    frame = pandas.read_parquet(folder)
    return rows_of(frame[["event_id", "relation", "month"]].to_dict("records"))


def with_polars(folder: Path) -> list[Row]:
    import polars

    frame = polars.scan_parquet(folder, hive_partitioning=True, try_parse_hive_dates=False)
    return frame.select("event_id", "relation", "month").collect().rows()


def with_polars_eagerly(folder: Path) -> list[Row]:
    import polars

    frame = polars.read_parquet(folder, try_parse_hive_dates=False)
    return frame.select("event_id", "relation", "month").rows()


def rows_of(records: list[dict[str, Any]]) -> list[Row]:
    return [(one["event_id"], str(one["relation"]), str(one["month"])) for one in records]


@pytest.mark.filterwarnings("default")  # theirs
def test_every_reader_sees_every_event_of_the_whole_folder(
    rotating: Rotating, local: Store
) -> None:
    entries = detached(rotating)
    for entry in entries:
        archive(rotating, local, entry)
    expected = sorted(
        row
        for entry in entries
        for row in rotating.execute(
            "select event_id, schema_name || '.' || table_name, to_char(action_tstamp at time zone 'UTC', 'YYYY-MM')"
            f" from audit.{entry.name}"
        )
    )
    folder = Path(local.root, "events")
    readers: list[Callable[[Path], list[Row]]] = [
        with_duckdb,
        with_pyarrow,
        with_pandas,
        with_polars,
        with_polars_eagerly,
    ]
    for read in readers:
        assert sorted(read(folder)) == expected, read.__name__
