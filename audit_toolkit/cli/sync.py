"""`audit sync`: the capture that a project records, in a database that its migrations did not make."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.capture.declared import declared_tables
from audit_toolkit.catalog import read_relations
from audit_toolkit.cli.database import find_address
from audit_toolkit.cli.options import (
    AlembicConfig,
    AlembicName,
    Django,
    DryRun,
    Dsn,
    NoEnv,
    ProjectSchema,
    VersionPath,
)
from audit_toolkit.cli.revisions import (
    Where,
    present_project,
    print_sql,
    reached_heads,
    say,
    state_without_project,
)
from audit_toolkit.connection import choose_dsn, connect, translated_errors
from audit_toolkit.declaration import find_declarations
from audit_toolkit.errors import ProjectError, UsageError
from audit_toolkit.migrations import plan_sync, recorded_state, recorded_wants, with_declared
from audit_toolkit.migrations.django import find_app
from audit_toolkit.migrations.revision.rule_text import trail_name
from audit_toolkit.migrations.tenants import wants_like
from audit_toolkit.plan import apply as carry_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from audit_toolkit.catalog import Relation
    from audit_toolkit.migrations import Project, Sync, Wants

    Connection = psycopg.Connection[Any]


def sync(
    apply: Annotated[bool, typer.Option("--apply", help="Do it, in one transaction.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print SQL for psql instead.")] = False,
    dry_run: DryRun = False,
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema",
            metavar="SCHEMA",
            help="With --like: the schema to capture, or a pattern such as 'tenant_*'.",
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="SCHEMA",
            help="Capture the tables of --schema as those of this schema, whatever the project "
            "records.",
        ),
    ] = None,
    audit_schema: ProjectSchema = None,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    name: AlembicName = None,
    version_path: VersionPath = None,
    no_env: NoEnv = False,
    django: Django = None,
) -> None:
    """Install the capture that the project's revisions record.

    For databases made by `create_all` and `alembic stamp`, whose tables have no capture. Writes no
    revision, and leaves alone what is captured as recorded. Without --apply or --sql it lists what is
    missing.
    """
    if apply + sql + dry_run > 1:
        raise UsageError("--apply, --sql and --dry-run cannot be combined", hint="use one")
    if (schema is None) != (like is None):
        raise UsageError(
            "--schema and --like must be given together",
            hint="name the tenants and the one to copy: --schema 'tenant_*' --like tenant_1",
        )
    where = Where(config=config, name=name, version_path=version_path, no_env=no_env, django=django)
    if schema and like:
        project, address = None, find_address(dsn, config)
    else:
        project, address = _project(where, dsn)
    with connect(address, purpose="sync") as connection, translated_errors():
        relations = read_relations(connection)
        wants = (
            wants_like(
                connection, relations, schema, like=like, audit_schema=audit_schema or "audit"
            )
            if schema and like
            else _wants(connection, relations, project, where, audit_schema)
        )
        found = plan_sync(connection, relations, wants)
        if apply and found:
            carry_out(found.plan, connection)
    for note in found.notes:
        say(note)
    if sql:
        print_sql([found.plan] if found else [])
    elif not found:
        print(
            "nothing to do: the database has "
            + (f"the capture of {like}" if like else "the capture that the project records")
        )
    else:
        _describe(found, done=apply, command=_command(schema, like))


def project_wants(connection: Connection, project: Project, schema: str | None) -> Wants | None:
    """What an Alembic project says of the database; None where that is at no revision of it."""
    with project.reading():
        if not (heads := reached_heads(connection, project)):
            return None
        state = recorded_state(project.scripts, heads, schema)
        return recorded_wants(state, project.scripts)


def _project(where: Where, dsn: str | None) -> tuple[Project | None, str]:
    """The project, if there is one, and the address of the database."""
    if where.django is not None:
        where.refuse_alembic_options()
        return None, choose_dsn(dsn)
    try:
        found = where.find()
    except ProjectError:
        declarations = find_declarations()
        if where.config or declarations is None or declarations.alembic_config:
            raise
        return None, choose_dsn(dsn)  # what a file declares needs no project
    address = choose_dsn(dsn) or choose_dsn(None, project_url=found.static_url)
    return present_project(found, where, address), address


def _wants(
    connection: Connection,
    relations: Sequence[Relation],
    project: Project | None,
    where: Where,
    schema: str | None,
) -> Wants:
    file = find_declarations()
    schema = schema or (file.audit_schema if file else None)
    if where.django:
        app = find_app(where.django)
        state = app.state(schema, applied=app.reached(connection))
        return recorded_wants(state)
    if project is None:
        wants = recorded_wants(state_without_project(schema))
    elif (recorded := project_wants(connection, project, schema)) is not None:
        wants = recorded
    else:
        raise UsageError(
            "the database is at no revision of the project, so there is nothing to compare it with",
            hint=f"if create_all made it: alembic stamp head; otherwise: {project.upgrade_command} "
            "head",
        )
    if file is None or file.audit_schema != wants.trail.schema:
        return wants
    declared = declared_tables(file, models=not where.no_env)
    with nullcontext() if project is None else project.reading():
        return with_declared(wants, declared, relations, project.scripts if project else None)


def _command(schema: str | None, like: str | None) -> str:
    tenants = ["--schema", schema, "--like", like] if schema and like else []
    return shlex.join(["audit", "sync", *tenants])


def _describe(found: Sync, *, done: bool, command: str) -> None:
    if found.trail:
        print(f"{trail_name(found.trail.schema)}: {'made' if done else 'missing'}")
    for change, wanted in found.changes:
        print(f"{change.table} ({wanted.source}): {change.words}")
    if done:
        say("\napplied; next:\n  audit check")
    else:
        say(f"\nto apply it: {command} --apply; as SQL: {command} --sql")
