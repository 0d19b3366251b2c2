"""`audit check`: is the trail on, whole, and what the project says it is?"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from audit_toolkit.capture.condition_drift import unusable_conditions
from audit_toolkit.capture.declared import declared_findings, declared_tables
from audit_toolkit.capture.drift import audited_tables
from audit_toolkit.capture.required import coverage_findings
from audit_toolkit.catalog import parse_comment, read_relations, read_tables, resolve
from audit_toolkit.catalog.trail import read_trail_objects
from audit_toolkit.cli.check_output import CheckFormat, FailOn, ReportFormat, end_with
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.monitoring import TIMEOUT, Timeout, impatient
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.remedies import runs_here
from audit_toolkit.cli.sync import project_wants
from audit_toolkit.connection import fetch, first_line, import_psycopg
from audit_toolkit.declaration import find_declarations
from audit_toolkit.drift import find_drift
from audit_toolkit.errors import AuditError, PermissionDeniedError
from audit_toolkit.findings import Finding, FindingKind, Report, Severity
from audit_toolkit.indexes import Scope, diagnose, index_report, plan_repairs, read_catalogue
from audit_toolkit.migrations import Project, conflicts_of_branches, find_project, plan_sync
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions import Policy, Thresholds, check_partitions, read_partitions
from audit_toolkit.schema.forged_events import NEWEST, event_findings
from audit_toolkit.schema.moved_trail import cluster_findings, in_order
from audit_toolkit.schema.publication import publication_findings, read_publications
from audit_toolkit.schema.renamed_within import renamed_findings
from audit_toolkit.templates import render

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

    from audit_toolkit.catalog import Relation, Table
    from audit_toolkit.catalog.trail import TrailObjects

    Connection = psycopg.Connection[Any]

Archive = Annotated[
    str | None,
    typer.Option(
        "--archive",
        metavar="URL",
        envvar="AUDIT_ARCHIVE",
        help="Also check that dropped partitions are in this archive.",
        show_default=False,
    ),
]


def check(
    table: Annotated[
        list[str] | None,
        typer.Option("--table", "-t", metavar="TABLE", help="Check only this table. Repeatable."),
    ] = None,
    fail_on: FailOn = Severity.WARNING,
    all_events: Annotated[
        bool,
        typer.Option(
            "--all-events",
            help="Look for forged events in the whole trail, not only in the newest 10,000.",
        ),
    ] = False,
    output: CheckFormat = ReportFormat.TEXT,
    audit_schema: TrailSchema = "audit",
    archive: Archive = None,
    timeout: Timeout = TIMEOUT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Check that capture and the trail are as installed.

    Exits with code 3 if something is wrong. Reads catalogs and the newest events, takes no locks, and
    needs no right to write, so it can run in production.
    """
    with (
        open_database(dsn, config) as connection,
        impatient(connection, audit_schema, timeout),
    ):
        catalogue = _Catalogue.read(connection, audit_schema)
        findings = check_database(
            connection,
            audit_schema,
            tuple(table or ()),
            catalogue=catalogue,
            archive=archive,
            all_events=all_events,
            config=config,
        )
        project = _find_project(config)
        recorded = _recorded_findings(connection, project, catalogue, tuple(table or ()))
    findings = _with_recorded(findings, recorded)
    findings += [] if table else _branch_findings(project, audit_schema)
    end_with(trail_report(findings), output, fail_on)


def trail_report(findings: Sequence[Finding]) -> Report:
    """The report of `audit check`."""
    is_well = all(finding.accepted is not None for finding in findings)
    return Report(
        command="check",
        findings=tuple(findings),
        verdict="OK: everything installed is present, unchanged and enabled" if is_well else "",
    )


