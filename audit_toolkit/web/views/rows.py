"""One row: its timeline, its versions, how it was; and the rows of a table that are gone."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from audit_toolkit import exact_json, trail
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.names import QualifiedName
from audit_toolkit.trail import Action, Event, Filter, KnownTable
from audit_toolkit.trail.event import Row
from audit_toolkit.web.errors import AskedError, NotFoundError
from audit_toolkit.web.event_text import application_link, by_day, row_address, tell
from audit_toolkit.web.listing import read_list, read_query, recent
from audit_toolkit.web.page import Page
from audit_toolkit.web.values import LONG, Change, Shown, changes_of, show, visible
from audit_toolkit.web.views.events import _exported

if TYPE_CHECKING:
    from audit_toolkit.trail import Subject

VERSIONS = 100
"""So many versions of a row are offered to be compared."""
MOST_ROWS = 100
"""So many rows of a table as it was are shown."""


def row(page: Page) -> Response:
    """The timeline of a row, and what it is now: which change gave each column its value."""
    table, subject, key = _subject(page)
    asked = read_query(page)
    found = read_list(page, subject, asked)
    entries = tell(page, found.events)
    if (how := page.asked("format")) is not None:
        return _exported(page, how, entries)
    there = key in trail.rows_there(page.connection, table, [key], schema=page.site.schema)
    is_first = asked.wanted.before is None and asked.wanted.after is None
    return page.render(
        "row.html",
        title=f"{page.label(table.table)} {visible(key)[:80]}",
        table=table,
        key=key,
        days=by_day(page, entries),
        found=found,
        asked=asked,
        link=application_link(page, table.table, key),
        there=there,
        last=entries[0] if entries and is_first else None,
        columns=_now(page, table, key) if is_first else [],
        at=page.moment("at"),
        then=_then(page, table, key),
    )


def compare(page: Page) -> Response:
    """Two versions of a row side by side."""
    table, subject, key = _subject(page)
    wanted = Filter(limit=VERSIONS, newest_first=True, before=page.number("before"))
    found = trail.read_page(page.connection, subject, wanted)
    versions = {e.event_id: e for e in found.events if e.row_after is not None or e.old_row}
    ids = list(versions)
    if not ids:
        raise NotFoundError(page.words.gettext("There are no versions of this row."))
    newer = page.number("b") or ids[0]
    older = page.number("a") or ids[min(1, len(ids) - 1)]
    for number in (older, newer):
        if number not in versions:
            raise NotFoundError(page.words.gettext("This row has no such version here."))
    before, after = (_version(page, table, versions[number]) for number in (older, newer))
    changed: list[Change] = []
    same: list[tuple[str, Shown]] = []
    for column in page.sight.in_order(table.table, {**before, **after}):
        label = page.settings.column(table.table, column)
        old, new = before.get(column), after.get(column)
        if column in before and column in after and exact_json.same(old, new):
            same.append((label.label or visible(column), show(new, label, page.words)))
        else:
            changed += changes_of(column, label, old, new, page.words, LONG)
    return page.render(
        "compare.html",
        title=page.words.gettext("Versions of %(row)s")
        % {"row": f"{page.label(table.table)} {visible(key)[:80]}"},
        table=table,
        key=key,
        versions=tell(page, versions.values()),
        older=older,
        newer=newer,
        changed=changed,
        same=same,
    )


def deleted(page: Page) -> Response:
    """The rows of a table that were deleted, and whether they are there again."""
    table = page.table()
    asked = read_query(page)
    gone = frozenset({Action.DELETE, Action.TRUNCATE})
    asked = recent(replace(asked, wanted=replace(asked.wanted, actions=gone)))
    found = read_list(page, table.subject(page.site.schema), asked)
    keys = [e.row_key for e in found.events if e.row_key is not None]
    there = trail.rows_there(page.connection, table, keys, schema=page.site.schema)
    entries = tell(page, found.events)
    return page.render(
        "deleted.html",
        title=page.words.gettext("Deleted: %(table)s") % {"table": page.label(table.table)},
        table=table,
        days=by_day(page, entries),
        found=found,
        is_recent=asked.wanted.since is not None and page.asked("since") is None,
        there={e.event_id for e in found.events if e.row_key in there},
    )


def as_it_was(page: Page) -> Response:
    """The first rows of a table as it was at a moment."""
    table = page.table()
    at = page.moment("at")
    rows: list[Row] = []
    problem: str | None = None
    if at is not None:
        try:
            if at > datetime.now(UTC):
                raise AskedError(page.words.gettext("That time is still to come."))
            rows = _rows_at(page, table.table, at)
        except AuditError as error:
            problem = _problem(page, table, error)
    columns = page.sight.columns(table)
    return page.render(
        "as_it_was.html",
        title=page.words.gettext("As it was: %(table)s") % {"table": page.label(table.table)},
        table=table,
        at=at,
        problem=problem,
        columns=[(c, page.settings.column(table.table, c)) for c in columns],
        rows=[_told(page, table, row) for row in rows[:MOST_ROWS]],
        more=len(rows) > MOST_ROWS,
    )


def _rows_at(page: Page, table: QualifiedName, at: datetime) -> list[Row]:
    with closing(
        trail.table_at(
            page.connection, str(table), at, schema=page.site.schema, on_redacted=lambda: None
        )
    ) as stream:
        return list(islice(stream, MOST_ROWS + 1))


def _told(page: Page, table: KnownTable, row: Row) -> dict[str, Any]:
    key: str | None = None
    if table.key and all(column in row for column in table.key):
        values = [row[column] for column in table.key]
        single = values[0] if isinstance(values[0], str) else exact_json.dumps(values[0])
        key = single if len(values) == 1 else exact_json.dumps(values)
    shown = page.sight.row(table.table, row) or {}
    return {
        "address": row_address(page, table.table, key),
        "cells": {
            column: show(value, page.settings.column(table.table, column), page.words, 60)
            for column, value in shown.items()
        },
    }


def _subject(page: Page) -> tuple[KnownTable, Subject, str]:
    """The row that the address names. Raises `NotFoundError`."""
    table = page.table()
    key = page.asked("key")
    gone = page.words.gettext("The trail knows no such row.")
    if key is None or not page.sight.may_name_rows(table.table):
        raise NotFoundError(gone)
    try:
        subject = trail.find_subject(
            page.connection, str(table.table), key, schema=page.site.schema
        )
    except UsageError as error:
        raise NotFoundError(gone) from error
    if not subject.known or subject.key is None:
        raise NotFoundError(
            gone, hint=page.words.gettext("It may not have changed since the trail began.")
        )
    return table, subject, subject.key


def _now(page: Page, table: KnownTable, key: str) -> list[dict[str, Any]]:
    """What the row is, or was at last, and who gave each column its value."""
    origins = trail.blame(page.connection, str(table.table), key, schema=page.site.schema)
    masked = page.viewer.masked_of(table.table)
    hidden = page.viewer.hidden_of(table.table)
    found = []
    for origin in origins:
        if origin.column in hidden:
            continue
        label = page.settings.column(table.table, origin.column)
        row = page.sight.row(table.table, {origin.column: origin.value}) or {}
        found.append(
            {
                "name": label.label or visible(origin.column),
                "value": show(row[origin.column], label, page.words),
                "masked": origin.column in masked,
                "by": next(iter(tell(page, [origin.event] if origin.event else [])), None),
            }
        )
    return found


def _then(page: Page, table: KnownTable, key: str) -> list[dict[str, Any]] | str | None:
    """The row at the moment that is asked for; a text where it was not there or is not known."""
    at = page.moment("at")
    if at is None:
        return None
    if at > datetime.now(UTC):
        return page.words.gettext("That time is still to come.")
    try:
        row = trail.row_at(
            page.connection,
            str(table.table),
            key,
            at,
            schema=page.site.schema,
            on_redacted=lambda: None,
        )
    except AuditError as error:
        return _problem(page, table, error)
    if row is None:
        return page.words.gettext("It was not there then.")
    shown = page.sight.row(table.table, row) or {}
    labels = {column: page.settings.column(table.table, column) for column in shown}
    return [
        {
            "name": labels[column].label or visible(column),
            "value": show(shown[column], labels[column], page.words),
        }
        for column in page.sight.in_order(table.table, shown)
    ]


def _problem(page: Page, table: KnownTable, error: AuditError) -> str:
    """Why the rows are not known; what is said of a table may name a column that the viewer may not see."""
    of_ours = isinstance(error, AskedError)
    withheld = page.viewer.hidden_of(table.table) | page.viewer.masked_of(table.table)
    return error.message if of_ours or not withheld else page.words.gettext("That cannot be shown.")


def _version(page: Page, table: KnownTable, event: Event) -> Row:
    return page.sight.row(table.table, event.row_after) or {}
