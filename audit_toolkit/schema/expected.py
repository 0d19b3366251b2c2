"""What the schema of a trail holds when it is as this version makes it.

`sql_templates/expected/schema.jsonl` is taken from a fresh installation by a test, which fails where the two
differ: nothing in it is written by hand, and no list says which attacks are known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache

from audit_toolkit.catalog.schema import Fact
from audit_toolkit.templates import template_directory

Shape = tuple[str, str | None, str | None, str]
"""Kind, relation, name, definition."""

_VARIES = frozenset({"owner", "grant"})
"""What a trail has as its people decide."""


def shape_of(facts: Iterable[Fact]) -> list[Shape]:
    """The facts that every trail of a version has in common: all but leaves, owners and grants."""
    return sorted(
        (fact.kind, fact.relation, fact.name, fact.definition)
        for fact in facts
        if not fact.is_leaf and fact.kind not in _VARIES
    )


def as_lines(shape: Iterable[Shape]) -> str:
    """The shape as the file has it, one fact a line."""
    return "".join(json.dumps(fact) + "\n" for fact in shape)


@cache
def expected_shape() -> frozenset[Shape]:
    """The shape of a trail that this version made."""
    file = template_directory() / "expected" / "schema.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    return frozenset((*json.loads(line),) for line in lines)
