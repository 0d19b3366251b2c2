"""Tables that exchange their names keep their own rules: by the printed remedies, and on the way down and up again."""

from __future__ import annotations

import itertools
import re
import shlex

import pytest

from tests.plugins.project import MakeShop, Shop

RULES = {
    "a": ("--capture", "statement", "--exclude", "v"),
    "b": ("--mask", "w"),
    "c": ("--store", "changes", "--exclude", "x"),
}
SECRET = {"a": "v", "b": "w", "c": "x"}
ROTATED = {"a": "c", "b": "a", "c": "b"}
SWAPPED = {"a": "b", "b": "a"}
numbers = itertools.count(1)


@pytest.fixture
def shop(make_shop: MakeShop) -> Shop:
    shop = make_shop()
    for name, rule in RULES.items():
        shop.database.execute(f"create table {name} (id int primary key, v text, w text, x text)")
        assert shop.audit("install", "--table", name, *rule, "--upgrade").code == 0
    return shop


def rename(shop: Shop, names: dict[str, str]) -> None:
    """Let tables have each other's names."""
    steps = [f"alter table {old} rename to new_{new}" for old, new in names.items()]
    steps += [f"alter table new_{new} rename to {new}" for new in names.values()]
    shop.database.execute("; ".join(steps))


def write(shop: Shop, names: dict[str, str]) -> None:
    """A row in each table, with a secret where the rule of the table hides it; it is captured, and the secret not."""
    known = len(events(shop))
    for first, secret in SECRET.items():
        values = ", ".join(f"'{'SECRET' if column == secret else column}'" for column in "vwx")
        name = names.get(first, first)
        shop.database.execute(f"insert into {name} values ({next(numbers)}, {values})")
    added = [event for event in events(shop)[known:] if event[0] == "I"]
    assert sorted(table for _, table, _ in added) == ["a", "b", "c"]
    assert "SECRET" not in str(added)


def events(shop: Shop) -> list[tuple[str, str, str]]:
    return [
        (action, table, str(row))
        for action, table, row in shop.database.execute(
            "select action, table_name, new_row from audit.logged_actions order by event_id"
        )
    ]


def modes(shop: Shop) -> dict[str, bool]:
    """Which tables are captured by statement."""
    return dict(
        shop.database.execute("""
            select tgrelid::regclass::text, bool_or(tgname = '00_audit_insert') from pg_trigger
            where tgname like '00\\_audit%' and tgrelid::regclass::text not like 'audit.%' group by 1
        """)
    )


@pytest.mark.thorough
def test_rules_stay_with_their_tables(shop: Shop) -> None:
    names = ROTATED
    write(shop, {})
    rename(shop, names)
    write(shop, names)
    found = shop.audit("check").out
    assert found.count("table_renamed") == len(names)
    for remedy in dict.fromkeys(re.findall(r"table_renamed; remedy: audit (.*)", found)):
        answer = shop.audit(*shlex.split(remedy))
        assert answer.code == 0, answer.text
        write(shop, names)
    assert "OK: everything installed" in shop.audit("check").out
    assert modes(shop) == {name: name == names["a"] for name in "abc"}
    assert [event for event in events(shop) if event[0] == "G"] == []
    for _ in names:
        shop.downgrade("-1")
        write(shop, names)
    shop.upgrade()
    write(shop, names)
    assert modes(shop) == {name: name == names["a"] for name in "abc"}
    assert "OK: everything installed" in shop.audit("check").out


def test_the_end_of_capture_is_that_of_the_table(shop: Shop) -> None:
    rename(shop, SWAPPED)
    assert shop.audit("uninstall", "--table", "b", "--upgrade").code == 0
    assert modes(shop) == {"a": False, "c": False}
    shop.downgrade("-1")
    write(shop, SWAPPED)


def test_a_new_table_of_a_name_gets_a_function_of_its_own(shop: Shop) -> None:
    shop.database.execute("alter table a rename to was_a")
    shop.database.execute("create table a (id int primary key, v text, w text, x text)")
    assert "public.a is not audited" in shop.audit("uninstall", "--table", "a").text
    assert shop.audit("install", "--table", "a", "--exclude", "v", "--upgrade").code == 0
    for table in ("a", "was_a"):
        shop.database.execute(f"insert into {table} values (1, 'SECRET', 'w', 'x')")
    captured = [(action, table) for action, table, _ in events(shop) if action == "I"]
    assert captured == [("I", "a"), ("I", "was_a")]
    assert "SECRET" not in str(events(shop))
    shop.downgrade("-1")
    assert modes(shop) == {"was_a": True, "b": False, "c": False}
