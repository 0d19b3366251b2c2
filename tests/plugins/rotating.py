"""A trail whose clock the tests set, and short words for runs and for what they leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import psycopg
import pytest

from audit_toolkit.config import TrailSettings
from audit_toolkit.connection import connect
from audit_toolkit.partitions import (
    Outcome,
    Partitions,
    Policy,
    Run,
    Span,
    Stage,
    Thresholds,
    check_partitions,
    read_partitions,
)
from audit_toolkit.partitions.read import PATIENCE
from audit_toolkit.plan import Step, apply
from audit_toolkit.schema import plan_trail
from tests.plugins.database import Connection, Database, MakeDatabase, TemplateDatabase
from tests.plugins.trail import SCHEMA

CLOCK = """
    create table public.clock (at timestamptz not null);
    alter table public.clock replica identity full;
    insert into public.clock values (clock_timestamp());
    create function public.test_clock() returns timestamptz language sql as 'select at from public.clock';
    alter table audit.logged_actions alter column action_tstamp set default public.test_clock();
"""
EVENT = """
    insert into audit.logged_actions (action_tstamp, schema_name, table_name, action, row_key, new_row)
    select at, 'public', 'orders', 'I', number::text, '{"id": 1.50, "naïve": "ä\\u2028"}'
    from generate_series(%s::timestamptz, %s::timestamptz, %s::interval) with ordinality as g (at, number)
"""
START = datetime.now(UTC).replace(day=10, hour=12)
"""Installing makes leaves around the server's now; the tests begin there and move on.

On the tenth, so that moving on by weeks ends in the same month on whatever day the tests run.
"""


def at(year: int, month: int, day: int = 1, hour: int = 0) -> datetime:
    """An instant in UTC; the year counts from the present one."""
    return datetime(START.year + year, month, day, hour, tzinfo=UTC)


@dataclass
class Rotating:
    """A trail, a clock, a policy."""

    database: Database
    connection: Connection
    now: datetime
    policy: Policy = field(default_factory=Policy)

    def execute(self, query: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Run SQL; the rows of its last statement."""
        return self.database.execute(query, params)

    def fill(self, start: datetime, end: datetime, every: str = "1 day") -> None:
        """Events from `start` to `end`."""
        self.execute(EVENT, [start, end, every])

    def read(self) -> Partitions:
        """The partitions as they are."""
        return read_partitions(self.connection, SCHEMA, now=self.now)

    def run(
        self,
        now: datetime | None = None,
        *,
        on_step: Callable[[Step], None] | None = None,
        connection: Connection | None = None,
        patience: float = PATIENCE,
        **policy: Any,
    ) -> list[Outcome]:
        """All stages at that time; later runs go on from there."""
        self.now = now or self.now
        self.execute("update public.clock set at = %s", [self.now])
        self.policy = replace(self.policy, **policy)
        run = Run(
            connection=connection or self.connection,
            schema=SCHEMA,
            policy=replace(self.policy, trust_clock=True),
            now=lambda: self.now,
            on_step=on_step,
            lock_timeout="500ms",
            patience=patience,
        )
        for stage in Stage:
            run.stage(stage)
        run.finished("partitions", run.outcomes)
        return run.outcomes

    def did(self, now: datetime | None = None, **policy: Any) -> list[tuple[str, str]]:
        """A run, as (stage, result)."""
        return [(outcome.stage, outcome.result.value) for outcome in self.run(now, **policy)]

    def findings(self) -> dict[str, str]:
        """The codes of what `check` finds, with their severities."""
        policy = replace(self.policy, trust_clock=True)
        found = check_partitions(self.read(), policy, Thresholds())
        return {finding.kind.value: finding.severity.value for finding in found}

    def tables(self) -> dict[str, tuple[str, int]]:
        """Every table that holds events: its state or bounds, and how many."""
        partitions = self.read()
        states = {leaf.name.name: leaf.range for leaf in partitions.leaves}
        states |= {
            entry.current_name: entry.state.value
            for entry in partitions.entries
            if entry.current_name and entry.current_name not in states
        }
        states |= {stray.name.name: "stray" for stray in partitions.strays}
        return {name: (state, self.count(name)) for name, state in states.items()}

    def count(self, leaf: str = "logged_actions") -> int:
        """The number of events in one table, but for those that say what was dropped."""
        return int(self.execute(f"select count(*) from audit.{leaf} where action <> 'M'")[0][0])

    def leaves(self) -> list[str]:
        """The bounds of what is attached, in order."""
        return [leaf.range for leaf in self.read().leaves]


def install(dsn: str) -> None:
    """The trail, with a clock that tests can set."""
    with connect(dsn) as connection:
        apply(plan_trail(TrailSettings()), connection)
        for statement in CLOCK.strip().split(";\n"):
            connection.execute(statement.encode())


@pytest.fixture
def simulated_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time moves on by months in a moment: what a test takes for now is what all clocks say.

    `test_clock.py` is about clocks that do not agree, and has the real ones.
    """
    if "real_clocks" in request.fixturenames:
        return

    def clocks(facts: dict[str, Any], now: datetime | None) -> tuple[datetime, ...]:
        return (now or facts["now"],) * 3

    monkeypatch.setattr("audit_toolkit.partitions.read.clocks", clocks)


@pytest.fixture(scope="session")
def rotating_template(template_database: TemplateDatabase) -> str:
    """A template that has such a trail."""
    return template_database("rotating", install)


class MakeRotating(Protocol):
    """Makes databases that have a trail and a clock."""

    def __call__(self, prepare: Callable[[Rotating], None] | None = None) -> Rotating:
        """One more; with `prepare`, a copy of one that it was called with."""
        ...


@pytest.fixture
def make_rotating(
    make_database: MakeDatabase,
    template_database: TemplateDatabase,
    rotating_template: str,
    simulated_clock: None,
) -> Iterator[MakeRotating]:
    """Makes databases that have a trail and a clock."""
    with ExitStack() as opened:

        def open_(database: Database) -> Rotating:
            return Rotating(database, opened.enter_context(connect(database.dsn)), START)

        def make(prepare: Callable[[Rotating], None] | None = None) -> Rotating:
            if prepare is None:
                return open_(make_database(template=rotating_template))

            def prepared(dsn: str) -> None:
                install(dsn)
                with psycopg.connect(dsn, autocommit=True) as plain, connect(dsn) as connection:
                    database = Database(plain.info.dbname, dsn, plain, None, ExitStack())
                    prepare(Rotating(database, connection, START))

            name = f"rotating_{prepare.__name__}"
            return open_(make_database(template=template_database(name, prepared)))

        yield make


@pytest.fixture
def rotating(make_rotating: MakeRotating) -> Rotating:
    """A database with a trail and a clock."""
    return make_rotating()


def months(number: int) -> Span:
    """A span of months."""
    return Span(months=number)
