"""Deleted rows come back with their children, whatever refers to what and how."""

from __future__ import annotations

import random
from typing import Any

import pytest

from audit_toolkit import trail as verbs
from audit_toolkit.config import Capture, Store
from audit_toolkit.trail import Selection
from tests.plugins.seeds import seeds, some_quick
from tests.plugins.trail import Trail

TABLES = ("people", "teams", "orders", "lines", "labels")
FAMILY = """
    create table people (
        id int primary key,
        name text not null unique,
        boss int references people on delete {boss},
        team int
    );
    create table teams (
        id int primary key,
        lead int references people on delete {lead} {checked}
    );
    alter table people add foreign key (team) references teams on delete {team} {checked};
    create table orders (
        id int primary key,
        person int not null references people on delete cascade,
        total numeric check (total > 0),
        gross numeric generated always as (total * 2) stored
    );
    create table lines (
        order_id int references orders on delete cascade, line int generated always as identity,
        what text[], primary key (order_id, line)
    );
    create table labels (
        id int primary key, order_id int, line int, text text not null unique,
        foreign key (order_id, line) references lines on delete {label}
    );
"""
FILL = """
    insert into teams select g from generate_series(1, 3) g;
    insert into people select g, 'p' || g, nullif(trunc(random() * g)::int, 0), 1 + trunc(random() * 3)
    from generate_series(1, 9) g order by g;
    update teams set lead = id + 1;
    insert into orders select g, 1 + trunc(random() * 9), 1.10 + g from generate_series(1, 14) g;
    insert into lines (order_id, what)
    select 1 + trunc(random() * 14), array['a', g::text] from generate_series(1, 25) g;
    insert into labels
    select row_number() over (), order_id, line, 'label ' || line from lines where random() < 0.6;
"""
ALL = " union all ".join(
    f"select '{table}', to_jsonb(row)::text from {table} as row" for table in TABLES
)


@pytest.mark.parametrize("store", some_quick(["rows", "changes"], ["changes"]))
@pytest.mark.parametrize("seed", seeds(12, quick=1))
def test_whatever_a_delete_took_along_comes_back(trail: Trail, seed: int, store: str) -> None:
    chance = random.Random(seed)
    ends = {
        name: chance.choice(["cascade", "set null"]) for name in ("boss", "lead", "team", "label")
    }
    checked = chance.choice(["", "deferrable initially deferred"])
    trail.execute(FAMILY.format(**ends, checked=checked))
    for table in chance.sample(TABLES, len(TABLES)):
        trail.audit(
            table, store=Store(store), capture=chance.choice([Capture.ROW, Capture.STATEMENT])
        )
    trail.execute(f"select setseed({seed / 12})")
    trail.execute(FILL)
    there_and_back(trail, [], everything(trail))
    for _ in range(4):
        before = everything(trail)
        table = chance.choice(("people", "teams", "orders"))
        some = f"select id from {table} order by random() limit {chance.randint(1, 3)}"
        trail.execute(f"delete from {table} where id in ({some})")
        if before != everything(trail):
            there_and_back(trail, before, everything(trail))


def there_and_back(trail: Trail, before: list[Any], after: list[Any]) -> None:
    """Take the last transaction back, then that, which is a transaction like any other."""
    for state in (before, after):
        last = int(trail.events()[-1]["transaction_id"])
        verbs.apply_revert(trail.connection, Selection(transaction=last))
        assert everything(trail) == state


def everything(trail: Trail) -> list[Any]:
    return sorted(trail.execute(ALL))
