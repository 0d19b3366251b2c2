"""Lists of events, and one of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from starlette.responses import Response

from audit_toolkit import trail
from audit_toolkit.errors import UsageError
from audit_toolkit.exact_json import Json
from audit_toolkit.trail import Action, Filter, table_of
from audit_toolkit.web import export
from audit_toolkit.web.errors import NotFoundError
from audit_toolkit.web.event_text import by_day, tell
from audit_toolkit.web.language import Words
from audit_toolkit.web.listing import KINDS, Asked, Listed, read_list, read_query, recent, scope
from audit_toolkit.web.page import Page
from audit_toolkit.web.settings import ColumnLabel
from audit_toolkit.web.values import LONG, Shown, compared, indented, show, visible

AROUND = timedelta(days=1)
"""So far around an event is looked for what else its request did."""


def all_events(page: Page) -> Response:
    """What happened, in all tables or one, with filters."""
    return listed(page, recent(read_query(page)), title=page.words.gettext("Changes"))


def table(page: Page) -> Response:
    """What happened in one table."""
    found = page.table()
    return listed(page, recent(read_query(page)), title=page.label(found.table), table=found)


def person(page: Page) -> Response:
    """What somebody did, in all tables."""
    asked = read_query(page)
    if asked.wanted.actor is None:
        raise NotFoundError(page.words.gettext("Nobody is named."))
    return listed(
        page, recent(asked), title=visible(asked.wanted.actor)[:200], person=asked.wanted.actor
    )


def request(page: Page) -> Response:
    """What else a request of the application did."""
    asked = read_query(page)
    if not asked.wanted.context:
        raise NotFoundError(page.words.gettext("No request is named."))
    title = page.words.gettext("Request %(id)s") % {"id": visible(asked.wanted.context[0][1])[:200]}
    return listed(page, recent(asked), title=title)


def transaction(page: Page) -> Response:
    """All that one transaction did, in the order in which it did it."""
    number = page.as_number(page.request.path_params["number"])
    asked = read_query(page)
    began = page.moment("began")
    starts = (
        [began]
        if began
        else trail.transaction_starts(page.connection, number, schema=page.site.schema)
    )
    pages = []
    for start in starts[:10]:
        wanted = replace(
            asked.wanted, transaction=number, transaction_start=start, newest_first=False
        )
        told = replace(asked, wanted=wanted)
        pages.append((start, wanted, read_list(page, scope(page, asked), told)))
    pages = [one for one in pages if one[2].events]
    if not pages:
        raise NotFoundError(page.words.gettext("There is no such transaction here."))
    title = page.words.gettext("Transaction %(number)s") % {"number": number}
    if len(pages) > 1:
        choices = [(start, page.here(began=start and start.isoformat())) for start, _, _ in pages]
        return page.render("transactions.html", title=title, choices=choices)
    _, wanted, found = pages[0]
    return _shown(page, replace(asked, wanted=wanted), found, title=title, transaction=number)


def event(page: Page) -> Response:
    """One event, with the row before and after side by side."""
    number = page.as_number(page.request.path_params["number"])
    gone = page.words.gettext("There is no such event here.")
    try:
        found = trail.find_event(page.connection, number, schema=page.site.schema)
    except UsageError as error:
        raise NotFoundError(gone) from error
    entries = tell(page, [found], most=LONG)
    if not entries:
        raise NotFoundError(gone)
    if (how := page.asked("format")) is not None:
        return _exported(page, how, [entries[0]])
    entry = entries[0]
    near = {"since": _time(entry.at - AROUND), "until": _time(entry.at + AROUND)}
    return page.render(
        "event.html",
        title=page.words.gettext("Event %(number)s") % {"number": number},
        entry=entry,
        columns=_side_by_side(page, entry),
        near=near,
    )


def listed(page: Page, asked: Asked, *, title: str, **values: Any) -> Response:
    """A page of events with the filters that led to it."""
    return _shown(page, asked, read_list(page, scope(page, asked), asked), title=title, **values)


def _shown(
    page: Page,
    asked: Asked,
    found: Listed,
    *,
    title: str,
    table: Any = None,
    person: str | None = None,
    transaction: int | None = None,
) -> Response:
    entries = tell(page, found.events)
    if (how := page.asked("format")) is not None:
        return _exported(page, how, entries)
    return page.render(
        "events.html",
        title=title,
        asked=asked,
        days=by_day(page, entries),
        found=found,
        kinds=list(KINDS),
        table=table,
        person=person,
        transaction=transaction,
        columns=page.sight.columns(asked.table) if asked.table else (),
        is_recent=asked.wanted.since is not None and page.asked("since") is None,
        is_live=page.asked("live") is not None,
    )


def _exported(page: Page, how: str, entries: list[Any]) -> Response:
    seen = [entry.seen for entry in entries]
    if how == "json":
        return export.as_json(seen)
    if how == "csv":
        return export.as_csv(seen)
    raise NotFoundError(page.words.gettext("There is no such format."))


def _side_by_side(page: Page, entry: Any) -> list[dict[str, Any]]:
    """The columns of the row: how each was before and after, and whether it changed."""
    seen = entry.event
    if seen.action in (Action.GAP, Action.DDL, Action.BOUNDARY, Action.MARK, Action.REDACTION):
        return []
    before, after = seen.old_row or {}, seen.row_after or {}
    if seen.action is Action.DELETE:
        after = {}
    settings, words = page.settings, page.words
    found = []
    for column in page.sight.in_order(table_of(seen), {**before, **after}):
        label = settings.column(table_of(seen), column)
        old, new = (
            _whole(row[column], label, words) if column in row else None for row in (before, after)
        )
        changed = column in entry.seen.changed
        if changed and old and new and old.kind == new.kind and old.kind in ("text", "json"):
            old, new = compared(old, new)
        name = label.label or visible(column)
        found.append({"name": name, "old": old, "new": new, "changed": changed})
    return found


def _whole(value: Json, label: ColumnLabel, words: Words) -> Shown:
    if isinstance(value, dict | list) and not callable(label.format):
        return indented(value, LONG)
    return show(value, label, words, LONG)


def _time(moment: Any) -> str:
    return str(moment.isoformat(timespec="seconds"))


def first_of(page: Page, wanted: Filter) -> list[Any]:
    """The first events of a filter, told; nothing where the viewer sees no table."""
    if page.sight.scope is None:
        return []
    return tell(page, trail.read_page(page.connection, page.sight.scope, wanted).events)
