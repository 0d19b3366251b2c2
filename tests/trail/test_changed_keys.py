from __future__ import annotations

import pytest

from audit_toolkit.config import Capture
from audit_toolkit.trail import history
from tests.plugins.trail import Trail

BOTH = pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])


@pytest.fixture
def things(trail: Trail) -> Trail:
    trail.execute("create table things (id text primary key deferrable, v text)")
    trail.audit("things")
    return trail


def story(trail: Trail, key: object, table: str = "things") -> list[str]:
    """The history of a row: `I a`, `U a>b` and so on."""
    return [
        f"{event.action} "
        + (f"{event.old_row_key}>" if event.old_row_key is not None else "")
        + f"{event.row_key}"
        for event in history(trail.connection, table, key)
    ]


@BOTH
def test_a_history_goes_on_under_the_new_key_and_back_under_the_old_one(
    trail: Trail, capture: Capture
) -> None:
    trail.execute("create table things (id text primary key, v text)")
    trail.audit("things", capture=capture)
    trail.execute("insert into things values ('a', '1'), ('other', '1')")
    trail.execute("update things set id = 'b', v = '2' where id = 'a'")
    trail.execute("update things set v = '3' where id = 'b'")
    trail.execute("update things set id = 'c' where id = 'b'")
    trail.execute("delete from things where id = 'c'")
    for key in "abc":
        assert story(trail, key) == ["I a", "U a>b", "U b", "U b>c", "D c"]
    assert story(trail, "other") == ["I other"]


def test_who_took_over_a_key_is_another_row(things: Trail) -> None:
    things.execute("insert into things values ('a', 'first')")
    things.execute("update things set id = 'b'")
    things.execute("insert into things values ('a', 'second')")
    things.execute("update things set v = v || '!'")
    assert story(things, "b") == ["I a", "U a>b", "U b"]
    # Asked for the key itself, everything that happened under it is shown.
    assert story(things, "a") == ["I a", "U a>b", "I a", "U b", "U a"]


def test_who_took_over_and_moved_on_is_not_followed_either(things: Trail) -> None:
    things.execute("insert into things values ('a', 'first'); update things set id = 'b'")
    things.execute("insert into things values ('a', 'second')")
    things.execute("update things set id = 'c' where id = 'a'")
    things.execute("update things set v = 'third' where id = 'c'")
    assert story(things, "b") == ["I a", "U a>b"]
    assert story(things, "c") == ["I a", "U a>c", "U c"]


def test_a_key_that_was_free_when_a_row_moved_there(things: Trail) -> None:
    things.execute("insert into things values ('a', '1'), ('b', '2')")
    things.execute("delete from things where id = 'b'")
    things.execute("update things set id = 'b' where id = 'a'")
    things.execute("update things set v = '3'")
    assert story(things, "a") == ["I a", "U a>b", "U b"]
    # Both rows had this key: the one that was deleted, and the one that came.
    assert story(things, "b") == ["I a", "I b", "D b", "U a>b", "U b"]


def test_there_and_back_again(things: Trail) -> None:
    things.execute("insert into things values ('a', '1')")
    things.execute("update things set id = 'b'; update things set id = 'a'")
    things.execute("update things set id = ''; update things set id = 'a'")
    assert story(things, "a") == ["I a", "U a>b", "U b>a", "U a>", "U >a"]
    assert story(things, "") == story(things, "b") == story(things, "a")


@BOTH
@pytest.mark.parametrize("identical", [True, False])
def test_all_keys_move_to_the_next_in_one_statement(
    trail: Trail, capture: Capture, identical: bool
) -> None:
    trail.execute("create table moving (id int primary key deferrable initially deferred, v text)")
    trail.audit("moving", capture=capture)
    value = "'same'" if identical else "'row ' || g"
    trail.execute(f"insert into moving select g, {value} from generate_series(1, 5) g")
    for _ in range(3):
        trail.execute("update moving set id = id + 1")
    assert story(trail, "8", "moving") == ["I 5", "U 5>6", "U 6>7", "U 7>8"]
    # 4 was the key of four rows in turn: of 4, 3, 2 and 1.
    assert sum(step.startswith("I") for step in story(trail, "4", "moving")) == 4


def test_two_rows_swap_keys_through_a_third(things: Trail) -> None:
    things.execute("insert into things values ('a', 'x'), ('b', 'y')")
    things.execute(
        "begin; update things set id = 't' where id = 'a'; update things set id = 'a' where id = 'b';"
        " update things set id = 'b' where id = 't'; commit"
    )
    things.execute("update things set v = 'z' where id = 'a'")
    assert story(things, "t") == ["I a", "U a>t", "U t>b"]


def test_an_inverted_change_of_key(trail: Trail) -> None:
    """A trigger moves a row on before the capture of its first move."""
    trail.execute(
        """
        create table things (id text primary key, v int);
        create function move_on() returns trigger language plpgsql as $$
        begin
            if new.id = 'x' then
                update things set id = 'c' where id = 'b';
            end if;
            return null;
        end $$;
        create trigger move_on after update on things for each row execute function move_on();
        """
    )
    trail.audit("things")
    trail.execute("insert into things values ('1', 1), ('a', 2)")
    trail.execute("update things set id = case id when '1' then 'x' else 'b' end")
    assert [e["old_row_key"] for e in trail.events()[-3:]] == ["1", "b", "a"]
    for key in "abc":
        assert story(trail, key) == ["I a", "U a>b", "U b>c"]


def test_filters_apply_to_all_keys(things: Trail) -> None:
    things.execute("insert into things values ('a', '1')")
    things.execute("update things set id = 'b'; update things set v = '2'")
    events = history(things.connection, "things", "b")
    assert history(things.connection, "things", "b", limit=2) == events[-2:]
    since = events[1].action_tstamp
    assert history(things.connection, "things", "a", since=since) == events[1:]
    assert history(things.connection, "things", "a", until=since) == events[:1]


def test_a_chain_of_many_keys(things: Trail) -> None:
    things.execute("insert into things values ('0', 'x')")
    for number in range(40):
        things.execute("update things set id = %s", [str(number + 1)])
    assert len(story(things, "0")) == len(story(things, "20")) == len(story(things, "40")) == 41


def test_changed_keys_of_several_columns(trail: Trail) -> None:
    trail.execute("create table lines (region text, n int, q int, primary key (region, n))")
    trail.audit("lines")
    trail.execute("insert into lines values ('eu', 1, 1), ('us', 1, 1)")
    trail.execute("update lines set n = 2 where region = 'eu'")
    trail.execute("update lines set region = 'apac', n = 7 where region = 'eu'")
    expected = [
        'I ["eu", 1]',
        'U ["eu", 1]>["eu", 2]',
        'U ["eu", 2]>["apac", 7]',
    ]
    assert story(trail, ("eu", 1), "lines") == expected
    assert story(trail, ("apac", "7"), "lines") == expected
