"""Where the trail is: the cluster, database and table that its ids and transactions belong to.

A restore brings the trail to a place where transactions have other numbers, tables other OIDs, and the sequence of the
event ids may be behind. The table `home` remembers the place; `plan_adoption` makes the trail go on in a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, translated_errors
from audit_toolkit.errors import UsageError
from audit_toolkit.plan import Plan, Step
from audit_toolkit.templates import query, render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

EXACT_BELOW = 1_000_000
"""Events up to which all ids are looked at; of a larger trail, those that were given last."""
LAST_ID = 2**62
"""Half of the ids that there are: no sequence comes so far, and beyond it somebody has set one."""
NEWEST = 10_000
"""How many those are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailPlace:
    """A place of a trail."""

    system_identifier: str | None
    """Of the cluster; None where the server does not say."""
    database_oid: int
    database_name: str
    trail_oid: int
    """Of `logged_actions`: a restore into the same database gives another one."""
    timeline: int | None
    """None on a standby."""

    def is_that_of(self, other: TrailPlace) -> bool:
        """Whether it is the same place, on whichever timeline."""
        known = None not in (self.system_identifier, other.system_identifier)
        return (
            (self.database_oid, self.trail_oid) == (other.database_oid, other.trail_oid)
        ) and not (known and self.system_identifier != other.system_identifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailLocation:
    """Where a trail is, and where it was when that was last noted."""

    present: TrailPlace
    noted: tuple[TrailPlace, ...]

    @property
    def moved(self) -> bool:
        """Whether the trail, or a part of it, came from another place."""
        return len(self.noted) != 1 or not self.present.is_that_of(self.noted[0])

    @property
    def new_timeline(self) -> bool:
        """Whether the server was failed over, or recovered to a point in time, since."""
        if self.moved or None in (self.present.timeline, self.noted[0].timeline):
            return False
        return self.present.timeline != self.noted[0].timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """How the event ids stand."""

    next_id: int
    newest_id: int | None
    doubled: int
    """Ids that several events have."""
    first_doubled: int | None
    disordered: int
    """Events whose ids were given again from a sequence that was behind."""

    @property
    def behind(self) -> bool:
        """Whether the next event would get an id that is taken, or lower than an older one's."""
        return self.newest_id is not None and self.next_id <= self.newest_id

    @property
    def run_out(self) -> bool:
        """Whether somebody set the sequence so far ahead that writes will fail."""
        return self.next_id > LAST_ID

    @property
    def need_renumbering(self) -> bool:
        """Whether the order of the ids is not that of the events."""
        return bool(self.doubled or self.disordered)


def has_home(connection: Connection, schema: str) -> bool:
    """Whether the trail notes where it is, as those of releases before 0.3 do not."""
    [there] = fetch(connection, render("home/is_there", schema=schema))
    return bool(there["is_there"])


def read_location(connection: Connection, schema: str) -> TrailLocation:
    """Where the trail is and was."""
    rows = fetch(connection, render("home/state", schema=schema))
    names = TrailPlace.__slots__
    return TrailLocation(
        present=TrailPlace(**{name: rows[0][name] for name in names}),
        noted=tuple(
            TrailPlace(**{name: row[f"noted_{name}"] for name in names})
            for row in rows
            if row["noted_database_oid"] is not None
        ),
    )


def read_ids(connection: Connection, schema: str, *, exact: bool = False) -> Ids:
    """How the ids stand.

    Of a trail of more than `EXACT_BELOW` events the newest alone are compared, unless `exact`: that reads an
    index of each partition whole.
    """
    above = 0
    if not exact:
        [size] = fetch(connection, query("status_size"), {"schema": schema})
        if size["events"] > EXACT_BELOW:
            [ids] = fetch(connection, render("home/ids", schema=schema, above=2**63 - 1))
            above = max(0, ids["next_id"] - NEWEST)
    [ids] = fetch(connection, render("home/ids", schema=schema, above=above))
    return Ids(**ids)


def plan_adoption(
    state: TrailLocation,
    ids: Ids,
    schema: str,
    reason: str,
    *,
    renumber: bool = False,
    copy: bool = False,
) -> Plan | None:
    """What makes the trail go on where it is; None where nothing has to be done.

    `copy` says that it is a copy of one that goes on elsewhere, as nothing tells of a copy of all files of a server.

    Raises `UsageError` when the reason is empty, or events need new ids and `renumber` is not said.
    """
    if not reason.strip():
        raise UsageError("adopting a trail needs a reason", hint="add --reason 'ticket 123'")
    if not (copy or state.moved or state.new_timeline or ids.behind or ids.need_renumbering):
        return None
    if ids.need_renumbering and not renumber:
        raise UsageError(
            f"events of {schema}.logged_actions have ids that older events have, or lower ones",
            hint="add --renumber: the newest ones get new ids, in their order, which the trail "
            "records",
        )
    statement = render(
        "home/adopt",
        schema=schema,
        reason=reason,
        renumber=renumber and ids.need_renumbering,
        copy=copy,
    )
    step = Step(
        why="The trail continues in this place, which it records",
        statements=(statement.strip().removesuffix(";"),),
        lock="SHARE ROW EXCLUSIVE on the trail",
    )
    return Plan(steps=(step,))


def read_boundary(connection: Connection, schema: str) -> dict[str, Any]:
    """What the newest B event says, with its `event_id`."""
    [row] = fetch(connection, render("home/boundary", schema=schema))
    return {"event_id": row["event_id"], **row["new_row"]}


def note_timeline(connection: Connection, schema: str) -> int:
    """Write a B event if the server is on another timeline than the trail knows; the number of events.

    That needs nobody's decision, as what a restore needs does.
    """
    with translated_errors():
        if not has_home(connection, schema):
            return 0
        (rights,) = fetch(connection, query("rights"), {"schema": schema})
        folder = "maintainer" if rights["by_function"] else "home"
        return len(fetch(connection, render(f"{folder}/note_timeline", schema=schema)))
