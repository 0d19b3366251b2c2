"""`audit reconcile`: the trail, replayed, against the live tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.catalog import find_relation
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.completeness import read_holes
from audit_toolkit.completeness import reconcile as run
from audit_toolkit.completeness.missing_ids import EXPLANATION
from audit_toolkit.completeness.reconcile import one_snapshot
from audit_toolkit.findings import FINDINGS, SCHEMA_VERSION
from audit_toolkit.plurals import counted
from audit_toolkit.trail.rows.lookup import require_readable_trail

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.completeness import Holes, Reconciliation
    from audit_toolkit.names import QualifiedName

    Connection = psycopg.Connection[Any]


def reconcile(
    table: Annotated[
        list[str] | None,
        typer.Option("--table", "-t", metavar="TABLE", help="Only this table. Repeatable."),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", min=1, metavar="N", help="Rows to list of each kind; all are counted."
        ),
    ] = 10,
    output: OutputFormat = Format.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Compare live tables with their trail.

    Replays the events of each table and compares the result with its rows, checks that each event of a row starts
    where the previous one ended, and counts missing event ids, all in one snapshot that blocks no writer. Exits
    with code 3 if a row or an event does not match.
    """
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
        names = _named(connection, table or ())
        found = []
        with one_snapshot(connection):
            for one in run(connection, names, audit_schema, limit=limit):
                found.append(one)
                if output is Format.TEXT:
                    _print(one)
            holes = None if table else read_holes(connection, audit_schema, limit=limit)
    failed = any(one.findings for one in found)
    if output is Format.JSON:
        print(_as_json(found, holes, failed=failed))
    elif holes is not None:
        _print_holes(holes)
    if failed:
        raise typer.Exit(FINDINGS)


def _named(connection: Connection, names: list[str] | tuple[()]) -> list[QualifiedName]:
    relations = [find_relation(connection, name) for name in names]
    return list(dict.fromkeys(relation.root or relation.name for relation in relations))


def _as_json(found: list[Reconciliation], holes: Holes | None, *, failed: bool) -> str:
    said = {
        "schema_version": SCHEMA_VERSION,
        "ok": not failed,
        "tables": [one.as_dict() for one in found],
        "missing_ids": None if holes is None else holes.as_dict(),
    }
    return json.dumps(said, indent=2)


def _print(one: Reconciliation) -> None:
    numbers = [(one.rows, "row"), (one.events, "event")]
    said = ", ".join(counted(number, what) for number, what in numbers if number is not None)
    size = f" ({said})" if said else ""
    words = {"equal": "equal to its trail", "different": "not what its trail says"}
    print(f"{visible(str(one.table))}: {words.get(one.outcome, one.outcome)}{size}")
    for finding in one.findings:
        for line in finding.lines():
            print(f"  {visible(line)}")
    for kind, count in one.counts.items():
        named = sum(finding.kind == kind for finding in one.findings)
        if count > named:
            print(f"  and {count - named:,} more: {kind}")
    for note in one.notes:
        print(f"  note: {visible(note)}")


def _print_holes(holes: Holes) -> None:
    if not holes.missing:
        print("event ids: none is missing between the first and the last")
        return
    first = holes.first[0]
    ids = "1 id is" if holes.missing == 1 else f"{holes.missing:,} ids are"
    print(
        f"event ids: {ids} missing in {holes.holes:,} places, the first after event {first.after}\n"
        f"  note: {EXPLANATION}"
    )
