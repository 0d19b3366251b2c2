"""Who can read, write, alter or silence the trail, and by which way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.templates import query

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

POWERS = ("read", "write", "alter", "silence")
"""See events; put events in by hand; change or drop what is there; switch capture off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a role can do with a trail."""

    role: str
    may_log_in: bool
    ways: dict[str, tuple[str, ...]]
    """By power, the ways to it."""

    def as_dict(self) -> dict[str, Any]:
        """The access as JSON values."""
        ways = {power: list(ways) for power, ways in self.ways.items()}
        return {"role": self.role, "may_log_in": self.may_log_in, "ways": ways}


def read_access(connection: Connection, schema: str) -> tuple[Access, ...]:
    """Every role that has a way to the trail of a schema; any role may ask."""
    rows = fetch(connection, query("access"), {"schema": schema})
    return tuple(_access(list(group)) for _, group in groupby(rows, key=lambda row: row["role"]))


def _access(rows: list[dict[str, Any]]) -> Access:
    ways: dict[str, tuple[str, ...]] = {}
    for power in POWERS:
        if found := tuple(row["way"] for row in rows if row["power"] == power):
            ways[power] = found
    return Access(role=rows[0]["role"], may_log_in=rows[0]["may_log_in"], ways=ways)


def readers_of(access: Iterable[Access]) -> tuple[str, ...]:
    """The roles that can log in and read the trail."""
    return tuple(one.role for one in access if one.may_log_in and "read" in one.ways)
