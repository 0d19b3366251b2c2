"""One request: what it asks for, what its viewer sees, and the page that answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from audit_toolkit import trail
from audit_toolkit.errors import AuditError, BusyError, ConnectError
from audit_toolkit.names import QualifiedName
from audit_toolkit.trail import KnownTable
from audit_toolkit.trail.event import BIGGEST
from audit_toolkit.web.database import Asking
from audit_toolkit.web.errors import AskedError, NotFoundError, RefusedError
from audit_toolkit.web.language import Words, choose_language
from audit_toolkit.web.rendering import address, render
from audit_toolkit.web.settings import Settings
from audit_toolkit.web.site import Site
from audit_toolkit.web.values import visible
from audit_toolkit.web.viewer import Sight, Viewer

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a view answers."""

    site: Site
    request: Request
    posted: Mapping[str, str]
    asking: Asking
    connection: Connection = field(repr=False)
    sight: Sight
    words: Words
    base: str
    """The path in front of all addresses."""

    @classmethod
    def open(
        cls,
        site: Site,
        request: Request,
        viewer: Viewer,
        posted: Mapping[str, str],
        asking: Asking,
        connection: Connection,
    ) -> Page:
        """The page for a request. Reads which tables there are."""
        known = trail.known_tables(connection, schema=site.schema)
        return cls(
            site=site,
            request=request,
            posted=posted,
            asking=asking,
            connection=connection,
            sight=Sight(viewer, known, site.schema),
            words=words_of(site, request),
            base=base_of(site, request),
        )

    @property
    def settings(self) -> Settings:
        """How things are called."""
        return self.site.settings

    @property
    def viewer(self) -> Viewer:
        """Who looks."""
        return self.sight.viewer

    @property
    def may_undo(self) -> bool:
        """Whether this viewer may take changes back here."""
        return bool(self.site.undoing) and self.viewer.may_undo and bool(self.viewer.actor)

    @property
    def path(self) -> str:
        """The path of this page below `base`."""
        path: str = self.request.scope["path"]
        return path.removeprefix(self.request.scope.get("root_path", ""))

    def address(self, path: str, **query: object) -> str:
        """The address of another page."""
        return address(self.base, path, **query)

    def here(self, **changed: object) -> str:
        """The address of this page with another query."""
        query: dict[str, object] = {
            name: self.request.query_params.getlist(name) for name in self.request.query_params
        }
        return self.address(self.path, **(query | changed))

    def asked(self, name: str) -> str | None:
        """A part of the query, None where it is missing or empty."""
        return _storable(self.request.query_params.get(name, ""), self.words) or None

    def number(self, name: str) -> int | None:
        """A part of the query that is the number of an event or a transaction."""
        text = self.asked(name)
        return None if text is None else self.as_number(text.strip())

    def as_number(self, text: str) -> int:
        """A text that is such a number. Raises `AskedError`."""
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= BIGGEST):
            raise AskedError(
                self.words.gettext("%(text)s is not the number of an event or a transaction")
                % {"text": repr(text[:40])}
            )
        return int(text)

    def moment(self, name: str) -> datetime | None:
        """A part of the query that is a time."""
        text = self.asked(name)
        return None if text is None else self.words.parse(text, name)

    def table(self) -> KnownTable:
        """The table of the query. Raises `NotFoundError` for one that is not there for the viewer."""
        found = self.sight.find(self.asked("table") or "")
        if found is None:
            raise NotFoundError(
                self.words.gettext("There is no such table here."),
                hint=self.words.gettext("It may have another name, or not be audited."),
            )
        return found

    def label(self, table: QualifiedName) -> str:
        """What a row of a table is called."""
        own = self.settings.table(table).label
        if own:
            return own
        name = table.name if table.schema == "public" else f"{table.schema}.{table.name}"
        return visible(name)

    def column_label(self, table: QualifiedName, column: str) -> str:
        """What a column is called."""
        return self.settings.column(table, column).label or visible(column)

    def render(self, template: str, **values: Any) -> Response:
        """The page of a template."""
        text = render(template, self.words, page=self, **values)
        return HTMLResponse(text)

    def redirect(self, path: str, **query: object) -> Response:
        """The answer that leads to another page."""
        return RedirectResponse(self.address(path, **query), status_code=303)


def plain_page(
    site: Site, request: Request, viewer: Viewer, error: AuditError, status: int
) -> Response:
    """The page of an error, which needs no database."""
    words = words_of(site, request)
    shown = Plain(
        site=site,
        request=request,
        sight=Sight(viewer, (), site.schema),
        words=words,
        base=base_of(site, request),
    )
    # Messages of the toolkit and of the server may name what the viewer may not see.
    ours = (NotFoundError, AskedError, RefusedError, BusyError, ConnectError)
    told = viewer.sees_everything or isinstance(error, ours)
    text = render(
        "error.html",
        words,
        page=shown,
        title=words.gettext("Not found") if status == 404 else words.gettext("Sorry"),
        message=error.message if told else words.gettext("That cannot be shown."),
        hint=error.hint if told else None,
    )
    headers = {"Retry-After": "5"} if status == 503 else None
    return HTMLResponse(text, status_code=status, headers=headers)


View: TypeAlias = Callable[[Page], Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """As much of a page as there is without a database."""

    site: Site
    request: Request
    sight: Sight
    words: Words
    base: str

    @property
    def settings(self) -> Settings:
        """How things are called."""
        return self.site.settings

    def address(self, path: str, **query: object) -> str:
        """The address of another page."""
        return address(self.base, path, **query)

    def asked(self, name: str) -> str | None:  # noqa: ARG002
        """Nothing: what was asked is what failed."""
        return None


def words_of(site: Site, request: Request) -> Words:
    """The language of the team, else that of the browser."""
    language = site.settings.language or choose_language(request.headers.get("accept-language", ""))
    return Words(language, site.settings.zone)


def base_of(site: Site, request: Request) -> str:
    """The path in front of all addresses: where it is mounted, below what a proxy takes off."""
    return site.base_path + str(request.scope.get("root_path", ""))


def _storable(text: str, words: Words) -> str:
    if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise AskedError(words.gettext("That has characters that no text in the database has."))
    return text[:2000]
