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
Utc = Annotated[bool, typer.Option("--utc", help="Read and show times in UTC, not in local time.")]
Hide = Annotated[
    list[str] | None,
    typer.Option(
        "--hide",
        metavar="COLUMN",
        help="Leave this column out of what is shown. Repeatable.",
        show_default=False,
    ),
]
GuardCells = Annotated[
    bool,
    typer.Option(
        "--guard-cells",
        help="In CSV, put ' before cells that begin with =, +, - or @, which a spreadsheet would "
        "run as a formula.",
    ),
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

AlembicName = Annotated[
    str | None,
    typer.Option(
        "--name",
        "-n",
        metavar="NAME",
        help="The section of the Alembic configuration, as for `alembic -n`. [default: alembic]",
        show_default=False,
    ),
]
VersionPath = Annotated[
    Path | None,
    typer.Option(
        "--version-path",
        metavar="DIRECTORY",
        help="The directory of revisions to write into, where there are several or env.py sets it.",
        show_default=False,
    ),
]
NoEnv = Annotated[
    bool,
    typer.Option(
        "--no-env", help="Run no code of the project: neither env.py nor that of its revisions."
    ),
]
EditEnv = Annotated[
    bool,
    typer.Option(
        "--edit-env", help="Add `import audit_toolkit.alembic` to env.py, if it lacks it."
    ),
]

Django = Annotated[
    str | None,
    typer.Option(
        "--django",
        metavar="APP",
        help="Write a Django migration of this app instead; Alembic is not involved.",
        show_default=False,
    ),
]

Message = Annotated[
    str | None, typer.Option("--message", "-m", metavar="TEXT", help="Message of the revision.")
]
Head = Annotated[
    str | None,
    typer.Option("--head", metavar="REVISION", help="The head to follow, if there are several."),
]
Upgrade = Annotated[bool, typer.Option("--upgrade", help="Also apply it: `alembic upgrade`.")]
PrintSql = Annotated[
    bool, typer.Option("--sql", help="Print SQL for psql instead; no Alembic project is needed.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")]
ProjectSchema = Annotated[
    str | None,
    typer.Option(
        "--audit-schema",
        metavar="SCHEMA",
        help="The schema of the audit trail. [default: that of the project, else audit]",
    ),
]
