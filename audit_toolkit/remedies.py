"""The commands that remedies name, as somebody would type them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from audit_toolkit.config import option_words
from audit_toolkit.names import QualifiedName


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
    "publication",
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
