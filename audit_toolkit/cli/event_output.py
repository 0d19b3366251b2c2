"""How `show` and `transaction` print events."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from audit_toolkit.cli.columns import require_columns
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import (
    AlembicConfig,
    Dsn,
    Format,
)
from audit_toolkit.cli.output import print_events_as_json, print_timeline
from audit_toolkit.cli.pager import paged
from audit_toolkit.cli.transaction_ids import start_of
from audit_toolkit.trail import select_events, subjects_of, table_of

if TYPE_CHECKING:
    from audit_toolkit.trail import Event, Selection, Subject


def print_selected(
    selection: Selection,
    output: Format,
    dsn: Dsn,
    config: AlembicConfig,
    schema: str,
    hide: Collection[str],
    *,
    utc: bool,
) -> int:
    """Print the events of a selection."""
    with open_database(dsn, config) as connection:
        start = start_of(connection, selection.transaction, selection.transaction_start, schema)
        selection = replace(selection, transaction_start=start)
        found = select_events(connection, selection, schema=schema)
        if hide and found:
            tables = subjects_of(connection, found, schema=schema)
            known = {c for e in found for row in (e.old_row, e.new_row) for c in row or ()}
            known |= {column for subject in tables.values() for column in subject.columns}
            require_columns(hide, "--hide", known, ", ".join(sorted(map(str, tables))))
        events = [event.without(hide) for event in found]
        if output is Format.JSON:
            return print_events_as_json(events)
        subjects = list(subjects_of(connection, events, schema=schema).values())
    with paged():
        print_by_table(events, subjects, utc=utc)
    return len(events)


def print_by_table(events: list[Event], subjects: list[Subject], *, utc: bool) -> None:
    """Print events under the names of their tables."""
    by_table = {subject.table: subject for subject in subjects}
    for number, (table, group) in enumerate(groupby(events, key=table_of)):
        if number:
            print()
        print_timeline(by_table[table], group, utc=utc)
