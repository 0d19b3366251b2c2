"""How values and changes of rows are written in text: harmless, and each like no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from audit_toolkit import exact_json
from audit_toolkit.exact_json import Json
from audit_toolkit.printable import visible as visible
from audit_toolkit.trail import json_diff
from audit_toolkit.trail.event import redaction_of

MOST_INSIDE = 20
"""So many differences inside one value are shown."""


def show_value(value: Json) -> str:
    """A value of a row in one line: NULL, redacted (event N), text as it is, all else as JSON.

    Text is in double quotes where it could be taken for something else (nothing, `null`, a number,
    JSON) or holds characters that had to be escaped.
    """
    if value is None:
        return "NULL"
    if (redaction := redaction_of(value)) is not None:
        return f"redacted (event {redaction})"
    if isinstance(value, str) and not _is_ambiguous(value):
        return value
    return visible(exact_json.dumps(value))


def show_values(old: Json, new: Json) -> tuple[str, str]:
    """Two values to be compared: of two texts, both are in quotes if one has to be."""
    texts = isinstance(old, str) and isinstance(new, str)
    if texts and (_is_ambiguous(old) or _is_ambiguous(new)):
        return visible(exact_json.dumps(old)), visible(exact_json.dumps(new))
    return show_value(old), show_value(new)


def _is_ambiguous(text: str) -> bool:
    if not text.isprintable() or text != text.strip() or " → " in text:
        return True
    if text[:1] in ("", '"', "[", "{") or text.lower() in ("null", "true", "false"):
        return True
    try:
        exact_json.loads(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line about a change: what changed, from what to what. None on a side: there was nothing."""

    label: str
    old: str | None
    new: str | None

    @property
    def one_side(self) -> tuple[str, str, str]:
        """The sign, the text and the style of what was added or removed."""
        if self.new is not None:
            return "+ ", self.new, "green"
        return ("- ", self.old, "red") if self.old is not None else ("", "", "dim")


def describe_change(name: str, old: Json, new: Json) -> Iterator[Change]:
    """The change of a column: of objects and arrays only what differs inside, with its path."""
    redacted = redaction_of(old) is not None or redaction_of(new) is not None
    if redacted or not json_diff.differ_inside(old, new):
        before, after = show_values(old, new)
        yield Change(label=name, old=before, new=after)
        return
    found = json_diff.differences(old, new)
    for each in islice(found, MOST_INSIDE):
        yield Change(
            label=name + visible(json_diff.show_path(each.path)),
            old=_show_inside(each.old),
            new=_show_inside(each.new),
        )
    if more := sum(1 for _ in found):
        yield Change(label=f"{name}: {more} more inside", old=None, new=None)


def _show_inside(value: Json) -> str | None:
    return None if value is json_diff.ABSENT else visible(exact_json.dumps(value))
