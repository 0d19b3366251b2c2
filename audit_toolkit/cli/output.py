"""What commands print about events: JSON for programs, a timeline for people.

Values come from whoever could write to the database, so nothing is printed that a terminal would
obey or an eye would miss: control characters, turns of the reading direction and invisible
characters are escaped.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TextIO

import typer

from audit_toolkit import exact_json
from audit_toolkit.cli.ddl_text import ddl_lines, ddl_verb
from audit_toolkit.cli.times import show_moment
from audit_toolkit.cli.values import Change, describe_change
from audit_toolkit.cli.values import show_value as show_value
from audit_toolkit.cli.values import show_values as show_values
from audit_toolkit.cli.values import visible as visible
from audit_toolkit.exact_json import Json
from audit_toolkit.trail import Action, Event, table_of
from audit_toolkit.trail.event import UNKNOWN, Row
from audit_toolkit.trail.rows.lookup import Scope, Tables

PIPE_WIDTH = 100
"""Columns of text that goes to a file or to another program."""

_MIN_WIDTH = 40
_MAX_NAME_WIDTH = 30
_MAX_NOTE_LINES = 5
_SHOWN_BEFORE_CHANGE = 12


def print_events_as_json(
    events: Iterable[Event], file: TextIO | None = None, *, missing: Sequence[str] | None = None
) -> int:
    """Print `{"events": [...]}`, one event a line as they come, and what is `missing`; how many there were."""
    file = file or sys.stdout
    as_text = partial(exact_json.dumps, ascii_only=not _is_unicode(file.encoding))
    number = 0
    file.write('{"events": [')
    for number, event in enumerate(events, 1):
        file.write(",\n" if number > 1 else "\n")
        file.write(visible(as_text(event.as_dict())))
    file.write("\n]" if number else "]")
    if missing is not None:
        file.write(f', "not_included": {visible(as_text(list(missing)))}')
    file.write("}\n")
    return number


def print_events_as_lines(events: Iterable[Event], file: TextIO | None = None) -> int:
    """Print one JSON object a line, as the events come; how many there were."""
    file = file or sys.stdout
    as_text = partial(exact_json.dumps, ascii_only=not _is_unicode(file.encoding))
    number = 0
    for event in events:
        file.write(visible(as_text(event.as_dict())) + "\n")
        number += 1
    return number


def print_events_as_csv(
    events: Iterable[Event], file: TextIO | None = None, *, guarded: bool = False
) -> int:
    """Print a line for each event under a line of names, rows and context as JSON; how many events.

    Names and fields are those of the JSON; NULL is an empty field. As everywhere, what a terminal
    would obey is escaped. `guarded` cells are no formulas of a spreadsheet.
    """
    from audit_toolkit.spreadsheet import guard_cell

    writer = csv.writer(file or sys.stdout, lineterminator="\n")
    writer.writerow(Event.field_names())
    number = 0
    for event in events:
        fields = map(_as_field, event.as_dict().values())
        writer.writerow(map(guard_cell, fields) if guarded else fields)
        number += 1
    return number


def _as_field(value: Json) -> str:
    if value is None:
        return ""
    return visible(value if isinstance(value, str) else exact_json.dumps(value))


def print_timeline(
    subject: Scope, events: Iterable[Event], file: TextIO | None = None, *, utc: bool = False
) -> int:
    """Print events for people, as they come; how many there were. None: nothing is printed."""
    timeline = _Timeline(subject, file or sys.stdout, utc=utc)
    number = 0
    former: Event | None = None
    for number, event in enumerate(events, 1):
        timeline.print(event, first=number == 1, former=former)
        former = event
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signs:
    event: str
    bar: str
    arrow: str
    dot: str
    more: str


_UNICODE = _Signs(event="●", bar="│", arrow="→", dot="·", more="…")
_ASCII = _Signs(event="*", bar="|", arrow="->", dot="-", more="...")

_VERBS = {
    Action.INSERT: ("inserted", "green"),
    Action.UPDATE: ("updated", "yellow"),
    Action.DELETE: ("deleted", "red"),
    Action.TRUNCATE: ("truncated", "bold red"),
    Action.SNAPSHOT: ("recorded", "cyan"),
    Action.GAP: ("capture paused or resumed", "bold magenta"),
    Action.DDL: ("changed by DDL", "bold magenta"),
    Action.BOUNDARY: ("continued in another place", "bold magenta"),
    Action.MARK: ("marked", "bold magenta"),
    Action.REDACTION: ("redacted", "bold magenta"),
    Action.EVENT: ("event of the application", "bold blue"),
}

_SETTINGS = ("bold", "dim", "italic")

_Part = tuple[str, str]
"""Text and its style: a colour, one of `_SETTINGS`, or both."""
_Line = list[_Part]


class _Timeline:
    def __init__(self, subject: Scope, file: TextIO, *, utc: bool) -> None:
        self.subject = subject
        self.utc = utc
        self.places = {column: place for place, column in enumerate(subject.columns)}
        self.file = file
        self.encoding = file.encoding or "ascii"
        self.signs = _UNICODE if _is_unicode(self.encoding) else _ASCII
        self.is_terminal = bool(os.environ.get("FORCE_COLOR")) or file.isatty()
        self.is_coloured = self.is_terminal and _wants_colour()
        sized = self.is_terminal or "COLUMNS" in os.environ
        self.width = max(shutil.get_terminal_size().columns, _MIN_WIDTH) if sized else PIPE_WIDTH

    def print(self, event: Event, *, first: bool, former: Event | None) -> None:
        if former is not None and event.puts_back(former):
            event = replace(event, old_row=former.old_row)
        if first:
            self._print([(self._title(), "bold")])
            self._print([])
        else:
            self._print([(self.signs.bar, "dim")])
        for line in self._headline(event):
            self._print(line)
        for note, style in self._notes(event):
            text = self._cut(note, _MAX_NOTE_LINES * self.width)
            for part in textwrap.wrap(text, self.width - 2, break_on_hyphens=False):
                self._print([(f"{self.signs.bar} ", "dim"), (part, style)])
        for values in self._values(event):
            self._print([(f"{self.signs.bar}   ", "dim"), *values])

    def _print(self, line: _Line) -> None:
        parts = ((self._encodable(text), style) for text, style in line)
        shown = (_styled(text, style) if self.is_coloured else text for text, style in parts)
        self.file.write("".join(shown) + "\n")

    def _encodable(self, text: str) -> str:
        return text.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def _title(self) -> str:
        key = self.subject.key
        return visible(str(self.subject.table) + ("" if key is None else f" {key}"))

    def _headline(self, event: Event) -> Iterator[_Line]:
        style = _VERBS[event.action][1]
        line = [
            (f"{self.signs.event} ", style),
            (f"{show_moment(event.action_tstamp, utc=self.utc)}  ", ""),
            (_verb(event), style),
        ]
        if isinstance(self.subject, Tables):
            line.append((f" {visible(str(table_of(event)))}", "bold"))
        elif table_of(event) != self.subject.table:
            line.append((f" as {visible(str(table_of(event)))}", "dim"))
        if event.row_key not in (None, self.subject.key):
            line.append((f" {self._cut(visible(str(event.row_key)), _MAX_NAME_WIDTH)}", ""))
        who = [(" by ", ""), (self._cut(visible(_who(event)), 2 * _MAX_NAME_WIDTH), "bold")]
        if self.is_terminal:
            who.append((f"  {_ago(datetime.now(UTC) - event.action_tstamp)}", "dim"))
        if sum(len(text) for text, _ in line + who) <= self.width:
            yield line + who
        else:
            yield line
            yield [(self.signs.bar, "dim"), *who]

    def _notes(self, event: Event) -> Iterator[_Part]:
        dot = f" {self.signs.dot} "
        if (reason := _reason(event)) is not None:
            yield f"why: {visible(_plain(reason))}", "italic"
        if event.old_row_key is not None:
            old, new = visible(event.old_row_key), visible(str(event.row_key))
            yield f"key: {old} {self.signs.arrow} {new}", "bold"
        yield visible(dot.join(_facts(event))), "dim"
        if claims := list(_further_claims(event)):
            yield f"context: {visible(dot.join(claims))}", "dim"
        if event.query:
            yield f"query: {visible(event.query)}", "dim"

    def _values(self, event: Event) -> Iterator[_Line]:
        match event.action:
            case Action.TRUNCATE:
                yield [("all rows of the table are gone", "red")]
            case Action.UPDATE:
                yield from self._changes(event)
            case Action.INSERT if event.old_row is not None:
                yield from self._changes(replace(event, action=Action.UPDATE))
            case Action.GAP | Action.BOUNDARY:
                pass
            case Action.DDL:
                yield from ([(visible(text), style)] for text, style in ddl_lines(event))
            case Action.EVENT:
                yield from self._row(replace(event, new_row=_payload(event)))
            case _:
                yield from self._row(event)

    def _changes(self, event: Event) -> Iterator[_Line]:
        changed = event.changed
        if not changed:
            yield [("nothing was changed", "dim")]
        names = {column: visible(column) for column in self._in_order(changed)}
        changes = [c for column in names for c in describe_change(names[column], *changed[column])]
        for change, name in zip(changes, self._labels(changes), strict=True):
            yield from self._change(name, change)

    def _labels(self, changes: Iterable[Change]) -> list[str]:
        from rich.cells import cell_len, set_cell_size

        labels = [self._cut_path(change.label) for change in changes]
        width = max(map(cell_len, labels), default=0)
        return [set_cell_size(label, width) + "  " for label in labels]

    def _change(self, name: str, change: Change) -> Iterator[_Line]:
        from rich.cells import cell_len

        arrow = f" {self.signs.arrow} "
        room = self.width - len("|   ") - cell_len(name)
        if change.old is None or change.new is None:
            sign, text, style = change.one_side
            one = [(name, ""), (self._cut(f"{sign}{text}", room), style)]
            yield one if text else [(name.rstrip(), style)]
            return
        old, new = change.old, change.new
        if cell_len(old) + cell_len(new) + len(arrow) <= room:
            yield [(name, ""), (old, "red"), (arrow, "dim"), (new, "green")]
        else:
            old, new = self._focus(old, new, room)
            yield [(name, ""), (f"- {self._cut(old, room - 2)}", "red")]
            yield [(" " * cell_len(name), ""), (f"+ {self._cut(new, room - 2)}", "green")]

    def _row(self, event: Event) -> Iterator[_Line]:
        from rich.cells import cell_len

        row = event.new_row or event.old_row or {}
        names = self._padded(column for column, value in row.items() if value is not None)
        for column, name in names.items():
            room = self.width - len("|   ") - cell_len(name)
            yield [(name, ""), (self._cut(show_value(row[column]), room), _VERBS[event.action][1])]
        if nulls := [visible(column) for column in self._in_order(row) if row[column] is None]:
            yield [(self._cut("NULL in " + ", ".join(nulls), self.width - len("|   ")), "dim")]

    def _padded(self, columns: Iterable[str]) -> dict[str, str]:
        """The columns in the table's order, and how each is printed in front of its value."""
        from rich.cells import cell_len, set_cell_size

        names = {c: self._cut(visible(c), _MAX_NAME_WIDTH) for c in self._in_order(columns)}
        width = max(map(cell_len, names.values()), default=0)
        return {column: set_cell_size(name, width) + "  " for column, name in names.items()}

    def _in_order(self, columns: Iterable[str]) -> list[str]:
        # Columns that the table no longer has come last.
        return sorted(columns, key=lambda column: self.places.get(column, len(self.places)))

    def _focus(self, old: str, new: str, room: int) -> tuple[str, str]:
        """Two long texts without most of what they begin with in common."""
        pairs = enumerate(zip(old, new, strict=False))
        differing = (place for place, (one, other) in pairs if one != other)
        same = next(differing, min(len(old), len(new)))
        start = same - _SHOWN_BEFORE_CHANGE
        if same < room // 2 or start <= 0:
            return old, new
        return self.signs.more + old[start:], self.signs.more + new[start:]

    def _cut_path(self, label: str) -> str:
        """The label, or its end, which tells more than its beginning."""
        if len(label) <= _MAX_NAME_WIDTH:
            return self._cut(label, _MAX_NAME_WIDTH)
        more = self.signs.more
        return self._cut(more + label[len(more) - _MAX_NAME_WIDTH :], 2 * _MAX_NAME_WIDTH)

    def _cut(self, text: str, room: int) -> str:
        """The text, or as much of it as fits together with a note of its length."""
        from rich.cells import cell_len, set_cell_size

        if len(text) <= 4 * room and cell_len(text) <= room:
            return text
        note = f"{self.signs.more} ({len(text)} characters)"
        return set_cell_size(text[: 4 * room], max(room - cell_len(note), 1)).rstrip() + note


