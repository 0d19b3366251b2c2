"""Images of rows: no code of a type runs for them, and nothing of a row is left out."""

from __future__ import annotations

import re
import shlex
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from audit_toolkit.capture import take_baseline
from audit_toolkit.capture.render import Target
from audit_toolkit.config import Capture, Mask, TableRule, Truncate
from audit_toolkit.connection import connect
from audit_toolkit.errors import RuleError
from audit_toolkit.trail import Selection, apply_revert, row_at, table_at
from tests.plugins.command import Audit
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


@pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
@pytest.mark.parametrize("truncate", [Truncate.EVENT, Truncate.ROWS])
def test_capture_runs_nothing_that_belongs_to_a_type(
    things: Trail, capture: Capture, truncate: Truncate
) -> None:
    things.audit("things", capture=capture, truncate=truncate)
    things.execute("set timezone = 'Asia/Tokyo'")
    things.execute(A_THING)
    things.execute("update things set note = 'y'; update things set id = 2, state = 'paid'")
    things.execute("insert into things (id) values (3), (4); update things set note = 'z'")
    things.execute("delete from things where id = 4; truncate things")
    assert things.execute("select * from ran") == []
    first, second = things.events()[0], things.events()[2]
    assert first["new_row"] == IMAGE
    assert second["old_row"] == IMAGE | {"note": "y"}
    assert second["new_row"] == IMAGE | {"note": "y", "id": 2, "state": "paid"}


@pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
def test_a_type_that_comes_later_runs_nothing(trail: Trail, capture: Capture) -> None:
    trail.execute("create table things (id int primary key, note text)")
    trail.audit("things", capture=capture)
    trail.execute("insert into things values (1, 'x')")
    trail.execute(HOSTILE)
    trail.execute(
        "alter table things add state state default 'new', add amount amount default 1.50"
    )
    trail.execute("insert into things values (2, 'x'); update things set state = 'paid'")
    trail.execute("delete from things")
    assert trail.execute("select * from ran") == []
    assert trail.events()[2]["new_row"] == {"id": 2, "note": "x", "state": "new", "amount": 1.5}
    assert [action for action, _ in trail.story()] == ["I", "M", "I", "U", "U", "D", "D"]


@pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
def test_a_type_made_within_a_transaction_that_wrote(trail: Trail, capture: Capture) -> None:
    trail.execute("create table things (id int primary key)")
    trail.audit("things", capture=capture)
    with trail.database.connect(autocommit=False) as session:
        session.execute("insert into things values (1)")
        session.execute(HOSTILE)
        session.execute("alter table things add state state default 'new'")
        session.execute("insert into things values (2); update things set state = 'paid'")
        session.commit()
    assert trail.execute("select * from ran") == []
    assert [action for action, _ in trail.story()] == ["I", "M", "I", "U", "U"]


def test_a_baseline_runs_nothing_that_belongs_to_a_type(things: Trail) -> None:
    things.execute(A_THING)
    things.audit("things")
    with connect(things.database.dsn) as connection:
        take_baseline(connection, things.target("things"), "audit")
    assert things.events()[0]["new_row"] == IMAGE
    assert things.execute("select * from ran") == []


def test_a_baseline_by_a_key_of_a_foreign_type(things: Trail) -> None:
    # With this cast, PostgreSQL cannot even compare two of them.
    things.execute("drop cast (state as text)")
    things.execute("create table keyed (state state, n amount, note text, primary key (n, state))")
    things.execute("insert into keyed values ('new', 1.0), ('paid', 1.0), ('new', 2)")
    things.audit("keyed")
    for _ in range(2):
        with connect(things.database.dsn) as connection:
            take_baseline(connection, things.target("keyed"), "audit", batch_rows=1)
    things.execute("update keyed set note = 'x' where n = 2")
    assert things.story() == [
        ("S", '[1.0, "new"]'),
        ("S", '[1.0, "paid"]'),
        ("S", '[2, "new"]'),
        ("U", '[2, "new"]'),
    ]
    assert things.execute("select * from ran") == []


