"""What `audit install`, `uninstall` and `upgrade` share: project, database, and the end of a run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import read_relations, read_trail
from audit_toolkit.connection import choose_dsn, connect, fetch
from audit_toolkit.errors import AuditError, ProjectError, UnknownTableError, UsageError
from audit_toolkit.migrations import (
    Project,
    RecordedState,
    apply_revisions,
    find_project,
    installed_captures,
    recorded_state,
    write_revisions,
)
from audit_toolkit.migrations.changes import rename_revision
from audit_toolkit.migrations.django import find_app, migrate, read_applied
from audit_toolkit.migrations.environment import add_import, import_advice
from audit_toolkit.migrations.project import as_environment_has_it, shown
from audit_toolkit.migrations.renames import LaterNames, renamed_by_hand
from audit_toolkit.migrations.revision.record import DEFAULT_SCHEMA
from audit_toolkit.names import check_schema_name
from audit_toolkit.plan import Plan
from audit_toolkit.schema.publication import read_publications
from audit_toolkit.templates import query

if TYPE_CHECKING:
    import psycopg
    from typing_extensions import TypeIs

    from audit_toolkit.catalog import Relation
    from audit_toolkit.migrations import Change, Revision, WrittenRevision
    from audit_toolkit.migrations.django import DjangoApp
    from audit_toolkit.names import NamePattern, QualifiedName

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
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
            raise UsageError(f"{' and '.join(chosen)} cannot be combined", hint="use one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The project and the place in it that the options of a run name."""

    config: Path | None = None
    name: str | None = None
    version_path: Path | None = None
    head: str | None = None
    no_env: bool = False
    edit_env: bool = False
    django: str | None = None

    def begin(self, dsn: str | None, schema: str | None) -> Run:
        """The run there; raises `UsageError` where options of Alembic are given for Django."""
        if self.django is None:
            return Run.begin(dsn, self, schema)
        self.refuse_alembic_options()
        return Run.begin_django(dsn, self.django, schema)

    def refuse_alembic_options(self) -> None:
        """Raise `UsageError` where options of Alembic are given for Django."""
        if self != Where(django=self.django):
            raise UsageError(
                "--django cannot be combined with Alembic's options",
                hint="leave out --config, --name, --head, --version-path, --no-env and --edit-env",
            )

    def find(self) -> Project:
        """The project; raises `ProjectError` where there is none."""
        return find_project(
            self.config,
            name=self.name,
            version_path=self.version_path,
            run_env=not self.no_env,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What the database has when the revisions of a run are applied."""

    captures: Mapping[QualifiedName, str | None]
    """The hash of what captures each table; None for one that nothing captures any more."""
    trail: str | None = None
    """The hash of the trail, where the run is about it."""
    publications: Mapping[str, bool] = field(default_factory=dict)
    """Publications of the trail, and whether they are there."""
    then: str
    """The command to go on with."""

    def is_reached(self, connection: Connection, schema: str) -> bool:
        """Whether the database has it."""
        installed = installed_captures(connection, schema)
        hashes = {table: there.hash for table, there in installed.items()}
        if any(hashes.get(table) != wanted for table, wanted in self.captures.items()):
            return False
        if self.publications:
            there = {one.name: one.is_there for one in read_publications(connection, schema)}
            return all(
                there.get(name, False) is wanted for name, wanted in self.publications.items()
            )
        return self.trail in (None, (read_trail(connection, schema) or {}).get("hash"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The project and the database of a run."""

    project: Project | DjangoApp
    head: str | None
    state: RecordedState
    dsn: str
    dsn_is_of_project: bool
    """Whether the address is the one that env.py of the project has."""

    @classmethod
    def begin(cls, dsn: str | None, where: Where, schema: str | None) -> Run:
        """Find them, and refuse at once where no revision can be written, or the project is another one."""
        if schema is not None:
            check_schema_name(schema)
        project = where.find()
        project.check_template()
        own = choose_dsn(dsn)
        address = own or choose_dsn(None, project_url=project.static_url)
        project = present_project(project, where, address)
        follows = project.head(where.head)
        if where.edit_env:
            _edit_env(project)
        return cls(
            project=project,
            head=follows,
            state=recorded_state(project.scripts, follows, schema),
            dsn=address,
            dsn_is_of_project=not own and project.static_url is not None,
        )

    @classmethod
    def begin_django(cls, dsn: str | None, app: str, schema: str | None) -> Run:
        """The same for an app of a Django project."""
        if schema is not None:
            check_schema_name(schema)
        project = find_app(app)
        address = choose_dsn(dsn) or ""
        with connect(address, purpose="install") as connection:
            project = replace(project, applied=read_applied(connection))
        return cls(
            project=project,
            head=project.head,
            state=project.state(schema),
            dsn=address,
            dsn_is_of_project=False,
        )

    @contextmanager
    def reading(self) -> Iterator[tuple[Connection, list[Relation]]]:
        """A connection, and what relations there are; an unknown one may be still to come."""
        with connect(self.dsn, purpose="install") as connection:
            relations = read_relations(connection)
            try:
                yield connection, relations
            except UnknownTableError as error:
                reached = self._reached(connection)
                if self.head is None or reached is None or self.head in reached:
                    raise
                raise UnknownTableError(
                    error.message,
                    hint="revisions of the project are not applied to this database yet: "
                    f"{self.upgrade_command()}; otherwise, {error.hint}",
                ) from error

    def is_applied(self, connection: Connection) -> bool:
        """Whether the database has reached the head that the run follows; False if nobody knows."""
        return self.head in (self._reached(connection) or ())

    def require_applied(self, connection: Connection) -> None:
        """Raise `UsageError` where the database is known to be elsewhere than at that head."""
        reached = self._reached(connection)
        if reached is not None and self.head is not None and self.head not in reached:
            where = ", ".join(sorted(reached)) or "no revision of it"
            raise UsageError(
                f"the project is at {self.head}, but the database is at {where}",
                hint=f"upgrade the database first: {self.upgrade_command()}",
            )

    def recorded_as(self, pattern: NamePattern) -> QualifiedName | None:
        """The table that the project captures under another name, and that its later revisions call so."""
        if not _is_alembic(self.project):
            return None
        later = LaterNames(self.project.scripts)
        for table, recorded in self.state.captures.items():
            if recorded is not None:
                with self.project.reading():
                    now = later.of(table, recorded.revision)
                if now != table and pattern.matches(now, fold=True):
                    return table
        return None

    def rename_revisions(self, changes: Iterable[Change]) -> list[Revision]:
        """What has to come first, where tables were renamed by hand since the project captured them."""
        if not _is_alembic(self.project):
            return []
        recorded = [
            change
            for change in changes
            if change.former and self.state.captures.get(change.former.made_for)
        ]
        with self.project.reading():
            renames = renamed_by_hand(self.project.scripts, recorded, self.state)
        return [rename_revision(renames, self.state.schema)] if renames else []

    @property
    def schema_option(self) -> tuple[str, ...]:
        """What a command for this trail needs besides, where its schema is not the usual one."""
        schema = self.state.schema
        return () if schema == DEFAULT_SCHEMA else ("--audit-schema", shlex.quote(schema))

    def _reached(self, connection: Connection) -> set[str] | None:
        if _is_alembic(self.project):
            return _reached(connection)
        return self.project.reached(connection)

    def target(self, newest: str | None = None) -> str:
        """What `alembic upgrade` is to reach: head, or where there are several, our newest."""
        if not _is_alembic(self.project):
            return ""
        one = len(self.project.scripts.get_heads()) <= 1
        return "head" if one else newest or self.head or "heads"

    def upgrade_command(self, newest: str | None = None) -> str:
        """What the user types to apply what is written."""
        return f"{self.project.upgrade_command} {self.target(newest)}".rstrip()

    def write(self, revisions: Sequence[Revision]) -> list[WrittenRevision]:
        """Write the revisions into the project: all of them, or none."""
        if not _is_alembic(self.project):
            return self.project.write(revisions)
        return write_revisions(self.project, revisions, self.head)

    def apply(self, newest: str | None) -> None:
        """Apply them, as the user would."""
        if not _is_alembic(self.project):
            migrate(self.project)
        else:
            dsn = None if self.dsn_is_of_project else self.dsn
            apply_revisions(self.project, self.target(newest), dsn=dsn)


def finish(
    run: Run, revisions: Sequence[Revision], goal: Goal, output: Output, *, up_to_date: bool
) -> None:
    """Write the revisions, or say what they would be, and go on as was asked for."""
    if output.dry_run:
        print(_described(run, revisions))
        return
    written = run.write(revisions)
    for file in written:
        say(f"wrote {shown(file.path)}")
    for revision in revisions:
        if not revision.record.interval:
            say("\n" + "\n".join(revision.summary))
    if written:
        _advise(run, revisions)
    newest = written[-1].revision if written else None
    if output.upgrade and not up_to_date:
        _apply(run, goal, newest)
    if written:
        say("\napplied; next:" if output.upgrade else f"\nnext:\n  {run.upgrade_command(newest)}")
        say(f"  {goal.then}")


def _advise(run: Run, revisions: Sequence[Revision]) -> None:
    """Say what env.py lacks, with the first revision, and as long as the trail is in danger."""
    if not _is_alembic(run.project):
        return
    env = run.project.env
    first = any(revision.record.interval for revision in revisions)
    if (advice := import_advice(env)) and (first or "include_schemas" in env.read_text("utf-8")):
        say(
            f"\n{shown(env)} {advice}\nWithout it `alembic revision --autogenerate` does not "
            "see what is declared, and with include_schemas=True it\nproposes to drop the "
            "trail; --edit-env adds it."
        )
        if not run.project.runs_code:
            schema = revisions[0].record.schema
            say(
                "If audit-toolkit is not installed where the migrations run, pass this to "
                "context.configure() instead:\n"
                f"  include_name=lambda name, type_, parents: (type_, name) != {('schema', schema)}"
            )


def print_sql(plans: Sequence[Plan]) -> None:
    """One script, one transaction."""
    if plans:
        print(Plan(steps=tuple(step for plan in plans for step in plan.steps)).as_sql(), end="")


def state_without_project(schema: str | None) -> RecordedState:
    """What is known where no project records anything."""
    return RecordedState(schema=schema) if schema else RecordedState()


def say(text: str) -> None:
    """Talk goes to stderr."""
    print(text, file=sys.stderr)


def _is_alembic(project: Project | DjangoApp) -> TypeIs[Project]:
    return isinstance(project, Project)


def present_project(project: Project, where: Where, dsn: str) -> Project:
    """The project, if all that it is known by agrees: its files, and the revisions of the database.

    Raises `ProjectError` where it is only part of what the application migrates with. Who says where
    revisions go, or what they follow, knows better.
    """
    if project.version_path or where.head:
        return project
    if (strays := _strays(project, dsn)) and not where.no_env:
        project = as_environment_has_it(project)
        strays = _strays(project, dsn)
    hint = (
        "name the directory with --version-path DIRECTORY, or the head to build on with "
        "--head REVISION; permanently: alembic_config, alembic_name or version_path in "
        "[tool.audit_toolkit]"
    )
    if strays:
        raise ProjectError(
            f"the database is at {', '.join(strays)}, which is not a revision of the project "
            f"as loaded: {project.seen}",
            hint=hint,
        )
    if unread := project.unread():
        named = ", ".join(shown(file) for file in unread[:3])
        more = f" and {len(unread) - 3} more" if len(unread) > 3 else ""
        raise ProjectError(
            "the project has revisions that Alembic does not read with this configuration: "
            f"{named}{more}; {project.seen}",
            hint=hint,
        )
    return project


def _strays(project: Project, dsn: str) -> list[str]:
    """The revisions that the database is at, and the project does not have; none if nobody knows."""
    import psycopg

    try:
        with connect(dsn, purpose="install") as connection:
            reached = _version_tables(connection)
    except (AuditError, psycopg.Error):
        return []  # whoever needs the database will say what is wrong with it
    return unknown_revisions(reached, project)


def unknown_revisions(reached: Mapping[tuple[str, str], set[str]], project: Project) -> list[str]:
    """Of what the version tables of a database say, what the project does not have.

    Other projects may have version tables beside it. So one table that the project knows, or that
    env.py names, speaks for it.
    """
    named = project.environment.version_table if project.environment else None
    tables = [
        versions for (_, table), versions in reached.items() if versions and named in (None, table)
    ]
    if any(versions <= project.revisions for versions in tables):
        return []
    return sorted(set().union(*tables) - project.revisions)


def reached_heads(connection: Connection, project: Project) -> tuple[str, ...]:
    """The revisions of the project that the database is at; none where it is at none, or nobody may know."""
    import psycopg

    try:
        reached = _version_tables(connection)
    except psycopg.Error:
        return ()
    return tuple(sorted(set().union(*reached.values()) & project.revisions))


def _edit_env(project: Project) -> None:
    if add_import(project.env):
        say(f"edited {shown(project.env)}: it now imports audit_toolkit.alembic")


def _described(run: Run, revisions: Sequence[Revision]) -> str:
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


def _apply(run: Run, goal: Goal, newest: str | None) -> None:
    """Let Alembic apply the revisions, and see whether they arrived where we look."""
    run.apply(newest)
    with connect(run.dsn, purpose="install") as connection:
        if not goal.is_reached(connection, run.state.schema):
            raise AuditError(
                "alembic upgrade succeeded, but the changes are not in this database",
                hint="env.py decides which database is upgraded: give --dsn the address of that "
                "one; if this is the one, env.py executes something before "
                "context.configure() and never commits: call connection.commit() after that",
            )


def _reached(connection: Connection) -> set[str] | None:
    """The revisions that the database is at; None when we may not know."""
    import psycopg

    try:
        return set().union(*_version_tables(connection).values())
    except psycopg.Error:
        return None


def _version_tables(connection: Connection) -> dict[tuple[str, str], set[str]]:
    """What each version table of Alembic says, by its schema and name."""
    from psycopg import sql

    versions = sql.SQL("select version_num from {}.{}")
    tables = [
        (row["schema_name"], row["table_name"])
        for row in fetch(connection, query("version_tables"))
    ]
    return {
        table: {v for (v,) in connection.execute(versions.format(*map(sql.Identifier, table)))}
        for table in tables
    }
