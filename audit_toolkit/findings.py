"""Findings of `audit check`: what is off, how bad that is, and the command that mends it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from audit_toolkit.catalog.trail import Function
from audit_toolkit.config import option_words
from audit_toolkit.names import QualifiedName


class Severity(StrEnum):
    """How bad a finding is: an error means that changes are lost, or may be forged or leaked."""

    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be, and the command that mends it."""

    kind: str
    severity: Severity
    object: str
    detail: str
    remedy: str
    accepted: str | None = None
    """Why somebody decided to leave it so; such a finding is shown, and is no failure."""

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return {
            "kind": self.kind,
            "severity": self.severity.value,
            "object": self.object,
            "detail": self.detail,
            "remedy": self.remedy,
            "accepted": self.accepted,
        }


def install_command(table: QualifiedName, options: Mapping[str, Any]) -> str:
    """The `audit install` that says these options, as recorded in JSON."""
    return shlex.join(["audit", "install", "--table", table.plain, *option_words(options)])


UPGRADE_PACKAGE = "pip install --upgrade audit-toolkit"
"""The remedy for what a newer release made."""
UPGRADE_DATABASE = "audit upgrade --upgrade"
"""The remedy for what an older release made."""


_VERBS = (
    "install",
    "uninstall",
    "upgrade",
    "pause",
    "resume",
    "baseline",
    "grants",
    "indexes",
    "partitions",
)
_OF_ONE_TRAIL = tuple(f"audit {verb} " for verb in _VERBS)


def as_typed(command: str, *, schema: str = "audit", in_project: bool = True) -> str:
    """A command of ours as it runs: for the trail of this schema, by a revision of the project or by psql.

    Whatever else a remedy says stays as it is.
    """
    if not f"{command} ".startswith(_OF_ONE_TRAIL):
        return command
    words, applies = command.removesuffix(" --upgrade"), command.endswith(" --upgrade")
    if schema != "audit":
        words += f" --audit-schema {shlex.quote(schema)}"
    if not applies:
        return words
    return f"{words} --upgrade" if in_project else f"{words} --sql | psql"


def psql_command(statement: str) -> str:
    """The command line that runs one statement."""
    return f"psql -c {shlex.quote(statement)}"


def lock_down_findings(function: Function, shown: str, *, definer: bool) -> Iterator[Finding]:
    """How a function of the audit schema could be turned against it."""
    if "search_path=pg_catalog, pg_temp" not in function.settings:
        yield Finding(
            kind="search_path_open",
            severity=Severity.ERROR,
            object=shown,
            detail="it does not pin its search_path: others could run code as its owner",
            remedy=psql_command(
                f"alter function {shown.removesuffix('()')} set search_path = pg_catalog, pg_temp"
            ),
        )
    if function.security_definer != definer:
        yield Finding(
            kind="wrong_security",
            severity=Severity.ERROR,
            object=shown,
            detail="it is not SECURITY DEFINER"
            if definer
            else "it is SECURITY DEFINER, and should not be",
            remedy=psql_command(
                f"alter function {shown.removesuffix('()')} security {'definer' if definer else 'invoker'}"
            ),
        )


_BODY = re.compile(r"create or replace function .*?\.(\w+)\(.*?\nas (\$\w+\$)(.*)\2", re.DOTALL)


def function_body(statement: str) -> tuple[str, str] | None:
    """Name and body of a rendered function, the body as `pg_proc.prosrc` has it."""
    found = _BODY.search(statement)
    return (found[1], found[3]) if found else None