def test_a_baseline_obeys_the_condition_and_sees_every_row(trail: Trail) -> None:
    trail.execute("create table t (id int primary key, n int)")
    trail.execute("insert into t select g, g % 2 from generate_series(1, 20) g")
    trail.audit("t", when="n = 1")
    with connect(trail.database.dsn) as connection:
        take_baseline(connection, trail.target("t", when="n = 1"), "audit", batch_rows=3)
    assert {key for _, key in trail.story()} == {str(n) for n in range(1, 20, 2)}
    trail.execute("create role images_owner login")
    try:
        trail.execute(
            "grant usage on schema audit to images_owner; grant all on all tables in schema audit to images_owner"
        )
        trail.execute("grant execute on all functions in schema audit to images_owner")
        trail.execute(
            "alter table t owner to images_owner, enable row level security, force row level security"
        )
        with (
            connect(trail.database.dsn, user="images_owner") as connection,
            pytest.raises(RuleError, match="row security hides rows"),
        ):
            take_baseline(connection, trail.target("t"), "audit")
    finally:
        trail.execute("drop owned by images_owner cascade; drop role images_owner")


@pytest.mark.parametrize("wrong", ["row security", "no right to read", "no right to the schema"])
def test_truncate_records_all_rows_or_is_refused(trail: Trail, wrong: str) -> None:
    trail.execute(
        "create role images_trail; create schema s; create table s.t (id int primary key)"
    )
    try:
        trail.execute("insert into s.t values (1), (2)")
        trail.audit("s.t", truncate=Truncate.ROWS)
        trail.execute(
            "grant all on schema audit to images_trail; grant all on all tables in schema audit to images_trail"
        )
        trail.execute("grant execute on all functions in schema audit to images_trail")
        trail.execute("grant usage on all sequences in schema audit to images_trail")
        trail.execute("alter function audit.capture_s__t() owner to images_trail")
        trail.execute(
            "grant usage on schema s to images_trail; grant select on s.t to images_trail"
        )
        match wrong:
            case "row security":
                trail.execute("alter table s.t enable row level security")
            case "no right to read":
                trail.execute("revoke select on s.t from images_trail")
            case _:
                trail.execute("revoke usage on schema s from images_trail")
        with pytest.raises(
            psycopg.errors.InsufficientPrivilege, match="cannot read all rows"
        ) as caught:
            trail.execute("truncate s.t")
        assert "use DELETE" in str(caught.value.diag.message_hint)
        trail.execute("insert into s.t values (3)")
        trail.execute(
            "alter table s.t disable row level security; grant select on s.t to images_trail"
        )
        trail.execute("grant usage on schema s to images_trail; truncate s.t")
        assert [event for event in trail.story() if event[0] != "I"] == [
            ("D", "1"), ("D", "2"), ("D", "3"), ("T", None),
        ]  # fmt: skip
    finally:
        trail.execute("drop owned by images_trail cascade; drop role images_trail")


@pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
@pytest.mark.parametrize("noted", [False, True])
@pytest.mark.parametrize("name", ["private", "note", "pin"])
@pytest.mark.parametrize(
    "hidden",
    [{"exclude": ("secret", "pin")}, {"mask": (Mask(column="secret"), Mask(column="pin"))}],
)
def test_a_hidden_column_that_is_renamed_stays_hidden(
    trail: Trail, capture: Capture, name: str, noted: bool, hidden: dict[str, Any]
) -> None:
    trail.execute(
        "create table people (id int primary key, name text, note text, secret text, pin text)"
    )
    trail.audit("people", capture=capture, truncate=Truncate.ROWS, **hidden)
    trail.execute("alter table people add later text")
    trail.execute("insert into people values (1, 'Ann', 'plain', 'hunter2', 'hunter2', 'seen')")
    assert trail.events()[0]["new_row"]["later"] == "seen"
    if name != "private":
        trail.execute(f"alter table people rename {name} to former")
    trail.execute(f"alter table people rename secret to {name}")
    if name == "pin":
        trail.execute("alter table people rename note to secret")
    if noted:
        trail.execute("select audit.note_changes()")
    trail.execute("insert into people values (2, 'Ann', 'plain', 'hunter2', 'hunter2', 'unseen')")
    trail.execute(
        "update people set name = 'Eve'; delete from people where id = 2; truncate people"
    )
    [(text,)] = trail.execute(
        "select string_agg(logged_actions::text, '') from audit.logged_actions"
    )
    assert "hunter2" not in text
    assert ("unseen" in text) is (name == "pin")
    assert "Eve" in text
    target = Target(table=trail.table("people"), rule=TableRule(**hidden))
    with (
        connect(trail.database.dsn) as connection,
        pytest.raises(RuleError, match="should be hidden"),
    ):
        take_baseline(connection, target, "audit")


@pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
def test_only_means_the_columns_that_it_named(trail: Trail, capture: Capture) -> None:
    trail.execute("create table people (id int primary key, name text, secret text)")
    trail.audit("people", capture=capture, only=("name",), truncate=Truncate.ROWS)
    trail.execute(
        "alter table people rename name to nick; alter table people rename secret to name"
    )
    trail.execute("insert into people values (1, 'Ann', 'hunter2'); update people set nick = 'Eve'")
    trail.execute("alter table people rename id to secret; alter table people rename nick to id")
    trail.execute("update people set id = 'Bob'; truncate people")
    images = [
        (e["action"], e["row_key"], e["new_row"]) for e in trail.events() if e["action"] != "M"
    ]
    assert images == [
        ("I", "1", {"id": 1, "nick": "Ann"}),
        ("U", "1", {"id": 1, "nick": "Eve"}),
        ("U", "1", {"secret": 1, "id": "Bob"}),
        ("D", "1", None),
        ("T", None, None),
    ]
    assert "hunter2" not in str(trail.events())


def test_the_remedy_for_a_renamed_column_keeps_it_hidden(trail: Trail, audit: Audit) -> None:
    trail.execute("create table people (id int primary key, name text, secret text, pin text)")
    trail.audit("people", exclude=("secret",), mask=(Mask(column="pin"),))
    trail.execute("alter table people rename secret to private")
    trail.execute("select audit.note_changes()")
    found = audit("check", "--table", "people")
    assert found.exit_code == 3
    assert "renamed to private" in found.stdout
    remedy = "audit install --table public.people --exclude private --mask pin=redact --sql | psql"
    assert remedy.replace("pin=redact", "pin") in found.stdout
    trail.execute("alter table people drop private")
    found = audit("check", "--table", "people")
    assert "was dropped" in found.stdout
    assert "audit install --table public.people --mask pin --sql | psql" in found.stdout


RENAMES = {
    "and a new one has its name": (
        "alter table people rename notes to private; alter table people add notes text",
        {"notes", "private"},
    ),
    "and has changed names with another": (
        (
            "alter table people rename notes to x; alter table people rename name to notes;"
            " alter table people rename x to name"
        ),
        {"name"},
    ),
}


@pytest.mark.parametrize("rename", RENAMES)
@pytest.mark.parametrize("option", ["exclude", "mask"])
def test_a_hidden_column_is_known_by_its_number(
    trail: Trail, audit: Audit, rename: str, option: str
) -> None:
    change, hidden = RENAMES[rename]
    trail.execute("create table people (id int primary key, name text, notes text)")
    rule = {"exclude": ("notes",)} if option == "exclude" else {"mask": (Mask(column="notes"),)}
    trail.audit("people", **rule)
    trail.execute(change)
    found = audit("check", "--table", "people")
    assert "renamed to" in found.stdout
    [remedy] = set(re.findall(r"remedy: (audit install .*) --sql \| psql", found.stdout))
    assert set(re.findall(rf"--{option} (\w+)", remedy)) == hidden
    # Without options a table keeps its rule, by the names that its columns have now.
    for command in ("audit install --table people", remedy):
        trail.execute(audit(*shlex.split(command)[1:], "--sql").stdout)
        installed = trail.installed("people")
        assert installed is not None
        assert set(installed.options[option]) == hidden
        columns = [name for (name,) in trail.execute(COLUMN_NAMES)]
        values = ", ".join(f"'{'SECRET' if name in hidden else name}'" for name in columns)
        trail.execute(f"insert into people values ({len(trail.events())}, {values})")
    assert "SECRET" not in str(trail.events())
    assert "OK: everything installed" in audit("check", "--table", "people").stdout


