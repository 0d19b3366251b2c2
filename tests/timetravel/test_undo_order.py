"""The last transactions taken back give the tables as they were, whatever is unique and refers to what."""

from __future__ import annotations

import os
import random
from typing import Any

import psycopg
import pytest

from audit_toolkit import trail as verbs
from audit_toolkit.config import Capture, Store
from audit_toolkit.trail import Selection
from tests.plugins.seeds import seeds
from tests.plugins.trail import Trail

SEEDS = int(os.environ.get("UNDO_SEEDS", "4"))

TABLES = """
    create table boards (id int primary key, tag text not null unique);
    create table cards (
        id int primary key,
        board int {null} references boards on delete {gone} on update cascade {checked},
        parent int references cards on delete {orphan} {checked},
        place int not null,
        is_default boolean not null default false,
        label text,
        during int4range,
        seen int not null default 0,
        updated_at timestamptz not null default clock_timestamp(),
        unique (board, place) {unique},
        exclude using gist (during with &&) {excludes}
    );
    create unique index one_default on cards (board) where is_default;
    create unique index one_label on cards (lower(label));
    create function touch() returns trigger language plpgsql as $$
    begin
        new.updated_at := clock_timestamp();
        return new;
    end $$;
    create trigger touch before update on cards for each row execute function touch();
    create table counts (board int primary key, cards int not null);
    create function count_cards() returns trigger language plpgsql as $$
    begin
        if tg_op = 'INSERT' then
            insert into counts values (coalesce(new.board, 0), 1)
            on conflict (board) do update set cards = counts.cards + 1;
        else
            update counts set cards = cards - 1 where board = coalesce(old.board, 0);
        end if;
        return null;
    end $$;
    create trigger counted after insert or delete on cards for each row execute function count_cards();
"""
FILL = """
    insert into boards values (1, 't1'), (2, 't2'), (3, 't3');
    insert into cards (id, board, parent, place, is_default, label, during)
    values (1, 1, null, 1, true, 'a', '[1,3)'), (2, 1, 1, 2, false, 'b', '[5,6)'),
        (3, 2, 1, 1, true, null, null), (4, 2, null, 2, false, 'c', null);
"""
ROWS = """
    select 'boards', to_jsonb(b)::text from boards b
    union all select 'cards', (to_jsonb(c) - 'updated_at')::text from cards c
    union all select 'counts', to_jsonb(n)::text from counts n
"""


@pytest.mark.parametrize("seed", seeds(SEEDS, quick=2))
def test_the_last_transactions_taken_back_and_back_again(trail: Trail, seed: int) -> None:
    chance = random.Random(seed)
    deferrable = ["", "", "deferrable", "deferrable initially deferred"]
    trail.execute(
        TABLES.replace("{null}", chance.choice(["", "not null"]))
        .replace("{gone}", chance.choice(["cascade", "no action"]))
        .replace("{orphan}", chance.choice(["cascade", "set null"]))
        .replace("{checked}", chance.choice(["", "deferrable initially deferred"]))
        .replace("{unique}", chance.choice(deferrable))
        .replace("{excludes}", chance.choice(deferrable))
    )
    for table in ("boards", "cards", "counts"):
        store = chance.choice(list(Store))
        by_statement = store is not Store.DELTA and chance.random() < 0.5
        trail.audit(table, store=store, capture=Capture.STATEMENT if by_statement else Capture.ROW)
    trail.execute(FILL)
    states = [everything(trail)]
    transactions: list[int] = []
    for _ in range(12):
        transaction = change(trail, chance)
        if transaction is not None:
            transactions.append(transaction)
            states.append(everything(trail))
    assert transactions
    undone = []
    for transaction, state in zip(reversed(transactions), reversed(states[:-1]), strict=True):
        undone.append(take_back(trail, transaction))
        assert everything(trail) == state
    for transaction, state in zip(reversed(undone), states[1:], strict=True):
        if transaction is not None:
            take_back(trail, transaction)
        assert everything(trail) == state


