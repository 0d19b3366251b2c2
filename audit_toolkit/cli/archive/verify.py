"""`audit archive verify`: verify every file of the archive."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
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
from audit_toolkit.partitions import is_standby
from audit_toolkit.plan import single_flight
from audit_toolkit.plurals import counted

if TYPE_CHECKING:
    from audit_toolkit.archive import Catalogue, Manifest, ReadBack, Store
    from audit_toolkit.archive.verify import Expected
    from audit_toolkit.seals import PublicKey

PAUSE = 2
"""Seconds that a redaction is given to end its work in the archive."""


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

    Compares it with its manifests and with what the database archived. Exits with code 3 on findings, 5 if another
    run writes to it meanwhile.
    Without a database (--dsn, AUDIT_DATABASE_URL) missing files cannot be detected; a note says so. If all is
    well, the owner of the trail has the fingerprints of manifests from before 0.3 recorded.
    """
    look = _Look(
        store=open_store(archive),
        leaf=leaf,
        keys=read_public_keys(key),
        iceberg=iceberg,
        place=place,
        dsn=dsn,
        config=config,
        schema=audit_schema,
    )
    seen = look.again(look())
    verified, of_all, expected = list(seen.verified.values()), seen.of_all, seen.expected
    noted: list[str] = []
    if expected and leaf is None and not seen.findings:
        with open_database(dsn, config) as connection:
            noted = record_fingerprints(connection, audit_schema, seen.catalogue, expected)
    report = _verified_report(
        verified, of_all, seen.findings, compared=expected is not None, noted=noted
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was verified, and what is wrong."""

    verified: dict[str, tuple[str, ReadBack]]
    """Each partition and what came back of it, by the name of its manifest."""
    broken: dict[str, list[Finding]]
    """What is wrong with them."""
    of_all: list[Finding]
    catalogue: Catalogue
    expected: Expected | None

    @property
    def findings(self) -> list[Finding]:
        """All that is wrong."""
        return [*chain.from_iterable(self.broken.values()), *self.of_all]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """Verifies an archive, or what was wrong with it a moment ago."""

    store: Store
    leaf: str | None
    keys: Sequence[PublicKey]
    iceberg: str | None
    place: str | None
    dsn: str | None
    config: Path | None
    schema: str

    def __call__(self, former: _Seen | None = None) -> _Seen:
        expected = _expected(self.dsn, self.config, self.schema)
        catalogue = read_catalogue(self.store)
        chosen = [m for m in newest(catalogue.manifests) if self.leaf in (None, m.leaf)]
        found = check_catalogue(self.store, catalogue, expected)
        of_all = [f for f in found if self.leaf in (None, f.subject)]
        if self.iceberg and self.leaf is None:
            of_all += self._of_iceberg(list(catalogue.manifests), expected)
        if self.leaf and not chosen:
            of_all.append(damaged(self.leaf, "the archive has no partition of that name"))
        kept = (
            {}
            if former is None
            else {n: v for n, v in former.verified.items() if n not in former.broken}
        )
        anew = [m for m in chosen if m.name not in kept]
        verified = {m.name: kept[m.name] for m in chosen if m.name in kept} | self._read(anew)
        broken = {m.name: self._problems(m, verified[m.name][1]) for m in anew}
        return _Seen(
            verified=verified,
            broken={name: found for name, found in broken.items() if found},
            of_all=of_all,
            catalogue=catalogue,
            expected=expected,
        )

    def again(self, seen: _Seen) -> _Seen:
        """What is wrong while no other run writes there: what one was about to write or to remove is no damage.

        Raises `BusyError` where another run goes on.
        """
        if not seen.findings or seen.expected is None or self._is_standby():
            return seen
        with single_flight(find_address(self.dsn, self.config), self.schema):
            seen = self(seen)
            if seen.expected and seen.expected.unfinished:
                # A redaction that ends its work in the archive holds no lock.
                time.sleep(PAUSE)
                seen = self(seen)
        return seen

    def _is_standby(self) -> bool:
        with open_database(self.dsn, self.config) as connection:
            return is_standby(connection)

    def _read(self, manifests: list[Manifest]) -> dict[str, tuple[str, ReadBack]]:
        with progress_bar(sum(m.events for m in manifests)) as advance:
            return {m.name: (m.label, read_back(self.store, m, advance)) for m in manifests}

    def _problems(self, manifest: Manifest, found: ReadBack) -> list[Finding]:
        # What is damaged need not be held against its seal.
        problems = found.problems or seal_problems(self.store, manifest, self.keys)
        return [damaged(manifest.label, why) for why in problems]

    def _of_iceberg(
        self, manifests: list[Manifest], expected: Expected | None
    ) -> Iterator[Finding]:
        place = self.place
        if place is None and expected and any(m.place == expected.place for m in manifests):
            place = expected.place
        target = Target.parse(self.iceberg or "", self.schema)
        return _differences(self.store, whose(manifests, place), manifests, target)


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
