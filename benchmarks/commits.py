"""Real commits: pgbench, one change a transaction, with 1, 2 and 8 clients."""

from __future__ import annotations

import random
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit_toolkit.demo.processes import run_as
from benchmarks.arms import Arm
from benchmarks.backend import Backend, Databases, read_sql
from benchmarks.compare import prepare
from benchmarks.operations import Operation, work

TABLE_ROWS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Commits:
    """Transactions a second, and how long they took in milliseconds."""

    arm: str
    clients: int
    per_second: float
    p50: float
    p95: float
    p99: float


def commits(
    databases: Databases,
    arms: Sequence[Arm],
    *,
    clients: Sequence[int] = (1, 2, 8),
    seconds: int,
    rounds: int,
    say: Callable[[str], None],
) -> list[Commits]:
    """The medians of each arm over the rounds, arms in random order within each."""
    templates = {arm.name: _filled(databases, arm) for arm in arms}
    runs: dict[tuple[str, int], list[Commits]] = {}
    for number in range(1, rounds + 1):
        for count in clients:
            say(f"pgbench round {number} of {rounds}: {count} clients, {len(arms)} arms")
            for arm in random.sample(arms, len(arms)):
                dsn = databases.dsn(templates[arm.name])
                found = _pgbench(databases.cluster.bin_dir, dsn, arm, count, seconds)
                runs.setdefault((arm.name, count), []).append(found)
    return [_median(runs[arm.name, count]) for count in clients for arm in arms]


def _filled(databases: Databases, arm: Arm) -> str:
    template = prepare(databases, arm)
    with Backend(databases.dsn(template)) as backend:
        backend.run(work(arm, Operation.INSERT_N, first=1, last=TABLE_ROWS))
    return template


def _pgbench(bin_dir: Path, dsn: str, arm: Arm, clients: int, seconds: int) -> Commits:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "update.sql")
        script.write_text(_script(arm))
        options = ["-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2))]
        logs = ["-l", f"--log-prefix={folder}/log", "-T", str(seconds), "-f", str(script)]
        answer = run_as(None, [bin_dir / "pgbench", *options, *logs, dsn])
        if answer.returncode != 0:
            raise subprocess.SubprocessError(answer.stderr)
        times = sorted(
            int(line.split()[2]) / 1000
            for log in Path(folder).glob("log.*")
            for line in log.read_text().splitlines()
        )
    return _commits(arm, clients, times, seconds)


def _script(arm: Arm) -> str:
    return _filled_script(
        context=arm.context.replace("perform ", "select "),
        rows=str(TABLE_ROWS),
        update=arm.shape.update,
    )


def _filled_script(**parts: str) -> str:
    text = read_sql("commit")
    for part, words in parts.items():
        text = text.replace("{" + part + "}", words)
    return text


def _commits(arm: Arm, clients: int, times: Sequence[float], seconds: int) -> Commits:
    hundredths = statistics.quantiles(times, n=100)
    return Commits(
        arm=arm.name,
        clients=clients,
        per_second=len(times) / seconds,
        p50=hundredths[49],
        p95=hundredths[94],
        p99=hundredths[98],
    )


def _median(runs: Sequence[Commits]) -> Commits:
    return Commits(
        arm=runs[0].arm,
        clients=runs[0].clients,
        per_second=statistics.median(run.per_second for run in runs),
        p50=statistics.median(run.p50 for run in runs),
        p95=statistics.median(run.p95 for run in runs),
        p99=statistics.median(run.p99 for run in runs),
    )
