from __future__ import annotations

import hashlib
import hmac
import re
from itertools import product

import psycopg
import pytest

from audit_toolkit.config import Capture, Mask, MaskMethod, Store, TableRule, Truncate
from audit_toolkit.errors import RuleError
from audit_toolkit.plan import apply
from tests.moving.words import findings, mend
from tests.plugins.trail import Trail

PEOPLE = "create table people (id int primary key, name text, secret text, n int)"
BOTH = pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
SECRET = "hunter2-correct-horse"


def everything(trail: Trail) -> str:
    """All of the trail as text: what must not appear in it appears nowhere."""
    return str(trail.execute("select logged_actions::text from audit.logged_actions"))


def write(trail: Trail) -> None:
    trail.execute(f"insert into people values (1, 'Ann', '{SECRET}', 1), (2, 'Bob', null, 2)")
    trail.execute(f"update people set secret = '{SECRET}!' where id = 1")
    trail.execute("update people set name = 'Eve'")
    trail.execute("delete from people where id = 1")
    trail.execute("truncate people")


@pytest.mark.parametrize("truncate", [Truncate.EVENT, Truncate.ROWS])
@pytest.mark.parametrize(
    ("store", "capture"),
    [
        *product((Store.ROWS, Store.CHANGES), (Capture.ROW, Capture.STATEMENT)),
        (Store.DELTA, Capture.ROW),
    ],
)
@pytest.mark.parametrize(
    "hidden",
    [
        {"exclude": ("secret",)},
        {"only": ("name",)},
        *({"mask": (Mask(column="secret", method=method),)} for method in MaskMethod),
    ],
    ids=["exclude", "only", *MaskMethod],
)
def test_a_hidden_value_appears_nowhere(
    trail: Trail, capture: Capture, truncate: Truncate, store: Store, hidden: dict[str, object]
) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", capture=capture, truncate=truncate, store=store, **hidden)
    write(trail)
    assert SECRET not in everything(trail)
    assert "Ann" in everything(trail)


def test_the_negative_control_finds_the_value(trail: Trail) -> None:
    trail.execute(PEOPLE)
    trail.audit("people")
    write(trail)
    assert SECRET in everything(trail)


@BOTH
def test_a_change_of_excluded_columns_alone_is_none(trail: Trail, capture: Capture) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", capture=capture, exclude=("secret",))
    write(trail)
    assert [action for action, _ in trail.story()] == ["I", "I", "U", "U", "D", "T"]


@BOTH
def test_a_change_of_masked_columns_is_one(trail: Trail, capture: Capture) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", capture=capture, mask=(Mask(column="secret"),))
    write(trail)
    assert [action for action, _ in trail.story()] == ["I", "I", "U", "U", "U", "D", "T"]


@BOTH
def test_only_keeps_the_key(trail: Trail, capture: Capture) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", capture=capture, only=("name",))
    trail.execute("insert into people values (1, 'Ann', 'x', 1)")
    assert trail.events()[0]["new_row"] == {"id": 1, "name": "Ann"}


def test_what_stands_for_a_masked_value(trail: Trail) -> None:
    trail.execute("create table t (id int primary key, a text, b text, c text, d text, gone text)")
    masks = zip("abcd", MaskMethod, strict=True)
    trail.audit("t", mask=tuple(Mask(column=column, method=method) for column, method in masks))
    trail.execute("alter table t drop d")
    trail.execute("insert into t values (1, 'naïve', 'naïve', 'naïve'), (2, null, null, null)")
    first, second = (event["new_row"] for event in trail.events())
    [(inner, outer)] = trail.execute("select inner_pad, outer_pad from audit.mask_key")
    key = bytes(byte ^ 0x36 for byte in inner)
    assert bytes(byte ^ 0x5C for byte in outer) == key
    assert first["a"] == "hmac-sha256:" + hmac.digest(key, "naïve".encode(), "sha256").hex()
    assert first["b"] == "sha256:" + hashlib.sha256("naïve".encode()).hexdigest()
    assert first["c"] == "[redacted]"
    assert "d" not in first
    assert second == {"id": 2, "a": None, "b": None, "c": None, "gone": None}


def test_length_mask(trail: Trail) -> None:
    trail.execute("create table t (id int primary key, a text)")
    trail.audit("t", mask=(Mask(column="a", method=MaskMethod.LENGTH),))
    trail.execute("insert into t values (1, 'naïve')")
    assert trail.events()[0]["new_row"]["a"] == "[5 characters]"


