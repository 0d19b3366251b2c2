"""`audit archive verify`: verify every file of the archive."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.archive import (
    Target,
    check_catalogue,
    damaged,
    differences,
    newest,
    read_back,
    read_catalogue,
    read_expected,
    record_fingerprints,
    seal_problems,
)
from audit_toolkit.cli.archive.common import (
    From,
    Url,
    open_store,
    progress_bar,
    shown,
    whose,
)
from audit_toolkit.cli.check_output import CheckFormat, ReportFormat, end_with
from audit_toolkit.cli.database import find_address, open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.partition_run import (
    Iceberg,
)
from audit_toolkit.cli.seal_options import PublicKeys, read_public_keys
from audit_toolkit.findings import Finding, FindingKind, Measure, Report, Severity
from audit_toolkit.plurals import counted

if TYPE_CHECKING:
    from audit_toolkit.archive import Manifest, ReadBack, Store
    from audit_toolkit.archive.verify import Expected


def verify(
    archive: Url,
    leaf: Annotated[
        str | None,
        typer.Argument(metavar="[PARTITION]", help="Only this partition.", show_default=False),
    ] = None,
    iceberg: Iceberg = None,
    place: From = None,
    key: PublicKeys = None,
    output: CheckFormat = ReportFormat.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Verify every file of the archive.

    Compares it with its manifests and with what the database archived. Exits with code 3 on findings.
    Without a database (--dsn, AUDIT_DATABASE_URL) missing files cannot be detected; a note says so. If all is
    well, the owner of the trail has the fingerprints of manifests from before 0.3 recorded.
    """
    keys = read_public_keys(key)
    store = open_store(archive)
    expected = _expected(dsn, config, audit_schema)
    catalogue = read_catalogue(store)
    chosen = [m for m in newest(catalogue.manifests) if leaf in (None, m.leaf)]
    of_all = [f for f in check_catalogue(store, catalogue, expected) if leaf in (None, f.subject)]
    if iceberg and leaf is None:
        manifests = list(catalogue.manifests)
        if place is None and expected and any(m.place == expected.place for m in manifests):
            place = expected.place
        target = Target.parse(iceberg, audit_schema)
        of_all += _differences(store, whose(manifests, place), manifests, target)
    if leaf and not chosen:
        of_all.append(damaged(leaf, "the archive has no partition of that name"))
    with progress_bar(sum(m.events for m in chosen)) as advance:
        verified = [(manifest.label, read_back(store, manifest, advance)) for manifest in chosen]
        # What is damaged need not be held against its seal.
        sealed = [
            (manifest.label, problem)
            for manifest, (_, found) in zip(chosen, verified, strict=True)
            if not found.problems
            for problem in seal_problems(store, manifest, keys)
        ]
    broken = [damaged(label, why) for label, found in verified for why in found.problems]
    broken += [damaged(label, why) for label, why in sealed]
    noted: list[str] = []
    if expected and leaf is None and not broken and not of_all:
        with open_database(dsn, config) as connection:
            noted = record_fingerprints(connection, audit_schema, catalogue, expected)
    report = _verified_report(
        verified, of_all, [*broken, *of_all], compared=expected is not None, noted=noted
    )
    if output is ReportFormat.TEXT:
        _print_verified(verified)
    if noted and output is not ReportFormat.NAGIOS:
        print(
            f"recorded the fingerprints of {counted(len(noted), 'manifest')} from before 0.3, which had "
            f"none: from now on any change to them is found: {', '.join(map(shown, noted))}",
            file=sys.stderr,
        )
    if expected is None and output is not ReportFormat.NAGIOS:
        print(
            "verified without the database: missing files cannot be detected; give --dsn",
            file=sys.stderr,
        )
    end_with(report, output)


def _verified_report(
    verified: list[tuple[str, ReadBack]],
    of_all: list[Finding],
    findings: list[Finding],
    *,
    compared: bool,
    noted: list[str],
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
            "fingerprints_recorded": noted,
        },
        measures=(
            Measure(name="partitions", value=len(verified)),
            Measure(name="events", value=sum(found.events for _, found in verified)),
        ),
    )


def _differences(
    store: Store, place: str, manifests: list[Manifest], target: Target
) -> Iterator[Finding]:
    found = differences(store, place, manifests, target)
    problems = (
        ("the Iceberg table lacks this file", found.missing, "audit archive register"),
        (
            "the Iceberg table has it, but the archive does not",
            found.left,
            "audit archive register",
        ),
        (
            "the Iceberg table has it, but it was never in the archive",
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
    if not find_address(dsn, config) and not any(os.environ.get(n) for n in _LIBPQ):
        return None
    with open_database(dsn, config) as connection:
        return read_expected(connection, schema)


_LIBPQ = ("PGHOST", "PGSERVICE", "PGDATABASE")


def _print_verified(verified: list[tuple[str, ReadBack]]) -> None:
    for label, found in verified:
        state = "broken" if found.problems else "good"
        print(f"{state:<7} {shown(label)}  {counted(found.events, 'event')}")
