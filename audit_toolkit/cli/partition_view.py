"""How `audit partitions` shows leaves and findings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit_toolkit.partitions import Entry, Finding, Leaf, Partitions


def report(partitions: Partitions, findings: tuple[Finding, ...]) -> dict[str, Any]:
    last = partitions.last_success
    return {
        "now": partitions.now.isoformat(),
        "interval": partitions.interval.value,
        "horizon_seconds": partitions.horizon.total_seconds(),
        "last_success": last.isoformat() if last else None,
        "findings": [finding.as_dict() for finding in findings],
    }


def print_findings(partitions: Partitions, findings: tuple[Finding, ...]) -> None:
    days = partitions.horizon / timedelta(days=1)
    print(f"{len(partitions.bounded)} leaves, a {partitions.interval} each, {days:.1f} days ahead")
    for finding in findings:
        print(f"{finding.severity:<8} {finding.object}: {finding.message}")
        print(f"{'':<8} remedy: {finding.remedy}")
    if not findings:
        print("nothing is wrong")


def leaf_rows(partitions: Partitions) -> list[dict[str, Any]]:
    for leaf in partitions.leaves:
        entry = partitions.entry(leaf.oid)
        yield _leaf_row(leaf.name.name, leaf.range, _state(leaf), leaf.bytes, entry)
    attached = {leaf.oid for leaf in partitions.leaves}
    for entry in partitions.entries:
        if entry.oid not in attached and entry.state != "dropped":
            yield _leaf_row(entry.current_name or entry.name, entry.range, "detached", None, entry)
    for stray in partitions.strays:
        yield _leaf_row(stray.name.name, "", "unattached", None, None)


def _state(leaf: Leaf) -> str:
    if leaf.detach_pending:
        return "detaching"
    return "default" if leaf.is_default else "tail" if leaf.is_tail else "attached"


def _leaf_row(
    name: str, bounds: str, state: str, size: int | None, entry: Entry | None
) -> dict[str, Any]:
    return {
        "name": name,
        "range": bounds,
        "state": state,
        "bytes": size,
        "hold_reason": entry.hold_reason if entry else None,
        "archive": entry.archive if entry else None,
    }




def print_leaves(rows: Sequence[dict[str, Any]]) -> None:
    """A line for each leaf."""
    for row in rows:
        size = f"{row['bytes'] / 2**20:,.1f} MB" if row["bytes"] is not None else ""
        notes = [f"held: {row['hold_reason']}"] if row["hold_reason"] else []
        notes += [f"archived: {row['archive']}"] if row["archive"] else []
        print(
            f"{row['state']:<10} {row['name']:<36} {row['range']:<52} {size:>12}  {'; '.join(notes)}".rstrip()
        )
