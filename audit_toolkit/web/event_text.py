"""Events as people read them: who did what to which row, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from audit_toolkit import exact_json
from audit_toolkit.exact_json import Json
from audit_toolkit.names import QualifiedName
from audit_toolkit.trail import Action, Event, table_of
from audit_toolkit.web.values import BRIEF, SHORT, Change, changes_of, show, visible
from audit_toolkit.web.viewer import Seen

if TYPE_CHECKING:
    from audit_toolkit.web.page import Page

MOST_IN_SENTENCE = 3
"""So many changed columns are told in the sentence itself."""
_MANY = 60
"""Changes of one event that a list shows."""
_KINDS = {
    Action.INSERT: "created",
    Action.UPDATE: "changed",
    Action.DELETE: "deleted",
    Action.TRUNCATE: "deleted",
    Action.SNAPSHOT: "recorded",
}
_WITH_REASON = (Action.GAP, Action.BOUNDARY, Action.REDACTION)
"""What has its reason in the event itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event, told."""

    event: Event
    seen: Seen
    kind: str
    """`created`, `changed`, `deleted`, `recorded` or `noted`: the class of its mark."""
    table: QualifiedName
    label: str
    """What a row of its table is called."""
    key: str | None
    row_address: str | None
    link: str | None
    """The row in the application."""
    who: str
    reason: str | None
    request: str | None
    claims: tuple[tuple[str, str], ...]
    """What else the application said."""
    changes: tuple[Change, ...]
    more: int
    """How many changed columns are left out of these."""
    in_sentence: bool
    """Whether the sentence tells all changes."""
    notes: tuple[str, ...] = ()
    """What DDL did, or why capture was off."""

    @property
    def at(self) -> datetime:
        """When it was."""
        return self.event.action_tstamp

    @property
    def names(self) -> list[str]:
        """The labels of the changed columns, each once."""
        return list(dict.fromkeys(change.label for change in self.changes))


def tell(page: Page, events: Iterable[Event], *, most: int = SHORT) -> list[Entry]:
    """The events that the viewer sees, told."""
    seen = (page.sight.see(event) for event in events)
    return [_entry(page, one, most) for one in seen if one is not None]


def by_day(page: Page, entries: Iterable[Entry]) -> list[tuple[str, list[Entry]]]:
    """Entries under the days on which they were."""
    days = groupby(entries, key=lambda entry: page.words.local(entry.at).date())
    return [(page.words.day(day), list(group)) for day, group in days]


def row_address(page: Page, table: QualifiedName, key: str | None) -> str | None:
    """The address of a row's timeline."""
    if key is None or not page.sight.may_name_rows(table) or table not in page.sight.tables:
        return None
    return page.address("/row", table=str(table), key=key)


def application_link(page: Page, table: QualifiedName, key: str | None) -> str | None:
    """The address of a row in the application."""
    link = page.settings.table(table).link
    if link is None or key is None or not page.sight.may_name_rows(table):
        return None
    return link.replace("{key}", quote(key, safe=""))


def plain(value: Json) -> str:
    """A claim as text."""
    return value if isinstance(value, str) else exact_json.dumps(value)


def claims_of(event: Event) -> Mapping[str, Json]:
    """What the application said."""
    return event.context if isinstance(event.context, dict) else {}


def _entry(page: Page, seen: Seen, most: int) -> Entry:
    event = seen.event
    table = table_of(event)
    claims = claims_of(event)
    key = event.row_key if seen.has_key else None
    columns = page.sight.in_order(table, seen.changed)[:_MANY]
    is_update = event.action is Action.UPDATE
    changes = tuple(
        change
        for column in columns
        for old, new in (seen.changed[column],)
        if is_update or (old if new is None else new) is not None
        for change in _changes(page, event, column, old, new, most)
    )
    said = event.new_row if event.action in _WITH_REASON else claims
    reason = (said or {}).get("reason")
    return Entry(
        event=event,
        seen=seen,
        kind=_KINDS.get(event.action, "noted"),
        table=table,
        label=page.label(table),
        key=None if event.row_key is None else visible(event.row_key),
        row_address=row_address(page, table, key),
        link=application_link(page, table, key),
        who=visible(event.actor)[:200],
        reason=None if reason is None else visible(plain(reason))[:2000],
        request=plain(claims["request_id"]) if claims.get("request_id") else None,
        claims=tuple(
            (visible(name)[:100], visible(plain(value))[:500])
            for name, value in list(claims.items())[:30]
            if name not in ("actor", "reason", "request_id")
        ),
        changes=changes,
        more=max(len(seen.changed) - _MANY, 0),
        in_sentence=is_update and 0 < len(changes) <= MOST_IN_SENTENCE and _is_brief(changes),
        notes=tuple(_notes(page, event)),
    )


def _changes(
    page: Page, event: Event, column: str, old: Json, new: Json, most: int
) -> Iterator[Change]:
    label = page.settings.column(table_of(event), column)
    if event.action is Action.UPDATE:
        yield from changes_of(column, label, old, new, page.words, most)
        return
    name = label.label or visible(column)
    before, after = (
        None if value is None else show(value, label, page.words, most) for value in (old, new)
    )
    yield Change(column=column, label=name, path="", old=before, new=after)


def _is_brief(changes: Iterable[Change]) -> bool:
    return all(
        side is None or (side.length is None and len(side.text) <= BRIEF and "\n" not in side.text)
        for change in changes
        for side in (change.old, change.new)
    )


def _notes(page: Page, event: Event) -> Iterator[str]:
    """What DDL did to a table, line by line."""
    said: Mapping[str, Any] = event.new_row or {}
    if event.action is not Action.DDL:
        return
    _ = page.words.gettext
    match said:
        case {"change": "renamed", "from": [schema, table]}:
            yield _("renamed, formerly %(name)s") % {"name": visible(f"{schema}.{table}")}
        case {"change": "dropped"}:
            yield _("the table was dropped, with all its rows")
        case {"change": "created"}:
            yield _("made anew: what came before under this name is of another table")
        case {"change": "partition", "partition": str(partition)}:
            yield _("partition %(name)s of the trail was dropped") % {"name": visible(partition)}
    yield from _columns(page, said)
    for name in said.get("attached", ()):
        text = _("partition %(name)s attached: its rows came without events")
        yield text % {"name": visible(str(name))}
    for name in said.get("detached", ()):
        text = _("partition %(name)s detached: its rows went without events")
        yield text % {"name": visible(str(name))}


def _columns(page: Page, said: Mapping[str, Any]) -> Iterator[str]:
    """What DDL did to columns."""
    _ = page.words.gettext
    for old, new in _items(said, "renamed"):
        text = _("column %(old)s is called %(new)s now")
        yield text % {"old": visible(old), "new": visible(str(new))}
    for name, _type in _items(said, "added"):
        yield _("column %(name)s added") % {"name": visible(name)}
    for name, _type in _items(said, "dropped"):
        yield _("column %(name)s dropped") % {"name": visible(name)}
    for name, types in _items(said, "retyped"):
        text = _("column %(name)s changed its type from %(old)s to %(new)s")
        yield text % {"name": visible(name), "old": str(types[0]), "new": str(types[1])}


def _items(said: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    found = said.get(key)
    return sorted(found.items()) if isinstance(found, Mapping) else []
