"""A consumer behind a PgBouncer: it runs where it has a session of its own, and is refused where it has not."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from audit_toolkit import stream
from audit_toolkit.errors import UsageError
from audit_toolkit.stream import FormatName
from audit_toolkit.stream.run import find_origin
from tests.context.bouncer import running_bouncer
from tests.plugins.command import Audit
from tests.plugins.trail import Trail
from tests.stream.delivery import Memory

RUN = ("stream", "run", "c", "--once", "--to")


@pytest.fixture
def one(orders: Trail) -> Trail:
    orders.execute("insert into orders values (1, 0)")
    return orders


def test_sessions_that_others_use_are_refused(one: Trail, audit: Audit, tmp_path: Path) -> None:
    with (
        running_bouncer(one.database.dsn) as bouncer,
        psycopg.connect(bouncer.dsn, autocommit=True) as connection,
    ):
        refused = audit(*RUN, f"file:{tmp_path}/out", "--dsn", bouncer.dsn, code=2).stderr
        form = stream.find_format(FormatName.EVENT, find_origin(connection))
        with pytest.raises(UsageError, match="a consumer needs a session of its own"):
            next(stream.run(connection, "c", Memory(), form))
    assert "a consumer needs a session of its own" in refused
    assert "pool_mode = session" in refused
    assert one.execute("select count(*) from audit.consumers") == [(0,)]
    held = "select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database"
    assert one.execute(f"{held} where datname = current_database())") == [(0,)]


def test_a_session_of_its_own_will_do(one: Trail, audit: Audit, tmp_path: Path) -> None:
    with running_bouncer(one.database.dsn, "session") as bouncer:
        assert (
            "1 event delivered" in audit(*RUN, f"file:{tmp_path}/out", "--dsn", bouncer.dsn).stderr
        )
    assert one.execute("select event_id from audit.consumers") == [(1,)]
