"""One text for tables that are captured alike: what is a table's own stands in places of it, as @name@.

A revision for hundreds of tables stays short enough to be reviewed. It needs no package for that: a function of
a few lines in it puts in what the record has of each table, and `fill` is the same for whoever reads revisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from audit_toolkit.migrations.revision.record import CaptureRecord, constant_name, fill, places
from audit_toolkit.migrations.revision.text import LISTED_TWICE, Revision, Script, Text


def share(revision: Revision) -> Revision:
    """The revision with a text for each group of tables that differ in names only; what differs more stays whole.

    Both ways it runs the tables of a text one after the other.
    """
    if len(revision.record.captures) <= LISTED_TWICE:
        return revision
    ups, downs = (
        {script.name: script for script in scripts}
        for scripts in (revision.upgrade, revision.downgrade)
    )
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[_Member]] = {}
    for capture in revision.record.captures:
        member = _member(capture, ups, downs)
        if member:
            key = (member.up_text.statements, member.down_text.statements)
            groups.setdefault(key, []).append(member)
    several = [members for members in groups.values() if len(members) > 1]
    if not several:
        return revision
    texts, rows = [], {capture.table: capture for capture in revision.record.captures}
    for number, members in enumerate(several, 1):
        for member in members:
            rows[member.row.table] = replace(member.row, text=number)
        first = members[0]
        texts.append(
            Text(
                number=number,
                up=replace(first.up_text, name=f"CAPTURE_{number}"),
                down=replace(first.down_text, name=f"RELEASE_{number}"),
                members=tuple((member.up, member.down) for member in members),
            )
        )
    shared = {script.name for text in texts for pair in text.members for script in pair}
    return replace(
        revision,
        record=replace(revision.record, captures=tuple(rows.values())),
        texts=tuple(texts),
        upgrade=(
            *(up for text in texts for up, _ in text.members),
            *(script for script in revision.upgrade if script.name not in shared),
        ),
        downgrade=(
            *(script for script in revision.downgrade if script.name not in shared),
            *(down for text in reversed(texts) for _, down in text.members),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A table that may share a text: its row of the record, its scripts, and what they are without its names."""

    row: CaptureRecord
    up: Script
    down: Script
    up_text: Script
    down_text: Script


def _member(
    capture: CaptureRecord, ups: Mapping[str, Script], downs: Mapping[str, Script]
) -> _Member | None:
    up = ups.get(constant_name("CAPTURE", capture.table))
    down = downs.get(constant_name("RELEASE", capture.table))
    table = capture.table
    plain = capture.function == f"capture_{table.schema}__{table.name}"
    if up is None or down is None or not plain or str(table) != f"{table.schema}.{table.name}":
        return None
    row = replace(capture, own=up.own)
    up_text, down_text = (_without_names(script, places(row)) for script in (up, down))
    for script, text in ((up, up_text), (down, down_text)):
        if tuple(fill(text.statements, row)) != script.statements:
            return None
    used = "\n".join((*up_text.statements, *down_text.statements))
    own = {place: value for place, value in up.own.items() if f"@{place}@" in used}
    return _Member(
        row=replace(row, own=own), up=up, down=down, up_text=up_text, down_text=down_text
    )


def _without_names(script: Script, values: Mapping[str, str]) -> Script:
    return replace(
        script,
        steps=tuple(
            replace(
                step,
                why=_with_places(step.why, values),
                statements=tuple(_with_places(sql, values) for sql in step.statements),
            )
            for step in script.steps
        ),
    )


def _with_places(text: str, values: Mapping[str, str]) -> str:
    for place, value in values.items():
        if place in ("schema", "name", "key"):
            for quote in ("'", '"'):
                text = text.replace(f"{quote}{value}{quote}", f"{quote}@{place}@{quote}")
        else:
            text = text.replace(value, f"@{place}@")
    return text
