"""`audit archive`: detached leaves as Parquet files: written, verified, listed, queried, brought back."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.partition_run import (
    Iceberg,
    Rotation,
    print_outcomes,
    reach_archive,
    register_archive,
    with_archive,
)
from audit_toolkit.cli.report import CheckFormat, ReportFormat, end_with
from audit_toolkit.errors import UsageError
from audit_toolkit.findings import Finding, FindingKind, Measure, Report, Severity

if TYPE_CHECKING:
    from audit_toolkit.archive import LiveExport, Manifest, ReadBack, Store
    from audit_toolkit.archive.verify import Expected

Url = Annotated[
    str,
    typer.Option(
        "--archive",
        metavar="URL",
        envvar="AUDIT_ARCHIVE",
        help="Where the archive is: a folder, s3://bucket/path, gs://bucket/path, az://container/path.",
    ),
]


def run(
    archive: Url,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Also leaves that were archived before, and anew what was exported."
        ),
    ] = False,
    iceberg: Iceberg = None,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Archive every detached leaf now, and read it back; drops nothing."""
    from audit_toolkit.partitions import Policy, Stage, succeeded

    options = Rotation(
        dsn=dsn, config=config, audit_schema=audit_schema, archive=archive, iceberg=iceberg
    )
    with options.open_alone() as opened, with_archive(options, opened):
        opened.policy = Policy(archived_only=True, archive_again=again)
        outcomes = opened.stage(Stage.ARCHIVE) + reach_archive(archive)
        outcomes += register_archive(options, opened)
    if output is Format.JSON:
        print(json.dumps({"outcomes": [outcome.as_dict() for outcome in outcomes]}, indent=2))
    else:
        print_outcomes(outcomes)
    if not succeeded(outcomes):
        raise typer.Exit(1)


def export(
    archive: Url,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only events since then: a time, or a month such as 2026-03 (UTC).",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only events before then: a time, or a month. Without it: all that is certain by now.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="How long to wait for open transactions to end."
        ),
    ] = 10,
    iceberg: Iceberg = None,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Write what is new of the partitions in use, each event once, up to where no open transaction can add any.

    Run it as often as you like: the next run goes on behind, also after a kill. When a partition is archived, what was
    exported of it becomes a part of its archive.
    """
    from audit_toolkit.archive import Store, export_live
    from audit_toolkit.archive.iceberg import register_own

    options = Rotation(dsn=dsn, config=config, audit_schema=audit_schema)
    first, last = _bound(since, "--since"), _bound(until, "--until")
    if first and last and first >= last:
        raise UsageError("--since is not before --until, so that there is nothing between them")
    store = Store.open(archive)
    with options.open_alone() as opened, progress_bar(None) as advance:
        found = export_live(
            opened.connection,
            store,
            audit_schema,
            now=datetime.now(UTC),
            since=first,
            until=last,
            wait=wait,
            progress=lambda _: advance,
        )
        if iceberg:
            register_own(opened.connection, store, audit_schema, iceberg)
    _print_export(found, output)


def _bound(text: str | None, option: str) -> datetime | None:
    """The moment of an option; a month begins in UTC, as the folders do."""
    from audit_toolkit.cli.times import parse_moment

    if text is None:
        return None
    month = re.fullmatch(r"\d{4}-\d\d", text.strip())
    return parse_moment(f"{month[0]}-01 00:00+00:00" if month else text, option)


def _print_export(found: LiveExport, output: Format) -> None:
    from audit_toolkit.cli.follow import describe_blocker

    if output is Format.JSON:
        held = [describe_blocker(blocker) for blocker in found.held_by]
        rows = [_row(manifest) for manifest in found.manifests]
        values = {"exported": rows, "up_to_event": found.reach, "held_by": held}
        print(json.dumps(values | {"left_out": found.left_out}, indent=2))
        return
    for manifest in found.manifests:
        print(f"exported  {_visible(manifest.label)}: {manifest.events:,} events")
    if not found.manifests:
        print("nothing new that is certain" if found.held_by else "nothing new")
    for blocker in found.held_by:
        print(describe_blocker(blocker), file=sys.stderr)
    for text in found.left_out:
        print(text, file=sys.stderr)


def register(
    archive: Url,
    iceberg: Iceberg = None,
    place: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DATABASE",
            help="Whose events, where several databases archive there, as `audit archive list --format json` names it.",
            show_default=False,
        ),
    ] = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Make an Apache Iceberg table of the archive, or bring it in line: its files are registered, not copied.

    `audit archive run`, `audit archive export` and `audit maintain` do the same with --iceberg (AUDIT_ICEBERG).
    """
    from audit_toolkit.archive import Store, Target, read_manifests
    from audit_toolkit.archive import register as register_files

    if iceberg is None:
        raise UsageError(
            "no Iceberg catalogue is given", hint="add --iceberg CATALOG, or set AUDIT_ICEBERG"
        )
    target = Target.parse(iceberg, audit_schema)
    store = Store.open(archive)
    store.require_reachable()
    manifests = read_manifests(store)
    found = register_files(store, _whose(manifests, place), manifests, target)
    print(f"{target.table}: {found.added} files added, {found.removed} removed")
    print(f"metadata: {found.metadata}")


