"""What a writer pays while its events are streamed or sealed: `python -m benchmarks.streams [ROUNDS]`.

CPU time of the writer's process in the server. Three databases with the same table take the same writes in turns: one is
left alone, one has a consumer that delivers to a file, and the events of one are sealed every second.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.arms import ROW
from benchmarks.backend import Backend, Databases, server
from benchmarks.operations import Operation, restart_numbers, work

ROWS = 300
WRITES = (Operation.INSERT1, Operation.UPDATE1, Operation.DELETE1)


def main(arguments: list[str]) -> None:
    """Print the median of the ratios of each round."""
    rounds = int(arguments[0]) if arguments else 40
    with server() as cluster, ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        databases = Databases(cluster)
        dsns = [databases.dsn(databases.template(ROW.shape.ddl)) for _ in range(3)]
        for dsn in dsns:
            ROW.install(dsn)
        key = str(folder / "seal.key")
        subprocess.run(_audit("keys", "new", "--key", key, "--name", "benchmark"), check=True)
        stream = ("stream", "run", "c", "--to", f"file:{folder / 'events.jsonl'}")
        stack.enter_context(_running(*stream, "--dsn", dsns[1]))
        stack.enter_context(_running("seal", "--key", key, "--every", "1 s", "--dsn", dsns[2]))
        writers = [stack.enter_context(Backend(dsn)) for dsn in dsns]
        _compare(writers, rounds)


def _compare(writers: list[Backend], rounds: int) -> None:
    streamed: dict[Operation, list[float]] = {operation: [] for operation in WRITES}
    sealed: dict[Operation, list[float]] = {operation: [] for operation in WRITES}
    for number in range(rounds + 1):
        for operation in WRITES:
            costs = [0.0] * len(writers)
            for which in random.sample(range(len(writers)), len(writers)):
                costs[which] = _cost(writers[which], operation)
            if number:
                streamed[operation].append(costs[1] / costs[0])
                sealed[operation].append(costs[2] / costs[0])
    for operation in WRITES:
        found = [statistics.median(ratios[operation]) for ratios in (streamed, sealed)]
        print(f"{operation.verb:7} streamed {found[0]:.3f}, sealed {found[1]:.3f} of left alone")


def _cost(writer: Backend, operation: Operation) -> float:
    if operation.verb == "insert":
        restart_numbers(writer, ROW.shape)
    before = writer.cpu_time()
    writer.run(work(ROW, operation, first=1, last=ROWS))
    return (writer.cpu_time() - before) / 1000 / ROWS


def _audit(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "audit_toolkit", *arguments]


@contextmanager
def _running(*arguments: str) -> Iterator[None]:
    process = subprocess.Popen(_audit(*arguments), stdout=subprocess.DEVNULL)
    try:
        yield
        if process.poll() is not None:
            raise SystemExit(f"audit {arguments[0]} ended with {process.returncode}")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
