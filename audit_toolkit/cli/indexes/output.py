"""How `audit indexes` shows plans, outcomes and running builds."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from audit_toolkit.cli.check_output import print_lines
from audit_toolkit.connection import connect
from audit_toolkit.indexes import Listener, read_builds

if TYPE_CHECKING:
    from rich.status import Status
    from rich.table import Table

    from audit_toolkit.findings import Report
    from audit_toolkit.indexes import BlockingSession, Build, Failure
    from audit_toolkit.plan import Plan


def print_plan(plan: Plan, *, sql: bool, as_json: bool) -> None:
    """Print what would be done: as a script, as JSON, or step by step."""
    if sql:
        print(plan.as_sql() if plan else "-- nothing to do", end="" if plan else "\n")
    elif as_json:
        print(json.dumps(plan.as_dict(), indent=2))
    elif not plan:
        print("nothing to do")
    else:
        print("\n\n".join("\n".join(_step(step.as_dict())) for step in plan.steps))


def _step(step: dict[str, Any]) -> Iterator[str]:
    yield step["why"]
    yield from (f"    {' '.join(statement.split())};" for statement in step["statements"])
    yield f"    lock: {step['lock']}"
    yield f"    then: {step['effect']}"


def print_outcome(plan: Plan, failures: Sequence[Failure], left: Report, *, as_json: bool) -> None:
    """Print what was done, what failed, and what still needs somebody."""
    if as_json:
        failed = [{"subject": f.diagnosis.subject, "error": f.error.message} for f in failures]
        answer = {"plan": plan.as_dict(), "failures": failed, "left": left.as_dict()}
        print(json.dumps(answer, indent=2))
        return
    for failure in failures:
        print(f"failed: {failure.diagnosis.subject}: {failure.error.message}", file=sys.stderr)
        if failure.error.hint:
            print(f"hint: {failure.error.hint}", file=sys.stderr)
    if not plan and not failures:
        print("nothing to do")
    print_lines(left)


@contextmanager
def telling(address: str) -> Iterator[Listener]:
    """Tell on stderr of each step; on a terminal also how far the server is with it."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    listener = Listener(
        on_step=lambda step: console.print(f"{step.why} …"),
        on_retry=lambda attempt, why: console.print(f"  attempt {attempt}: {why}; trying again"),
    )
    if not console.is_terminal:
        yield listener
        return
    ended = threading.Event()
    with console.status("") as status:
        watcher = threading.Thread(target=_follow, args=(address, status, ended))
        watcher.start()
        try:
            yield listener
        finally:
            ended.set()
            watcher.join()


def _follow(address: str, status: Status, ended: threading.Event) -> None:
    from rich.text import Text

    with connect(address, purpose="progress") as connection:
        while not ended.wait(0.5):
            status.update(Text("\n".join(map(_words, read_builds(connection)))))


def print_builds(builds: Sequence[Build]) -> None:
    """Print one view of what is running."""
    if not builds:
        print("no index is being built")
    for build in builds:
        print(f"{build.command} {build.index or ''} on {build.table or '?'} (pid {build.pid})")
        print(f"    {_words(build)}, {_seconds(build.seconds)}")


def watch_builds(read: Callable[[], list[Build]], every: float) -> None:
    """Show what is running until nothing is, or until the user has seen enough."""
    from rich.live import Live

    before: dict[int, Build] = {}
    with Live(auto_refresh=False) as live:
        while builds := read():
            live.update(_table(builds, before), refresh=True)
            before = {build.pid: build for build in builds}
            try:
                time.sleep(every)
            except KeyboardInterrupt:
                return
    print("no index is being built" if not before else "no index is being built any more")


def _table(builds: Sequence[Build], before: dict[int, Build]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("pid", "command", "index", "phase", "done", "rate", "for", "waits for", box=None)
    for build in builds:
        phase, share, blocker = _cells(build)
        rate = build.rate(before.get(build.pid))
        speed = "" if rate is None else f"{rate:,.0f}/s"
        index = str(build.index or build.table or "")
        cells = (str(build.pid), build.command, index, phase, share, speed)
        # Text: names from the database are no markup.
        table.add_row(*map(Text, (*cells, _seconds(build.seconds), blocker)))
    return table


def _words(build: Build) -> str:
    phase, share, blocker = _cells(build)
    return ", ".join(filter(None, [phase, share, blocker and f"waits for {blocker}"]))


def _cells(build: Build) -> tuple[str, str, str]:
    """Phase, per cent and who is waited for, in words; the last two may be empty."""
    phase = build.phase or "phase not visible to this role"
    share = "" if build.percent is None else f"{build.percent:.0f} %"
    return phase, share, _blocker(build.blocker) if build.blocker else ""


def _blocker(blocker: BlockingSession) -> str:
    application = blocker.application or "unknown application"
    state, age = blocker.state or "state not visible", _seconds(blocker.transaction_seconds)
    return f"pid {blocker.pid} ({application}, {state}, in its transaction {age})"


def _seconds(seconds: float | None) -> str:
    return "for an unknown time" if seconds is None else f"{seconds:.0f} s"
