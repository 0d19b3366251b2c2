"""A tail on servers with settings and a fate of their own: prepared transactions, crashes, standbys."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import psycopg
import pytest

from audit_toolkit.demo.cluster import throwaway_cluster
from audit_toolkit.errors import UsageError
from audit_toolkit.trail import follow
from tests.plugins.trail import install_trail
from tests.trail.tails import INSERT, ORDERS


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    """A server whose transactions can be prepared."""
    with throwaway_cluster(settings={"max_prepared_transactions": "5"}) as cluster:
        dsn = cluster.dsn()
        install_trail(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(ORDERS)
            # Or the tail would find neither a table nor events.
            connection.execute(INSERT, ["0"])
        yield dsn


class TestAServerOfItsOwn:
    """What needs settings that the tests' server does not have."""

    def test_prepared_transactions_are_waited_for(self, dsn: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            own = psycopg.connect(dsn, autocommit=True)
            batches = follow(own, "orders")
            assert [event.row_key for event in next(batches).events] == ["0"]
            connection.execute("begin")
            connection.execute(INSERT, ["1"])
            connection.execute("prepare transaction 'late'")
            connection.execute(INSERT, ["2"])
            held = next(batch for batch in batches if batch.held_by or batch.events)
            assert [(b.prepared_name, b.pid) for b in held.held_by] == [("late", None)]
            connection.execute("commit prepared 'late'")
            found = next(batch for batch in batches if batch.events)
            assert [event.row_key for event in found.events] == ["1", "2"]
            own.close()

    @pytest.mark.thorough
    def test_what_a_crash_could_take_back_is_not_delivered(self, dsn: str) -> None:
        """synchronous_commit = off lets others see what is not on disk yet."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            own = psycopg.connect(dsn, autocommit=True)
            (last,) = connection.execute(
                "select max(event_id) from audit.logged_actions"
            ).fetchall()[0]
            batches = follow(own, "orders", after=last or 0)
            connection.execute("set synchronous_commit = off")
            for number in range(20):
                connection.execute(INSERT, [str(number)])
                (written,) = connection.execute("select pg_current_wal_insert_lsn()").fetchall()[0]
                assert next(batch for batch in batches if batch.events).events
                flushed = "select pg_current_wal_flush_lsn() >= %s::pg_lsn"
                assert connection.execute(flushed, [written]).fetchone() == (True,)
            own.close()


@pytest.mark.thorough
def test_standbys_and_what_becomes_of_them() -> None:
    """A standby is refused; promoted, it is another timeline, where cursors of the first are refused."""
    with throwaway_cluster() as cluster:
        install_trail(cluster.dsn())
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(ORDERS)
            connection.execute(INSERT, ["1"])
            last = [batch for batch, _ in zip(follow(connection, "orders"), "ab", strict=False)][-1]
        cluster.stop()
        signal = cluster.data_dir / "standby.signal"
        shutil.copy(cluster.data_dir / "PG_VERSION", signal, follow_symlinks=False)
        shutil.chown(signal, cluster.data_dir.owner(), cluster.data_dir.group())
        cluster.start()
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            with pytest.raises(UsageError, match="this server is a standby") as raised:
                follow(connection, "orders")
            assert "connect to the primary" in str(raised.value.hint)
            connection.execute("select pg_promote()")
            with pytest.raises(UsageError, match="its timeline is 2, that of the cursor 1"):
                follow(connection, "orders", after=last.position)
            assert [e.row_key for e in next(follow(connection, "orders")).events] == ["1"]
