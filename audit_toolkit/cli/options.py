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
        help="The database: any PostgreSQL URL or keyword string. Default: AUDIT_DATABASE_URL, "
        "DATABASE_URL, sqlalchemy.url of the Alembic configuration, or libpq's environment.",
        show_default=False,
    ),
]
TrailSchema = Annotated[
    str, typer.Option("--audit-schema", metavar="SCHEMA", help="Schema of the audit trail.")
]
Utc = Annotated[
    bool, typer.Option("--utc", help="Read and show times in UTC instead of local time.")
]
Hide = Annotated[
    list[str] | None,
    typer.Option(
        "--hide",
        metavar="COLUMN",
        help="Do not show this column. Repeatable.",
        show_default=False,
    ),
]
GuardCells = Annotated[
    bool,
    typer.Option(
        "--guard-cells",
        help="In CSV, prefix cells that begin with =, +, - or @ with ', so that spreadsheets do "
        "not run them as formulas.",
    ),
]
OutputFormat = Annotated[Format, typer.Option("--format", help="Output format.")]
AlembicConfig = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Alembic configuration. Default: ALEMBIC_CONFIG, or alembic.ini or pyproject.toml in "
        "this directory.",
        show_default=False,
    ),
]

AlembicName = Annotated[
    str | None,
    typer.Option(
        "--name",
        "-n",
        metavar="NAME",
        help="Section of the Alembic configuration, as for `alembic -n`. [default: alembic]",
        show_default=False,
    ),
]
VersionPath = Annotated[
    Path | None,
    typer.Option(
        "--version-path",
        metavar="DIRECTORY",
        help="Directory to write revisions into, if there are several or env.py sets it.",
        show_default=False,
    ),
]
NoEnv = Annotated[
    bool,
    typer.Option("--no-env", help="Run no code of the project: neither env.py nor its revisions."),
]
EditEnv = Annotated[
    bool,
    typer.Option(
        "--edit-env", help="Add `import audit_toolkit.alembic` to env.py if it is missing."
    ),
]

Django = Annotated[
    str | None,
    typer.Option(
        "--django",
        metavar="APP",
        help="Write a migration for this Django app instead of an Alembic revision.",
        show_default=False,
    ),
]

Message = Annotated[
    str | None, typer.Option("--message", "-m", metavar="TEXT", help="Message of the revision.")
]
Head = Annotated[
    str | None,
    typer.Option("--head", metavar="REVISION", help="Head to build on, if there are several."),
]
Upgrade = Annotated[bool, typer.Option("--upgrade", help="Also apply it with `alembic upgrade`.")]
PrintSql = Annotated[
    bool, typer.Option("--sql", help="Print SQL for psql instead; needs no Alembic project.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]
ProjectSchema = Annotated[
    str | None,
    typer.Option(
        "--audit-schema",
        metavar="SCHEMA",
        help="Schema of the audit trail. [default: the project's, else audit]",
    ),
]
