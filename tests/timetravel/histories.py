"""Random histories: transactions of all kinds of changes to a table, with a copy of it after each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.errors import UniqueViolation

from tests.plugins.trail import Trail

ITEMS = """
    create table items (
        id int {key},
        name text,
        amount numeric,
        tags jsonb,
        at timestamptz,
        double numeric generated always as (amount * 2) stored
    );
    create function settle() returns trigger language plpgsql as $$
    begin
        -- Changes the row again before the change that fired it is captured.
        if new.amount = 13 then
            update items set amount = 14.0, name = 'settled' where name = new.name;
        end if;
        if new.amount = 15 and old.amount is distinct from 15 then
            update items set amount = old.amount where name = new.name;
        end if;
        if new.amount = 17 then delete from items where name = new.name; end if;
        return null;
    end $$;
    create trigger "00_a_settle" after update on items for each row execute function settle();
"""
TRUNCATE = "truncate items"
KEYED = "primary key deferrable initially deferred"
SHOWN = """
    select row_to_json(r)::text from (
        select id, name, amount::text, tags::text, at::text, double::text from {rows}
    ) as r
"""

Rows = Counter[str]


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment between two transactions, and how the table was."""

    at: datetime
    rows: Rows


def rows_of(trail: Trail, rows: str, params: Any = None) -> Rows:
    """The rows of a table or of a function, as text to the last zero."""
    return Counter(row for (row,) in trail.execute(SHOWN.replace("{rows}", rows), params))


def live(trail: Trail) -> Moment:
    """The table as it is now."""
    return Moment(trail.execute("select clock_timestamp()")[0][0], rows_of(trail, "items"))


def happen(trail: Trail, seed: int, transactions: int) -> Iterator[Moment]:
    """Change the table in that many transactions, some rolled back; the moments in between."""
    chance = random.Random(seed)
    yield live(trail)
    for _ in range(transactions):
        trail.execute("begin")
        changes = [change_at_random(chance) for _ in range(chance.choice([1, 1, 2, 3, 5]))]
        # The deferred checks of other changes would make PostgreSQL refuse TRUNCATE.
        for change in sorted(changes, key=lambda change: change != TRUNCATE):
            trail.execute(change)
        # A commit fails, and rolls back, where ids that were added to have met others.
        with suppress(UniqueViolation):
            trail.execute(chance.choice(["commit", "commit", "commit", "rollback"]))
        yield live(trail)


def change_at_random(chance: random.Random) -> str:
    some = f"id % {chance.randint(1, 4)} = 0"
    value = chance.choice(["1", "1.0", "1.00", "13", "15", "17", "null", "123456789012345678901.5"])
    return chance.choices(
        [
            (
                "insert into items (id, name, amount, tags, at)"
                f" select g, 'n' || g, {value}, '{{\"a\": 1.50}}', '2026-11-01 10:00+02'"
                f" from generate_series({chance.randint(1, 6)}, {chance.randint(1, 12)}) g"
                " where not exists (select from items where id = g)"
            ),
            f"update items set amount = {value} where {some}",
            f"update items set name = 'n' || {chance.randint(1, 9)}, tags = null where {some}",
            "update items set id = id + 1",
            f"update items set id = id + 20 where {some}",
            (
                "update items set id = id - 20 where id > 20"
                " and not exists (select from items i where i.id = items.id - 20)"
            ),
            f"delete from items where {some}",
            TRUNCATE,
        ],
        [6, 6, 4, 2, 1, 1, 3, 0.5],
    )[0]


def describe(trail: Trail) -> list[tuple[Any, ...]]:
    """The trail in short, for a test that fails."""
    return trail.execute(
        "select event_id, transaction_id::text, action, old_row_key, row_key, old_row, new_row"
        " from audit.logged_actions order by event_id"
    )
