"""How `audit partitions list` shows partitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audit_toolkit.partitions import Entry, Leaf, Partitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What `list` tells of one leaf; its fields are the keys of the JSON."""

    name: str
    range: str
    state: str
    bytes: int | None = None
    hold_reason: str | None = None
    archive: str | None = None

    def __str__(self) -> str:
        size = f"{self.bytes / 2**20:,.1f} MB" if self.bytes is not None else ""
        notes = [f"held: {self.hold_reason}"] if self.hold_reason else []
        notes += [f"archived: {self.archive}"] if self.archive else []
        line = f"{self.state:<10} {self.name:<36} {self.range:<52} {size:>12}  {'; '.join(notes)}"
        return line.rstrip()


def leaf_rows(partitions: Partitions) -> Iterator[Row]:
    """What is attached, then what was detached, then what somebody took off by hand."""
    attached = {leaf.oid for leaf in partitions.leaves}
    for leaf in partitions.leaves:
        yield _attached(leaf, partitions.entry(leaf.oid))
    for entry in partitions.entries:
        if entry.oid not in attached and entry.state != "dropped":
            yield Row(
                name=entry.current_name or entry.name,
                range=entry.range,
                state=entry.state.value,
                hold_reason=entry.hold_reason,
                archive=entry.archive,
            )
    for stray in partitions.strays:
        yield Row(name=stray.name.name, range="", state="unattached")


def _attached(leaf: Leaf, entry: Entry | None) -> Row:
    state = "default" if leaf.is_default else "tail" if leaf.is_tail else "attached"
    return Row(
        name=leaf.name.name,
        range=leaf.range,
        state="detaching" if leaf.detach_pending else state,
        bytes=leaf.bytes,
        hold_reason=entry.hold_reason if entry else None,
        archive=entry.archive if entry else None,
    )
