"""What sealing and verifying cost: `python -m benchmarks.seals [EVENTS]`.

CPU time of the server's process and of this one, which says more than a clock on a machine that others use.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_toolkit.config import TrailSettings
from audit_toolkit.connection import connect
from audit_toolkit.demo.cluster import throwaway_cluster
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from audit_toolkit.seals import new_key, read_public, seal, verify, write_key

if TYPE_CHECKING:
    import psycopg

GOAL = 50_000
"""Events a second a core."""

FILL = """
    insert into audit.logged_actions (
        schema_name, table_name, action, row_key, old_row, new_row, context, application_name, client_addr
    )
    select
        'public', 'orders', 'U', n::text,
        jsonb_build_object('id', n, 'customer_id', mod(n, 1000), 'status', 'new', 'total', 19.90,
            'note', repeat('x', 40), 'created_at', now()),
        jsonb_build_object('id', n, 'customer_id', mod(n, 1000), 'status', 'sent', 'total', 19.90,
            'note', repeat('y', 40), 'created_at', now()),
        '{"actor": "user:42", "reason": "because"}', 'web', '10.0.0.1'
    from generate_series(1, %(events)s) as n
"""


def main(arguments: list[str]) -> None:
    """Print what one event costs."""
    events = int(arguments[0]) if arguments else 200_000
    with throwaway_cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        with connect(cluster.dsn()) as connection:
            connection.execute("create database seals")
        with connect(cluster.dsn("seals")) as connection:
            apply(plan_trail(TrailSettings()), connection)
            connection.execute(FILL, {"events": events})
            connection.execute("vacuum analyze audit.logged_actions")
            path = Path(folder, "seal.key")
            write_key(path, new_key("benchmark"))
            keys = read_public(path)

            def seal_all() -> None:
                from audit_toolkit.seals import read_key

                for _ in seal(connection, "audit", read_key(path), events):
                    pass

            def verify_all() -> None:
                assert not verify(connection, "audit", keys=keys).findings  # noqa: S101

            for name, work in (("seal", seal_all), ("verify", verify_all)):
                _measure(name, work, connection, events)


def _measure(
    name: str, work: Callable[[], None], connection: psycopg.Connection[Any], events: int
) -> None:
    began, cpu = time.monotonic(), _cpu(connection)
    work()
    seconds, used = time.monotonic() - began, _cpu(connection) - cpu
    rate = events / used
    met = "pass" if rate >= GOAL else "short"
    print(
        f"{name:7} {1e6 * used / events:6.1f} us of CPU an event, {rate:9,.0f} events a second a core "
        f"({met}, goal {GOAL:,}); {events / seconds:9,.0f} a second by the clock"
    )


def _cpu(connection: psycopg.Connection[Any]) -> float:
    """Seconds of CPU of this process and of the server's."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    stat = Path(f"/proc/{connection.info.backend_pid}/stat")
    ticks = 0.0
    if stat.exists():  # Linux alone shows it
        fields = stat.read_text().rpartition(")")[2].split()
        ticks = (int(fields[11]) + int(fields[12])) / 100
    return own.ru_utime + own.ru_stime + ticks


if __name__ == "__main__":
    main(sys.argv[1:])
