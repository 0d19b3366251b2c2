"""`audit witness run`."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import closing
from typing import Annotated

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.findings import FINDINGS, SCHEMA_VERSION
from audit_toolkit.plurals import counted
from audit_toolkit.trail.rows.lookup import require_readable_trail
from audit_toolkit.witness import Found, Round, Witness


def run(
    once: Annotated[
        bool, typer.Option("--once", help="End when all that was committed is compared.")
    ] = False,
    every: Annotated[
        float,
        typer.Option("--every", metavar="SECONDS", min=0.1, help="How often to look at the WAL."),
    ] = 1.0,
    output: OutputFormat = Format.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Compare the write-ahead log with the trail.

    Reads a replication slot of its own and names each change of an audited table without its event, and each event
    without its change. The first start creates the slot and its publications; writers pay nothing for them. Findings
    are recorded as events of the trail, and audit check reports them. Runs until Ctrl-C, or with --once until it has
    caught up; then exit code 3 means that it found something.
    """
    total = _Total(output)
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
        with closing(Witness(connection, audit_schema)) as witness:
            try:
                while True:
                    seen = witness.round()
                    total.add(seen)
                    if once and seen.is_at_end:
                        break
                    if seen.is_at_end:
                        time.sleep(every)
            except KeyboardInterrupt:
                pass
    total.finish(once=once)
    if once and total.findings:
        raise typer.Exit(FINDINGS)


class _Total:
    """What was found, printed as it comes; as JSON, a value on each line."""

    def __init__(self, output: Format) -> None:
        self.findings: list[tuple[int, Found]] = []
        self._output = output
        self._said: set[str] = set()
        self._compared: Counter[str] = Counter()
        self._unjudged: Counter[tuple[str, str]] = Counter()

    def add(self, seen: Round) -> None:
        """Another round."""
        for note in seen.notes:
            if note not in self._said:
                print(f"note: {visible(note)}", file=sys.stderr)
        self._said = set(seen.notes) or self._said
        self.findings += seen.found
        self._compared.update(transaction=seen.transactions, change=seen.changes, event=seen.events)
        self._unjudged += seen.unjudged
        for event_id, found in seen.found:
            if self._output is Format.JSON:
                said = found.finding().as_dict() | {"event_id": event_id}
                print(json.dumps(said), flush=True)
                continue
            for line in found.finding().lines():
                print(visible(line), flush=True)
            print(f"  recorded as event {event_id}", flush=True)

    def finish(self, *, once: bool) -> None:
        """The sum."""
        said = ", ".join(counted(number, what) for what, number in self._compared.items())
        if self._output is Format.JSON and once:
            summary = {
                "schema_version": SCHEMA_VERSION,
                "ok": not self.findings,
                **{f"{what}s": number for what, number in self._compared.items()},
                "findings": len(self.findings),
                "not_judged": [
                    {"table": table, "reason": reason, "count": number}
                    for (table, reason), number in sorted(self._unjudged.items())
                ],
            }
            print(json.dumps(summary))
            return
        found = counted(len(self.findings), "finding")
        print(f"compared {said}: {found}", file=sys.stderr)
        for (table, reason), number in sorted(self._unjudged.items()):
            print(visible(f"not judged: {table}: {number:,} ({reason})"), file=sys.stderr)
