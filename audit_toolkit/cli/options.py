"""Options that several commands share: one name and one help text everywhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How a reading command prints: for people, or for programs."""

    TEXT = "text"
    JSON = "json"


Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="DSN",
        help="The database: any PostgreSQL URL or keyword string. Without it: AUDIT_DATABASE_URL, "
        "DATABASE_URL, sqlalchemy.url of the Alembic configuration, libpq's environment.",
        show_default=False,
    ),
]
TrailSchema = Annotated[
    str, typer.Option("--audit-schema", metavar="SCHEMA", help="The schema of the audit trail.")
]
OutputFormat = Annotated[Format, typer.Option("--format", help="How to print.")]
AlembicConfig = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The Alembic configuration. Without it: ALEMBIC_CONFIG, alembic.ini or pyproject.toml here.",
        show_default=False,
    ),
]