@dataclass(frozen=True, slots=True)
class _Catalogue:
    """What the catalogue says of the trail and of tables: read once, as it takes a second of hundreds of tables."""

    objects: TrailObjects
    relations: Sequence[Relation]
    tables: Mapping[QualifiedName, Table]
    """The audited ones that are there."""

    @classmethod
    def read(cls, connection: Connection, schema: str) -> Self:
        objects = read_trail_objects(connection, schema, whole=True)
        relations = read_relations(connection)
        present = {relation.name: relation for relation in relations}
        wanted = dict.fromkeys(audited_tables(objects))
        tables = read_tables(connection, [present[name] for name in wanted if name in present])
        return cls(objects, relations, {one.name: table for one, table in tables.items()})

    def named(self, names: tuple[str, ...]) -> list[QualifiedName]:
        return [resolve(name, self.relations).name for name in names]


def check_database(
    connection: Connection,
    schema: str,
    names: tuple[str, ...] = (),
    *,
    catalogue: _Catalogue | None = None,
    now: datetime | None = None,
    models: bool = True,
    policy: Policy | None = None,
    archive: str | None = None,
    all_events: bool = False,
    config: Path | None = None,
) -> list[Finding]:
    """Everything that is off: capture, partitions, indexes, events, the archive; or capture of some tables alone.

    Without `models` no code of the project is imported, and what only they declare is not known. `catalogue` is what
    has been read of it.
    """
    catalogue = catalogue or _Catalogue.read(connection, schema)
    objects, tables = catalogue.objects, catalogue.tables
    conditions = unusable_conditions(connection, objects, tables)
    found = find_drift(objects, tables, paused=_pauses(connection, objects), conditions=conditions)
    found += _declared_findings(catalogue, models=models)
    found += _coverage_findings(catalogue, names)
    found = in_order([*found, *_cluster_findings(connection, objects)])
    if names:
        wanted = {str(name) for name in catalogue.named(names)}
        named = [f for f in found if any(name in f.subject for name in wanted)]
        named = _without_echoes([*named, *_wal_findings(connection, catalogue, names)])
        return _accepted(_runnable(named, config, schema), schema)
    if not {finding.kind for finding in found} & {
        FindingKind.TRAIL_MISSING,
        FindingKind.COMMENT_CHANGED,
        FindingKind.TRAIL_RENAMED,
    }:
        found += [
            *_partition_findings(connection, schema, now, policy),
            *_index_findings(connection, schema),
            *_archive_findings(connection, schema, archive),
            *_event_findings(connection, schema, all_events=all_events),
            *_seal_findings(connection, schema),
            *_guard_findings(connection, schema),
            *_consumer_findings(connection, schema),
            *_publication_findings(connection, schema),
            *_wal_findings(connection, catalogue),
            *_witness_findings(connection, schema),
        ]
    found = sorted(_without_echoes(found), key=lambda finding: finding.severity.value)
    return _accepted(_runnable(found, config, schema), schema)


def _without_echoes(findings: list[Finding]) -> list[Finding]:
    """The findings without triggers that are off because the WAL is read, where the publication was changed."""
    changed = {f.subject for f in findings if f.kind is FindingKind.PUBLICATION_CHANGED}
    return [
        finding
        for finding in findings
        if finding.kind is not FindingKind.TRIGGER_DISABLED
        or finding.subject.rpartition(" on ")[2] not in changed
    ]


def _runnable(findings: list[Finding], config: Path | None, schema: str) -> list[Finding]:
    """The findings with remedies that run where they are read."""
    return [replace(f, remedy=runs_here(f.remedy, config, schema)) for f in findings]


def _find_project(config: Path | None) -> Project | None:
    """The project whose files are read, and none is run; None where none is, or none that can be read."""
    try:
        return find_project(config, run_env=False)
    except AuditError:
        return None


