"""`audit install`, `audit uninstall`, `audit init`: capture, as revisions of the user's project."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn
from audit_toolkit.config import Capture, Interval, Mask, OnOversize, Store, TableRule, Truncate
from audit_toolkit.errors import AuditError, UnknownTableError, UsageError
from audit_toolkit.names import NamePattern, QualifiedName

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.catalog import Relation
    from audit_toolkit.migrations import Change, Former, Project, Revision, State, Wish
    from audit_toolkit.plan import Plan

    Connection = psycopg.Connection[Any]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(install)
    app.command()(uninstall)
    app.command()(init)


Names = list[str] | None
Tables = Annotated[
    Names,
    typer.Option(
        "--table", "-t", metavar="TABLE", help="The table: orders, or sales.orders. Repeatable."
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
Schema = Annotated[
    str | None,
    typer.Option(
        "--audit-schema",
        metavar="SCHEMA",
        help="The schema of the audit trail. [default: that of the project, else audit]",
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
        str | None,
        typer.Option("--schema", metavar="SCHEMA", help="For --all-tables. [default: public]"),
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
        typer.Option("--when", metavar="SQL", help="Record only where this is true of old, new."),
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
            "--require-context", metavar="KEY", help="Refuse changes without it in their context."
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
    audit_schema: Schema = None,
    message: Message = None,
    head: Head = None,
    upgrade: Upgrade = False,
    sql: PrintSql = False,
    dry_run: DryRun = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Audit a table: write the revision that puts capture on it into your Alembic project.

    The first run also writes the revision that creates the trail. The options from --capture to
    --log-unchanged are the rule of the table: given for a table that is audited already they take the
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
    )
    wish = Wish(
        names=tuple(table or ()),
        all_of_schema=_schema_to_sweep(schema, all_tables=all_tables, leave_out=leave_out),
        leave_out=tuple(leave_out or ()),
        rule=rule if _rule_is_given(context) else None,
    )
    if not (wish.names or all_tables):
        raise UsageError(
            "no table is named", hint="name one with --table, or all with --all-tables"
        )
    output = _Output(upgrade=upgrade, sql=sql, dry_run=dry_run)
    if sql:
        _print_install_sql(wish, interval, owner, audit_schema, dsn, config)
        return
    run = _Run.begin(dsn, config, head, audit_schema)
    _install(run, wish, interval, owner, message, output)


def uninstall(
    table: Tables = None,
    audit_schema: Schema = None,
    message: Message = None,
    head: Head = None,
    upgrade: Upgrade = False,
    sql: PrintSql = False,
    dry_run: DryRun = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Stop auditing a table: write the revision that takes capture off it. Its events stay."""
    if not table:
        raise UsageError("no table is named", hint="name one with --table")
    output = _Output(upgrade=upgrade, sql=sql, dry_run=dry_run)
    if sql:
        _print_uninstall_sql(table, audit_schema, dsn, config)
        return
    run = _Run.begin(dsn, config, head, audit_schema)
    _uninstall(run, table, message, output)


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="Where its scripts go.")
    ] = Path("migrations"),
    template: Annotated[
        str, typer.Option("--template", help="Alembic's template: generic, async, pyproject, …")
    ] = "generic",
) -> None:
    """Create an Alembic project here, with Alembic's own template; env.py takes DATABASE_URL."""
    from audit_toolkit.migrations import init_project

    for path in init_project(directory, template=template):
        _say(f"created {path}")
    _say("\nnext, with the address of your database in DATABASE_URL:")
    _say("  audit install --table NAME --upgrade")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Output:
    """What a run is for, when it is not only to write revisions."""

    upgrade: bool
    sql: bool
    dry_run: bool

    def __post_init__(self) -> None:
        chosen = [
            option
            for option, given in (
                ("--upgrade", self.upgrade),
                ("--sql", self.sql),
                ("--dry-run", self.dry_run),
            )
            if given
        ]
        if len(chosen) > 1:
            raise UsageError(
                f"{' and '.join(chosen)} contradict each other", hint="use one of them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The project and the database of a run."""

    project: Project
    head: str | None
    state: State
    dsn: str
    dsn_is_of_project: bool
    """Whether the address is the one that env.py of the project has."""

    @classmethod
    def begin(
        cls, dsn: str | None, config: Path | None, head: str | None, schema: str | None
    ) -> _Run:
        """Find them, and refuse at once where no revision can be written."""
        from audit_toolkit.connection import choose_dsn
        from audit_toolkit.migrations import find_project, recorded_state
        from audit_toolkit.names import check_schema_name

        if schema is not None:
            check_schema_name(schema)
        project = find_project(config)
        follows = project.head(head)
        own = choose_dsn(dsn)
        return cls(
            project=project,
            head=follows,
            state=recorded_state(project.scripts, follows, schema),
            dsn=own or choose_dsn(None, project_url=project.static_url),
            dsn_is_of_project=not own and project.static_url is not None,
        )

    @contextmanager
    def reading(self) -> Iterator[tuple[Connection, list[Relation]]]:
        """A connection, and what relations there are; an unknown one may be still to come."""
        from audit_toolkit.catalog import read_relations
        from audit_toolkit.connection import connect

        with connect(self.dsn, purpose="install") as connection:
            relations = read_relations(connection)
            try:
                yield connection, relations
            except UnknownTableError as error:
                reached = _reached(connection, relations)
                if self.head is None or reached is None or self.head in reached:
                    raise
                raise UnknownTableError(
                    error.message,
                    hint="revisions of the project are not applied to this database yet: "
                    f"{self.upgrade_command()}; or else, {error.hint}",
                ) from error

    def target(self, newest: str | None = None) -> str:
        """What `alembic upgrade` is to reach: head, or where there are several, our newest."""
        one = len(self.project.scripts.get_heads()) <= 1
        return "head" if one else newest or self.head or "heads"

    def upgrade_command(self, newest: str | None = None) -> str:
        """What the user types to apply what is written."""
        return f"{self.project.upgrade_command} {self.target(newest)}"


def _rule_is_given(context: typer.Context) -> bool:
    """Whether any option of a rule was typed, be it with the default as its value."""
    sources = (context.get_parameter_source(field.name) for field in fields(TableRule))
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


def _schema_to_sweep(
    schema: str | None, *, all_tables: bool, leave_out: Sequence[str] | None
) -> str | None:
    if all_tables:
        return schema or "public"
    if schema is not None or leave_out:
        raise UsageError(
            "--schema and --except are for --all-tables",
            hint="add --all-tables, or name a table in a schema: --table sales.orders",
        )
    return None


def _install(
    run: _Run,
    wish: Wish,
    interval: Interval | None,
    owner: str | None,
    message: str | None,
    output: _Output,
) -> None:
    from audit_toolkit.migrations import (
        capture_revision,
        plan_changes,
        survey,
        trail_revision,
        trail_settings,
    )

    state = run.state
    with run.reading() as (connection, relations):
        found = survey(connection, relations, wish, state.schema)
        applied = run.head in (_reached(connection, relations) or ())
    present = state.interval or found.interval
    settings = trail_settings(state.schema, wanted=interval, present=present, owner=owner)
    changes = plan_changes(wish, found, state, applied=applied)
    needed = [change for change in changes if change.needed]
    revisions: list[Revision] = []
    if needed:
        lost = applied and found.interval is None
        revisions += [trail_revision(settings)] if lost or state.interval is None else []
        revisions.append(capture_revision(needed, state.schema, message))
    hashes = {name: installed.hash for name, installed in found.installed.items()}
    for change in changes:
        if not change.needed and change.former:
            _say(_already(change, change.former, run, hashes.get(change.table)))
    expected = {change.table: change.hash for change in changes}
    up_to_date = not needed and expected.items() <= hashes.items()
    _finish(run, revisions, expected, output, up_to_date=up_to_date)


def _already(change: Change, former: Former, run: _Run, applied: str | None) -> str:
    from audit_toolkit.migrations.wording import flags

    options = flags(former.rule)
    text = f"{change.table} is audited already, with {options or 'no options'} ({former.source})"
    return text if applied == change.hash else f"{text}; not applied yet: {run.upgrade_command()}"


def _uninstall(run: _Run, names: Sequence[str], message: str | None, output: _Output) -> None:
    from audit_toolkit.migrations import Former, release_revision

    captured: dict[QualifiedName, Former] = {}
    elsewhere = []
    for name in names:
        table = run.state.find(NamePattern.parse(name))
        if table is None:
            elsewhere.append(name)
        elif recorded := run.state.captures[table]:
            captured[table] = Former.of(recorded)
        else:
            _say(f"{table} is not audited any more: a revision of the project says so already")
    if elsewhere:
        with run.reading() as (connection, relations):
            captured |= _captured(connection, relations, elsewhere, run.state)
    revisions = [release_revision(captured, run.state.schema, message)] if captured else []
    _finish(run, revisions, dict.fromkeys(captured), output, up_to_date=not captured)


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
            _say(f"{relation.name} is not audited")
    return found


def _finish(
    run: _Run,
    revisions: Sequence[Revision],
    expected: Mapping[QualifiedName, str | None],
    output: _Output,
    *,
    up_to_date: bool,
) -> None:
    """Write the revisions, or say what they would be, and go on as was asked for."""
    from audit_toolkit.migrations import write_revisions
    from audit_toolkit.migrations.project import shown

    if output.dry_run:
        print(_described(run, revisions))
        return
    written = write_revisions(run.project, revisions, run.head)
    for file in written:
        _say(f"wrote {shown(file.path)}")
    for revision in revisions:
        if not revision.record.interval:
            _say("\n" + "\n".join(revision.summary))
    newest = written[-1].revision if written else None
    if output.upgrade and not up_to_date:
        _apply(run, expected, newest)
    if written:
        _say("\napplied; next:" if output.upgrade else f"\nnext:\n  {run.upgrade_command(newest)}")
        _say(f"  {_history_command(run, next(iter(expected)))}")


def _described(run: _Run, revisions: Sequence[Revision]) -> str:
    from audit_toolkit.migrations.project import shown

    if not revisions:
        return "nothing to write"
    place = shown(run.project.version_directory(run.head))
    lines = [
        f"would write into {place}, {f'following {run.head}' if run.head else 'to begin with'}:"
    ]
    for revision in revisions:
        lines += ["", revision.message, *(f"  {text}" for text in revision.summary)]
        for step in (step for script in revision.upgrade for step in script.steps):
            lock = f" [lock: {step.lock}]" if step.lock != "none" else ""
            lines.append(f"  - {step.why}{lock}")
    return "\n".join(lines)


def _apply(run: _Run, expected: Mapping[QualifiedName, str | None], newest: str | None) -> None:
    """Let Alembic apply the revisions, and see whether they arrived where we look."""
    from audit_toolkit.connection import connect
    from audit_toolkit.migrations import installed_captures, upgrade

    upgrade(run.project, run.target(newest), dsn=None if run.dsn_is_of_project else run.dsn)
    with connect(run.dsn, purpose="install") as connection:
        installed = installed_captures(connection, run.state.schema)
    hashes = {table: there.hash for table, there in installed.items()}
    if any(hashes.get(table) != wanted for table, wanted in expected.items()):
        raise AuditError(
            "the database does not have it, although alembic upgrade ended well",
            hint="env.py decides which database is upgraded: give --dsn the address of that one",
        )


def _history_command(run: _Run, table: QualifiedName) -> str:
    from audit_toolkit.migrations.record import DEFAULT_SCHEMA
    from audit_toolkit.migrations.wording import short

    schema = run.state.schema
    elsewhere = "" if schema == DEFAULT_SCHEMA else f" --audit-schema {shlex.quote(schema)}"
    return f"audit history {shlex.quote(short(table))}{elsewhere}"


def _reached(connection: Connection, relations: Sequence[Relation]) -> set[str] | None:
    """The revisions that the database is at; None when we may not know."""
    import psycopg
    from psycopg import sql

    query = sql.SQL("select version_num from {}.{}")
    reached: set[str] = set()
    try:
        for name in (r.name for r in relations if r.name.name == "alembic_version"):
            table = query.format(sql.Identifier(name.schema), sql.Identifier(name.name))
            reached |= {row[0] for row in connection.execute(table)}
    except psycopg.Error:
        return None
    return reached


def _print_install_sql(
    wish: Wish,
    interval: Interval | None,
    owner: str | None,
    schema: str | None,
    dsn: str | None,
    config: Path | None,
) -> None:
    from audit_toolkit.catalog import read_relations
    from audit_toolkit.install import plan_trail
    from audit_toolkit.migrations import State, plan_changes, survey, trail_settings

    state = State(schema=schema) if schema else State()
    with open_database(dsn, config) as connection:
        found = survey(connection, read_relations(connection), wish, state.schema)
    settings = trail_settings(state.schema, wanted=interval, present=found.interval, owner=owner)
    changes = plan_changes(wish, found, state)
    _print_sql(
        [*([plan_trail(settings)] if found.interval is None else []), *(c.plan() for c in changes)]
    )


def _print_uninstall_sql(
    names: Sequence[str], schema: str | None, dsn: str | None, config: Path | None
) -> None:
    from audit_toolkit.catalog import read_relations
    from audit_toolkit.install import plan_release
    from audit_toolkit.migrations import State

    state = State(schema=schema) if schema else State()
    with open_database(dsn, config) as connection:
        captured = _captured(connection, read_relations(connection), names, state)
    _print_sql([plan_release(t, state.schema, former.triggers) for t, former in captured.items()])


def _print_sql(plans: Sequence[Plan]) -> None:
    """One script, one transaction."""
    from audit_toolkit.plan import Plan

    if plans:
        print(Plan(steps=tuple(step for plan in plans for step in plan.steps)).as_sql(), end="")


def _say(text: str) -> None:
    print(text, file=sys.stderr)