def test_every_trail_has_a_key_of_its_own(trail: Trail) -> None:
    [(pads,)] = trail.execute("select inner_pad || outer_pad from audit.mask_key")
    assert len(pads) == 128
    assert len(set(pads)) > 40  # 64 random bytes, not a constant


@BOTH
def test_store_changes_keeps_the_old_row_and_what_changed(trail: Trail, capture: Capture) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", capture=capture, store=Store.CHANGES)
    trail.execute("insert into people values (1, 'Ann', 'x', 1)")
    trail.execute("update people set n = 2, name = null")
    update = trail.events()[1]
    assert update["old_row"] == {"id": 1, "name": "Ann", "secret": "x", "n": 1}
    assert update["new_row"] == {"n": 2, "name": None}


def test_when_captures_what_is_true(trail: Trail) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", when="new.name <> 'draft' or old.name <> 'draft' -- and a comment")
    trail.execute(
        "insert into people values (1, 'draft', '', 0), (2, 'Ann', '', 0), (3, null, '', 0)"
    )
    trail.execute("update people set name = 'Bob' where id = 1")
    trail.execute("delete from people")
    assert trail.story()[:2] == [("I", "2"), ("U", "1")]
    assert sorted(trail.story()[2:]) == [("D", "1"), ("D", "2")]


def test_truncate_rows_logs_each_row_before_the_marker(trail: Trail) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", truncate=Truncate.ROWS)
    trail.execute("insert into people (id) values (1), (2); truncate people")
    assert trail.story() == [("I", "1"), ("I", "2"), ("D", "1"), ("D", "2"), ("T", None)]


def test_truncate_forbidden(trail: Trail) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", truncate=Truncate.FORBID)
    with pytest.raises(Exception, match=re.escape("public.people is audited row by row")):
        trail.execute("truncate people")


@BOTH
def test_capture_query_is_cut(trail: Trail, capture: Capture) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", capture=capture, capture_query=True)
    statement = "insert into people (id) values (1) -- " + "x" * 20_000
    trail.execute(statement)
    assert trail.events()[0]["query"] == statement[:10_000]


def test_capture_query_with_hidden_columns_has_to_be_forced(trail: Trail) -> None:
    with pytest.raises(RuleError, match="hidden values") as caught:
        TableRule(exclude=("secret",), capture_query=True)
    assert "--force-capture-query" in str(caught.value.hint)
    trail.execute(PEOPLE)
    trail.audit("people", exclude=("secret",), force_capture_query=True)
    write(trail)
    assert SECRET in everything(trail)
    assert all(SECRET not in str(e["old_row"]) + str(e["new_row"]) for e in trail.events())


@BOTH
def test_require_context(trail: Trail, capture: Capture) -> None:
    trail.execute(PEOPLE)
    trail.audit("people", capture=capture, require_context="it's who")
    for setting in ("", '{"other": 1}', '{"it\'s who": null}'):
        trail.execute("select set_config('audit.context', %s, false)", [setting])
        with pytest.raises(Exception, match=r"public\.people needs the key 'it''s who'") as caught:
            trail.execute("insert into people (id) values (1)")
        assert "set_config('audit.context', '{\"it''s who\": \"...\"}', true)" in str(caught.value)
    trail.execute("select set_config('audit.context', '{\"it''s who\": \"ann\"}', false)")
    trail.execute("insert into people (id) values (1)")
    assert trail.story() == [("I", "1")]


@BOTH
def test_what_replication_brings_needs_no_context(trail: Trail, capture: Capture) -> None:
    """As the apply worker writes, which has no context and would try again for ever."""
    trail.execute(PEOPLE)
    trail.audit("people", capture=capture, require_context="actor", truncate=Truncate.FORBID)
    trail.execute("set session_replication_role = replica")
    trail.execute("insert into people (id) values (1)")
    trail.execute("update people set id = 2")
    trail.execute("truncate people")
    assert trail.story() == [("I", "1"), ("U", "2"), ("T", None)]
    assert [event["context"] for event in trail.events()] == [None, None, None]
    for mode in ("local", "origin"):
        trail.execute(f"set session_replication_role = {mode}")
        with pytest.raises(Exception, match="needs the key"):
            trail.execute("insert into people (id) values (1)")


