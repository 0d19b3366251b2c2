"""Capture functions that somebody renamed or moved to another schema: they go on, and no command finds them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from audit_toolkit.catalog import parse_comment
from audit_toolkit.catalog.trail import TrailObjects, TriggerState
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import QualifiedName, quote_identifier
from audit_toolkit.remedies import install_command, psql_command


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedFunction:
    """A capture function that is not where it was made."""

    now: QualifiedName
    made_as: str
    """What it was called in the schema of the trail."""
    tables: tuple[QualifiedName, ...]
    """The tables with triggers that run it for changes of rows: one, unless somebody made more."""
    taken_by: str | None
    """The role that it was given to, which is not the owner of the trail."""
    comment: str | None


def moved_functions(objects: TrailObjects) -> Mapping[QualifiedName, MovedFunction]:
    """The capture functions that are not where they were made, by what they are called now.

    Anybody can write a function whose text looks like one of ours: one that does not belong to the owner of the
    trail is taken for ours only where that is missing, and is not brought back into the schema of the trail.
    """
    present = {function.name for function in objects.functions}
    found = [
        MovedFunction(
            now=name,
            made_as=first.made_as,
            tables=_tables(triggers),
            taken_by=first.function_owner if first.function_owner != objects.owner else None,
            comment=first.function_comment,
        )
        for name, triggers in objects.triggers_by_function.items()
        if (first := triggers[0]).made_as
    ]
    return {
        one.now: one
        for one in found
        if one.now != (home := QualifiedName(objects.schema, one.made_as))
        # Else it was made anew since, and what is left of the former one is foreign.
        and home not in objects.triggers_by_function
        and not (one.taken_by and home.name in present)
    }


def moved_back(objects: TrailObjects) -> TrailObjects:
    """The trail as it is once its functions are where they were made: what else is wrong with their tables is seen.

    Those that somebody else owns stay where they are; they are made anew.
    """
    moved = {name: one for name, one in moved_functions(objects).items() if one.taken_by is None}
    if not moved:
        return objects
    homes = {name: QualifiedName(objects.schema, one.made_as) for name, one in moved.items()}
    taken = {home.name for home in homes.values()}
    found = {QualifiedName(f.schema, f.name): f for f in (*objects.functions, *objects.moved_out)}
    back = [
        replace(found[name], schema=home.schema, name=home.name) for name, home in homes.items()
    ]
    stay = [f for name, f in found.items() if name not in homes]
    return replace(
        objects,
        functions=(*(f for f in stay if f in objects.functions and f.name not in taken), *back),
        moved_out=tuple(f for f in stay if f in objects.moved_out),
        triggers=tuple(
            replace(trigger, function=homes.get(trigger.function, trigger.function))
            for trigger in objects.triggers
        ),
    )


def _tables(triggers: Sequence[TriggerState]) -> tuple[QualifiedName, ...]:
    named = {t.table for t in triggers if t.type & 28 and not t.on_partition}
    return tuple(sorted(named or {triggers[0].table}))


def moved_findings(objects: TrailObjects) -> Iterator[Finding]:
    """What was moved, each with what puts it back; nothing is lost by that."""
    present = {function.name for function in objects.functions}
    for moved in moved_functions(objects).values():
        home = QualifiedName(objects.schema, moved.made_as)
        said = f"its capture function {home}() is called {moved.now}() now"
        yield Finding(
            kind=FindingKind.FUNCTION_MOVED,
            severity=Severity.ERROR,
            subject=", ".join(map(str, moved.tables)),
            message=f"{said}: capture continues, but no command finds it"
            if moved.taken_by is None
            else f"{said}, and belongs to {quote_identifier(moved.taken_by)}, who can change what it records",
            remedy=_made_anew(moved)
            if moved.taken_by
            else psql_command(
                (f"drop function {home}(); " if home.name in present else "")
                + _moved_back(moved, home)
            ),
        )


def _made_anew(moved: MovedFunction) -> str:
    """What puts a function of ours in its place: what others own may have been changed, or be changed later."""
    recorded = parse_comment(moved.comment)
    if "options" in recorded:
        return install_command(moved.tables[0], recorded["options"]) + " --upgrade"
    return f"audit install --table {shlex.quote(moved.tables[0].plain)} … --upgrade, with the options that it had"


def _moved_back(moved: MovedFunction, home: QualifiedName) -> str:
    steps = []
    if moved.now.name != home.name:
        steps.append(f"alter function {moved.now}() rename to {quote_identifier(home.name)}")
    if moved.now.schema != home.schema:
        there = QualifiedName(moved.now.schema, home.name)
        steps.append(f"alter function {there}() set schema {quote_identifier(home.schema)}")
    return "; ".join(steps)
