"""Where people begin: the newest changes, the search, and how the trail is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from starlette.responses import Response

from audit_toolkit import trail
from audit_toolkit.capture.status import read_tables
from audit_toolkit.connection import import_psycopg
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.partitions import (
    Partitions,
    Policy,
    Thresholds,
    check_partitions,
    read_partitions,
)
from audit_toolkit.schema.publication import publication_findings, read_publications
from audit_toolkit.seals.health import seal_findings
from audit_toolkit.seals.seal import read_newest
from audit_toolkit.stream import Consumer, read_consumers
from audit_toolkit.stream.metrics import consumer_findings
from audit_toolkit.trail import Action, Filter
from audit_toolkit.trail.event import BIGGEST
from audit_toolkit.web.event_text import Entry, by_day, row_address, tell
from audit_toolkit.web.page import Page
from audit_toolkit.web.values import visible
from audit_toolkit.web.views.events import first_of

NEWEST = 15
GAPS = 10


def home(page: Page) -> Response:
    """The search, the tables, the newest changes."""
    entries = first_of(page, Filter(limit=NEWEST, newest_first=True))
    return page.render(
        "home.html",
        title=page.settings.title,
        days=by_day(page, entries),
        tables=sorted(page.sight.tables.values(), key=lambda one: (not one.captured, one.table)),
    )


def search(page: Page) -> Response:
    """What a text may mean: a key of some tables, an event, a transaction, a person, a reason."""
    text = (page.asked("q") or "").strip(" ")
    if not text:
        return page.redirect("/")
    if page.asked("table"):
        return page.redirect("/row", table=str(page.table().table), key=text)
    found = _rows(page, text)
    numbers = _numbers(page, text)
    return page.render(
        "search.html", title=visible(text)[:80], text=text, rows=found, numbers=numbers
    )


def _rows(page: Page, text: str) -> list[dict[str, Any]]:
    """The rows that have, or had, this key."""
    named = [t for t in page.sight.tables.values() if page.sight.may_name_rows(t.table)]
    hits = trail.rows_with_key(page.connection, named, text, schema=page.site.schema)
    rows = []
    for one in hits:
        subject = trail.find_subject(page.connection, str(one.table), text, schema=page.site.schema)
        latest = trail.read_page(page.connection, subject, Filter(limit=1, newest_first=True))
        rows.append(
            {
                "label": page.label(one.table),
                "table": one.table,
                "address": row_address(page, one.table, text),
                "latest": next(iter(tell(page, latest.events)), None),
            }
        )
    return rows


def _numbers(page: Page, text: str) -> dict[str, Any]:
    """The event and the transaction of that number, as far as the viewer sees them."""
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) > BIGGEST:
        return {}
    number = int(text)
    found: dict[str, Any] = {"event": None, "transaction": None}
    with suppress(UsageError):
        event = trail.find_event(page.connection, number, schema=page.site.schema)
        if entries := tell(page, [event]):
            found["event"] = entries[0]
    if of_transaction := first_of(page, Filter(limit=1, newest_first=True, transaction=number)):
        found["transaction"] = of_transaction[0]
    return found if any(found.values()) else {}


def _gaps(page: Page) -> list[Entry]:
    """The newest gaps: table by table, as the index finds them."""
    wanted = Filter(limit=GAPS, newest_first=True, actions=frozenset({Action.GAP}))
    found = [
        event
        for table in page.sight.tables.values()
        if table.captured
        for event in trail.read_page(
            page.connection, table.subject(page.site.schema), wanted
        ).events
    ]
    newest = sorted(found, key=lambda event: event.event_id, reverse=True)[:GAPS]
    return tell(page, newest)


def status(page: Page) -> Response:
    """What is captured, where it was off, and whether there is room for what comes."""
    found = read_tables(page.connection, page.site.schema)
    tables = [one for one in found.audited if page.sight.find(one.table)]
    gaps = _gaps(page)
    partitions: Partitions | None = None
    seal: dict[str, Any] | None = None
    consumers: list[Consumer] = []
    findings: tuple[Any, ...] = ()
    if page.sight.is_whole:
        with suppress(AuditError), page.connection.transaction():
            partitions = read_partitions(page.connection, page.site.schema)
            findings = check_partitions(partitions, Policy(), Thresholds())
        # A trail of an older release has no seals, and not every reader may see them.
        with suppress(AuditError, import_psycopg().Error), page.connection.transaction():
            seal = read_newest(page.connection, page.site.schema) or {}
            findings = (*findings, *seal_findings(page.connection, page.site.schema, None))
        with suppress(AuditError, import_psycopg().Error), page.connection.transaction():
            consumers = read_consumers(page.connection, schema=page.site.schema)
            findings = (*findings, *consumer_findings(page.connection, schema=page.site.schema))
        with suppress(AuditError, import_psycopg().Error), page.connection.transaction():
            published = read_publications(page.connection, page.site.schema)
            findings = (*findings, *publication_findings(published, page.site.schema))
    return page.render(
        "status.html",
        title=page.words.gettext("Status"),
        tables=tables,
        not_audited=found.not_audited if page.sight.is_whole else (),
        gaps=gaps,
        partitions=partitions,
        seal=seal,
        consumers=consumers,
        findings=findings,
    )