def test_who_may_not_set_the_replication_role_needs_a_context(trail: Trail) -> None:
    """Only a superuser, or who was granted SET of it, writes as replication does."""
    trail.execute(PEOPLE)
    trail.audit("people", require_context="actor")
    role = f"{trail.database.name}_app"
    trail.execute(f"create role {role}; grant insert on people to {role}; set role {role}")
    try:
        for statement in (
            "set session_replication_role = replica",
            "select set_config('session_replication_role', 'replica', true)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
                trail.execute(statement)
        with pytest.raises(Exception, match="needs the key"):
            trail.execute("insert into people (id) values (1)")
    finally:
        trail.execute(f"reset role; drop owned by {role}; drop role {role}")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"exclude": ("id",)}, "part of the primary key"),
        ({"mask": (Mask(column="id"),)}, "part of the primary key"),
        ({"exclude": ("secrt",)}, "no column 'secrt'"),
        ({"mask": (Mask(column="nome"),)}, "no column 'nome'"),
        ({"only": ("x",)}, "no column 'x'"),
    ],
)
def test_rules_that_do_not_fit_the_table(
    trail: Trail, rule: dict[str, object], message: str
) -> None:
    trail.execute(PEOPLE)
    with pytest.raises(RuleError, match=message) as caught:
        trail.target("people", **rule)
    assert caught.value.hint


@pytest.mark.parametrize(
    "rule",
    [
        {"exclude": ("a",), "only": ("b",)},
        {"exclude": ("a",), "mask": (Mask(column="a"),)},
        {"only": ("a",), "mask": (Mask(column="b"),)},
        {"capture": Capture.STATEMENT, "when": "true"},
        {"capture_query": True, "exclude": ("a",)},
        {"capture_query": True, "mask": (Mask(column="a"),)},
        {"mask": (Mask(column="a"), Mask(column="a", method=MaskMethod.LENGTH))},
    ],
)
def test_options_that_contradict_each_other(rule: dict[str, object]) -> None:
    with pytest.raises(RuleError) as caught:
        TableRule(**rule)  # type: ignore[arg-type]  # any combination of options
    assert caught.value.hint


def test_an_unknown_mask_method_names_those_there_are() -> None:
    with pytest.raises(RuleError, match="md5") as caught:
        Mask.parse("email=md5")
    assert "sha256" in str(caught.value.hint)


def test_rules_survive_their_json() -> None:
    rule = TableRule(
        capture=Capture.STATEMENT,
        exclude=("b", "a", "a"),
        mask=(Mask(column="x=y", method=MaskMethod.LENGTH), Mask(column="c")),
        truncate=Truncate.ROWS,
        require_context="actor",
    )
    assert TableRule.from_dict(rule.as_dict()) == rule
    assert TableRule().as_dict() == {}
    with pytest.raises(RuleError, match="exlude"):
        TableRule.from_dict({"exlude": ["a"]})


EXCHANGED = """
    alter table people rename secret to former; alter table people rename name to secret;
    alter table people rename former to name
"""
TAKEN_OFF = {
    "named before": (EXCHANGED, ""),
    "named meanwhile": ("", EXCHANGED),
    "another got the name": (
        "",
        "alter table people rename secret to tale; alter table people add secret text",
    ),
}


@pytest.mark.parametrize("when", TAKEN_OFF)
@pytest.mark.parametrize(
    "hidden",
    [{"exclude": ("secret",)}, {"mask": (Mask(column="secret"),)}, {"only": ("name",)}],
    ids=["exclude", "mask", "only"],
)
def test_what_is_put_on_again_hides_what_it_hid(
    trail: Trail, hidden: dict[str, object], when: str
) -> None:
    """As revisions that were taken back altogether do: they have the names of then."""
    trail.execute(PEOPLE)
    before = [trail.audit("people", **hidden, log_unchanged=more) for more in (False, True)]
    trail.execute(f"insert into people values (1, 'Ann', '{SECRET}')")
    trail.execute(TAKEN_OFF[when][0])
    trail.release("people")
    trail.execute(TAKEN_OFF[when][1])
    for plan in before:
        apply(plan, trail.connection)
        columns = [column.name for column in trail.table("people").columns]
        trail.execute(
            f"insert into people ({', '.join(columns[:3])}) values ((select max(id) + 1 from people), 'x', '{SECRET}')"
        )
        assert SECRET not in everything(trail)
    assert trail.story()[-1] == ("I", "3")
    if "only" not in hidden:
        assert "hidden_column_gone" in [finding["kind"] for finding in findings(trail)]
        mend(trail)
        assert "hidden_column_gone" not in [finding["kind"] for finding in findings(trail)]