def _recorded_findings(
    connection: Connection, project: Project | None, catalogue: _Catalogue, names: tuple[str, ...]
) -> list[Finding]:
    """What the project's revisions record, and the database lacks."""
    if project is None:
        return []
    objects = catalogue.objects
    schema = objects.schema
    option = "" if schema == "audit" else f" --audit-schema {shlex.quote(schema)}"
    try:
        wants = project_wants(connection, project, schema)
        found = (
            plan_sync(
                connection, catalogue.relations, wants, objects=objects, known=catalogue.tables
            )
            if wants
            else None
        )
    except AuditError:
        return []  # revisions that cannot be read, or another finding says what is wrong
    findings = list(found.findings(f"audit sync --apply{option}")) if found else []
    left = _former_names(objects)
    findings = [finding for finding in findings if finding.subject not in left]
    if names:
        asked = {str(name) for name in catalogue.named(names)}
        findings = [finding for finding in findings if finding.subject in asked]
    return _accepted(findings, schema)


def _former_names(objects: TrailObjects) -> set[str]:
    """What captured tables were called when they were installed, and are not now: perhaps others have these names."""
    made = [
        (QualifiedName(*recorded["table"]), objects.captured_by(function))
        for function in objects.functions
        if "table" in (recorded := parse_comment(function.comment))
    ]
    return {str(former) for former, now in made if now not in (None, former)}


_SAID_BETTER = {
    FindingKind.DECLARED_NOT_AUDITED,
    FindingKind.DECLARED_OTHERWISE,
    FindingKind.FUNCTION_CHANGED,
    FindingKind.NOT_AUDITED,
    FindingKind.TRAIL_MISSING,
    FindingKind.TRIGGER_MISSING,
}
"""Kinds of findings that say less than what a revision records of the same table."""


_BEFORE_RECORDED = {FindingKind.FOREIGN_TRIGGER, FindingKind.FUNCTION_MOVED}
"""Kinds of findings whose remedies would undo what is recorded, or could not run any more, after it was installed."""


def _with_recorded(findings: list[Finding], recorded: list[Finding]) -> list[Finding]:
    """The findings with those about what is recorded, in place of what else was said of the same tables.

    Behind what is moved back, which is not lost, and behind what only leaves: what is recorded takes its place.
    """
    if any(finding.kind is FindingKind.TRAIL_RENAMED for finding in findings):
        return findings
    moved = {f.subject for f in findings if f.kind is FindingKind.FUNCTION_MOVED}
    recorded = [finding for finding in recorded if finding.subject not in moved]
    named = {finding.subject for finding in recorded}

    def is_said_better(finding: Finding) -> bool:
        return finding.kind in _SAID_BETTER and finding.subject.rpartition(" on ")[2] in named

    rest = [finding for finding in findings if not is_said_better(finding)]
    first = [finding for finding in rest if _goes_before_recorded(finding)]
    return [*first, *recorded, *(finding for finding in rest if finding not in first)]


def _goes_before_recorded(finding: Finding) -> bool:
    """Installing would leave nothing to resume, either."""
    return finding.kind in _BEFORE_RECORDED or finding.remedy.startswith("audit resume ")


def _branch_findings(project: Project | None, schema: str) -> list[Finding]:
    """Tables on which merged branches of the project disagree."""
    if project is None:
        return []
    try:
        conflicts = conflicts_of_branches(project.scripts, schema)
    except AuditError:
        return []  # revisions that cannot be read
    return [
        Finding(
            kind=FindingKind.BRANCHES_DISAGREE,
            severity=Severity.ERROR,
            subject=str(table),
            message="branches of the project capture it differently, and the last one to run won: "
            f"{'; '.join(said)}",
            remedy=f"audit install --table {table.plain} --capture row …",
        )
        for table, said in conflicts.items()
    ]


def _accepted(findings: list[Finding], schema: str) -> list[Finding]:
    """The findings; those that the file of the project accepts say why."""
    file = find_declarations()
    if file is None or file.audit_schema != schema:
        return findings
    return [
        replace(finding, accepted=reason)
        if (reason := file.accept.get(f"{finding.kind} {finding.subject}"))
        else finding
        for finding in findings
    ]


