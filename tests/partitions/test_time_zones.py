from __future__ import annotations

import pytest

from audit_toolkit.config import Interval
from audit_toolkit.connection import connect
from tests.plugins.rotating import MakeRotating, Rotating, at

ZONES = ["UTC", "Asia/Kathmandu", "Europe/Berlin", "America/Sao_Paulo"]


def bounds_in(zone: str, rotating: Rotating, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The bounds that a year of runs makes where server, role and client live in one zone."""
    monkeypatch.setenv("PGTZ", zone)
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("TZ", zone)
    rotating.execute(f"alter database {rotating.database.name} set timezone to '{zone}'")
    rotating.execute(f"alter database {rotating.database.name} set datestyle to 'SQL, DMY'")
    with rotating.database.connect() as plain:
        plain.execute("select audit.ensure_partitions(10)")
    with connect(rotating.database.dsn) as connection:
        rotating.connection = connection
        # Daily leaves over the days on which Berlin changes its clocks.
        rotating.run(at(2, 2, 15), interval=Interval.DAY, ahead=48)
        rotating.run(at(2, 9, 15), ahead=48)
        return rotating.leaves()


@pytest.mark.thorough
def test_the_same_bounds_in_every_zone(
    make_rotating: MakeRotating, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {zone: bounds_in(zone, make_rotating(), monkeypatch) for zone in ZONES}
    assert len(found["UTC"]) > 30
    assert all(bounds == found["UTC"] for bounds in found.values())
    assert all(" 00:00:00+00 to " in bounds for bounds in found["UTC"][1:])
