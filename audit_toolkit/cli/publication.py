"""`audit publication`: a logical publication of the trail, for Debezium and others that follow the WAL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.catalog import read_trail
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import (
    AlembicConfig,
    AlembicName,
    Django,
    DryRun,
    Dsn,
    EditEnv,
    Head,
    Message,
    NoEnv,
    PrintSql,
    ProjectSchema,
    Upgrade,
    VersionPath,
)
from audit_toolkit.cli.revisions import (
    Goal,
    Output,
    Run,
    Where,
    finish,
    print_sql,
    say,
    state_without_project,
)
from audit_toolkit.errors import UsageError
from audit_toolkit.migrations import no_publication_revision, publication_revision
from audit_toolkit.migrations.revision.rule_text import trail_name
from audit_toolkit.names import quote_identifier
from audit_toolkit.remedies import psql_command
from audit_toolkit.schema.publication import (
    advice,
    plan_no_publication,
    plan_publication,
    publication_name,
    read_publications,
    read_server,
    require_free_name,
)

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def publication(
    publication: Annotated[
        str | None,
        typer.Argument(
            metavar="PUBLICATION", help="Its name. [default: audit_out]", show_default=False
        ),
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Stop publishing: drop the publication.")
    ] = False,
    audit_schema: ProjectSchema = None,
    message: Message = None,
    head: Head = None,
    upgrade: Upgrade = False,
    sql: PrintSql = False,
    dry_run: DryRun = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    name: AlembicName = None,
    version_path: VersionPath = None,
    no_env: NoEnv = False,
    edit_env: EditEnv = False,
    django: Django = None,
) -> None:
    """Publish the trail for Debezium and logical decoding.

    Writes the Alembic revision that creates a publication of the trail alone, and says what the server lacks
    for a consumer of it. Create the slot afterwards; `audit check` finds a publication that is gone.
    """
    output = Output(upgrade=upgrade, sql=sql, dry_run=dry_run)
    if sql:
        _print_publication_sql(publication, audit_schema, dsn, config, drop=drop)
        return
    where = Where(
        config=config,
        name=name,
        version_path=version_path,
        head=head,
        no_env=no_env,
        edit_env=edit_env,
        django=django,
    )
    run = where.begin(dsn, audit_schema)
    chosen = publication or publication_name(run.state.schema)
    if drop:
        _unpublish(run, chosen, message, output)
    else:
        _publish(run, chosen, message, output)


def _publish(run: Run, name: str, message: str | None, output: Output) -> None:
    schema, recorded = run.state.schema, run.state.publications.get(name)
    with run.reading() as (connection, _):
        if run.state.interval is None:
            _require_trail(connection, schema)
        installed = _is_installed(connection, name, schema)
        server = read_server(connection, name)
        if not installed:
            require_free_name(name, server)
        pending = recorded is not None and not run.is_applied(connection)
    if installed:
        say(f"the publication {name} is there already")
    elif pending:
        say(
            f"revision {recorded} creates the publication {name}; not applied yet: {run.upgrade_command()}"
        )
    else:
        for note in advice(server, name):
            say(f"note: {note}")
    done = installed or pending
    goal = Goal(captures={}, publications={name: True}, then=_slot_command(name))
    revisions = [] if done else [publication_revision(name, schema, message)]
    finish(run, revisions, goal, output, up_to_date=installed)


def _unpublish(run: Run, name: str, message: str | None, output: Output) -> None:
    schema = run.state.schema
    with run.reading() as (connection, _):
        known = run.state.publications.get(name) or _is_noted(connection, name, schema)
    if not known:
        raise _no_publication(name, schema)
    goal = Goal(captures={}, publications={name: False}, then=_slots_command())
    revision = no_publication_revision(name, schema, message)
    finish(run, [revision], goal, output, up_to_date=False)


def _print_publication_sql(
    name: str | None, schema: str | None, dsn: str | None, config: Path | None, *, drop: bool
) -> None:
    trail = state_without_project(schema).schema
    chosen = name or publication_name(trail)
    with open_database(dsn, config) as connection:
        _require_trail(connection, trail)
        if drop:
            if not _is_noted(connection, chosen, trail):
                raise _no_publication(chosen, trail)
            print_sql([plan_no_publication(chosen, trail)])
            return
        if _is_installed(connection, chosen, trail):
            say(f"the publication {chosen} is there already")
            return
        server = read_server(connection, chosen)
        require_free_name(chosen, server)
    for note in advice(server, chosen):
        say(f"note: {note}")
    print_sql([plan_publication(chosen, trail)])


def _is_noted(connection: Connection, name: str, schema: str) -> bool:
    found = read_publications(connection, schema)
    return any(one.name == name and one.state == "on" for one in found)


def _is_installed(connection: Connection, name: str, schema: str) -> bool:
    found = read_publications(connection, schema)
    return any(one.name == name and one.state == "on" and one.is_there for one in found)


def _require_trail(connection: Connection, schema: str) -> None:
    if not read_trail(connection, schema):
        raise UsageError(
            f"the database has no audit trail in the schema {schema}",
            hint="create one: audit install --table NAME",
        )


def _no_publication(name: str, schema: str) -> UsageError:
    return UsageError(
        f"{trail_name(schema)} has no publication {quote_identifier(name)}",
        hint="name the one that `audit publication` created",
    )


def _slot_command(name: str) -> str:
    slot = re.sub("[^a-z0-9_]", "_", name.lower())  # all that the name of a slot may have
    made = f"select pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    return f'psql -c "{made}"'


def _slots_command() -> str:
    return psql_command("select slot_name, active, wal_status from pg_replication_slots")
