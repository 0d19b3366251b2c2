"""`audit uninstall`: stop auditing a table; its events stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.capture import plan_uninstall
from audit_toolkit.catalog import read_relations, read_tables, resolve
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
from audit_toolkit.cli.table_options import Names, Tables, history_command, schema_to_sweep
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.migrations import Former, former_capture, installed_captures, uninstall_revision
from audit_toolkit.names import NamePattern, QualifiedName

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.catalog import Relation
    from audit_toolkit.migrations import RecordedState

    Connection = psycopg.Connection[Any]


def uninstall(
    table: Tables = None,
    all_tables: Annotated[
        bool, typer.Option("--all-tables", help="All audited tables of --schema.")
    ] = False,
    schema: Annotated[
        Names,
        typer.Option(
            "--schema",
            metavar="SCHEMA",
            help="With --all-tables: a schema, or a pattern such as 'tenant_*'. [default: public]",
        ),
    ] = None,
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
    """Stop auditing a table; its events stay.

    Writes the Alembic revision that removes capture.
    """
    swept = schema_to_sweep(table, schema, all_tables=all_tables, leave_out=None)
    if not (table or swept):
        raise UsageError("no table given", hint="name one with --table, or use --all-tables")
    output = Output(upgrade=upgrade, sql=sql, dry_run=dry_run)
    if sql:
        _print_uninstall_sql(table or [], swept, audit_schema, dsn, config)
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
    names = [*(table or ()), *(_audited_in(run, swept) if swept else ())]
    _uninstall(run, names, message, output)


def _audited_in(run: Run, schema: str) -> list[str]:
    """The audited tables of a schema, or of all that a pattern matches: of the project and of the database."""
    recorded = [table for table, there in run.state.captures.items() if there]
    with run.reading() as (connection, _):
        installed = list(installed_captures(connection, run.state.schema))
    return _of_schema([*installed, *recorded], schema)


def _of_schema(tables: Iterable[QualifiedName], schema: str) -> list[str]:
    names = [t.plain for t in sorted(set(tables)) if fnmatchcase(t.schema, schema)]
    if not names:
        say(f"no table of the schema {schema!r} is audited")
    return list(names)


def _uninstall(run: Run, names: Sequence[str], message: str | None, output: Output) -> None:
    captured: dict[QualifiedName, Former] = {}
    elsewhere = []
    renamed, taken_over = _renamed(run)
    for name in names:
        pattern = NamePattern.parse(name)
        table = run.state.find(pattern) or run.recorded_as(pattern)
        if table is None or any(pattern.matches(other, fold=False) for other in taken_over):
            elsewhere.append(name)
        elif recorded := run.state.captures[table]:
            present, former = renamed.get(table, (table, Former.of(recorded)))
            captured[present] = former
        else:
            say(f"{table} is not audited any more: a revision of the project ends it already")
    if elsewhere:
        with run.reading() as (connection, relations):
            captured |= _captured(connection, relations, elsewhere, run.state)
    revisions = [uninstall_revision(captured, run.state.schema, message)] if captured else []
    goal = Goal(captures=dict.fromkeys(captured), then=history_command(run, captured))
    finish(run, revisions, goal, output, up_to_date=not captured)


def _renamed(
    run: Run,
) -> tuple[dict[QualifiedName, tuple[QualifiedName, Former]], set[QualifiedName]]:
    """Tables by the name under which they were captured, where they have another now, with what captures them.

    And those of the former names that other tables have taken over: who gives one means the table that has it now.
    """
    try:
        with run.reading() as (connection, relations):
            present = {relation.name: relation for relation in relations}
            moved = {
                present[one.table]: one
                for one in installed_captures(connection, run.state.schema).values()
                if one.made_for != one.table and one.table in present
            }
            tables = read_tables(connection, moved)
            renamed = {
                one.made_for: (
                    one.table,
                    Former.of_database(one, tables[relation], run.state.schema),
                )
                for relation, one in moved.items()
            }
            return renamed, renamed.keys() & present.keys()
    except AuditError:
        return {}, set()  # to write what the project itself records needs no database


def _captured(
    connection: Connection,
    relations: Sequence[Relation],
    names: Sequence[str],
    state: RecordedState,
) -> dict[QualifiedName, Former]:
    """What captures these tables; says so of those that nothing captures."""
    installed = installed_captures(connection, state.schema)
    found = {}
    tables = read_tables(connection, [resolve(name, relations) for name in names])
    for relation, table in tables.items():
        if former := former_capture(table, installed, state):
            found[relation.name] = former
        else:
            say(f"{relation.name} is not audited")
    return found


def _print_uninstall_sql(
    names: Sequence[str],
    swept: str | None,
    schema: str | None,
    dsn: str | None,
    config: Path | None,
) -> None:
    state = state_without_project(schema)
    with open_database(dsn, config) as connection:
        installed = installed_captures(connection, state.schema)
        names = [*names, *(_of_schema(installed, swept) if swept else ())]
        captured = _captured(connection, read_relations(connection), names, state)
    print_sql(
        [
            plan_uninstall(table, state.schema, function=former.function, from_wal=former.from_wal)
            for table, former in captured.items()
        ]
    )
