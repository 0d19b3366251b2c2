"""`audit install` and `audit uninstall`: capture, as revisions of the user's project."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from audit_toolkit.config import Capture, Interval, Mask, OnOversize, Store, TableRule, Truncate
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.names import NamePattern, QualifiedName

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.catalog import Relation
    from audit_toolkit.migrations import Change, Former, Revision, State, Wish

    Connection = psycopg.Connection[Any]


Names = list[str] | None
Tables = Annotated[
    Names,
    typer.Option(
        "--table", "-t", metavar="TABLE", help="The table: orders, or sales.orders. Repeatable."
    ),
]


def install(
    context: typer.Context,
    table: Tables = None,
    all_tables: Annotated[
        bool,
        typer.Option(
            "--all-tables", help="Every table of --schema; what is audited already stays as it is."
        ),
    ] = False,
    schema: Annotated[
        Names,
        typer.Option(
            "--schema",
            metavar="SCHEMA",
            help="For --all-tables: a schema, or a pattern as in 'tenant_*'. [default: public]",
        ),
    ] = None,
    leave_out: Annotated[
        Names,
        typer.Option("--except", metavar="TABLE", help="For --all-tables: but this. Repeatable."),
    ] = None,
    capture: Annotated[
        Capture,
        typer.Option("--capture", help="Each row, or a statement at once: for bulk-heavy tables."),
    ] = Capture.ROW,
    exclude: Annotated[
        Names,
        typer.Option("--exclude", metavar="COLUMN", help="A column to leave out. Repeatable."),
    ] = None,
    only: Annotated[
        Names,
        typer.Option(
            "--only", metavar="COLUMN", help="A column to keep, with the key alone. Repeatable."
        ),
    ] = None,
    mask: Annotated[
        Names,
        typer.Option(
            "--mask",
            metavar="COLUMN[=METHOD]",
            help="A column whose values get a stand-in: redact (default), length, sha256 (with "
            "the trail's secret key) or sha256-plain. Repeatable.",
        ),
    ] = None,
    store: Annotated[
        Store, typer.Option("--store", help="What new_row holds of an update: all, or changes.")
    ] = Store.ROWS,
    when: Annotated[
        str | None,
        typer.Option(
            "--when",
            metavar="SQL",
            help="Record only changes of rows that fulfil it, before or after.",
        ),
    ] = None,
    truncate: Annotated[
        Truncate, typer.Option("--truncate", help="TRUNCATE leaves an event or all rows, or fails.")
    ] = Truncate.EVENT,
    on_oversize: Annotated[
        OnOversize,
        typer.Option("--on-oversize", help="Values beyond JSONB's limit: fail, or mark by hash."),
    ] = OnOversize.FAIL,
    require_context: Annotated[
        str | None,
        typer.Option(
            "--require-context",
            metavar="KEY",
            help="Refuse local changes without it in their context.",
        ),
    ] = None,
    capture_query: Annotated[
        bool, typer.Option("--capture-query", help="Keep the text of the statement, too.")
    ] = False,
    force_capture_query: Annotated[
        bool,
        typer.Option(
            "--force-capture-query", help="Likewise, though it shows what other columns hide."
        ),
    ] = False,
    log_unchanged: Annotated[
        bool, typer.Option("--log-unchanged", help="Record updates that change nothing, too.")
    ] = False,
    touch: Annotated[
        Names,
        typer.Option(
            "--touch",
            metavar="COLUMN",
            help="A column such as updated_at, which audit revert neither compares nor puts back. "
            "Repeatable.",
        ),
    ] = None,
    interval: Annotated[
        Interval | None,
        typer.Option(
            "--interval",
            help="How long a partition of the trail is, for the first run. [default: month]",
        ),
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(
            "--owner",
            metavar="ROLE",
            help="Who owns the trail, for the first run. [default: the role that migrates]",
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
    """Audit a table: write the revision that puts capture on it into your Alembic project.

    The first run also writes the revision that creates the trail. The options from --capture to
    --touch are the rule of the table: given for a table that is audited already they take the
    place of all it had; without any it keeps its rule.
    """
    from audit_toolkit.migrations import Wish

    if only and all_tables:
        raise UsageError(
            "--only names the columns of one table, and --all-tables means many",
            hint="install that table by itself: --table NAME --only COLUMN",
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
    wish = Wish(
        names=tuple(table or ()),
        all_of_schema=_schema_to_sweep(table, schema, all_tables=all_tables, leave_out=leave_out),
        leave_out=tuple(leave_out or ()),
        rule=rule if _rule_is_given(context) else None,
    )
    if not (wish.names or all_tables):
        raise UsageError(
            "no table is named", hint="name one with --table, or all with --all-tables"
        )
    output = Output(upgrade=upgrade, sql=sql, dry_run=dry_run)
    if sql:
        _print_install_sql(wish, interval, owner, audit_schema, dsn, config)
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
    _install(run, wish, interval, owner, message, output)


def uninstall(
    table: Tables = None,
    all_tables: Annotated[
        bool, typer.Option("--all-tables", help="Every audited table of --schema.")
    ] = False,
    schema: Annotated[
        Names,
        typer.Option(
            "--schema",
            metavar="SCHEMA",
            help="For --all-tables: a schema, or a pattern as in 'tenant_*'. [default: public]",
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
    """Stop auditing a table: write the revision that takes capture off it. Its events stay."""
    swept = _schema_to_sweep(table, schema, all_tables=all_tables, leave_out=None)
    if not (table or swept):
        raise UsageError(
            "no table is named", hint="name one with --table, or all with --all-tables"
        )
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


def _rule_is_given(context: typer.Context) -> bool:
    """Whether any option of a rule was typed, be it with the default as its value."""
    sources = (context.get_parameter_source(field.name) for field in fields(TableRule))
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


def _schema_to_sweep(
    tables: Sequence[str] | None,
    schemas: Sequence[str] | None,
    *,
    all_tables: bool,
    leave_out: Sequence[str] | None,
) -> str | None:
    if all_tables and tables:
        raise UsageError(
            "--table names tables, and --all-tables means all: only one of them can be given",
            hint="run the command once for each",
        )
    if schemas and len(schemas) > 1:
        raise UsageError(
            "--schema can be given once",
            hint="run the command for each schema, or match several: --schema 'tenant_*'",
        )
    if all_tables:
        return schemas[0] if schemas else "public"
    if schemas or leave_out:
        raise UsageError(
            "--schema and --except are for --all-tables",
            hint="add --all-tables, or name a table in a schema: --table sales.orders",
        )
    return None


def _install(
    run: Run,
    wish: Wish,
    interval: Interval | None,
    owner: str | None,
    message: str | None,
    output: Output,
) -> None:
    from audit_toolkit.migrations import (
        capture_revision,
        check_conditions,
        plan_changes,
        require_present_trail,
        survey,
        trail_revision,
        trail_settings,
    )

    state = run.state
    with run.reading() as (connection, relations):
        found = survey(connection, relations, wish, state.schema)
        applied = run.is_applied(connection)
        present = state.interval or found.interval
        settings = trail_settings(state.schema, wanted=interval, present=present, owner=owner)
        changes = plan_changes(wish, found, state, applied=applied)
        check_conditions(connection, changes)
    needed = [change for change in changes if change.needed]
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
    _say_left_out(relations, wish, changes, {*hashes, *(change.table for change in changes)}, state)
    expected = {change.table: change.hash for change in changes}
    up_to_date = not needed and expected.items() <= hashes.items()
    goal = Goal(captures=expected, then=_history_command(run, expected))
    finish(run, revisions, goal, output, up_to_date=up_to_date)


def _say_left_out(
    relations: Sequence[Relation],
    wish: Wish,
    changes: Sequence[Change],
    audited: Collection[QualifiedName],
    state: State,
) -> None:
    """Name the tables that one might take for audited, and that are not."""
    from audit_toolkit.capture.selection import left_out

    if wish.all_of_schema is not None:
        for relation, why in left_out(relations, wish.all_of_schema, state.schema):
            say(f"{relation.name} is left out: {why}")
    unlogged = {relation.name for relation in relations if relation.unlogged}
    for table in (change.table for change in changes if change.table in unlogged):
        say(f"{table} is UNLOGGED: a crash of the server empties it, and its trail goes on")
    heirs = {heir.name: change.table for change in changes for heir in change.target.table.heirs}
    for heir, parent in heirs.items():
        if heir not in audited:
            command = f"audit install --table {shlex.quote(heir.plain)}"
            say(f"{heir} inherits from {parent} and is not audited; for its rows: {command}")


def _already(change: Change, former: Former, run: Run, applied: str | None) -> str:
    from audit_toolkit.migrations.revision.rule_text import flags

    options = flags(former.rule)
    text = f"{change.table} is audited already, with {options or 'no options'} ({former.source})"
    return text if applied == change.hash else f"{text}; not applied yet: {run.upgrade_command()}"


def _audited_in(run: Run, schema: str) -> list[str]:
    """The audited tables of a schema, or of all that a pattern matches: of the project and of the database."""
    from audit_toolkit.migrations import installed_captures

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
    from audit_toolkit.migrations import Former, release_revision

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
            say(f"{table} is not audited any more: a revision of the project says so already")
    if elsewhere:
        with run.reading() as (connection, relations):
            captured |= _captured(connection, relations, elsewhere, run.state)
    revisions = [release_revision(captured, run.state.schema, message)] if captured else []
    goal = Goal(captures=dict.fromkeys(captured), then=_history_command(run, captured))
    finish(run, revisions, goal, output, up_to_date=not captured)


def _renamed(
    run: Run,
) -> tuple[dict[QualifiedName, tuple[QualifiedName, Former]], set[QualifiedName]]:
    """Tables by the name under which they were captured, where they have another now, with what captures them.

    And those of the former names that other tables have taken over: who gives one means the table that has it now.
    """
    from audit_toolkit.catalog import read_table
    from audit_toolkit.migrations import Former, installed_captures

    try:
        with run.reading() as (connection, relations):
            present = {relation.name: relation for relation in relations}
            renamed = {
                one.made_for: (
                    one.table,
                    Former.of_database(
                        one, read_table(connection, present[one.table]), run.state.schema
                    ),
                )
                for one in installed_captures(connection, run.state.schema).values()
                if one.made_for != one.table and one.table in present
            }
            return renamed, renamed.keys() & present.keys()
    except AuditError:
        return {}, set()  # to write what the project itself records needs no database


def _captured(
    connection: Connection, relations: Sequence[Relation], names: Sequence[str], state: State
) -> dict[QualifiedName, Former]:
    """What captures these tables; says so of those that nothing captures."""
    from audit_toolkit.catalog import read_table, resolve
    from audit_toolkit.migrations import former_capture, installed_captures

    installed = installed_captures(connection, state.schema)
    found = {}
    for relation in [resolve(name, relations) for name in names]:
        if former := former_capture(read_table(connection, relation), installed, state):
            found[relation.name] = former
        else:
            say(f"{relation.name} is not audited")
    return found


def _history_command(run: Run, tables: Iterable[QualifiedName]) -> str:
    from audit_toolkit.migrations.revision.rule_text import short

    names = [shlex.quote(short(table)) for table in tables]
    return " ".join(["audit history", *names[:1], *run.schema_option])


def _print_install_sql(
    wish: Wish,
    interval: Interval | None,
    owner: str | None,
    schema: str | None,
    dsn: str | None,
    config: Path | None,
) -> None:
    from audit_toolkit.catalog import read_relations
    from audit_toolkit.migrations import (
        check_conditions,
        plan_changes,
        require_present_trail,
        survey,
        trail_settings,
    )
    from audit_toolkit.schema import plan_trail

    state = state_without_project(schema)
    with open_database(dsn, config) as connection:
        found = survey(connection, read_relations(connection), wish, state.schema)
        require_present_trail(found.trail, state.schema)
        settings = trail_settings(
            state.schema, wanted=interval, present=found.interval, owner=owner
        )
        changes = plan_changes(wish, found, state)
        check_conditions(connection, changes)
    print_sql(
        [*([plan_trail(settings)] if found.interval is None else []), *(c.plan() for c in changes)]
    )


def _print_uninstall_sql(
    names: Sequence[str],
    swept: str | None,
    schema: str | None,
    dsn: str | None,
    config: Path | None,
) -> None:
    from audit_toolkit.capture import plan_release
    from audit_toolkit.catalog import read_relations
    from audit_toolkit.migrations import installed_captures

    state = state_without_project(schema)
    with open_database(dsn, config) as connection:
        installed = installed_captures(connection, state.schema)
        names = [*names, *(_of_schema(installed, swept) if swept else ())]
        captured = _captured(connection, read_relations(connection), names, state)
    print_sql(
        [
            plan_release(table, state.schema, function=former.function)
            for table, former in captured.items()
        ]
    )