def _verb(event: Event) -> str:
    match event:
        case Event(action=Action.SNAPSHOT, new_row=None):
            return "found gone"
        case Event(action=Action.INSERT, old_row=dict()):
            return "inserted again"
        case Event(action=Action.GAP, new_row={"capture": str(capture)}):
            return visible(f"capture {capture}")
        case Event(action=Action.DDL):
            return visible(ddl_verb(event))
        case Event(action=Action.BOUNDARY, new_row={"system_identifier": system, "database": name}):
            return visible(f"continued in database {name} of cluster {system}")
        case Event(action=Action.EVENT, new_row={"name": str(name)}):
            return visible(name)
    return _VERBS[event.action][0]


def _payload(event: Event) -> Row:
    """What the application said of its event, as columns and values."""
    payload = (event.new_row or {}).get("payload")
    if payload is None:
        return {}
    return payload if isinstance(payload, dict) else {"payload": payload}


def _who(event: Event) -> str:
    return _plain(_claims(event).get("actor") or event.session_user_name or UNKNOWN)


def _reason(event: Event) -> Json:
    if event.action in (Action.GAP, Action.BOUNDARY):
        return (event.new_row or {}).get("reason")
    return _claims(event).get("reason")


def _facts(event: Event) -> Iterator[str]:
    """What the server knows of who it was."""
    yield f"event {event.event_id}"
    yield f"transaction {event.transaction_id}"
    if _claims(event).get("actor") and event.session_user_name:
        yield f"login {event.session_user_name}"
    if event.role_name:
        yield f"role {event.role_name}"
    yield from filter(None, (event.application_name, event.client_addr))


def _further_claims(event: Event) -> Iterator[str]:
    for name, value in _claims(event).items():
        if name not in ("actor", "reason"):
            yield f"{name} {_plain(value)}"


def _claims(event: Event) -> dict[str, Json]:
    return event.context if isinstance(event.context, dict) else {}


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else exact_json.dumps(value)


_DAYS = {"year": 365.25, "month": 30.44, "week": 7, "day": 1, "hour": 1 / 24, "minute": 1 / 1440}


def _ago(age: timedelta) -> str:
    for unit, days in _DAYS.items():
        if number := int(age / timedelta(days=days)):
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


def arrow() -> str:
    """What stands between an old and a new value on stdout."""
    return (_UNICODE if _is_unicode(sys.stdout.encoding) else _ASCII).arrow


def _wants_colour() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown")


def _styled(text: str, style: str) -> str:
    """The text between the escape sequences of a style: a colour, how it is set, or both."""
    words = style.split()
    settings = {word: True for word in words if word in _SETTINGS}
    colour = next((word for word in words if word not in _SETTINGS), None)
    return typer.style(text, fg=colour, **settings) if words else text


def _is_unicode(encoding: str | None) -> bool:
    return (encoding or "ascii").lower().replace("-", "").startswith("utf")
