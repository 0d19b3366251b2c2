"""Values as people read them: short, escaped where they would deceive, and compared inside."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING

from audit_toolkit import exact_json, printable
from audit_toolkit.exact_json import Json
from audit_toolkit.trail import json_diff
from audit_toolkit.trail.event import redaction_of
from audit_toolkit.web.viewer import MASK

if TYPE_CHECKING:
    from audit_toolkit.web.language import Words
    from audit_toolkit.web.settings import ColumnLabel

BRIEF = 80
"""Characters of a value in a sentence."""
SHORT = 160
"""Characters of a value in a list."""
LONG = 4000
"""Characters of a value on the page of its event."""
MOST_INSIDE = 30
"""So many differences inside one value are shown."""
_COMPARED = 3000
_LINE = 32
_TOKEN = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text, and whether the other side lacks it."""

    text: str
    changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A value as it is shown."""

    text: str
    kind: str
    """`null`, `masked`, `text`, `number`, `flag` or `json`: the class of its style."""
    length: int | None = None
    """How many characters the whole has, where it was cut."""
    pieces: tuple[Piece, ...] = ()
    """The text in parts, where it is compared word by word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A column, or a place inside of one, from what to what; None: nothing was there."""

    column: str
    label: str
    path: str
    old: Shown | None
    new: Shown | None


def visible(text: str) -> str:
    """The text as the page shows it: as a command would, in lines."""
    return printable.visible(text, keep="\n")


def show(value: Json, label: ColumnLabel, words: Words, most: int = SHORT) -> Shown:
    """A value of a column."""
    if value == MASK:
        return Shown(text=MASK, kind="masked")
    if (redaction := redaction_of(value)) is not None:
        text = words.gettext("redacted (event %(number)s)") % {"number": redaction}
        return Shown(text=text, kind="masked")
    text, kind = _text_of(value, label, words)
    text = visible(text)
    if len(text) > most:
        return Shown(text=text[:most], kind=kind, length=len(text))
    return Shown(text=text, kind=kind)


def changes_of(
    column: str, label: ColumnLabel, old: Json, new: Json, words: Words, most: int = SHORT
) -> Iterator[Change]:
    """The change of a column: of objects and arrays only what differs inside, with its path."""
    name = label.label or visible(column)
    redacted = redaction_of(old) is not None or redaction_of(new) is not None
    if redacted or not json_diff.differ_inside(old, new):
        before, after = show(old, label, words, most), show(new, label, words, most)
        if isinstance(old, str) and isinstance(new, str) and most > SHORT:
            before, after = compared(before, after)
        yield Change(column=column, label=name, path="", old=before, new=after)
        return
    found = json_diff.differences(old, new)
    for each in islice(found, MOST_INSIDE):
        yield Change(
            column=column,
            label=name,
            path=visible(json_diff.show_path(each.path)),
            old=_inside(each.old, most),
            new=_inside(each.new, most),
        )
    if more := sum(1 for _ in found):
        text = words.ngettext("%(num)s more change inside", "%(num)s more changes inside", more)
        yield Change(column=column, label=name, path=f": {text}", old=None, new=None)


def indented(value: Json, most: int) -> Shown:
    """An object or an array, line by line."""
    text = visible("\n".join(_lines(value, "")))
    return Shown(text=text[:most], kind="json", length=len(text) if len(text) > most else None)


def compared(old: Shown, new: Shown) -> tuple[Shown, Shown]:
    """Two texts word by word, where that says more than both whole."""
    if max(len(old.text), len(new.text)) > _COMPARED or min(len(old.text), len(new.text)) < 12:
        return old, new
    before, after = _TOKEN.findall(old.text), _TOKEN.findall(new.text)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    if matcher.ratio() < 0.4:
        return old, new
    removed, added = [], []
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        removed.append(Piece("".join(before[i1:i2]), tag != "equal"))
        added.append(Piece("".join(after[j1:j2]), tag != "equal"))
    return (
        Shown(text=old.text, kind=old.kind, length=old.length, pieces=tuple(removed)),
        Shown(text=new.text, kind=new.kind, length=new.length, pieces=tuple(added)),
    )


def _lines(value: Json, margin: str) -> Iterator[str]:
    """JSON as people write it: small things in one line, others with a line for each member."""
    whole = exact_json.dumps(value)
    if len(whole) <= _LINE or not isinstance(value, dict | list) or not value:
        yield margin + whole
        return
    is_object = isinstance(value, dict)
    yield margin + ("{" if is_object else "[")
    items = list(value.items()) if isinstance(value, dict) else [(None, item) for item in value]
    for place, (name, item) in enumerate(items):
        lines = list(_lines(item, margin + "  "))
        if name is not None:
            lines[0] = f"{margin}  {exact_json.dumps(name)}: {lines[0].lstrip(' ')}"
        if place < len(items) - 1:
            lines[-1] += ","
        yield from lines
    yield margin + ("}" if is_object else "]")


def _inside(value: Json, most: int) -> Shown | None:
    if value is json_diff.ABSENT:
        return None
    is_text = isinstance(value, str) and bool(value.strip())
    text = visible(value if is_text else exact_json.dumps(value))
    cut = len(text) > most
    kind = "text" if is_text else "json"
    return Shown(text=text[:most], kind=kind, length=len(text) if cut else None)


def _text_of(value: Json, label: ColumnLabel, words: Words) -> tuple[str, str]:
    if value is None:
        return words.gettext("empty"), "null"
    plain = value if isinstance(value, str) else exact_json.dumps(value)
    if plain in label.values:
        return label.values[plain], "text"
    text, kind = _formatted(value, label, words) or _unformatted(value, plain, words)
    return (f"{text} {label.unit}" if label.unit else text), kind


def _formatted(value: Json, label: ColumnLabel, words: Words) -> tuple[str, str] | None:
    if callable(label.format):
        return str(label.format(value)), "text"
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        if label.format == "number":
            return words.number(value), "number"
        if label.format == "bytes":
            return words.size(int(value)), "number"
    if isinstance(value, str) and label.format == "time":
        try:
            return words.moment(datetime.fromisoformat(value)), "text"
        except ValueError:
            return None
    return None


def _unformatted(value: Json, plain: str, words: Words) -> tuple[str, str]:
    match value:
        case bool():
            return (words.gettext("yes") if value else words.gettext("no")), "flag"
        case int() | Decimal():
            return plain, "number"
        case str():
            return value or words.gettext("(an empty text)"), "text"
    return plain, "json"
