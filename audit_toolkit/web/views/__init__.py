"""What each address shows."""

from __future__ import annotations

from starlette.responses import Response

from audit_toolkit.web.errors import NotFoundError
from audit_toolkit.web.page import Page, View
from audit_toolkit.web.views import events, overview, rows, undo


def missing(page: Page) -> Response:
    """Any other address."""
    raise NotFoundError(page.words.gettext("There is no such page."))


ROUTES: tuple[tuple[str, View, tuple[str, ...]], ...] = (
    ("/", overview.home, ("GET",)),
    ("/search", overview.search, ("GET",)),
    ("/status", overview.status, ("GET",)),
    ("/events", events.all_events, ("GET",)),
    ("/events/{number}", events.event, ("GET",)),
    ("/table", events.table, ("GET",)),
    ("/person", events.person, ("GET",)),
    ("/request", events.request, ("GET",)),
    ("/transactions/{number}", events.transaction, ("GET",)),
    ("/row", rows.row, ("GET",)),
    ("/compare", rows.compare, ("GET",)),
    ("/deleted", rows.deleted, ("GET",)),
    ("/as-it-was", rows.as_it_was, ("GET",)),
    ("/undo", undo.plan, ("GET",)),
    ("/undo", undo.apply, ("POST",)),
)
"""Path, view and methods."""