def _whose(manifests: list[Manifest], place: str | None) -> str:
    places = sorted({manifest.place for manifest in manifests if manifest.place})
    if place is None and len(places) > 1:
        raise UsageError(
            "several databases archive there, and an Iceberg table has the events of one",
            hint="say which: " + ", or ".join(f"--from {name}" for name in places),
        )
    if place is not None and place not in places:
        raise UsageError(
            f"the archive has nothing of {place}",
            hint="audit archive list --format json shows what it has",
        )
    return place or next(iter(places), "")


def verify(
    archive: Url,
    leaf: Annotated[
        str | None,
        typer.Argument(metavar="[PARTITION]", help="Only this partition.", show_default=False),
    ] = None,
    iceberg: Iceberg = None,
    output: CheckFormat = ReportFormat.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Read the archive back, every byte, and compare it with its manifests and with what the database archived.

    Exit code 3 when something is wrong. Without a database (--dsn, AUDIT_DATABASE_URL) it cannot know what should be
    there, and says so.
    """
    from audit_toolkit.archive import (
        check_catalogue,
        damaged,
        newest,
        read_back,
        read_catalogue,
    )

    store = open_store(archive)
    expected = _expected(dsn, config, audit_schema)
    catalogue = read_catalogue(store)
    chosen = [m for m in newest(catalogue.manifests) if leaf in (None, m.leaf)]
    of_all = [f for f in check_catalogue(store, catalogue, expected) if leaf in (None, f.subject)]
    if iceberg and leaf is None:
        of_all += _differences(store, list(catalogue.manifests), iceberg, audit_schema)
    if leaf and not chosen:
        of_all.append(damaged(leaf, "the archive has no partition of that name"))
    with progress_bar(sum(m.events for m in chosen)) as advance:
        verified = [(manifest.label, read_back(store, manifest, advance)) for manifest in chosen]
    broken = [damaged(label, why) for label, found in verified for why in found.problems]
    report = _verified_report(verified, of_all, [*broken, *of_all], compared=expected is not None)
    if output is ReportFormat.TEXT:
        _print_verified(verified)
    if expected is None and output is not ReportFormat.NAGIOS:
        print(
            "verified without the database: whether something is missing cannot be known; give --dsn",
            file=sys.stderr,
        )
    end_with(report, output)


def _verified_report(
    verified: list[tuple[str, ReadBack]],
    of_all: list[Finding],
    findings: list[Finding],
    *,
    compared: bool,
) -> Report:
    return Report(
        command="archive verify",
        findings=tuple(findings),
        verdict="" if verified or findings else "the archive is empty",
        details={
            "leaves": [
                {"leaf": label, "events": found.events, "problems": list(found.problems)}
                for label, found in verified
            ],
            "problems": [{"object": f.subject, "problem": f.message} for f in of_all],
            "compared_with_database": compared,
        },
        measures=(
            Measure(name="partitions", value=len(verified)),
            Measure(name="events", value=sum(found.events for _, found in verified)),
        ),
    )


def _differences(
    store: Store, manifests: list[Manifest], iceberg: str, schema: str
) -> Iterator[Finding]:
    from audit_toolkit.archive import Target, differences

    target = Target.parse(iceberg, schema)
    found = differences(store, _whose(manifests, None), manifests, target)
    problems = (
        ("the Iceberg table lacks this file", found.missing, "audit archive register"),
        (
            "the Iceberg table has it, and the archive does not",
            found.left,
            "audit archive register",
        ),
        (
            "the Iceberg table has it, and it never was in the archive",
            found.foreign,
            "find out who added it, then remove it from the table",
        ),
    )
    for message, paths, remedy in problems:
        for path in paths:
            yield Finding(
                kind=FindingKind.ICEBERG_DIFFERS,
                severity=Severity.ERROR,
                subject=path,
                message=message,
                remedy=remedy,
            )


def _expected(dsn: str | None, config: Path | None, schema: str) -> Expected | None:
    from audit_toolkit.archive import read_expected
    from audit_toolkit.cli.database import find_address, open_database

    if not find_address(dsn, config) and not any(os.environ.get(n) for n in _LIBPQ):
        return None
    with open_database(dsn, config) as connection:
        return read_expected(connection, schema)


_LIBPQ = ("PGHOST", "PGSERVICE", "PGDATABASE")


def _print_verified(verified: list[tuple[str, ReadBack]]) -> None:
    for label, found in verified:
        state = "broken" if found.problems else "good"
        print(f"{state:<7} {_visible(label)}  {found.events:,} events")


def adopt(
    archive: Url,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Say that this database, after a failover or a restore, goes on with the archive that another one wrote.

    From then on the other one is refused there. Nothing is moved or removed.
    """
    from audit_toolkit.archive import adopt as adopt_archive

    options = Rotation(dsn=dsn, config=config, audit_schema=audit_schema)
    with options.open_alone() as opened:
        origin = adopt_archive(
            opened.connection, open_store(archive), audit_schema, now=datetime.now(UTC)
        )
    print(f"the archive goes on as that of {origin}")


def open_store(url: str) -> Store:
    """The archive of that URL; raises `AuditError` where it cannot be reached."""
    from audit_toolkit.archive import Store

    store = Store.open(url)
    store.require_reachable()
    return store


def _visible(value: object) -> str:
    """A value of the archive for a terminal, which must not take it for orders."""
    from audit_toolkit.cli.output import visible

    return visible(str(value))


def list_archive(archive: Url, output: OutputFormat = Format.TEXT) -> None:
    """List the archived leaves: their ranges, events and sizes."""
    from audit_toolkit.archive import newest, read_manifests

    found = newest(read_manifests(open_store(archive)))
    if output is Format.JSON:
        print(json.dumps({"leaves": [_row(manifest) for manifest in found]}, indent=2))
        return
    several = len({manifest.place for manifest in found}) > 1
    for row in map(_row, found):
        bounds = f"{row['lower'] or 'MINVALUE'} to {row['upper']}"
        print(
            f"{_visible(_part(row)):<36} {bounds:<54} {row['events']:>12,} events {row['bytes'] / 2**20:>9,.1f} MB"
            + (f"  {_visible(row['from'])}" if several else "")
        )


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A query on the view logged_actions.")],
    archive: Url,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Ask the archive in SQL (DuckDB's): the events are the view logged_actions; relation and month prune files."""
    from audit_toolkit.archive import query_archive

    columns, rows = query_archive(open_store(archive), sql)
    if output is Format.JSON:
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        print(json.dumps({"rows": named}, indent=1, default=str))
        return
    print("\t".join(map(_visible, columns)))
    for row in rows:
        print("\t".join("NULL" if value is None else _visible(value) for value in row))


def restore(
    leaf: Annotated[
        str, typer.Argument(metavar="LEAF", help="The leaf, as `audit archive list` names it.")
    ],
    archive: Url,
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Under another name.", show_default=False),
    ] = None,
    place: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DATABASE",
            help="Take what another database archived, as `audit archive list --format json` names it, "
            "or what this one has no record of.",
            show_default=False,
        ),
    ] = None,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Bring a leaf back into PostgreSQL, compared with its digest: detached, and on hold.

    `audit partitions attach LEAF` then makes it part of the trail.
    """
    from audit_toolkit.archive import find_manifest, read_expected, restore_leaf

    store = open_store(archive)
    options = Rotation(dsn=dsn, config=config, audit_schema=audit_schema)
    with options.open_alone() as opened:
        expected = read_expected(opened.connection, audit_schema)
        names = {record.name for record in expected.recorded if record.leaf == leaf}
        manifest = find_manifest(store, leaf, place, names)
        with progress_bar(manifest.events) as advance:
            table = restore_leaf(
                opened.connection,
                store,
                audit_schema,
                manifest,
                now=datetime.now(UTC),
                name=name,
                foreign=place is not None,
                progress=advance,
            )
    print(f"{table}: {manifest.events:,} events, as they were archived")


@contextmanager
def progress_bar(total: int | None) -> Iterator[Any]:
    """A bar on stderr where somebody looks; what it yields takes the number of events done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("events", total=total)
        yield lambda events: progress.advance(task, events)


def _part(row: dict[str, Any]) -> str:
    part = row["exported_up_to"]
    return f"{row['leaf']} up to event {part}" if part else str(row["leaf"])


def _row(manifest: Manifest) -> dict[str, Any]:
    return {
        "leaf": manifest.leaf,
        "exported_up_to": manifest.exported.reach if manifest.exported else None,
        "from": manifest.place,
        "lower": manifest.lower,
        "upper": manifest.upper,
        "events": manifest.events,
        "files": len(manifest.files),
        "bytes": sum(file.bytes for file in manifest.files),
        "digest": manifest.digest,
        "created_at": manifest.created_at,
    }
