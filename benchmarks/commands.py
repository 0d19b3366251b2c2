"""What commands take from the shell, as a user waits for them: starting Python, imports, queries, and ending."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.backend import Backend, Databases
from benchmarks.goals import Goal
from benchmarks.report import goals_table, table

INSTALL = ("audit", "install", "--all-tables")
UPGRADE = ("alembic", "upgrade", "head")
CHECK = ("audit", "check")
HISTORY = ("audit", "history", "table_1", "1")
MODULES = {"audit": "audit_toolkit", "alembic": "alembic"}
TABLE = """
    create table table_{number} (
        id bigint generated always as identity primary key, customer_id bigint, status text, total numeric(12, 2),
        note text, details jsonb, created_at timestamptz default now(), updated_at timestamptz
    )
"""
EVENTS = """
    insert into table_1 (customer_id, status, total) values (7, 'new', 100);
    update table_1 set status = 'paid'; update table_1 set status = 'sent', note = 'by post'
"""


@dataclass(frozen=True, slots=True)
class Times:
    """What one command took, each time that it ran, in seconds."""

    command: tuple[str, ...]
    cpu: list[float] = field(default_factory=list)
    """On a CPU, in the process of the command."""
    wall: list[float] = field(default_factory=list)
    """From its start to its end, the server's part included."""


def measure(
    databases: Databases, tables: int, rounds: int, say: Callable[[str], None]
) -> list[Times]:
    """Each command in a project that audits so many tables: once what changes it, the others in turn."""
    name = databases.template(*(TABLE.format(number=number) for number in range(1, tables + 1)))
    with tempfile.TemporaryDirectory() as folder:
        shell = _Shell(Path(folder), databases.dsn(name))
        shell.time(Times(("audit", "init")))
        say(f"audit install --all-tables: {tables} tables")
        install, upgrade = Times(INSTALL), Times(UPGRADE)
        shell.time(install)
        shell.time(upgrade)
        with Backend(databases.dsn(name)) as backend:
            backend.run(EVENTS)
        asked = [Times(CHECK), Times(HISTORY)]
        for number in range(rounds + 1):
            say(f"round {number} of {rounds}: check, history")
            for times in asked:
                # The first time, Python compiles modules, and Jinja templates.
                shell.time(times if number else Times(times.command))
        return [install, upgrade, *asked]


def goals(found: Sequence[Times], tables: int) -> list[Goal]:
    """What is asked of commands among goals 10 and 12: seconds of waiting, in the median."""
    waited = {times.command: median(times.wall) for times in found}
    wanted = (
        (10, "`audit history` of a row from the shell, s", HISTORY, 0.35),
        (12, f"`audit install --all-tables` of {tables} tables, s", INSTALL, 10),
        (12, f"`audit check` of {tables} tables, s", CHECK, 3),
    )
    return [
        Goal(number=number, words=words, reached=waited[command], limit=limit)
        for number, words, command, limit in wanted
    ]


def as_text(found: Sequence[Times], tables: int) -> str:
    """Tables for a page in Markdown."""
    heads = ("command", "times", "CPU, best", "CPU, median", "wall, best", "wall, median")
    return "\n".join((table(heads, list(_lines(found))), goals_table(goals(found, tables))))


def _lines(found: Sequence[Times]) -> Iterator[tuple[str, ...]]:
    for times in found:
        figures = (of(taken) for taken in (times.cpu, times.wall) for of in (min, median))
        yield (
            f"`{' '.join(times.command)}`",
            str(len(times.wall)),
            *(f"{figure:.2f} s" for figure in figures),
        )


@dataclass(frozen=True, slots=True)
class _Shell:
    """Runs commands in a project, as a shell would."""

    folder: Path
    dsn: str

    def time(self, times: Times) -> None:
        program, *words = times.command
        known = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        started = time.perf_counter()
        done = subprocess.Popen(
            [sys.executable, "-m", MODULES[program], *words],
            cwd=self.folder,
            env=known | {"DATABASE_URL": self.dsn},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(done.pid, 0)
        done.returncode = os.waitstatus_to_exitcode(status)
        times.wall.append(time.perf_counter() - started)
        times.cpu.append(used.ru_utime + used.ru_stime)
        if done.returncode:
            raise RuntimeError(f"{' '.join(times.command)}: exit code {done.returncode}")
