"""What a rule means: in words, and as the options that say it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from audit_toolkit.config import Capture, OnOversize, Store, TableRule, Truncate
from audit_toolkit.names import QualifiedName, quote_identifier


def flags(rule: TableRule) -> str:
    """The options of `audit install` that say this rule; empty for the defaults."""
    return shlex.join(rule.as_options())


def trail_name(schema: str) -> str:
    """The table of the trail, as SQL."""
    return f"{quote_identifier(schema)}.logged_actions"


def meaning(rule: TableRule, schema: str) -> str:
    """What becomes of the changes of a table, in sentences; the first goes on after a colon."""
    kinds = "insert, update, delete and truncate"
    if rule.truncate is Truncate.FORBID:
        kinds = "insert, update and delete"
    first = f"every {kinds} becomes a row of {trail_name(schema)}."
    return " ".join([first, *(sentence for said, sentence in _sentences(rule) if said)])


def _sentences(rule: TableRule) -> Iterator[tuple[object, str]]:
    masked = [mask.column for mask in rule.mask]
    yield rule.when, f"Only if {' '.join((rule.when or '').split())}."
    yield rule.exclude, f"Not recorded: {_columns(rule.exclude)}."
    yield rule.only, f"Only these columns and the primary key are recorded: {_columns(rule.only)}."
    yield masked, f"Masked: {_columns(masked)}."
    yield (
        rule.store is Store.DELTA,
        "After an update, old_row and new_row hold only the changed columns.",
    )
    yield rule.store is Store.CHANGES, "After an update, new_row holds only the changed columns."
    yield rule.capture is Capture.STATEMENT, "The rows of a statement are recorded together."
    yield (
        rule.capture is Capture.WAL,
        "A worker reads it from the WAL (audit capture run); triggers record it until it does.",
    )
    yield rule.truncate is Truncate.FORBID, "TRUNCATE is refused."
    yield rule.truncate is Truncate.ROWS, "TRUNCATE records each row as deleted."
    yield rule.on_oversize is OnOversize.MARK, "Huge values are recorded by size and hash."
    yield rule.log_unchanged, "Updates that change nothing are recorded, too."
    yield (
        rule.require_context,
        f"A change without {rule.require_context!r} in its context is refused.",
    )
    yield rule.capture_query, "The text of each statement is recorded."
    yield rule.touch, f"Not restored by an undo: {_columns(rule.touch)}."


def hidden_columns(rule: TableRule, columns: Sequence[str]) -> set[str]:
    """The columns whose values the rule keeps out of the trail, as SQL writes them."""
    hidden = {*rule.exclude, *(mask.column for mask in rule.mask)}
    hidden |= {name for name in columns if rule.only and name not in rule.only}
    return {quote_identifier(name) for name in hidden}


def _columns(names: Iterable[str]) -> str:
    return ", ".join(quote_identifier(name) for name in names)


def short(table: QualifiedName) -> str:
    """A table as people type it: without the schema `public`."""
    return quote_identifier(table.name) if table.schema == "public" else table.sql


def listed(tables: Sequence[QualifiedName], *, at_most: int = 3) -> str:
    """Tables in a message, not too many."""
    names = [short(table) for table in tables]
    if len(names) <= at_most:
        return ", ".join(names)
    return f"{', '.join(names[: at_most - 1])} and {len(names) - at_most + 1} more tables"
