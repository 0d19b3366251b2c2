"""`audit archive query`: query the archive with DuckDB SQL."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from audit_toolkit.archive import query_archive
from audit_toolkit.cli.archive.common import (
    Url,
    open_store,
    shown,
)
from audit_toolkit.cli.options import Format, OutputFormat


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A query on the view logged_actions.")],
    archive: Url,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Query the archive with DuckDB SQL.

    The events are the view logged_actions; conditions on relation and month skip files.
    """
    columns, rows = query_archive(open_store(archive), sql)
    if output is Format.JSON:
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        print(json.dumps({"rows": named}, indent=1, default=str))
        return
    print("\t".join(map(shown, columns)))
    for row in rows:
        print("\t".join("NULL" if value is None else shown(value) for value in row))