def _coverage_findings(catalogue: _Catalogue, names: tuple[str, ...]) -> list[Finding]:
    """Tables that were asked for or are required, and are not audited; tables that a crash empties."""
    file = find_declarations()
    objects = catalogue.objects
    required = file.require if file and file.audit_schema == objects.schema else ()
    return list(
        coverage_findings(
            objects,
            catalogue.relations,
            asked=catalogue.named(names),
            required=required,
            source=file.source if file else "",
        )
    )


def _declared_findings(catalogue: _Catalogue, *, models: bool) -> list[Finding]:
    """What a file in the working directory, and the models it names, declare of this trail, and is not so."""
    file, objects = find_declarations(), catalogue.objects
    if file is None or file.audit_schema != objects.schema:
        return []
    declared = declared_tables(file, models=models)
    # A file that neither has tables nor names models leaves it to models that we do not know.
    sources = [*([file.source] if file.tables else []), *file.models]
    if file.models and not models:
        sources = []
    return list(declared_findings(declared, objects, catalogue.relations, sources=sources))


def _pauses(connection: Connection, objects: TrailObjects) -> dict[QualifiedName, str]:
    """Tables whose capture is paused, with the reason; none where the trail may not be read."""
    # Reading the trail itself is only worthwhile if triggers are disabled.
    if all(trigger.state == "A" for trigger in objects.triggers):
        return {}
    with suppress(import_psycopg().errors.InsufficientPrivilege):
        rows = fetch(connection, render("trail/pauses", schema=objects.schema))
        return {
            QualifiedName(row["schema_name"], row["table_name"]): row["reason"]
            for row in rows
            if row["capture"] == "paused"
        }
    return {}


def _cluster_findings(connection: Connection, objects: TrailObjects) -> Iterator[Finding]:
    yield from _if_permitted(
        connection, lambda: cluster_findings(connection, objects), "place and ids", objects.schema
    )
    yield from renamed_findings(connection, objects.schema)


_OF_PARTITIONS_ALONE = {FindingKind.LAST_SUCCESS, FindingKind.NOT_GUARDED}
"""What is for `audit partitions check`: that no maintenance ran yet is no drift, and what guards a partition is
compared with the rest of the schema (`not_append_only`)."""


def _partition_findings(
    connection: Connection, schema: str, now: datetime | None, policy: Policy | None
) -> Iterator[Finding]:
    def read() -> Iterable[Finding]:
        partitions = read_partitions(connection, schema, now=now)
        for found in check_partitions(partitions, policy or Policy(), Thresholds()):
            if found.kind not in _OF_PARTITIONS_ALONE:
                yield found

    yield from _if_permitted(connection, read, "partitions", schema)


def _archive_findings(
    connection: Connection, schema: str, archive: str | None
) -> Iterator[Finding]:
    def read() -> Iterable[Finding]:
        if archive:
            from audit_toolkit.archive import archive_findings

            yield from archive_findings(connection, schema, archive)

    yield from _if_permitted(connection, read, "archive", schema)


def _index_findings(connection: Connection, schema: str) -> Iterator[Finding]:
    def read() -> Iterable[Finding]:
        catalogue = read_catalogue(connection, Scope(schema=schema))
        report = index_report(plan_repairs(diagnose(catalogue), catalogue), len(catalogue.indexes))
        for found in report.findings:
            if found.severity.rank >= Severity.WARNING.rank:
                yield replace(
                    found, remedy=found.remedy or "audit indexes fix", notes=(), details={}
                )

    yield from _if_permitted(connection, read, "indexes", schema)


def _event_findings(connection: Connection, schema: str, *, all_events: bool) -> Iterator[Finding]:
    newest = None if all_events else NEWEST
    yield from _if_permitted(
        connection,
        lambda: list(event_findings(connection, schema, newest=newest)),
        "events",
        schema,
    )


