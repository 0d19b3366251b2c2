"""A table that is still to be made is captured as if the catalogue had been asked afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.types import TypeEngine

from audit_toolkit import Audit
from audit_toolkit.capture import Target
from audit_toolkit.capture.render import capture_hash
from audit_toolkit.catalog import Table, read_relations, read_table
from audit_toolkit.config import TableRule
from audit_toolkit.migrations.future_tables import new_table
from audit_toolkit.migrations.sqlalchemy_catalog import reader
from audit_toolkit.names import QualifiedName
from tests.plugins.database import Database

TYPES: dict[str, TypeEngine[Any]] = {
    "integer": sa.BigInteger(),
    "numeric": sa.Numeric(12, 2),
    "float": sa.Float(),
    "real": sa.REAL(),
    "text": sa.Text(collation="C"),
    "varchar": sa.String(),
    "varchar_20": sa.String(20),
    "bytes": sa.LargeBinary(),
    "date": sa.Date(),
    "timestamp": sa.DateTime(),
    "timestamptz": sa.DateTime(timezone=True),
    "interval": sa.Interval(),
    "enum": sa.Enum("a", "b", name="letters"),
    "enums": sa.ARRAY(sa.Enum("a", "b", name="words")),
    "plain_enum": sa.Enum("a", "b", name="plain", native_enum=False),
    "uuid": sa.Uuid(),
    "json": sa.JSON(),
    "jsonb": pg.JSONB(),
    "money": pg.MONEY(),
    "range": pg.TSTZRANGE(),
    "multirange": pg.DATEMULTIRANGE(),
    "array": pg.ARRAY(sa.DateTime(timezone=True), dimensions=2),
    "domain": pg.DOMAIN("moment", sa.DateTime(timezone=True)),
    "inet": pg.INET(),
    "tsvector": pg.TSVECTOR(),
}


def both(
    database: Database, *columns: sa.Column[Any], partition_by: str | None = None
) -> tuple[Table, Table]:
    """What we say before such a table is made, and what the catalogue says after it was."""
    model = sa.Table("things", sa.MetaData(), *columns, postgresql_partition_by=partition_by)
    engine = sa.create_engine(database.dsn.replace("postgresql://", "postgresql+psycopg://"))
    name = QualifiedName("public", "things")
    try:
        with engine.begin() as connection:
            foretold = new_table(model, name, connection.dialect, reader(connection))
            model.create(connection)
            (made,) = (r for r in read_relations(reader(connection)) if r.name == name)
            return foretold, read_table(reader(connection), made)
    finally:
        engine.dispose()


@pytest.mark.parametrize("kind", TYPES)
def test_a_column_of_each_type(kind: str, database: Database) -> None:
    columns = sa.Column("id", sa.Integer, primary_key=True), sa.Column("value", TYPES[kind])
    foretold, made = both(database, *columns)
    assert [c.type_parts for c in foretold.columns] == [c.type_parts for c in made.columns]
    assert same_capture(foretold, made, Audit(on_oversize="mark"))


def test_keys_and_what_else_the_catalogue_knows(database: Database) -> None:
    foretold, made = both(
        database,
        sa.Column("total", sa.Integer, sa.Computed("number * 2", persisted=True)),
        sa.Column("Region", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, sa.Identity(), primary_key=True),
        partition_by='list ("Region")',
    )
    assert (foretold.key, foretold.partitioned) == (made.key, made.partitioned)
    assert foretold.columns == tuple(replace(column, number=None) for column in made.columns)
    assert same_capture(foretold, made, Audit(only=["total"]))


def test_a_table_without_a_key(database: Database) -> None:
    foretold, made = both(database, sa.Column("value", sa.Text))
    assert foretold.key == made.key == ()
    assert same_capture(foretold, made, Audit(capture="statement"))


def same_capture(foretold: Table, made: Table, rule: TableRule) -> bool:
    """Whether both render to the same function and triggers."""
    hashes = {capture_hash(Target(table=table, rule=rule), "audit") for table in (foretold, made)}
    return len(hashes) == 1
