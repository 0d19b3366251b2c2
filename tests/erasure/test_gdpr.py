"""`docs/gdpr.md` is what happens, and nothing of an erased value is left in the files of the server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.plugins.command import Audit, audit
from tests.plugins.trail import Trail

__all__ = ["audit"]

PAGE = (Path(__file__).parents[2] / "docs" / "gdpr.md").read_text("utf-8")
VALUE = "marker-7f3a9c@example.com"


@pytest.fixture
def customers(trail: Trail) -> Trail:
    """A customer whose values were erased from the table, and another one."""
    trail.execute("create table customers (id int primary key, email text, phone text)")
    trail.audit("customers", capture_query=True)
    trail.execute(f"insert into customers values (42, '{VALUE}', '555-0100')")
    trail.execute("insert into customers values (43, 'other@example.com', '555-0101')")
    trail.execute("update customers set phone = '555-0102' where id = 42")
    trail.execute("update customers set email = null, phone = null where id = 42")
    return trail


def shown() -> tuple[list[str], str]:
    """The command of the page, and what it prints."""
    import shlex

    [(command, answer)] = re.findall(r"```console\n\$ audit (.*?)\n(.*?)```", PAGE, re.DOTALL)
    return shlex.split(command), answer


def test_the_page_shows_what_redact_prints(customers: Trail, audit: Audit) -> None:
    command, answer = shown()
    before = customers.events()
    printed = audit(*command).stdout
    assert re.sub(r"logged_actions_\S+", "logged_actions_PERIOD", printed) == answer
    assert customers.events() == before
    assert "event" in audit(*command, "--apply").stdout
    assert not customers.execute(
        "select event_id from audit.logged_actions as e where e::text like %s", [f"%{VALUE}%"]
    )
    assert "no event has such a value" in audit(*command, "--apply").stdout
    [told] = [e for e in customers.events() if e["action"] == "R"]
    assert (told["new_row"]["ticket"], told["context"]["actor"][:3]) == ("DPO-17", "os:")
    said = audit("history", "customers", "42").stdout
    assert f"redacted (event {told['event_id']})" in said
    assert "audit:redacted" not in said
    assert "DPO-17" in audit("show", str(told["event_id"])).stdout


def test_the_commands_of_the_page_run(customers: Trail, audit: Audit) -> None:
    exported, granted = (
        audit(*line.removeprefix("audit ").split()).stdout
        for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
        for line in block.splitlines()
    )
    assert exported.count(VALUE) >= 3
    assert "grant execute on function audit.redact(" in granted


def test_an_export_follows_foreign_keys_down_and_through_time(trail: Trail, audit: Audit) -> None:
    trail.execute(
        "create table customers (id int primary key, email text); "
        "create table orders (id int primary key, customer int references customers on update cascade); "
        "create table items (id int primary key, of_order int references orders on delete cascade)"
    )
    for table in ("customers", "orders", "items"):
        trail.audit(table)
    for statement in (
        "insert into customers values (1, 'zoe'), (2, 'bob')",
        "insert into orders values (10, 1), (20, 2), (30, 1)",
        "insert into items values (100, 10), (200, 20)",
        "update orders set customer = 2 where id = 30",
        "update customers set id = 5 where id = 1",
        "delete from orders where id = 10",
    ):
        trail.execute(statement)
    events = json.loads(audit("subject", "customers", "5").stdout)["events"]
    got = {(event["table_name"], event["row_key"]) for event in events}
    assert got == {
        ("customers", "1"),
        ("customers", "5"),
        ("orders", "10"),
        ("orders", "30"),
        ("items", "100"),
    }
    numbers = [event["event_id"] for event in events]
    assert numbers == sorted(set(numbers))
    assert "bob" not in json.dumps(events)
    assert audit("subject", "customers", "5", "--format", "csv").stdout.count("zoe") >= 2
    audit("subject", "customers", "77", code=2)


def test_usage(customers: Trail, audit: Audit) -> None:
    for wrong in (
        ["customers", "42", "--reason", "x"],
        ["customers", "42", "--column", "email"],
        ["customers", "--keys", "--reason", "x"],
        ["nowhere", "42", "--column", "email", "--reason", "x"],
    ):
        audit("redact", *wrong, code=2)


def test_no_file_of_the_server_has_the_value(customers: Trail, audit: Audit) -> None:
    """After the statements of the page: the tables, indexes, toast and statistics of the database, by their bytes."""
    for statement in ("analyze audit.logged_actions", "vacuum (full, analyze) customers"):
        customers.execute(statement)
    [(folder, number)] = customers.execute(
        "select current_setting('data_directory'), oid from pg_database where datname = current_database()"
    )
    files = Path(str(folder)) / "base" / str(number)

    def holding() -> list[str]:
        customers.execute("checkpoint")
        return [f.name for f in files.iterdir() if f.is_file() and VALUE.encode() in f.read_bytes()]

    assert holding()
    audit(*shown()[0], "--apply")
    [block] = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    for statement in filter(str.strip, block.split(";")):
        customers.execute(statement)
    assert holding() == []


def test_a_row_that_never_was_is_named(customers: Trail, audit: Audit) -> None:
    answer = audit("subject", "customers", "4711", code=2)
    assert "no such row in the trail: public.customers 4711" in answer.stderr
