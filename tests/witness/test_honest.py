"""What is captured as it should be raises no alarm, whatever the options and the table."""

from __future__ import annotations

import random
from contextlib import suppress
from itertools import product

import psycopg
import pytest

from audit_toolkit.config import Capture, Mask, MaskMethod, Store, Truncate
from tests.plugins.seeds import some_quick
from tests.timetravel.histories import ITEMS, KEYED, change_at_random
from tests.witness.conftest import Watch, unjudged

WIDE = """
    create type mood as enum ('sad', 'ok');
    create type pair as (a int, b timestamptz);
    create domain money_ as numeric(10, 2);
    create table wide (
        id bigint primary key, b bool, i2 int2, f4 float4, f8 float8, n numeric, t text, c char(5), v varchar(9),
        by bytea,
        d date, ts timestamp, tz timestamptz, tm time, iv interval, u uuid, j json, jb jsonb, ia int[],
        ta text[], tza timestamptz[], m mood, ma mood[], p pair, dm money_, r int4range, ip inet, g point, mo money,
        reg regclass, o oid, bits bit varying, ja jsonb[]
    );
"""
ROWS = [
    "(1)",
    """(2, true, 3, 0.1, 1e300, 1.500, 'x"y', 'ab', 'v', '\\x00ff', '0044-03-15 BC', '0044-03-15 01:02:03 BC',
        '0044-03-15 01:02:03.5+00 BC', '04:05:06', '1 mon 2 days', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
        '{"b":1.50, "a":1e2, "a":[1]}', '{"b":1.50,"a":-0.0}', '{1,2,null}', '{"a b",null}',
        '{2026-01-01 00:00+02}', 'sad',
        '{sad,ok}', '(1,"2026-01-01 00:00+02")', 5, '[1,5)', '10.0.0.1/8', '(1,2)', 12.5, 'wide', 7, '101',
        array['{"k": 1.0}'::jsonb])""",
    """(3, false, -3, 'NaN', '-0', 'Infinity', '', '', '', '', 'infinity', '-infinity', 'infinity', '24:00', '0',
        null, 'null', 'null', '{}', '{}', '{infinity}', 'ok', '{}', '(,)', 'NaN', 'empty', '::1', '(NaN,-0)', -1,
        'pg_class', 0, '', '{}')""",
    "(4, null, null, 1e-7, 1e-7, 123456789012345678901234567890.123456789, repeat('\u00e4\U0001f600\t\n', 3000))",
]  # fmt: skip


@pytest.mark.parametrize("held", [20_000, 1])
def test_values_of_every_type_are_compared(
    watch: Watch, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit_toolkit.witness.waiting.HELD", held)
    watch.execute(WIDE)
    watch.audit("wide")
    watch.begin()
    for row in ROWS:
        watch.execute(f"insert into wide values {row}")
        watch.execute("update wide set b = not coalesce(b, false), i2 = coalesce(i2, 0) + 1")
    watch.execute("update wide set id = id + 100; update wide set i2 = 7; delete from wide")
    assert unjudged(watch) == {}


def stir(watch: Watch, seed: int, transactions: int = 25) -> None:
    """A random history, in which what the key does not permit is rolled back."""
    chance = random.Random(seed)
    for _ in range(transactions):
        with suppress(psycopg.errors.UniqueViolation), watch.trail.connection.transaction():
            for _ in range(chance.choice([1, 2, 3, 5])):
                watch.execute(change_at_random(chance))
            if chance.random() < 0.2:
                raise psycopg.Rollback


KINDS = list(
    product([Capture.ROW, Capture.STATEMENT], ["primary key", KEYED, ""], ["default", "full"])
)
QUICK = [(Capture.ROW, "primary key", "default"), (Capture.STATEMENT, KEYED, "full")]


@pytest.mark.parametrize("kind", some_quick(KINDS, QUICK))
def test_random_histories(watch: Watch, kind: tuple[Capture, str, str]) -> None:
    capture, key, identity = kind
    watch.execute(ITEMS.format(key=key))
    watch.execute(f"alter table items replica identity {identity}")
    watch.audit("items", capture=capture)
    watch.begin()
    stir(watch, len(capture + key + identity))
    has_identity = identity == "full" or key == "primary key"
    assert unjudged(watch).keys() <= (set() if has_identity else {"no replica identity"})


RULES: dict[str, dict[str, object]] = {
    "exclude": {"exclude": ("name",)},
    "only": {"only": ("amount",)},
    "changes": {"store": Store.CHANGES},
    "unchanged": {"log_unchanged": True},
    "when": {"when": "amount > 5"},
    "truncate": {"truncate": Truncate.ROWS},
    "mask": {"mask": (Mask(column="name", method=MaskMethod.SHA256), Mask(column="tags"))},
}


@pytest.mark.parametrize("rule", some_quick(RULES, ["when", "only"]))
def test_random_histories_under_a_rule(watch: Watch, rule: str) -> None:
    options = RULES[rule]
    watch.execute(ITEMS.format(key="primary key"))
    watch.audit("items", **options)
    watch.begin()
    stir(watch, 7)
    masked = {"an update that changed nothing but, perhaps, a masked column"}
    assert unjudged(watch).keys() <= (masked if "mask" in options else set())