PASSING = {
    "alone": "",
    "with a parent of its own": """
        insert into parents values (11, 10); update parents set parent = 11 where id = 9;
        update children set parent = 11 where id = 1; update parents set parent = null where id = 9;
    """,
    "under several keys": """
        update parents set id = 12 where id = 10; update parents set id = 10 where id = 12;
    """,
    "inserted again": """
        delete from children where parent = 10; delete from parents where id = 10;
        insert into parents values (10); insert into children values (2, 7, 10);
    """,
    "before another one of its key": """
        update children set parent = 1 where parent = 10; delete from parents where id = 10;
        update parents set id = 10 where id = 9; update children set parent = 10 where id = 1;
    """,
}


@pytest.mark.parametrize("meanwhile", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("gone", ["set null", "cascade"])
def test_rows_that_came_and_went_and_were_referred_to(
    trail: Trail, gone: str, meanwhile: str
) -> None:
    trail.execute(f"""
        create table parents (id int primary key, parent int references parents on delete {gone});
        create table children (
            id int primary key, place int unique,
            parent int references parents on update cascade on delete {gone}
        );
        insert into parents values (1); insert into children values (1, 1, 1), (3, 3, 1)
    """)
    trail.audit("parents")
    trail.audit("children")
    before = trail.execute("table parents"), trail.execute("table children order by id")
    with trail.connection.transaction():
        [(number,)] = trail.execute("select pg_current_xact_id()::text::bigint")
        trail.execute(f"""
            insert into parents values (9), (10);
            insert into children values (2, 2, 10); update children set parent = 9 where id = 1;
            {meanwhile}
            update children set parent = 10, place = place + 40 where id in (1, 3);
            update children set parent = 1 where id = 1; delete from parents where id = 10;
            update children set place = place + 100; update children set parent = 1;
            delete from parents where id <> 1
        """)
    after = trail.execute("table parents"), trail.execute("table children order by id")
    undone = take_back(trail, number)
    assert (trail.execute("table parents"), trail.execute("table children order by id")) == before
    assert undone is not None
    take_back(trail, undone)
    assert (trail.execute("table parents"), trail.execute("table children order by id")) == after


def test_a_column_of_rows_that_came_and_went_can_be_ignored(trail: Trail) -> None:
    trail.execute(
        "create table a (id int primary key); create table b (id int primary key, updated_at date)"
    )
    trail.audit("a")
    trail.audit("b")
    with trail.connection.transaction():
        [(number,)] = trail.execute("select pg_current_xact_id()::text::bigint")
        trail.execute("insert into a values (1); insert into b values (1); delete from b")
    undo = verbs.apply_revert(
        trail.connection, Selection(transaction=number), ignore=("updated_at",)
    )
    assert undo.rows == 1
    assert trail.execute("select from a") == []


def take_back(trail: Trail, transaction: int) -> int | None:
    of_cards = trail.execute(
        "select 1 from audit.logged_actions where table_name = 'cards' and transaction_id = %s::text::xid8",
        [transaction],
    )
    ignore = ("updated_at",) if of_cards else ()
    undo = verbs.apply_revert(trail.connection, Selection(transaction=transaction), ignore=ignore)
    assert not undo.conflicts
    return undo.transaction


def everything(trail: Trail) -> list[Any]:
    return sorted(trail.execute(ROWS))


def change(trail: Trail, chance: random.Random) -> int | None:
    """A transaction of a few changes, those left out that a constraint refuses; its number."""
    before = events_of(trail)
    try:
        with trail.connection.transaction():
            for _ in range(chance.choice([1, 2, 3, 5, 8])):
                try:
                    with trail.connection.transaction():
                        trail.execute(statement(chance))
                        if chance.random() < 0.9:  # or a deferred constraint ends it all
                            trail.execute("set constraints all immediate")
                            trail.execute("set constraints all deferred")
                except psycopg.errors.IntegrityError:
                    pass
    except psycopg.errors.IntegrityError:  # of a deferred constraint
        return None
    events = trail.execute(
        "select transaction_id::text::bigint from audit.logged_actions order by event_id desc limit 1"
    )
    return int(events[0][0]) if events_of(trail) > before else None


def events_of(trail: Trail) -> int:
    [(number,)] = trail.execute("select count(*) from audit.logged_actions")
    return int(number)


def statement(chance: random.Random) -> str:
    card, other, board = chance.randint(1, 8), chance.randint(1, 8), chance.randint(1, 4)
    place = chance.randint(1, 5)
    return chance.choice(
        [
            f"insert into boards values ({board}, 't{chance.randint(1, 4)}')",
            f"delete from boards where id = {board}",
            f"update boards set id = {chance.randint(1, 4)} where id = {board}",
            f"update boards set tag = 't{chance.randint(1, 4)}' where id = {board}",
            *[
                (
                    f"insert into cards (id, board, parent, place, label, during) values ({card}, {board}, "
                    f"{chance.choice(['null', str(other)])}, {place}, {label(chance)}, {span(chance)})"
                )
            ]
            * 4,
            (
                f"insert into cards (id, board, parent, place) select g, {board}, nullif(g - 1, {card}), g "
                f"from generate_series({card}, {card + 2}) g"
            ),
            f"delete from cards where id = {card}",
            f"delete from cards where id in ({card}, {other})",
            f"update cards set is_default = (id = {card}) where board = {board} and is_default <> (id = {card})",
            f"update cards set is_default = false where board = {board}",
            f"update cards set is_default = true where id = {card}",
            f"update cards set place = place + 1 where board = {board}",
            f"update cards set place = -place where board = {board}",
            f"update cards set place = {place} where id = {card}",
            f"update cards set id = {other} where id = {card}",
            f"update cards set label = {label(chance)} where id = {card}",
            f"update cards set during = {span(chance)} where id = {card}",
            f"update cards set parent = {other}, seen = seen + 1 where id = {card}",
            f"update cards set seen = seen + 1 where id % 2 = {card % 2}",
        ]
    )


def label(chance: random.Random) -> str:
    return chance.choice(["null", "'a'", "'B'", "'b'", "'c'"])


def span(chance: random.Random) -> str:
    low = chance.randint(1, 9)
    return chance.choice(["null", f"int4range({low}, {low + chance.randint(1, 3)})"])


@pytest.mark.parametrize(
    ("of_parent", "of_child"),
    [
        ("numeric", "int"),
        ("numeric", "numeric"),
        ("int", "bigint"),
        ("float8", "numeric"),
        ("numeric(4,1)", "int"),
    ],
)
def test_keys_that_are_equal_and_written_otherwise(
    trail: Trail, of_parent: str, of_child: str
) -> None:
    trail.execute(f"""
        create table z_parents (id {of_parent} primary key);
        create table a_children (id int primary key, parent {of_child} references z_parents on delete cascade)
    """)
    for table in ("z_parents", "a_children"):
        trail.audit(table)
    trail.execute("insert into z_parents values (1.0), (2.0); insert into a_children values (1, 1)")
    before = trail.execute(
        "select p::text, c::text from z_parents p left join a_children c on true"
    )
    trail.execute("delete from z_parents")
    last = int(trail.events()[-1]["transaction_id"])
    verbs.apply_revert(trail.connection, Selection(transaction=last))
    after = trail.execute("select p::text, c::text from z_parents p left join a_children c on true")
    assert sorted(after) == sorted(before)
    again = int(trail.events()[-1]["transaction_id"])
    verbs.apply_revert(trail.connection, Selection(transaction=again))
    assert trail.execute("select from z_parents, a_children") == []


@pytest.mark.parametrize("checked", ["", "deferrable initially deferred", "on update cascade"])
@pytest.mark.parametrize("null", ["", "not null"])
def test_a_parent_that_got_another_key(trail: Trail, checked: str, null: str) -> None:
    trail.execute(f"""
        create table parents (id int primary key, name text);
        create table children (id int primary key, parent int {null} references parents {checked});
        insert into parents values (1, 'a'), (9, 'other');
        insert into children values (1, 1), (2, 1)
    """)
    for table in ("parents", "children"):
        trail.audit(table)
    trail.execute("""
        begin;
        update children set parent = 9;
        update parents set id = 2, name = 'b' where id = 1;
        update children set parent = 2;
        commit
    """)
    for expected in ([(1, "a"), (1, "a")], [(2, "b"), (2, "b")]):
        last = int(trail.events()[-1]["transaction_id"])
        verbs.apply_revert(trail.connection, Selection(transaction=last))
        query = "select p.id, name from children c join parents p on p.id = parent"
        assert trail.execute(query) == expected
