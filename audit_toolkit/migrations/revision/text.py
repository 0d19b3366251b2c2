"""The Python of a revision: a header in words, a record, SQL as a DBA reads it, and little else.

All goes to module level through the template's `${imports}`, so that SQL stands flush left;
`upgrade` and `downgrade` only name what they run. It is formatted as Black and Ruff would do it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from audit_toolkit.migrations.revision.record import RECORD_NAME, Record
from audit_toolkit.migrations.revision.rule_text import flags
from audit_toolkit.names import comment_text
from audit_toolkit.plan import DEFAULT_LOCK_TIMEOUT, Step
from audit_toolkit.templates import render_statements

WIDTH = 88
"""Black's line length: what Python we write fits in it; SQL and names may not."""

# What a raw string cannot say, and what nobody would see that it says.
_NOT_RAW = re.compile(
    '"""|[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """SQL that belongs together: one constant of the revision."""

    name: str
    steps: tuple[Step, ...]
    own: Mapping[str, str] = field(default_factory=dict)
    """What of it may differ between tables that are captured alike, beside their names."""

    @property
    def statements(self) -> tuple[str, ...]:
        """All its SQL, in order."""
        return tuple(statement for step in self.steps for statement in step.statements)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """SQL that several tables share, both ways, with places for what is their own."""

    number: int
    up: Script
    down: Script
    members: tuple[tuple[Script, Script], ...]
    """What it stands for, of each table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What a revision is to do, both ways."""

    message: str
    summary: tuple[str, ...]
    """What it does, in words: the paragraphs of its header."""
    record: Record
    upgrade: tuple[Script, ...]
    downgrade: tuple[Script, ...]
    texts: tuple[Text, ...] = ()
    """What stands for scripts of tables that are captured alike."""

    @property
    def constants(self) -> tuple[Script, ...]:
        """The SQL as the file has it."""
        shared = {s.name for text in self.texts for pair in text.members for s in pair}
        return (
            *(script for text in self.texts for script in (text.up, text.down)),
            *(s for s in (*self.upgrade, *self.downgrade) if s.name not in shared),
        )

    def named_for(self, database: str) -> Revision:
        """The same with constants of its own, for a file that has those of other databases, too."""
        if not database:
            return self

        def named(script: Script) -> Script:
            return replace(script, name=f"{script.name}__{database.upper()}")

        return replace(
            self,
            upgrade=tuple(map(named, self.upgrade)),
            downgrade=tuple(map(named, self.downgrade)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What the template of a project prints, in the places that it has for it."""

    imports: str
    upgrades: str
    downgrades: str


def render(revision: Revision) -> Body:
    """The text of a revision; the same for the same revision."""
    record = revision.record
    keeps_events = record.interval is not None
    constants = [
        render_constants(revision),
        *([_trail_is_there(record.schema)] if keeps_events else []),
    ]
    functions = [
        *([EACH] if revision.texts else []),
        _RUN_SQL,
        *([_SAY_IF_KEPT] if keeps_events else []),
    ]
    module = "\n\n\n".join(["\n\n".join(constants), *functions])
    return Body(
        imports=("import logging\n" if keeps_events else "") + f"\n{module}\n",
        upgrades=_call(script_names(revision, revision.upgrade)),
        downgrades=_call(script_names(revision, revision.downgrade))
        + ("\n    say_if_kept()" if keeps_events else ""),
    )


def render_constants(revision: Revision) -> str:
    """The header of a revision, its record, and its SQL: what is the same for Alembic and Django."""
    scripts = (*revision.constants, *_lock_timeout())
    record = _record_literal(revision.record)
    return "\n\n".join(
        [
            _header(revision),
            f"# For the next `audit install`.\n{RECORD_NAME} = {record}",
            *map(_constant, scripts),
        ]
    )


def _header(revision: Revision) -> str:
    record = revision.record
    # With many tables, the record already has one line for each.
    listed = record.captures if len(record.captures) <= LISTED_TWICE else ()
    facts = [(f"{c.table}", flags(c.rule) or "none", c.hash) for c in listed]
    paragraphs = [
        f"Written by audit-toolkit {record.toolkit}, which is not needed to run it.",
        *revision.summary,
        "The SQL is frozen: later changes are written as new revisions.",
    ]
    return "\n#\n".join([*map(_comment, paragraphs), *(_facts(*fact) for fact in facts)])


LISTED_TWICE = 3
"""Up to how many tables the header lists them, beside the record."""


def _record_literal(record: Record) -> str:
    """The record, as Black would have it; of many tables, with one line for each."""
    values = record.as_dict()
    if len(record.captures) <= LISTED_TWICE:
        return literal(values)
    captures = values.pop("captures")
    lines = "".join(f"        {literal(each, room=10_000)},\n" for each in captures)
    head = "".join(
        f"    {literal(key)}: {literal(item, indent=4)},\n" for key, item in values.items()
    )
    return f'{{\n{head}    "captures": [\n{lines}    ],\n}}'


def _facts(table: str, options: str, digest: str) -> str:
    lines = (f"table    {table}", f"options  {comment_text(options)}", f"sha256   {digest}")
    return "\n".join(f"#   {line}" for line in lines)


def _comment(text: str, indent: str = "") -> str:
    lines = textwrap.wrap(
        comment_text(text), WIDTH - len(indent) - 2, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(f"{indent}# {line}" for line in lines)


def _constant(script: Script) -> str:
    lines = [f"{script.name} = ("]
    for step in script.steps:
        lines.append(_comment(f"{step.why}.", indent="    "))
        lines += [f"    {sql_literal(statement)}," for statement in step.statements]
    return "\n".join([*lines, ")"])


def sql_literal(sql: str) -> str:
    """A Python literal for one statement: a plain string for a line, else raw and flush left.

    Only what a raw string cannot hold, or would hide, makes it an ordinary one with escapes.
    """
    if not (_NOT_RAW.search(sql) or set(sql) & {"\n", "\\"}):
        if '"' not in sql:
            return f'"{sql}"'
        if "'" not in sql:
            return f"'{sql}'"
    if _NOT_RAW.search(sql):
        return '"""\n' + _NOT_RAW.sub(_escape, sql.replace("\\", "\\\\")) + '\n"""'
    return f'r"""\n{sql}\n"""'


def _escape(found: re.Match[str]) -> str:
    return "".join('\\"' if char == '"' else f"\\u{ord(char):04x}" for char in found[0])


def literal(value: Any, *, indent: int = 0, room: int = 0) -> str:
    """A Python literal for a JSON value: on one line where `room` allows, else an item a line."""
    match value:
        case dict():
            items = [(f"{literal(key)}: ", item) for key, item in value.items()]
            opening, closing = "{", "}"
        case list():
            items = [("", item) for item in value]
            opening, closing = "[", "]"
        case str() if '"' not in value:
            return f'"{repr(value)[1:-1]}"'
        case _:
            return repr(value)
    line = opening + ", ".join(key + literal(item, room=WIDTH) for key, item in items) + closing
    if len(line) <= room or not items:
        return line
    inner = indent + 4
    lines = [
        f"{' ' * inner}{key}{literal(item, indent=inner, room=WIDTH - inner - len(key) - 1)},"
        for key, item in items
    ]
    return "\n".join([opening, *lines, " " * indent + closing])


def script_names(revision: Revision, scripts: Sequence[Script]) -> list[str]:
    """What to run, as Python has it: each table of a text where the first of them is."""
    each = {
        script.name: f"*each({text.number}, {own.name})"
        for text in revision.texts
        for pair in text.members
        for script, own in zip(pair, (text.up, text.down), strict=True)
    }
    return list(dict.fromkeys(each.get(script.name, script.name) for script in scripts))


def _call(names: Sequence[str]) -> str:
    line = f"run_sql({', '.join(names)})"
    if len(line) + 4 <= WIDTH:
        return line
    return "\n".join(["run_sql(", *(f"        {name}," for name in names), "    )"])


def _lock_timeout() -> tuple[Script, Script]:
    return (
        _script(
            "LOCK_TIMEOUT",
            f"Waits at most {DEFAULT_LOCK_TIMEOUT} for a lock, so that writes do not queue up "
            "behind it; a lock_timeout that is already set is kept",
            render_statements("migrations/lock_timeout", timeout=DEFAULT_LOCK_TIMEOUT),
        ),
        _script(
            "LOCK_TIMEOUT_BEFORE",
            "What follows this revision waits as long as it would without it",
            render_statements("migrations/lock_timeout_before"),
        ),
    )


def _script(name: str, why: str, statements: Iterable[str]) -> Script:
    return Script(name=name, steps=(Step(why=why, statements=tuple(statements)),))


EACH = '''\
def each(number: int, text: tuple[str, ...]) -> list[tuple[str, ...]]:
    """A text that tables share, for each of them: what is its own takes the places @…@."""
    filled = []
    for row in AUDIT_RECORD["captures"]:
        if row.get("text") == number:
            schema, name = row["table"]
            own = {
                "hash": row["hash"],
                "function": f"capture_{schema}__{name}",
                "table": f"{schema}.{name}",
                **row.get("own", {}),
                "schema": schema,
                "name": name,
            }
            script = text
            for place, value in own.items():
                script = tuple(sql.replace(f"@{place}@", value) for sql in script)
            filled.append(script)
    return filled
'''.rstrip()
"""What a revision needs for texts that tables share."""

_RUN_SQL = '''\
def run_sql(*scripts: tuple[str, ...]) -> None:
    """Run the statements above one by one, exactly as they are written."""
    context = op.get_context()
    for script in (LOCK_TIMEOUT, *scripts, LOCK_TIMEOUT_BEFORE):
        for statement in script:
            if context.as_sql:
                context.impl.static_output(statement.strip() + ";")
            else:
                op.execute(sa.text(statement.replace(":", r"\\:")))
'''.rstrip()

_SAY_IF_KEPT = '''\
def say_if_kept() -> None:
    """Tell whoever downgrades that events are kept: only an empty trail is dropped."""
    if op.get_context().as_sql:
        return
    if op.get_bind().scalar(sa.text(TRAIL_IS_THERE.replace(":", r"\\:"))):
        logging.getLogger("alembic.runtime.migration").warning(
            "audit: the trail is in use or has events, and was kept; "
            "upgrading again adopts it"
        )
'''.rstrip()


def _trail_is_there(schema: str) -> str:
    (query,) = render_statements("migrations/trail_is_there", schema=schema)
    return f"TRAIL_IS_THERE = {sql_literal(query)}"
