"""An archive of any size in the same memory, and back exactly.

The default run compares two small sizes; `nox -s archive-proof` sets ARCHIVE_EVENTS=2000000 for the larger one.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from tests.archive.command import audit
from tests.plugins.rotating import START, MakeRotating, Rotating, months

EVENTS = int(os.environ.get("ARCHIVE_EVENTS", "80000"))
SMALL = min(EVENTS // 2, 100_000)

FILL = """
    insert into audit.logged_actions (
        action_tstamp, schema_name, table_name, action, row_key, old_row, new_row, context
    )
    select
        %s::timestamptz + number * interval '100 milliseconds', 'public', 'orders_' || number %% 3, 'U',
        (number %% 10007)::text,
        jsonb_build_object('id', number, 'note', repeat(md5(number::text), 3), 'total', number / 7.0),
        jsonb_build_object('id', number, 'note', repeat(md5((number + 1)::text), 3), 'total', number / 11.0),
        '{"actor": "someone", "request": "4711"}'
    from generate_series(1, %s) as number
"""


def archived(rotating: Rotating, events: int, place: Path) -> tuple[str, list[float]]:
    """Fill the oldest leaf, detach, archive, verify, restore; the leaf, and the peaks of the three."""
    leaf = rotating.read().bounded[0]
    rotating.execute(FILL, [leaf.lower, events])
    # One of the present: the partition of the newest event never leaves.
    present = START + timedelta(days=93)
    rotating.execute(FILL, [present, 1])
    rotating.run(present, retention=months(1), most_at_once=1, drop=False)
    database, store = ("--dsn", rotating.database.dsn), ("--archive", str(place))
    peaks = [audit("archive", "run", *store, *database)[1], audit("archive", "verify", *store)[1]]
    output, peak = audit("archive", "restore", leaf.name.name, "--as", "back", *store, *database)
    assert f"{events:,} events" in output
    return leaf.name.name, [*peaks, peak]


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_leaf(make_rotating: MakeRotating, tmp_path: Path) -> None:
    _, small = archived(make_rotating(), SMALL, tmp_path / "small")
    rotating = make_rotating()
    leaf, large = archived(rotating, EVENTS, tmp_path / "large")
    size = sum(file.stat().st_size for file in (tmp_path / "large").rglob("*.parquet"))
    print(
        f"\narchive, verify, restore of {EVENTS:,} events ({size / 2**20:.0f} MB of Parquet): peaks "
        + ", ".join(f"{peak:.0f} MB" for peak in large)
        + f"; of {SMALL:,} events: "
        + ", ".join(f"{peak:.0f} MB" for peak in small)
    )
    for ours, theirs in zip(large, small, strict=True):
        assert ours < theirs * 1.3
    differences = f"select count(*) from (table audit.{leaf} except all table audit.back) as lost"
    assert rotating.execute(differences) == [(0,)]
    assert rotating.count("back") == rotating.count(leaf) == EVENTS
