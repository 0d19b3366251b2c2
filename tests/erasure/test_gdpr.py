"""`docs/gdpr.md` is what happens, and nothing of an erased value is left in the files of the server."""

from __future__ import annotations

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
    assert "audit:redacted" in audit("history", "customers", "42").stdout
    assert "DPO-17" in audit("show", str(told["event_id"])).stdout


def test_grants_of_the_page(customers: Trail, audit: Audit) -> None:
    assert "grant execute on function audit.redact(" in audit("grants", "--redactor", "dpo").stdout


def test_usage(customers: Trail, audit: Audit) -> None:
    for wrong in (
        ["customers", "42", "--reason", "x"],
        ["customers", "42", "-c", "email"],
        ["customers", "--keys", "--reason", "x"],
        ["nowhere", "42", "-c", "email", "--reason", "x"],
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
