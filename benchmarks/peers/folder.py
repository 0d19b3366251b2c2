"""Tools that are plain SQL and in no package registry: read from a folder that the reader names.

Below `--peer-folder`, each has a folder with the files of its repository: `audit-trigger` (2ndQuadrant), `supa_audit`,
`pgMemento`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.backend import Backend

AUDIT_TRIGGER = "audit-trigger/audit.sql"
SUPA_AUDIT = "supa_audit/supa_audit--0.3.1.sql"
PGMEMENTO = "pgMemento/src/SETUP.sql"
KNOWN = (AUDIT_TRIGGER, SUPA_AUDIT, PGMEMENTO)

# In the order of its INSTALL_PGMEMENTO.sql, which is for psql.
_OF_PGMEMENTO = (
    "SCHEMA",
    "SETUP",
    "LOG_UTIL",
    "DDL_LOG",
    "RESTORE",
    "REVERT",
    "SCHEMA_MANAGEMENT",
    "CTL",
)

# What only the script of an extension may run: it tells pg_dump which rows to keep.
_DUMP = re.compile(r"^select pg_catalog\.pg_extension_config_dump\(.*$", re.MULTILINE)


def found_in(folder: Path) -> Iterator[tuple[str, Callable[[str], None]]]:
    """The tools that are there: their names, and what puts each on the table `orders`.

    Raises `FileNotFoundError` where there is none.
    """
    there = [file for file in KNOWN if (folder / file).is_file()]
    if not there:
        raise FileNotFoundError(f"{folder} has none of {', '.join(KNOWN)}")
    installers = dict(zip(KNOWN, (_audit_trigger, _supa_audit, _pgmemento), strict=True))
    for file in there:
        yield file.partition("/")[0], partial(installers[file], folder / file)


def _audit_trigger(file: Path, dsn: str) -> None:
    with Backend(dsn) as backend:
        backend.run(file.read_text("utf-8"))
        backend.run("select audit.audit_table('public.orders')")


def _supa_audit(file: Path, dsn: str) -> None:
    with Backend(dsn) as backend:
        backend.run('create extension "uuid-ossp"')  # of contrib, which not every server has
        backend.run(_DUMP.sub("", file.read_text("utf-8")))
        backend.run("select audit.enable_tracking('public.orders'::regclass)")


def _pgmemento(file: Path, dsn: str) -> None:
    with Backend(dsn) as backend:
        for part in _OF_PGMEMENTO:
            backend.run(file.with_name(f"{part}.sql").read_text("utf-8"))
        backend.run("select pgmemento.init('public')")
