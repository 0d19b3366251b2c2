"""Where a tail of the trail stands, so that another one can go on behind it, tomorrow too."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.templates import query, render
from audit_toolkit.trail.rows.lookup import Scope

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in a trail: everything up to it was delivered.

    The number of an event means something only on one server, and there only until the server is
    restored to an earlier time or replaced by a standby, which begins a new timeline.
    """

    event_id: int
    """The last event that was delivered or passed over; 0 before the first."""
    trail: str
    """The schema of the trail."""
    table: str
    key: str | None = None
    system_identifier: str | None = None
    """Of the server; None where it does not tell this role."""
    timeline: int | None = None

    def save(self, path: Path) -> None:
        """Replace the file at once: a crash leaves it as it was or as it is now.

        Raises `AuditError` where it cannot be written.
        """
        new = path.with_name(f".{path.name}.new")
        try:
            with new.open("w", encoding="utf-8") as file:
                file.write(json.dumps(asdict(self), indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
            _sync_directory(path.parent)
        except OSError as error:
            raise AuditError(
                f"cannot write the cursor {str(path)!a}: {error.strerror}",
                hint="the next run may print the last events again",
            ) from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """The position that was saved. Raises `UsageError` where the file holds none."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            position = cls(**values)
            if not all(_fits(getattr(position, f.name), str(f.type)) for f in fields(cls)):
                raise TypeError("a value of another type")
        except OSError as error:
            raise UsageError(
                f"cannot read the cursor {str(path)!a}: {error.strerror}",
                hint="use a file that --follow wrote, or a new one",
            ) from error
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{str(path)!a} is not a valid cursor",
                hint="use a file that --follow wrote, or a new one",
            ) from error
        return position

    def require_same(self, here: Position) -> None:
        """Raise `UsageError` where a tail that is `here` cannot go on from this position."""
        if (self.trail, self.table, self.key) != (here.trail, here.table, here.key):
            raise UsageError(
                f"the cursor belongs to {self._of}, not to {here._of}",
                hint="use another file: each --follow needs its own cursor",
            )
        known = None not in (self.system_identifier, here.system_identifier)
        if known and self.system_identifier != here.system_identifier:
            raise UsageError(
                f"the cursor belongs to another server ({self.system_identifier}; this one is "
                f"{here.system_identifier}), whose events have other ids",
                hint="connect to that server, or start over with a new cursor",
            )
        if None not in (self.timeline, here.timeline) and self.timeline != here.timeline:
            raise UsageError(
                f"the server was restored or failed over since event {self.event_id}: its "
                f"timeline is {here.timeline}, that of the cursor {self.timeline}",
                hint="events that were delivered may be lost, and their ids used again: compare, "
                "then start over with a new cursor and --after the last event that both have",
            )

    @property
    def _of(self) -> str:
        what = self.table if self.key is None else f"{self.table} {self.key!a}"
        return what if self.trail == "audit" else f"{what} in the trail {self.trail}"


def find_position(connection: Connection, subject: Scope, event_id: int = 0) -> Position:
    """The position behind an event of this server.

    Raises `UsageError` on a standby: what it shows of the trail may still have holes.
    """
    (row,) = fetch(connection, query("server_role"))
    if row["is_standby"]:
        raise UsageError(
            "this server is a standby, where --follow could skip events",
            hint="connect to the primary: use its address, or add target_session_attrs=read-write",
        )
    position = Position(
        event_id=event_id, trail=subject.schema, table=str(subject.table), key=subject.key
    )
    try:
        (found,) = fetch(connection, query("server_identity"))
    except import_psycopg().errors.InsufficientPrivilege:
        return position
    return replace(position, **found)


def last_number(connection: Connection, schema: str) -> int | None:
    """The highest id that an event was given so far; None where this role may not know."""
    sql = render("queries/last_number", schema=schema)
    with suppress(import_psycopg().errors.InsufficientPrivilege):
        return int(fetch(connection, sql)[0]["event_id"])
    return None


def _fits(value: object, type_name: str) -> bool:
    kinds: dict[str, type] = {"int": int, "str": str}
    if value is None:
        return "None" in type_name
    return isinstance(value, kinds[type_name.partition(" ")[0]]) and not isinstance(value, bool)


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":  # directories cannot be opened there
        return
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
