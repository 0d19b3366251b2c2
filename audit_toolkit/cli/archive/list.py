"""`audit archive list`: list archived partitions: ranges, events and sizes."""

from __future__ import annotations

import json
from typing import Any

from audit_toolkit.archive import newest, read_manifests
from audit_toolkit.cli.archive.common import (
    Url,
    manifest_row,
    open_store,
    shown,
)
from audit_toolkit.cli.options import Format, OutputFormat


def list_archive(archive: Url, output: OutputFormat = Format.TEXT) -> None:
    """List archived partitions: ranges, events and sizes."""
    found = newest(read_manifests(open_store(archive)))
    if output is Format.JSON:
        print(json.dumps({"leaves": [manifest_row(manifest) for manifest in found]}, indent=2))
        return
    several = len({manifest.place for manifest in found}) > 1
    for row in map(manifest_row, found):
        bounds = f"{row['lower'] or 'MINVALUE'} to {row['upper']}"
        print(
            f"{shown(_part(row)):<36} {bounds:<54} {row['events']:>12,} events {row['bytes'] / 2**20:>9,.1f} MB"
            + (f"  {shown(row['from'])}" if several else "")
        )


def _part(row: dict[str, Any]) -> str:
    part = row["exported_up_to"]
    return f"{row['leaf']} up to event {part}" if part else str(row["leaf"])
