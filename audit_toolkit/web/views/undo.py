"""Taking changes back: what would become of each row, a reason, and then it is done, itself audited."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.responses import Response

from audit_toolkit import exact_json, trail
from audit_toolkit.attribution.current import context
from audit_toolkit.errors import AuditError, BusyError, ConnectError, UsageError
from audit_toolkit.trail import Event, OnConflict, Selection, Undo
from audit_toolkit.trail.revert.plan import RowChange
from audit_toolkit.trail.revert.reversal import Conflict
from audit_toolkit.web.database import Database
from audit_toolkit.web.errors import AskedError, NotFoundError, RefusedError
from audit_toolkit.web.event_text import row_address, tell
from audit_toolkit.web.page import Page
from audit_toolkit.web.values import Change, changes_of, visible

if TYPE_CHECKING:
    from starlette.requests import Request

COOKIE = "audit_csrf"
MOST_EVENTS = 500
"""More events than these are taken back on the command line."""


def plan(page: Page) -> Response:
    """What becomes of each row, and what is in the way."""
    _require_allowed(page)
    return _shown(page, page.request.query_params)


def apply(page: Page) -> Response:
    """Take it back, if it is still what was shown."""
    database = _require_allowed(page)
    _require_own_form(page)
    selection = _selection(page, page.posted)
    reason = page.posted.get("reason", "").strip()[:2000]
    if not reason:
        return _shown(page, page.posted, problem=page.words.gettext("Say why."), status=400)
    how = _on_conflict(page.posted)
    with database.writing(page.asking) as connection, context(actor=page.viewer.actor):
        undo = trail.plan_revert(
            connection, selection, on_conflict=how, reason=reason, schema=page.site.schema
        )
        if _digest(undo) != page.posted.get("plan"):
            changed = page.words.gettext(
                "Something has changed since. This is what would happen now."
            )
            return _shown(page, page.posted, problem=changed, status=409)
        _require_visible(page, undo)
        try:
            with connection.transaction():
                done = trail.apply_revert(
                    connection, selection, on_conflict=how, reason=reason, schema=page.site.schema
                )
        except (BusyError, ConnectError):
            raise
        except AuditError as error:
            return _shown(page, page.posted, problem=_refusal(page, error), status=409)
    if done.transaction is None:
        return _shown(page, page.posted, problem=page.words.gettext("There was nothing to undo."))
    return page.redirect(f"/transactions/{done.transaction}", undone=1)


def _refusal(page: Page, error: AuditError) -> str:
    """What is in the way; a message of the server may name what the viewer may not see."""
    said = page.words.gettext("The database refuses it: a rule or another row is in the way.")
    return f"{said} {error.message}" if page.viewer.sees_everything else said


def _shown(
    page: Page, asked: Mapping[str, str], *, problem: str | None = None, status: int = 200
) -> Response:
    selection = _selection(page, asked)
    events = _events(page, selection)
    if len(events) > MOST_EVENTS:
        raise RefusedError(
            page.words.gettext("These are too many changes to undo here."),
            hint="audit revert --help",
        )
    told = tell(page, events)
    if not told:
        raise NotFoundError(page.words.gettext("There is no such event here."))
    if len(told) < len(events) or not all(one.seen.whole for one in told):
        raise RefusedError(page.words.gettext("It changed something that you may not see."))
    undo = trail.plan_revert(
        page.connection, selection, on_conflict=_on_conflict(asked), schema=page.site.schema
    )
    _require_visible(page, undo)
    token = page.request.cookies.get(COOKIE) or secrets.token_urlsafe(24)
    response = page.render(
        "undo.html",
        title=page.words.gettext("Undo"),
        events=told,
        rows=[_row(page, change) for change in undo.changes],
        conflicts=[_conflict(page, conflict) for conflict in undo.conflicts],
        notes=undo.notes
        if page.sight.is_whole
        else (),  # notes may name tables that the viewer may not see
        digest=_digest(undo),
        token=token,
        asked=asked,
        problem=problem,
        reason=asked.get("reason", ""),
        number=undo.rows,
    )
    response.status_code = status
    response.set_cookie(
        COOKIE,
        token,
        httponly=True,
        samesite="strict",
        secure=page.request.url.scheme == "https",
        path=page.base or "/",
    )
    return response


def _events(page: Page, selection: Selection) -> list[Event]:
    try:
        return trail.select_events(page.connection, selection, schema=page.site.schema)
    except UsageError as error:
        raise NotFoundError(page.words.gettext("There is no such event here.")) from error


def _require_allowed(page: Page) -> Database:
    if page.site.undoing is None or not page.may_undo:
        raise RefusedError(
            page.words.gettext("Nothing can be undone here."),
            hint=page.words.gettext("It is disabled, or you may not use it."),
        )
    return page.site.undoing


def _require_own_form(page: Page) -> None:
    """Refuse what another site makes a browser send. Raises `RefusedError`."""
    request = page.request
    token, sent = request.cookies.get(COOKIE, ""), page.posted.get("token", "")
    same = hmac.compare_digest(token.encode(), sent.encode())
    if not token or not same or not _is_of_this_site(request):
        raise RefusedError(
            page.words.gettext("This form was not sent from here."),
            hint=page.words.gettext("Open the page again; it needs a cookie."),
        )


def _is_of_this_site(request: Request) -> bool:
    fetched = request.headers.get("sec-fetch-site")
    if fetched is not None:
        return fetched in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _selection(page: Page, asked: Mapping[str, str]) -> Selection:
    event, transaction = asked.get("event"), asked.get("transaction")
    if (event is None) == (transaction is None):
        raise AskedError(page.words.gettext("An event or a transaction is undone: name one."))
    if event is not None:
        return Selection(event_ids=(page.as_number(event),))
    number = page.as_number(transaction or "")
    if page.sight.is_whole:
        return Selection(transaction=number)
    # Columns that the viewer cannot see are left unchanged.
    tables = tuple(str(table) for table in page.sight.tables)
    if not tables:
        raise RefusedError(page.words.gettext("Nothing can be undone here."))
    return Selection(transaction=number, tables=tables)


def _on_conflict(asked: Mapping[str, str]) -> OnConflict:
    return OnConflict.OURS if asked.get("others") == "stay" else OnConflict.REFUSE


def _require_visible(page: Page, undo: Undo) -> None:
    for change in undo.changes:
        withheld = page.viewer.hidden_of(change.table) | page.viewer.masked_of(change.table)
        columns = {*(change.before or {}), *(change.after or {})}
        if not page.viewer.sees(change.table) or withheld & columns:
            raise RefusedError(page.words.gettext("It changed something that you may not see."))


def _digest(undo: Undo) -> str:
    shown = [*(c.as_dict() for c in undo.changes), *(c.as_dict() for c in undo.conflicts)]
    return hashlib.sha256(exact_json.dumps(shown).encode()).hexdigest()


def _row(page: Page, change: RowChange) -> dict[str, Any]:
    before, after = change.before or {}, change.after or {}
    kind = "changed" if change.before and change.after else "created" if change.after else "deleted"
    return {
        "label": page.label(change.table),
        "key": _key(page, change),
        "address": row_address(page, change.table, change.key),
        "kind": kind,
        "changes": [
            found
            for column in page.sight.in_order(
                change.table, after if kind == "changed" else {**before, **after}
            )
            for found in _changes(page, change, column, before.get(column), after.get(column))
        ],
        "since": tell(page, change.since),
    }


def _key(page: Page, one: RowChange | Conflict) -> str | None:
    return visible(one.key) if one.key and page.sight.may_name_rows(one.table) else None


def _changes(page: Page, change: RowChange, column: str, old: Any, new: Any) -> list[Change]:
    label = page.settings.column(change.table, column)
    return list(changes_of(column, label, old, new, page.words))


def _conflict(page: Page, conflict: Conflict) -> dict[str, Any]:
    columns = conflict.columns or tuple(conflict.present or conflict.left or ())
    settings, words = page.settings, page.words
    return {
        "label": page.label(conflict.table),
        "key": _key(page, conflict),
        "address": row_address(page, conflict.table, conflict.key),
        "changes": [
            found
            for column in columns
            for found in changes_of(
                column,
                settings.column(conflict.table, column),
                (conflict.left or {}).get(column),
                (conflict.present or {}).get(column),
                words,
            )
        ],
        "since": tell(page, conflict.since),
    }