COLUMN_NAMES = """
    select attname from pg_attribute
    where attrelid = 'people'::regclass and attnum > 1 and not attisdropped
    order by attnum
"""


EXTENSIONS = """
    create extension hstore;
    create extension citext;
    create extension ltree;
    create table items (
        id int primary key, attributes hstore, email citext, path ltree, many hstore[], state state, place place,
        spans span
    );
"""
AN_ITEM = """
    insert into items values (1, 'a=>1, b=>NULL, "x y"=>"\\"q\\""', 'Ann@Example.com', 'top.sub',
        array['k=>v'::hstore], 'new', '("Ulm, Donau",new)', '[1,2)')
"""


@pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
def test_values_of_foreign_types_come_back_exactly(trail: Trail, capture: Capture) -> None:
    available = trail.execute(
        "select count(*) from pg_available_extensions where name in ('hstore', 'citext', 'ltree')"
    )
    if available != [(3,)]:
        pytest.skip("the server comes without hstore, citext or ltree")
    trail.execute(HOSTILE + EXTENSIONS)
    trail.audit("items", capture=capture)
    trail.execute(AN_ITEM)
    trail.execute("insert into items (id) values (2)")
    trail.execute("create table kept as table items")
    trail.execute(
        "update items set email = 'other', attributes = 'z=>1', state = 'paid' where id = 1"
    )
    trail.execute("delete from items")
    deleted = next(event["event_id"] for event in trail.events() if event["action"] == "D")
    changed = next(event["event_id"] for event in trail.events() if event["action"] == "U")
    rows = "select array_agg(t order by id)::text from {} as t"
    with connect(trail.database.dsn) as connection:
        moment = trail.execute("select action_tstamp from audit.logged_actions where action = 'U'")[
            0
        ][0]
        before = moment - timedelta(microseconds=1)
        assert row_at(connection, "items", 1, before) == row_of(trail, 1)
        assert {r["id"]: r for r in table_at(connection, "items", before)} == {
            1: row_of(trail, 1), 2: row_of(trail, 2),
        }  # fmt: skip
        for event in (deleted, deleted + 1, changed):
            apply_revert(connection, Selection(event_ids=(event,)))
    assert trail.execute(rows.format("items")) == trail.execute(rows.format("kept"))
    assert trail.execute("select * from ran") == []


def row_of(trail: Trail, key: int) -> dict[str, Any]:
    [(image,)] = trail.execute("select audit.image_of(k) from kept as k where id = %s", [key])
    return dict(image)


@pytest.mark.pg(">= 18")
@pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
def test_a_virtual_column_and_a_foreign_type_that_came_later(
    trail: Trail, capture: Capture
) -> None:
    trail.execute("""
        create type mood as enum ('fine');
        create table orders (id int primary key, n int, twice int generated always as (n * 2) virtual)
    """)
    trail.audit("orders", capture=capture)
    trail.execute("alter table orders add m mood default 'fine'")
    trail.execute("insert into orders (id, n) values (1, 1), (2, 2)")
    trail.execute("update orders set n = 3; delete from orders where id = 1")
    assert trail.story() == [("I", "1"), ("I", "2"), ("U", "1"), ("U", "2"), ("D", "1")]
    for event in trail.events():
        row = event["new_row"] or event["old_row"]
        assert row["m"] == "fine"
