"""`audit archive`: detached leaves as Parquet files: written, verified, listed, queried, brought back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.rotation import Rotation, print_outcomes, with_archive

if TYPE_CHECKING:
    from audit_toolkit.archive import Manifest

FINDINGS = 3

Url = Annotated[
    str,
    typer.Option(
        "--archive",
        metavar="URL",
        envvar="AUDIT_ARCHIVE",
        help="Where the archive is: a folder, s3://bucket/path, gs://bucket/path, az://container/path.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add `audit archive`."""
    group = typer.Typer(
        name="archive",
        no_args_is_help=True,
        help="Old leaves as Parquet files: written, read back, listed, queried, restored.",
    )
    for command in (run, verify, query, restore):
        group.command()(command)
    group.command("list")(list_archive)
    app.add_typer(group)


def run(
    archive: Url,
    again: Annotated[
        bool, typer.Option("--again", help="Also leaves that were archived before.")
    ] = False,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Archive every detached leaf now, and read it back; drops nothing."""
    from audit_toolkit.partitions import Policy, Stage, succeeded

    options = Rotation(dsn=dsn, config=config, audit_schema=audit_schema, archive=archive)
    with options.open_alone() as opened, with_archive(options, opened):
        opened.policy = Policy(archived_only=True, archive_again=again)
        outcomes = opened.stage(Stage.ARCHIVE)
    if output is Format.JSON:
        print(json.dumps({"outcomes": [outcome.as_dict() for outcome in outcomes]}, indent=2))
    else:
        print_outcomes(outcomes)
    if not succeeded(outcomes):
        raise typer.Exit(1)


def verify(
    archive: Url,
    leaf: Annotated[
        str | None, typer.Argument(metavar="[LEAF]", help="Only this leaf.", show_default=False)
    ] = None,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Read the archive back, every byte, and compare it with its manifests. Exit code 3 when something is wrong."""
    from audit_toolkit.archive import Store, chain_breaks, newest, read_back, read_manifests
    from audit_toolkit.cli.output import visible

    store = Store.open(archive)
    manifests = read_manifests(store)
    chosen = [m for m in newest(manifests) if leaf in (None, m.leaf)]
    broken = chain_breaks(manifests)
    rows: list[dict[str, Any]] = []
    with progress_bar(sum(m.events for m in chosen)) as advance:
        for manifest in chosen:
            found = read_back(store, manifest, advance)
            problems = list(found.problems)
            if manifest.leaf in broken:
                problems.append("a manifest before this one was removed or changed")
            rows.append({"leaf": manifest.leaf, "events": found.events, "problems": problems})
    if output is Format.JSON:
        print(json.dumps({"leaves": rows}, indent=2))
    else:
        for row in rows:
            print(
                f"{'broken' if row['problems'] else 'good':<7} {visible(row['leaf'])}  {row['events']:,} events"
            )
            for problem in row["problems"]:
                print(f"        {visible(problem)}")
        if not rows:
            print("the archive is empty" if leaf is None else f"the archive has no leaf {leaf}")
    if any(row["problems"] for row in rows) or (leaf and not rows):
        raise typer.Exit(FINDINGS)


def list_archive(archive: Url, output: OutputFormat = Format.TEXT) -> None:
    """List the archived leaves: their ranges, events and sizes."""
    from audit_toolkit.archive import Store, newest, read_manifests
    from audit_toolkit.cli.output import visible

    found = newest(read_manifests(Store.open(archive)))
    if output is Format.JSON:
        print(json.dumps({"leaves": [_row(manifest) for manifest in found]}, indent=2))
        return
    for row in map(_row, found):
        bounds = f"{row['lower'] or 'MINVALUE'} to {row['upper']}"
        print(
            f"{visible(row['leaf']):<36} {bounds:<54} {row['events']:>12,} events {row['bytes'] / 2**20:>9,.1f} MB"
        )


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A query on the view logged_actions.")],
    archive: Url,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Ask the archive in SQL (DuckDB's): the events are the view logged_actions; relation and month prune files."""
    from audit_toolkit.archive import Store, query_archive
    from audit_toolkit.cli.output import visible

    columns, rows = query_archive(Store.open(archive), sql)
    if output is Format.JSON:
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        print(json.dumps({"rows": named}, indent=1, default=str))
        return
    print("\t".join(map(visible, columns)))
    for row in rows:
        print("\t".join("NULL" if value is None else visible(str(value)) for value in row))


def restore(
    leaf: Annotated[
        str, typer.Argument(metavar="LEAF", help="The leaf, as `audit archive list` names it.")
    ],
    archive: Url,
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Under another name.", show_default=False),
    ] = None,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Bring a leaf back into PostgreSQL, compared with its digest: detached, and on hold.

    `audit partitions attach LEAF` then makes it part of the trail.
    """
    from audit_toolkit.archive import Store, find_manifest, restore_leaf

    store = Store.open(archive)
    manifest = find_manifest(store, leaf)
    options = Rotation(dsn=dsn, config=config, audit_schema=audit_schema)
    with options.open_alone() as opened, progress_bar(manifest.events) as advance:
        table = restore_leaf(
            opened.connection,
            store,
            audit_schema,
            manifest,
            now=datetime.now(UTC),
            name=name,
            progress=advance,
        )
    print(f"{table}: {manifest.events:,} events, as they were archived")


@contextmanager
def progress_bar(total: int) -> Iterator[Any]:
    """A bar on stderr where somebody looks; what it yields takes the number of events done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("events", total=total)
        yield lambda events: progress.advance(task, events)


def _row(manifest: Manifest) -> dict[str, Any]:
    return {
        "leaf": manifest.leaf,
        "lower": manifest.lower,
        "upper": manifest.upper,
        "events": manifest.events,
        "files": len(manifest.files),
        "bytes": sum(file.bytes for file in manifest.files),
        "digest": manifest.digest,
        "created_at": manifest.created_at,
    }
