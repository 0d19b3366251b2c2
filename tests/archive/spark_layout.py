"""Spark reads the archive as it stands. Needs pyspark and Java, so only `nox -s spark` runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from audit_toolkit.archive import Store
from tests.archive.detaching import archive, detached
from tests.plugins.rotating import Rotating


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """A local Spark, with the times of the tests."""
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "512m")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.mark.filterwarnings("default")  # pyspark's own
def test_spark_reads_the_folders(spark: Any, rotating: Rotating, local: Store) -> None:
    entries = detached(rotating)
    for entry in entries:
        archive(rotating, local, entry)
    events = spark.read.parquet(f"{local.root}/events")
    expected = [
        row
        for entry in entries
        for row in rotating.execute(
            "select event_id, extract(epoch from action_tstamp) * 1000000, old_row::text, row_key,"
            f" schema_name || '.' || table_name from audit.{entry.name}"
        )
    ]
    found = events.selectExpr(
        "event_id", "unix_micros(action_tstamp)", "old_row", "row_key", "relation"
    ).collect()
    assert sorted(map(tuple, found)) == sorted(
        (number, int(time), old, key, relation) for number, time, old, key, relation in expected
    )
    relation = expected[0][-1]
    pruned = events.where(events.relation == relation).select("event_id")
    plan = pruned._jdf.queryExecution().executedPlan().toString()
    assert "PartitionFilters: [isnotnull(relation" in plan
    assert pruned.count() == sum(row[-1] == relation for row in expected)
