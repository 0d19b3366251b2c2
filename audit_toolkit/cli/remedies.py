"""Remedies as they run where they are read: in the directory of a project, or anywhere."""

from __future__ import annotations

from pathlib import Path

from audit_toolkit.migrations.project import is_project_here
from audit_toolkit.remedies import as_typed


def runs_here(command: str, config: Path | None, schema: str) -> str:
    """The command; where there is no project to write a revision into, it pipes SQL into psql instead."""
    return as_typed(command, schema=schema, in_project=is_project_here(config))
