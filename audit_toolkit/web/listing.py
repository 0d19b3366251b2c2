"""Lists of events: what a query of the address asks for, a page of it, and the pages beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from audit_toolkit import trail
from audit_toolkit.trail import Action, Event, Filter, HistoryPage, KnownTable
from audit_toolkit.trail.rows.lookup import Scope
from audit_toolkit.web.errors import AskedError, NotFoundError, RefusedError

if TYPE_CHECKING:
    from audit_toolkit.web.page import Page

PAGE = 25
MOST = 1000
"""Events of a page that somebody asks for, to export them."""
RECENT = timedelta(days=30)
"""How far back is looked for what no index finds, if nobody says."""

LOOK = 0.1
"""Seconds for which is looked back, at first, for what no index finds;"""
LOOK_FURTHER = 1.0
"""and where somebody asked to look further back."""

KINDS = {
    "insert": Action.INSERT,
    "update": Action.UPDATE,
    "delete": Action.DELETE,
    "truncate": Action.TRUNCATE,
    "snapshot": Action.SNAPSHOT,
    "gap": Action.GAP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a list is to show."""

    table: KnownTable | None
    wanted: Filter
    action: str | None
    all_time: bool
    """Whether somebody asked to look back as far as the trail goes."""

    @property
    def is_narrow(self) -> bool:
        """Whether it asks for what only reading many events finds."""
        wanted = self.wanted
        rare = (wanted.actor, wanted.reason, wanted.changed, *wanted.context)
        asked = any(part is not None for part in rare) or bool(wanted.actions)
        return asked and wanted.transaction is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A page of events, and where the others are."""

    events: tuple[Event, ...]
    older: str | None
    newer: str | None
    is_unfinished: bool = False
    """Whether those that follow were not looked at, for want of time;"""
    is_forward: bool = False
    """and whether those are the newer ones."""


def read_query(page: Page) -> Asked:
    """What the address asks for. Raises `AskedError`."""
    table = page.table() if page.asked("table") else None
    action = page.asked("action")
    if action is not None and action not in KINDS:
        raise AskedError(page.words.gettext("There is no such kind of change."))
    request, reason = page.asked("request"), page.asked("reason")
    for key, text in (("request_id", request), ("reason", reason)):
        if text is not None and not page.viewer.sees_context(key):  # or it could be guessed
            raise RefusedError(page.words.gettext("You may not look for that."))
    before, after = page.number("before"), page.number("after")
    since, until = page.moment("since"), page.moment("until")
    if since and until and since >= until:
        raise AskedError(page.words.gettext("The beginning has to be before the end."))
    if before is not None and after is not None and after >= before:
        raise AskedError(page.words.gettext("No event is between these two."))
    wanted = Filter(
        since=since,
        until=until,
        actions=frozenset({KINDS[action]}) if action else frozenset(),
        limit=_limit(page),
        actor=page.asked("actor"),
        context=(("request_id", request),) if request else (),
        reason=reason,
        transaction=page.number("transaction"),
        changed=_column(page, table),
        newest_first=True,
        before=before,
        after=after,
    )
    return Asked(table=table, wanted=wanted, action=action, all_time=page.asked("all") is not None)


def recent(asked: Asked) -> Asked:
    """The same of the last time only, where all of it would take long and nobody asked for that."""
    wanted = asked.wanted
    bound = wanted.since or wanted.before or wanted.after or asked.all_time
    if bound or not asked.is_narrow:
        return asked
    end = wanted.until or datetime.now(UTC)
    return replace(asked, wanted=replace(wanted, since=end - RECENT))


def scope(page: Page, asked: Asked) -> Scope | None:
    """The tables that are asked about, as far as the viewer sees them; None for none at all."""
    if asked.table is not None:
        return asked.table.subject(page.site.schema)
    return page.sight.scope


def read_list(page: Page, scope: Scope | None, asked: Asked) -> Listed:
    """A page of events."""
    if scope is None:
        return Listed(events=(), older=None, newer=None)
    wanted = asked.wanted
    found_by_index = not asked.is_narrow or scope.key is not None or wanted.of_no_row
    # A file says nowhere that other events were not looked at: it is whole, or the time limit is an error.
    if found_by_index or page.asked("format"):
        found = trail.read_page(page.connection, scope, wanted)
    else:
        further = wanted.before is not None or wanted.after is not None or asked.all_time
        seconds = LOOK_FURTHER if further else LOOK
        found = trail.read_page_within(page.connection, scope, wanted, seconds=seconds)
    return _with_neighbours(page, found, wanted)


def _with_neighbours(page: Page, found: HistoryPage, wanted: Filter) -> Listed:
    ids = [event.event_id for event in found.events]
    forward = wanted.oldest_of
    # Forward from a place, there is something before it, whether or not anything was found.
    older = found.border if not forward else min(ids, default=(wanted.after or 0) + 1)
    newer = found.border if forward else (max(ids, default=None) if wanted.before else None)
    return Listed(
        events=found.events,
        older=page.here(before=older, after=None) if older is not None else None,
        newer=page.here(after=newer, before=None) if newer is not None else None,
        is_unfinished=found.is_unfinished,
        is_forward=forward,
    )


def _limit(page: Page) -> int:
    limit = page.number("limit") or PAGE
    return min(limit, MOST)


def _column(page: Page, table: KnownTable | None) -> str | None:
    column = page.asked("column")
    if column is None:
        return None
    if table is None:
        raise AskedError(page.words.gettext("A column is that of a table: choose the table, too."))
    if column in page.viewer.hidden_of(table.table):
        raise NotFoundError(page.words.gettext("The table has no such column."))
    return column
