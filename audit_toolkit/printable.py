"""Text that is shown as it is: nothing in it colours a screen, turns the reading direction or hides."""

from __future__ import annotations

import json


def visible(text: str, keep: str = "") -> str:
    r"""The text with what cannot be seen as escapes, those of JSON: `\n`, `\u001b`, `\u202e`; but `keep` as it is."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else json.dumps(c)[1:-1] for c in text)
