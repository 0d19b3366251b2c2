"""Images of rows: no code of a type runs for them, and nothing of a row is left out."""

from __future__ import annotations

import pytest

from tests.plugins.trail import Trail

HOSTILE = """
    create table ran (what text, as_whom text);
    create type state as enum ('new', 'paid');
    create type place as (city text, state state);
    create type span as range (subtype = float8);
    create domain label as state;
    create domain amount as numeric check (value >= 0);
    create function to_json(value state) returns json language plpgsql as
        $$ begin insert into public.ran values ('state', current_user); return '"forged"'; end $$;
    create function to_json(value span) returns json language plpgsql as
        $$ begin insert into public.ran values ('span', current_user); return '"forged"'; end $$;
    create function to_text(value state) returns text language plpgsql as
        $$ begin insert into public.ran values ('text', current_user); return 'forged'; end $$;
    create cast (state as json) with function to_json(state);
    create cast (span as json) with function to_json(span);
    create cast (state as text) with function to_text(state) as implicit;
"""
THINGS = """
    create table things (
        id int primary key, state state, states state[], place place, places place[], label label, labels label[],
        amount amount, amounts amount[], spans span, note text, at timestamptz, "it's %s" int
    )
"""
A_THING = """
    insert into things values (1, 'new', '{new,paid}', '(Ulm,new)', '{"(Bonn,paid)"}', 'paid', '{new}',
        1.50, '{1.0,2.00}', '[1,2]', 'x', '2026-01-01 00:00+00', 7)
"""
IMAGE = {
    "id": 1,
    "state": "new",
    "states": "{new,paid}",
    "place": "(Ulm,new)",
    "places": '{"(Bonn,paid)"}',
    "label": "paid",
    "labels": "{new}",
    "amount": 1.5,
    "amounts": [1.0, 2.0],
    "spans": "[1,2]",
    "note": "x",
    "at": "2026-01-01T00:00:00+00:00",
    "it's %s": 7,
}


@pytest.fixture
def things(trail: Trail) -> Trail:
    trail.execute(HOSTILE + ";" + THINGS)
    return trail


def test_the_negative_control_to_jsonb_runs_casts(things: Trail) -> None:
    things.execute(A_THING)
    [(image,)] = things.execute("select to_jsonb(things) from things")
    assert image["state"] == "forged"
    assert things.execute("select count(*) > 0 from ran") == [(True,)]


def test_image_of_runs_nothing_that_belongs_to_a_type(things: Trail) -> None:
    things.execute(A_THING + "; insert into things (id) values (2)")
    things.execute("set timezone = 'Asia/Tokyo'")
    whole, empty = (
        image
        for (image,) in things.execute("select audit.image_of(t) from things as t order by id")
    )
    assert whole == IMAGE
    assert empty == dict.fromkeys(IMAGE) | {"id": 2}
    assert things.execute("select count(*) from ran") == [(0,)]
    [(read,)] = things.execute(
        "select jsonb_populate_record(null::things, audit.image_of(t)) *= t from things as t where id = 1"
    )
    assert read


def test_image_of_knows_columns_that_the_snapshot_does_not(things: Trail) -> None:
    """Under REPEATABLE READ the catalogue shows the columns of the snapshot, the row those of now."""
    with things.database.connect(autocommit=False) as session:
        session.execute("set transaction isolation level repeatable read")
        session.execute("select from things")
        session.commit()
        session.execute("set transaction isolation level repeatable read")
        session.execute("select 1")
        things.execute("""
            alter table things drop note, alter amount type text, add grade int default 5;
            alter table things rename state to status;
            create type mood as enum ('sad'); alter table things add mood mood default 'sad';
        """)
        [image] = (
            session.execute(
                "insert into things (id, status, amount) values (1, 'new', '1.50') returning audit.image_of(things)"
            ).fetchone()
            or ()
        )
    expected = dict.fromkeys(set(IMAGE) - {"note", "state"})
    assert image == expected | {
        "id": 1,
        "status": "new",
        "amount": "1.50",
        "grade": 5,
        "mood": "sad",
    }
    assert things.execute("select count(*) from ran") == [(0,)]


def test_image_of_marks_what_json_cannot_hold(things: Trail) -> None:
    things.execute("""
        create type words as (body text);
        create table files (id int, body text, raw bytea, meta json, words words);
    """)
    things.execute(
        "insert into files values (1, repeat('x', %(n)s), repeat('y', %(n)s)::bytea, %(meta)s,"
        " row(repeat('z', %(n)s)))",
        {"n": 17 * 1024 * 1024, "meta": '{"a": "\\u0000"}'},
    )
    things.execute("insert into files values (2, 'x', 'y', '[1]', row('z'))")
    things.execute("insert into files values (3)")
    big, small, empty = (
        image
        for (image,) in things.execute("select audit.image_of(f, true) from files as f order by id")
    )
    marked = {name for name, value in big.items() if isinstance(value, dict)}
    assert marked == {"body", "raw", "meta", "words"}
    assert all(set(big[name]["audit:oversize"]) == {"bytes", "sha256"} for name in marked)
    assert small == {
        "id": 2, "body": "x", "raw": "\\x79", "meta": [1], "words": "(z)",
    }  # fmt: skip
    assert set(empty.values()) == {3, None}


def test_image_of_a_wide_table_with_names_that_we_use(trail: Trail) -> None:
    trail.execute("create type state as enum ('new')")
    names = ["image", "names", "record", *(f"c%{n}" for n in range(120))]
    columns = ", ".join(f'"{name}" int default 7' for name in names)
    trail.execute(f"create table wide ({columns}, state state default 'new')")
    trail.execute("insert into wide default values")
    [(image,)] = trail.execute("select audit.image_of(w) from wide as w")
    assert image == dict.fromkeys(names, 7) | {"state": "new"}


def test_image_of_a_table_without_columns(trail: Trail) -> None:
    trail.execute("create table nothing (); insert into nothing default values")
    assert trail.execute("select audit.image_of(n) from nothing as n") == [({},)]
