"""Event ids that no event has. A hole by itself proves nothing: the sequence gives no id back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

EXPLANATION = (
    "changes that were rolled back, statements that failed and a crash of the server leave such holes; "
    "so does an event that was deleted, together with all later ones of its row"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Ids that are missing between two events."""

    after: int
    before: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holes:
    """How many ids are missing between the first event of the trail and the last."""

    missing: int
    holes: int
    first: tuple[Hole, ...]

    def as_dict(self) -> dict[str, Any]:
        """The holes as JSON values."""
        return asdict(self) | {"explanation": EXPLANATION}


def read_holes(connection: Connection, schema: str, *, limit: int) -> Holes:
    """The missing ids of a whole trail, with the first few holes; reads the primary key alone."""
    [row] = fetch(connection, render("reconcile/holes", schema=schema, limit=limit))
    first = tuple(Hole(**hole) for hole in json.loads(row["first"]))
    return Holes(missing=row["missing"], holes=row["holes"], first=first)