def _guard_findings(connection: Connection, schema: str) -> Iterator[Finding]:
    """A guard that was switched on, and is gone or silenced; for a role that may read the events, which say so."""
    from audit_toolkit.completeness.guard import guard_findings, read_guard
    from audit_toolkit.connection import import_psycopg

    errors = import_psycopg().errors
    with (
        suppress(errors.InsufficientPrivilege, errors.UndefinedTable, errors.InvalidSchemaName),
        connection.transaction(),
    ):
        yield from list(guard_findings(read_guard(connection, schema), schema))


def _seal_findings(connection: Connection, schema: str) -> Iterator[Finding]:
    from audit_toolkit.cli.seal_options import KEY_VARIABLE, find_key
    from audit_toolkit.seals.health import seal_findings

    named = os.environ.get(KEY_VARIABLE)
    key = find_key(Path(named) if named else None)
    yield from _if_permitted(
        connection, lambda: seal_findings(connection, schema, key), "seals", schema
    )


def _consumer_findings(connection: Connection, schema: str) -> Iterator[Finding]:
    from audit_toolkit.stream.metrics import consumer_findings

    yield from _if_permitted(
        connection, lambda: consumer_findings(connection, schema=schema), "consumers", schema
    )


def _wal_findings(
    connection: Connection, catalogue: _Catalogue, names: tuple[str, ...] = ()
) -> Iterator[Finding]:
    """How the worker stands, and what it reads; of some tables alone."""
    from audit_toolkit.wal.health import capture_findings

    objects = catalogue.objects
    options = (parse_comment(function.comment).get("options", {}) for function in objects.functions)
    is_used = any(one.get("capture") == "wal" for one in options)
    only = {str(name) for name in catalogue.named(names)} if names else None
    errors = import_psycopg().errors
    of_an_older_release = (errors.UndefinedTable, errors.UndefinedFunction, errors.UndefinedColumn)
    try:
        with suppress(*of_an_older_release), connection.transaction():
            yield from list(capture_findings(connection, objects.schema, only=only))
    except errors.InsufficientPrivilege as error:
        if is_used:
            yield Finding(
                kind=FindingKind.NOT_CHECKED,
                severity=Severity.WARNING,
                subject="capture from the WAL",
                message=f"this role may not read how far the worker is: {first_line(error)}",
                remedy="audit grants --reader ROLE, or --maintainer ROLE",
            )


def _publication_findings(connection: Connection, schema: str) -> Iterator[Finding]:
    """Publications that were installed; for a role that may read the events, which say so."""
    errors = import_psycopg().errors
    with (
        suppress(errors.InsufficientPrivilege, errors.UndefinedTable, errors.InvalidSchemaName),
        connection.transaction(),
    ):
        yield from list(publication_findings(read_publications(connection, schema), schema))


def _witness_findings(connection: Connection, schema: str) -> Iterator[Finding]:
    """What the witness found and nobody has reviewed, and what it cannot see; for a role that may read the events."""
    from audit_toolkit.witness.health import witness_findings

    errors = import_psycopg().errors
    with (
        suppress(errors.InsufficientPrivilege, errors.UndefinedTable, errors.InvalidSchemaName),
        connection.transaction(),
    ):
        yield from list(witness_findings(connection, schema))


def _if_permitted(
    connection: Connection, read: Callable[[], Iterable[Finding]], what: str, schema: str
) -> Iterator[Finding]:
    # Within a transaction of the caller, a refusal must not end it.
    idle = connection.info.transaction_status == import_psycopg().pq.TransactionStatus.IDLE
    try:
        with nullcontext() if idle else connection.transaction():
            found = list(read())
        yield from found
    except (PermissionDeniedError, import_psycopg().errors.InsufficientPrivilege) as error:
        yield Finding(
            kind=FindingKind.NOT_CHECKED,
            severity=Severity.WARNING,
            subject=f"{what} of {schema}.logged_actions",
            message=f"this role may not read it: {first_line(error)}",
            remedy="audit grants --reader ROLE",
        )
