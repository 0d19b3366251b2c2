"""Spark reads the archive as an Iceberg table. Needs pyspark 3.5 and Java: `nox -s spark-iceberg` runs it.

Spark fetches Iceberg from Maven Central, or takes the jars of ICEBERG_JARS (separated by commas).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from audit_toolkit.archive import Store, Target
from audit_toolkit.archive.iceberg import register_own
from tests.archive.live import ONE, archive_all, export, fill, in_trail
from tests.plugins.rotating import START, Rotating, months
from tests.plugins.trail import SCHEMA

JARS = os.environ.get("ICEBERG_JARS")
PACKAGE = "org.apache.iceberg:iceberg-spark-runtime-3.5_2.12:1.10.0"
PROPERTIES = {
    "spark.jars" if JARS else "spark.jars.packages": JARS or PACKAGE,
    "spark.ui.enabled": "false",
    "spark.driver.memory": "512m",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
    # A catalog of its own, which is given the file that `audit archive register` prints.
    "spark.sql.catalog.lake": "org.apache.iceberg.spark.SparkCatalog",
    "spark.sql.catalog.lake.type": "hadoop",
}


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[1]")
    for name, value in PROPERTIES.items():
        builder = builder.config(name, value)
    warehouse = tmp_path_factory.mktemp("warehouse").as_uri()
    session = builder.config("spark.sql.catalog.lake.warehouse", warehouse).getOrCreate()
    yield session
    session.stop()


@pytest.mark.filterwarnings("default")  # pyspark's own
def test_spark_reads_the_iceberg_table(
    spark: Any, rotating: Rotating, local: Store, tmp_path: Path
) -> None:
    """What was exported, what was archived, and columns that a table of an older release lacked."""
    catalog = f"sqlite:///{tmp_path}/catalog.db"
    fill(rotating)
    export(rotating, local)
    register_own(rotating.connection, local, SCHEMA, catalog)
    with Target.parse(catalog, SCHEMA).open(local) as opened:
        table = opened.load_table("audit.logged_actions")
        with table.update_schema(allow_incompatible_changes=True) as update:
            update.delete_column("transaction_tstamp")
    rotating.execute(ONE, [START - timedelta(days=40)])
    everything = in_trail(rotating)
    rotating.run(START + timedelta(days=120), retention=months(1), drop=False)
    assert set(archive_all(rotating, local, iceberg=catalog)) == {"done"}
    metadata = register_own(rotating.connection, local, SCHEMA, catalog).metadata
    spark.sql("create namespace if not exists lake.audit")
    spark.sql(f"call lake.system.register_table('audit.logged_actions', '{metadata}')")
    events = spark.table("lake.audit.logged_actions")
    found = events.select("event_id", "transaction_tstamp").collect()
    assert sorted(row[0] for row in found) == everything
    assert all(row[1] for row in found)
    pruned = events.where("table_name = 'orders' and schema_name = 'public'")
    assert pruned.count() == 1
    [(files,)] = spark.sql("select count(*) from lake.audit.logged_actions.files").collect()
    assert files == len(local.files("events", ".parquet"))
