"""The report as values: sections of lines, each with what repeats it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

SCHEMA_VERSION = 1
"""Of the JSON. It changes when a key changes its meaning or goes; a new key does not change it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From a moment on, and up to before another one."""

    begin: datetime
    end: datetime

    def has(self, moment: datetime | None) -> bool:
        """Whether a moment is in it."""
        return moment is not None and self.begin <= moment < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that is so, and how to see it again."""

    text: str
    command: str = ""
    """The command that shows it, as it is typed; empty where none does."""
    sql: str = ""
    """The statement that it was read by, and that says it again."""
    at: datetime | None = None
    event_id: int | None = None
    """The event that says so."""
    alarm: bool = False
    """Whether it is something that somebody has to look at."""

    def as_dict(self) -> dict[str, Any]:
        """The line as JSON values."""
        return {
            "at": None if self.at is None else self.at.astimezone(UTC).isoformat(),
            "text": self.text,
            "event_id": self.event_id,
            "alarm": self.alarm,
            "command": self.command,
            "sql": self.sql,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Lines about one question."""

    name: str
    """The word that programs know it by."""
    title: str
    about: str
    """What the lines say, and what they do not."""
    lines: tuple[Line, ...]
    controls: tuple[str, ...] = ()
    """The controls of a profile that it is evidence for."""

    def under(self, controls: tuple[str, ...]) -> Section:
        """The section as evidence for these controls."""
        return replace(self, controls=controls)

    def as_dict(self) -> dict[str, Any]:
        """The section as JSON values."""
        return {
            "name": self.name,
            "title": self.title,
            "controls": list(self.controls),
            "about": self.about,
            "lines": [line.as_dict() for line in self.lines],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceReport:
    """What was so in a period, as one snapshot of the database says it."""

    title: str
    profile: str
    period: Period
    made_at: datetime
    database: str
    login: str
    """The role that it was read by."""
    server_version: str
    toolkit: str
    command: str
    """What makes it again."""
    sections: tuple[Section, ...]

    @property
    def alarms(self) -> int:
        """How many lines somebody has to look at."""
        return sum(line.alarm for section in self.sections for line in section.lines)

    def statements(self) -> tuple[str, ...]:
        """Every statement once, in the order of the lines; lines refer to them by number, from 1 on."""
        return tuple(dict.fromkeys(line.sql for line in self._lines() if line.sql))

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "report",
            "title": self.title,
            "profile": self.profile,
            "from": self.period.begin.astimezone(UTC).isoformat(),
            "to": self.period.end.astimezone(UTC).isoformat(),
            "made_at": self.made_at.astimezone(UTC).isoformat(),
            "made_by": self.command,
            "database": self.database,
            "login": self.login,
            "server_version": self.server_version,
            "toolkit": self.toolkit,
            "alarms": self.alarms,
            "sections": [section.as_dict() for section in self.sections],
        }

    def _lines(self) -> Iterator[Line]:
        return (line for section in self.sections for line in section.lines)


def utc(moment: datetime) -> str:
    """The moment to the second, in UTC."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(' ', 'seconds')} UTC"


def exact(moment: datetime) -> str:
    """The moment as commands take it, with all its digits."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(' ')} UTC"


def machine(moment: datetime) -> str:
    """The moment as HTML has it: in UTC, with no more than milliseconds."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat('T', 'milliseconds')}Z"
