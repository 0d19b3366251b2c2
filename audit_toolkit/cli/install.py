"""`audit install`: start auditing a table."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.capture.secrets import accepted_because, secrets_in_clear
from audit_toolkit.capture.selection import left_out
from audit_toolkit.catalog import read_relations
from audit_toolkit.catalog.trail import read_trail_objects
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.ddl import install_ddl
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
from audit_toolkit.config import Capture, Interval, Mask, OnOversize, Store, TableRule, Truncate
from audit_toolkit.errors import UsageError
from audit_toolkit.migrations import (
    CaptureRequest,
    capture_revision,
    check_conditions,
    plan_changes,
    read_capture_state,
    require_present_trail,
    trail_revision,
    trail_settings,
)
from audit_toolkit.migrations.revision.rule_text import flags
from audit_toolkit.names import QualifiedName, quote_identifier
from audit_toolkit.schema import plan_trail
from audit_toolkit.schema.moved_trail import unregistered_captures

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.catalog import Relation
    from audit_toolkit.migrations import CaptureState, Change, Former, RecordedState, Revision


def install(
    context: typer.Context,
    table: Tables = None,
    all_tables: Annotated[
        bool,
        typer.Option(
            "--all-tables", help="All tables of --schema; those audited already stay as they are."
        ),
    ] = False,
    schema: Annotated[
        Names,
        typer.Option(
            "--schema",
            metavar="SCHEMA",
            help="With --all-tables: a schema, or a pattern such as 'tenant_*'. [default: public]",
        ),
    ] = None,
    leave_out: Annotated[
        Names,
        typer.Option(
            "--except", metavar="TABLE", help="With --all-tables: skip this table. Repeatable."
        ),
    ] = None,
    capture: Annotated[
        Capture,
        typer.Option(
            "--capture",
            help="Row-level or statement-level triggers (statement suits bulk writes), or a worker that "
            "reads the WAL: audit capture run.",
        ),
    ] = Capture.ROW,
    exclude: Annotated[
        Names,
        typer.Option("--exclude", metavar="COLUMN", help="Do not record this column. Repeatable."),
    ] = None,
    only: Annotated[
        Names,
        typer.Option(
            "--only",
            metavar="COLUMN",
            help="Record only this column and the primary key. Repeatable.",
        ),
    ] = None,
    mask: Annotated[
        Names,
        typer.Option(
            "--mask",
            metavar="COLUMN[=METHOD]",
            help="Record a stand-in instead of this column's values: redact (default), length, "
            "sha256 (with the trail's secret key) or sha256-plain. Repeatable.",
        ),
    ] = None,
    store: Annotated[
        Store,
        typer.Option(
            "--store",
            help="What an update stores: both rows whole (rows), the old row and the changed columns "
            "(changes), or only the changed columns, before and after (delta).",
        ),
    ] = Store.ROWS,
    when: Annotated[
        str | None,
        typer.Option(
            "--when",
            metavar="SQL",
            help="Record a change only if this SQL condition is true of the row before or after "
            "it.",
        ),
    ] = None,
    truncate: Annotated[
        Truncate,
        typer.Option(
            "--truncate", help="On TRUNCATE: record one event, record every row, or refuse it."
        ),
    ] = Truncate.EVENT,
    on_oversize: Annotated[
        OnOversize,
        typer.Option(
            "--on-oversize", help="On values beyond JSONB's limit: fail, or record size and hash."
        ),
    ] = OnOversize.FAIL,
    require_context: Annotated[
        str | None,
        typer.Option(
            "--require-context",
            metavar="KEY",
            help="Refuse changes without this key in their context; replicated changes are let "
            "through.",
        ),
    ] = None,
    capture_query: Annotated[
        bool, typer.Option("--capture-query", help="Also record the text of the statement.")
    ] = False,
    force_capture_query: Annotated[
        bool,
        typer.Option(
            "--force-capture-query",
            help="Record statement text even if it exposes excluded or masked values.",
        ),
    ] = False,
    log_unchanged: Annotated[
        bool, typer.Option("--log-unchanged", help="Also record updates that change nothing.")
    ] = False,
    touch: Annotated[
        Names,
        typer.Option(
            "--touch",
            metavar="COLUMN",
            help="A column such as updated_at, which audit revert neither compares nor restores. "
            "Repeatable.",
        ),
    ] = None,
    interval: Annotated[
        Interval | None,
        typer.Option(
            "--interval",
            help="Time range of each partition; only for the first run. [default: month]",
        ),
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(
            "--owner",
            metavar="ROLE",
            help="Owner of the trail; only for the first run. [default: the role that migrates]",
        ),
    ] = None,
    ddl: Annotated[
        bool,
        typer.Option(
            "--ddl",
            help="By itself: record DDL on audited tables at once, by event triggers made now. Takes "
            "a superuser.",
        ),
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
    """Start auditing a table.

    Writes the Alembic revision that installs capture; the first run also writes the one that creates
    the trail. The options from --capture to --touch say how the table is captured. For a table that
    is audited already they replace all of its options; without any, it keeps them.
    """
    if ddl:
        if table or all_tables:
            raise UsageError(
                "--ddl goes by itself: it takes a superuser, and the migration of a table does not",
                hint="run it once, after the trail is there: audit install --ddl",
            )
        install_ddl(
            dsn, config, audit_schema or "audit", Output(upgrade=False, sql=sql, dry_run=dry_run)
        )
        return
    if only and all_tables:
        raise UsageError(
            "--only names the columns of one table, so it cannot be combined with --all-tables",
            hint="install that table separately: --table NAME --only COLUMN",
        )
    rule = TableRule(
        capture=capture,
        exclude=tuple(exclude or ()),
        only=tuple(only or ()),
        mask=tuple(Mask.parse(text) for text in mask or ()),
        store=store,
        when=when,
        truncate=truncate,
        on_oversize=on_oversize,
        require_context=require_context,
        capture_query=capture_query,
        force_capture_query=force_capture_query,
        log_unchanged=log_unchanged,
        touch=tuple(touch or ()),
    )
    request = CaptureRequest(
        names=tuple(table or ()),
        all_of_schema=schema_to_sweep(table, schema, all_tables=all_tables, leave_out=leave_out),
        leave_out=tuple(leave_out or ()),
        rule=rule if _rule_is_given(context) else None,
    )
    if not (request.names or all_tables):
        raise UsageError("no table given", hint="name one with --table, or use --all-tables")
    output = Output(upgrade=upgrade, sql=sql, dry_run=dry_run)
    if sql:
        _print_install_sql(request, interval, owner, audit_schema, dsn, config)
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
    _install(run, request, interval, owner, message, output)


def _say_what_the_worker_needs(
    connection: psycopg.Connection[Any], changes: Sequence[Change]
) -> None:
    """Say what is missing before tables can be read from the WAL; triggers record them until then."""
    if any(change.target.from_wal for change in changes):
        from audit_toolkit.wal.health import worker_needs

        for need in worker_needs(connection):
            say(need)


def _rule_is_given(context: typer.Context) -> bool:
    """Whether any option of a rule was typed, be it with the default as its value."""
    sources = (context.get_parameter_source(field.name) for field in fields(TableRule))
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


def _install(
    run: Run,
    request: CaptureRequest,
    interval: Interval | None,
    owner: str | None,
    message: str | None,
    output: Output,
) -> None:
    state = run.state
    with run.reading() as (connection, relations):
        found = _capture_state(connection, relations, request, state.schema)
        applied = run.is_applied(connection)
        present = state.interval or found.interval
        settings = trail_settings(state.schema, wanted=interval, present=present, owner=owner)
        changes = plan_changes(request, found, state, applied=applied)
        check_conditions(connection, changes)
        needed = [change for change in changes if change.needed]
        _say_what_the_worker_needs(connection, needed)
    revisions: list[Revision] = []
    if needed:
        require_present_trail(found.trail, state.schema)
        lost = applied and found.interval is None
        revisions += [trail_revision(settings)] if lost or state.interval is None else []
        revisions += run.rename_revisions(needed)
        revisions.append(capture_revision(needed, state.schema, message))
    hashes = {name: installed.hash for name, installed in found.installed.items()}
    for change in changes:
        if not change.needed and change.former:
            say(_already(change, change.former, run, hashes.get(change.table)))
    _say_left_out(
        relations, request, changes, {*hashes, *(change.table for change in changes)}, state
    )
    _say_secrets(needed)
    expected = {change.table: change.hash for change in changes}
    up_to_date = not needed and expected.items() <= hashes.items()
    then = history_command(run, expected)
    if any(change.target.rule.capture is Capture.WAL for change in needed):
        then = f"audit capture run\n  {then}"
    goal = Goal(captures=expected, then=then)
    finish(run, revisions, goal, output, up_to_date=up_to_date)


def _say_left_out(
    relations: Sequence[Relation],
    request: CaptureRequest,
    changes: Sequence[Change],
    audited: Collection[QualifiedName],
    state: RecordedState,
) -> None:
    """Name the tables that one might take for audited, and that are not."""
    if request.all_of_schema is not None:
        for relation, why in left_out(relations, request.all_of_schema, state.schema):
            say(f"{relation.name} is skipped: {why}")
    unlogged = {relation.name for relation in relations if relation.unlogged}
    for table in (change.table for change in changes if change.table in unlogged):
        say(f"{table} is UNLOGGED: a crash empties it, but not its trail")
    heirs = {heir.name: change.table for change in changes for heir in change.target.table.heirs}
    for heir, parent in heirs.items():
        if heir not in audited:
            command = f"audit install --table {shlex.quote(heir.plain)}"
            say(f"{heir} inherits from {parent} and is not audited; to audit its rows: {command}")


def _say_secrets(changes: Sequence[Change]) -> None:
    """Name what would be recorded in plain text, before anything is."""
    for change in changes:
        for column in secrets_in_clear(change.target):
            if accepted_because(column) is None:
                say(
                    f"{change.table}.{quote_identifier(column.name)} looks like a secret, and its values are "
                    "recorded in plain text; "
                    + (
                        "as part of the key, it cannot be hidden"
                        if column.name in change.target.table.key
                        else f"to hide them: --mask {shlex.quote(column.name)}"
                    )
                )


def _already(change: Change, former: Former, run: Run, applied: str | None) -> str:
    options = flags(former.rule)
    text = f"{change.table} is already audited, with {options or 'no options'} ({former.source})"
    return text if applied == change.hash else f"{text}; not applied yet: {run.upgrade_command()}"


def _capture_state(
    connection: psycopg.Connection[Any],
    relations: Sequence[Relation],
    request: CaptureRequest,
    schema: str,
) -> CaptureState:
    """What the database has; what the registry lacks is to be installed again, however well its triggers stand."""
    objects = read_trail_objects(connection, schema)
    found = read_capture_state(connection, relations, request, schema, objects=objects)
    return replace(found, drifted=found.drifted | unregistered_captures(connection, objects))


def _print_install_sql(
    request: CaptureRequest,
    interval: Interval | None,
    owner: str | None,
    schema: str | None,
    dsn: str | None,
    config: Path | None,
) -> None:
    state = state_without_project(schema)
    with open_database(dsn, config) as connection:
        found = _capture_state(connection, read_relations(connection), request, state.schema)
        require_present_trail(found.trail, state.schema)
        settings = trail_settings(
            state.schema, wanted=interval, present=found.interval, owner=owner
        )
        changes = plan_changes(request, found, state)
        check_conditions(connection, changes)
        _say_what_the_worker_needs(connection, changes)
    print_sql(
        [*([plan_trail(settings)] if found.interval is None else []), *(c.plan() for c in changes)]
    )
