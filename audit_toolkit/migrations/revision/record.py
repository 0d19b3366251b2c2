"""What a revision says of itself, and what all revisions together say that a project has.

A revision of ours holds a dict literal, `AUDIT_RECORD`, and its SQL in tuples of strings, such as
`CAPTURE_PUBLIC__ORDERS`. A later run reads both: to know what is there, and what to put back on the
way down.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from alembic.script import ScriptDirectory

from audit_toolkit.config import Interval, TableRule, TrailSettings
from audit_toolkit.errors import AuditError, ProjectError
from audit_toolkit.migrations.project import no_bytecode, reported
from audit_toolkit.names import NamePattern, QualifiedName, capture_function
from audit_toolkit.version import __version__

RECORD_NAME = "AUDIT_RECORD"
DEFAULT_SCHEMA = TrailSettings().schema


SHARED_VERBS = ("CAPTURE", "RELEASE")
"""What tables may share a text for."""


def constant_name(verb: str, table: QualifiedName) -> str:
    """The name of a tuple of statements in a revision: `CAPTURE_PUBLIC__ORDERS`."""
    return capture_function(table).replace("capture", verb, 1).upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRecord:
    """A table that a revision puts capture on."""

    table: QualifiedName
    rule: TableRule
    hash: str
    triggers: tuple[str, ...]
    function: str
    """Named for what the table was called when it was first captured."""
    optional: bool = False
    """Whether a database need not have the table, as one of a tenant."""
    text: int | None = None
    """Which text of the revision captures it, where several tables share one."""
    own: Mapping[str, str] = field(default_factory=dict)
    """What stands in its places, beside what follows from its name: `key`."""

    def as_dict(self) -> dict[str, Any]:
        """As a literal of the revision."""
        values = {
            "table": [self.table.schema, self.table.name],
            "options": self.rule.as_dict(),
            "hash": self.hash,
            "triggers": list(self.triggers),
            **({"optional": True} if self.optional else {}),
            **({"text": self.text} if self.text else {}),
            **({"own": dict(self.own)} if self.text and self.own else {}),
        }
        if self.function != capture_function(self.table):
            values["function"] = self.function
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The reverse of `as_dict`."""
        table = QualifiedName(*values["table"])
        return cls(
            table=table,
            rule=TableRule.from_dict(values["options"]),
            hash=values["hash"],
            triggers=tuple(values["triggers"]),
            function=values.get("function", capture_function(table)),
            optional=bool(values.get("optional", False)),
            text=values.get("text"),
            own=values.get("own", {}),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one revision does: makes the trail, puts capture on tables, or takes it off."""

    schema: str
    toolkit: str = __version__
    interval: Interval | None = None
    """How long a leaf is, in the revision that makes the trail."""
    owner: str | None = None
    """Who is to own the trail that the revision makes, where somebody said so."""
    captures: tuple[CaptureRecord, ...] = ()
    releases: tuple[QualifiedName, ...] = ()
    released_functions: tuple[str, ...] = ()
    """What captured them, where it was named for what a table was called before."""
    declared: bool = False
    """Whether autogenerate wrote it, from what the project declares."""
    published: tuple[str, ...] = ()
    """Publications of the trail that it creates."""
    unpublished: tuple[str, ...] = ()
    """Publications of the trail that it drops."""

    def as_dict(self) -> dict[str, Any]:
        """As a literal of the revision."""
        values: dict[str, Any] = {"toolkit": self.toolkit, "schema": self.schema}
        if self.interval:
            values["trail"] = {"interval": self.interval.value}
            if self.owner:
                values["trail"]["owner"] = self.owner
        if self.captures:
            values["captures"] = [capture.as_dict() for capture in self.captures]
        if self.releases:
            values["releases"] = [[table.schema, table.name] for table in self.releases]
        if self.released_functions:
            values["released_functions"] = list(self.released_functions)
        if self.declared:
            values["declared"] = True
        if self.published:
            values["published"] = list(self.published)
        if self.unpublished:
            values["unpublished"] = list(self.unpublished)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The reverse of `as_dict`."""
        trail = values.get("trail")
        return cls(
            schema=values["schema"],
            toolkit=values["toolkit"],
            interval=Interval(trail["interval"]) if trail else None,
            owner=trail.get("owner") if trail else None,
            captures=tuple(
                CaptureRecord.from_dict(capture) for capture in values.get("captures", ())
            ),
            releases=tuple(QualifiedName(*table) for table in values.get("releases", ())),
            released_functions=tuple(values.get("released_functions", ())),
            declared=bool(values.get("declared", False)),
            published=tuple(values.get("published", ())),
            unpublished=tuple(values.get("unpublished", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Capture of a table as the project has it."""

    capture: CaptureRecord
    revision: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedState:
    """What the revisions up to one head add up to."""

    schema: str = DEFAULT_SCHEMA
    interval: Interval | None = None
    """None while no revision makes the trail."""
    owner: str | None = None
    """Who owns the trail that they make, where somebody said so."""
    captures: Mapping[QualifiedName, Recorded | None] = field(default_factory=dict)
    """Every table that was ever captured; None for those that were released again."""
    publications: Mapping[str, str | None] = field(default_factory=dict)
    """Every publication of the trail that there was, with the revision that has it; None for those that ended."""
    conflicts: Mapping[QualifiedName, tuple[str, ...]] = field(default_factory=dict)
    """Tables that branches capture differently, merged since: the last to run won, in each database anew."""

    def find(self, pattern: NamePattern) -> QualifiedName | None:
        """The one table among them that is meant; None if there is none, or more than one."""
        for fold in (False, True):
            found = [table for table in self.captures if pattern.matches(table, fold=fold)]
            if len(found) == 1:
                return found[0]
        return None


def recorded_state(
    scripts: ScriptDirectory, head: str | tuple[str, ...] | None, schema: str | None = None
) -> RecordedState:
    """What the revisions from `head` (or several) down say of the trail in `schema`.

    Without `schema`, of the trail that the newest record is about.
    Raises `ProjectError` when a record was edited so that it cannot be read.
    """
    if head is None:
        return state_of((), schema)
    modules = list(_modules(scripts, head))
    state = state_of(modules, schema)
    return replace(state, conflicts=_conflicts(scripts, modules, state.schema))


def conflicts_of_branches(
    scripts: ScriptDirectory, schema: str
) -> dict[QualifiedName, tuple[str, ...]]:
    """The tables on which branches disagree at the heads, each with what they say.

    Raises `ProjectError` when a record was edited so that it cannot be read.
    """
    return _conflicts(scripts, _modules(scripts, "heads"), schema)


def _conflicts(
    scripts: ScriptDirectory, modules: Iterable[tuple[str, ModuleType]], schema: str
) -> dict[QualifiedName, tuple[str, ...]]:
    """The tables whose newest records are on branches that know nothing of each other, and differ."""
    says: dict[QualifiedName, dict[str, str]] = {}
    for revision, module in modules:
        record = _read(getattr(module, RECORD_NAME), revision)
        if record.schema == schema:
            for table in record.releases:
                says.setdefault(table, {})[revision] = "no capture"
            for capture in record.captures:
                options = shlex.join(capture.rule.as_options()) or "no options"
                says.setdefault(capture.table, {})[revision] = options
    several = {table: said for table, said in says.items() if len(set(said.values())) > 1}
    if not several:
        return {}
    below = {
        revision: {s.revision for s in scripts.iterate_revisions(revision, "base")} - {revision}
        for revision in set().union(*several.values())
    }
    found = {}
    for table, said in several.items():
        newest = [r for r in said if not any(r in below[other] for other in said)]
        if len({said[revision] for revision in newest}) > 1:
            found[table] = tuple(f"{revision}: {said[revision]}" for revision in sorted(newest))
    return found


def state_of(modules: Iterable[tuple[str, ModuleType]], schema: str | None = None) -> RecordedState:
    """What files with records, the newest first, each with its name, say of the trail in `schema`.

    Without `schema`, of the trail that the newest record is about.
    Raises `ProjectError` when a record was edited so that it cannot be read.
    """
    records = [
        (revision, _read(getattr(module, RECORD_NAME), revision), module)
        for revision, module in modules
    ]
    chosen = schema or (records[0][1].schema if records else DEFAULT_SCHEMA)
    ours = [
        (revision, record, module)
        for revision, record, module in records
        if record.schema == chosen
    ]
    latest: dict[QualifiedName, Recorded | None] = {}
    functions: set[str] = set()
    publications: dict[str, str | None] = {}
    for revision, record, module in ours:
        written = Statements(module)
        captured = {
            capture.table: Recorded(
                capture=capture,
                revision=revision,
                statements=_required(written, constant_name("CAPTURE", capture.table), revision),
            )
            for capture in record.captures
            if capture.table not in latest
        }
        released = {table: None for table in record.releases if table not in latest}
        # Later revisions name this function: its table has been renamed since.
        renamed = {t: None for t, one in captured.items() if one.capture.function in functions}
        latest |= {**released, **captured, **renamed}
        functions |= {capture.function for capture in record.captures}
        functions |= {*record.released_functions}
        ended = dict.fromkeys(record.unpublished)
        publications = {**ended, **dict.fromkeys(record.published, revision), **publications}
    return RecordedState(
        schema=chosen,
        interval=next((record.interval for _, record, _ in ours if record.interval), None),
        owner=next((record.owner for _, record, _ in ours if record.owner), None),
        captures=latest,
        publications=publications,
    )


_DIRECTIVE = re.compile(r"""\b(un)?audit_table\(\s*(["'])(.+?)\2""")


def declared_tables(scripts: ScriptDirectory, schema: str) -> set[NamePattern]:
    """The tables whose capture autogenerate has written, and that were not released since.

    Directives (`op.audit_table`) count, too: only a declaration makes them.
    Raises `ProjectError` when a record was edited so that it cannot be read.
    """
    declared: set[NamePattern] = set()
    by_function: dict[str, NamePattern] = {}
    for script in reversed(list(scripts.walk_revisions())):
        values = getattr(script.module, RECORD_NAME, None)
        if values is not None:
            record = _read(values, script.revision)
            if record.schema == schema:
                declared -= {_pattern(table) for table in record.releases}
                renamed = {
                    by_function[c.function]: _pattern(c.table)
                    for c in record.captures
                    if c.function in by_function
                }
                declared = {renamed.get(pattern, pattern) for pattern in declared}
                declared -= {by_function.get(name) for name in record.released_functions}
                if record.declared:
                    declared |= {_pattern(capture.table) for capture in record.captures}
                by_function |= {c.function: _pattern(c.table) for c in record.captures}
        for ended, _, name in _DIRECTIVE.findall(_upgrade_text(Path(script.path))):
            named = {NamePattern.parse(name)}
            declared = declared - named if ended else declared | named
    return declared


def _pattern(table: QualifiedName) -> NamePattern:
    return NamePattern(table.schema, table.name)


def _upgrade_text(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="replace") if path.suffix == ".py" else ""
    return text.partition("\ndef downgrade")[0]


def _modules(
    scripts: ScriptDirectory, head: str | tuple[str, ...]
) -> Iterator[tuple[str, ModuleType]]:
    with reported("the revisions of the project"), no_bytecode():
        down = scripts.iterate_revisions(head, "base", inclusive=True, assert_relative_length=False)
        walked = list(down)
    for script in walked:
        if hasattr(script.module, RECORD_NAME):
            yield script.revision, script.module


def _read(values: Any, revision: str) -> Record:
    try:
        return Record.from_dict(values)
    except AuditError as error:
        raise ProjectError(f"revision {revision}: {error.message}", hint=error.hint) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _edited(revision, RECORD_NAME) from error


def _required(written: Statements, name: str, revision: str) -> tuple[str, ...]:
    if not (statements := written[name]):
        raise _edited(revision, name)
    return statements


class Statements:
    """The SQL of a revision by the names of its constants, also where tables share a text."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        rows = map(_shared_row, getattr(module, RECORD_NAME, {}).get("captures", ()))
        self._shared = {
            constant_name(verb, row.table): (verb, row)
            for row in rows
            if row is not None
            for verb in SHARED_VERBS
        }

    def __getitem__(self, name: str) -> tuple[str, ...]:
        """The statements that the constant `name` holds, or stands for; empty without one."""
        found: Iterable[str] | None = getattr(self._module, name, None)
        if found is None and name in self._shared:
            verb, row = self._shared[name]
            found = fill(getattr(self._module, f"{verb}_{row.text}", ()), row)
        return tuple(statement.strip("\n") for statement in found or ())


def _shared_row(values: dict[str, Any]) -> CaptureRecord | None:
    return CaptureRecord.from_dict(values) if values.get("text") else None


def places(row: CaptureRecord) -> dict[str, str]:
    """What stands in the places of a text for a table, in the order in which it is put in."""
    schema, name = row.table.schema, row.table.name
    return {
        "hash": row.hash,
        "function": f"capture_{schema}__{name}",
        "table": f"{schema}.{name}",
        **row.own,
        "schema": schema,
        "name": name,
    }


def fill(text: Iterable[str], row: CaptureRecord) -> tuple[str, ...]:
    """The statements of a shared text for one table."""
    filled = tuple(text)
    for place, value in places(row).items():
        filled = tuple(sql.replace(f"@{place}@", value) for sql in filled)
    return filled


def _edited(revision: str, name: str) -> ProjectError:
    return ProjectError(
        f"revision {revision} was edited: cannot read {name}",
        hint="restore the file from version control: an applied revision should not change",
    )
