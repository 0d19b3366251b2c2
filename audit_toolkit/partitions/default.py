"""Turning a DEFAULT partition that somebody brought into an ordinary leaf, without moving a row."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions import boundaries
from audit_toolkit.partitions.creation import relabelling
from audit_toolkit.partitions.model import HEADROOM, Partitions, Policy
from audit_toolkit.partitions.tasks import Task
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def plan_default(connection: Connection, partitions: Partitions, policy: Policy) -> Task:
    """The DEFAULT becomes the leaf of the one range between other leaves that all its events are in.

    Reads the DEFAULT once, for its first and last event. Raises `UsageError` where there is no DEFAULT, or its
    events lie in several such ranges.
    """
    default = partitions.default
    if default is None:
        raise UsageError("the trail has no DEFAULT partition", hint="there is nothing to convert")
    lower, upper = _bounds(partitions, policy, *_first_and_last(connection, default.name))
    return relabelling(partitions, policy, default, lower, upper)


def _first_and_last(
    connection: Connection, leaf: QualifiedName
) -> tuple[datetime | None, datetime | None]:
    row = fetch(connection, render("partitions/first_and_last", leaf=leaf))[0]
    return row["first"], row["last"]


def _bounds(
    partitions: Partitions, policy: Policy, first: datetime | None, last: datetime | None
) -> tuple[datetime, datetime]:
    interval, now = policy.new_interval(partitions), partitions.now
    first = first or max(partitions.end or now, now)
    last = last or first
    leaves = [leaf for leaf in partitions.leaves if not leaf.is_default]
    before = [leaf.upper for leaf in leaves if leaf.upper and leaf.upper <= first]
    after = [leaf.lower for leaf in leaves if leaf.lower and leaf.lower > first]
    lower = max(before, default=boundaries.floor(interval, first))
    if not after:
        # Well into the future: until the swap, writes still go to the DEFAULT partition.
        return lower, boundaries.following(interval, max(last, now + HEADROOM))
    if last < min(after):
        return lower, min(after)
    raise UsageError(
        f"the events of the DEFAULT, {first:%Y-%m-%d} to {last:%Y-%m-%d}, lie on both sides "
        f"of the partition that begins {min(after):%Y-%m-%d}",
        hint="first move the earlier ones to a partition of their own: see docs/partitions.md",
    )
