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
    verification: Verification | None = None,
) -> EvidenceReport:
    """The report of a period, read in one snapshot (REPEATABLE READ, read only); takes no locks but those of a SELECT.

    `check` gives what `audit check` finds; it is called in the snapshot. With `verification` every sealed event is
    read. What this role may not read is an alarm in its section.
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
        sql = reading.last
        text = builder.nothing + (_begun(reading) if builder.of_period and not away else "")
        text += ", in what the trail still has of it" if away else ""
        lines = (Line(text=text, command=builder.command(reading), sql=sql),)
    return Section(name=name, title=builder.title, about=builder.about, lines=(*lines, *away))


def _or_why_not(reading: Reading, build: Callable[[], Iterable[Line]]) -> tuple[Line, ...]:
    """The lines, or one that says why this role cannot have them."""
    errors = import_psycopg().errors
    try:
        with reading.connection.transaction():
            return tuple(build())
    except (PermissionDeniedError, errors.InsufficientPrivilege) as error:
        return (_not_read(f"this role may not read it: {first_line(error)}", reading),)
    except (errors.UndefinedTable, errors.UndefinedFunction, errors.UndefinedColumn) as error:
        why = f"the trail was made by an older release: {first_line(error)}"
        return (_not_read(why, reading),)
    except AuditError as error:
        return (_not_read(error.message, reading),)


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


def _begun(reading: Reading) -> str:
    """What to say where the trail begins only in the period, or after it."""
    first = reading.first_event
    if first is not None and first <= reading.period.begin:
        return ""
    return (
        f"; the trail has no events before {utc(first)}" if first else "; the trail has no events"
    )


def _not_read(why: str, reading: Reading) -> Line:
    return Line(
        text=f"not known: {why}", command=reading.audit("access"), sql=reading.last, alarm=True
    )
