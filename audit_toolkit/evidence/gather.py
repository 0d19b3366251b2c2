"""Reading a report: all sections in one snapshot, each by itself where this role may not read some."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, first_line, import_psycopg
from audit_toolkit.errors import AuditError, PermissionDeniedError
from audit_toolkit.evidence.profiles import ALL, PROFILES
from audit_toolkit.evidence.reading import Reading, Verification
from audit_toolkit.evidence.report import EvidenceReport, Line, Period, Section, utc
from audit_toolkit.evidence.sections import SECTIONS, Builder
from audit_toolkit.findings import Finding
from audit_toolkit.templates import render
from audit_toolkit.version import __version__

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

__all__ = ["Verification", "gather"]


def gather(
    connection: Connection,
    schema: str,
    period: Period,
    *,
    profile: str = ALL,
    command: str = "",
    check: Callable[[], Sequence[Finding]] = lambda: (),
    check_words: Sequence[str] = (),
    verification: Verification | None = None,
) -> EvidenceReport:
    """The report of a period, read in one snapshot (REPEATABLE READ, read only); takes no locks but those of a SELECT.

    `check` gives what `audit check` finds, with the options `check_words`; it is called in the snapshot. With
    `verification` every sealed event is read. What this role may not read is an alarm in its section.
    """
    chosen = PROFILES[profile]
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        (subject,) = fetch(connection, render("evidence/subject"))
        reading = Reading(
            connection=connection,
            schema=schema,
            period=period,
            now=subject["made_at"],
            check=check,
            verification=verification,
            check_words=tuple(check_words),
        )
        sections = tuple(
            _read(reading, name, SECTIONS[name]).under(controls)
            for name, controls in chosen.sections.items()
        )
    return EvidenceReport(
        title=chosen.title,
        profile=profile,
        period=period,
        toolkit=__version__,
        command=command,
        sections=sections,
        **subject,
    )


def _read(reading: Reading, name: str, builder: Builder) -> Section:
    lines = _or_why_not(reading, lambda: builder.build(reading))
    away = _or_why_not(reading, lambda: _away(reading)) if builder.of_period else ()
    if not lines:
        lines = _or_why_not(reading, lambda: [_nothing(reading, builder, is_whole=not away)])
    return Section(name=name, title=builder.title, about=builder.about, lines=(*lines, *away))


def _or_why_not(reading: Reading, build: Callable[[], Iterable[Line]]) -> tuple[Line, ...]:
    """The lines, up to one that says why this role cannot have the rest."""
    errors = import_psycopg().errors
    lines: list[Line] = []
    try:
        with reading.connection.transaction():
            lines.extend(build())
    except (PermissionDeniedError, errors.InsufficientPrivilege) as error:
        why = f"this role may not read it: {first_line(error)}"
    except (errors.UndefinedTable, errors.UndefinedFunction, errors.UndefinedColumn) as error:
        why = f"the trail was made by an older release: {first_line(error)}"
    except errors.DataError as error:  # a time that no calendar has, for one
        why = f"it cannot be read: {first_line(error)}"
    except AuditError as error:
        why = error.message
    else:
        return tuple(lines)
    return (*lines, _not_read(why, reading))


_NAMED = 5
"""Partitions that a line names."""


def _away(reading: Reading) -> Iterator[Line]:
    """Events of the period that are not in the trail any more, so that no line can be about them."""
    rows = reading.rows("evidence/away")
    if not rows:
        return
    shown = [
        f"{row['name']} ({row['state']}, {'archived at ' + row['archive'] if row['archive'] else 'not archived'})"
        for row in rows[:_NAMED]
    ]
    more = len(rows) - len(shown)
    shown += [f"and {more} more"] if more > 0 else []
    yield Line(
        text=f"not all of the period is in the trail, and what left it is not in this section: {', '.join(shown)}",
        command=reading.audit("partitions", "list"),
        sql=reading.last,
        alarm=True,
    )


def _nothing(reading: Reading, builder: Builder, *, is_whole: bool) -> Line:
    """What a section says without lines, and no more than that."""
    sql, text = reading.last, builder.nothing
    if builder.of_period and not is_whole:
        text += ", in what the trail still has of it"
    elif builder.of_period:
        first = reading.first_event
        if first is None or first > reading.period.begin:
            text += f"; the trail has no events{f' before {utc(first)}' if first else ''}"
    return Line(text=text, command=builder.command(reading), sql=sql)


def _not_read(why: str, reading: Reading) -> Line:
    return Line(
        text=f"not known: {why}", command=reading.audit("access"), sql=reading.last, alarm=True
    )
