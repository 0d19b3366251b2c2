"""What `audit check` says of tables without audit, and of findings that somebody accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugins.command import Audit
from tests.plugins.trail import Trail

FINE = "OK: everything installed is present, unchanged and enabled\n"


def shop(trail: Trail) -> None:
    trail.execute("""
        create table orders (id int primary key, api_token text);
        create table notes (id int);
        create table cache_pages (id int);
        create view seen as select 1
    """)
    trail.audit("orders", exclude=("api_token",))


@pytest.mark.parametrize("name", ["notes", "public.notes", "seen"])
def test_a_table_that_was_asked_for_and_is_not_audited(
    trail: Trail, audit: Audit, name: str
) -> None:
    shop(trail)
    answer = audit("check", "-t", name, "--format", "json")
    [finding] = json.loads(answer.stdout)["findings"]
    assert (answer.exit_code, finding["kind"]) == (3, "not_audited")
    if "notes" in name:
        assert finding["remedy"] == "audit install --table public.notes --sql | psql"
    assert audit("check", "-t", "orders").exit_code == 0


def test_a_partition_of_an_audited_table_is_audited(trail: Trail, audit: Audit) -> None:
    trail.execute("""
        create table visits (id int) partition by range (id);
        create table visits_1 partition of visits for values from (0) to (9)
    """)
    trail.audit("visits")
    assert audit("check", "-t", "visits_1").stdout == FINE


def test_required_tables(trail: Trail, audit: Audit) -> None:
    shop(trail)
    Path("audit.toml").write_text('require = ["public.*", "!public.cache_*"]\n')
    answer = audit("check", "--format", "json")
    [finding] = json.loads(answer.stdout)["findings"]
    assert answer.exit_code == 3
    assert (finding["kind"], finding["object"]) == ("not_audited", "public.notes")
    assert finding["detail"] == "it is not audited: audit.toml requires it to be audited"
    Path("audit.toml").write_text('require = ["public.order", "other.*", "public.orders"]\n')
    [finding] = json.loads(audit("check", "--format", "json").stdout)["findings"]
    assert finding["object"] == "public.order"
    assert finding["detail"].startswith("it does not exist, and audit.toml requires it")


def test_an_accepted_finding_shows_its_reason(trail: Trail, audit: Audit) -> None:
    shop(trail)
    trail.audit("orders")
    assert audit("check").exit_code == 3
    finding = "secret_in_clear public.orders.api_token"
    Path("audit.toml").write_text(f'accept = {{"{finding}" = "a public one"}}\n')
    answer = audit("check")
    assert answer.exit_code == 0
    assert "accepted: public.orders.api_token: " in answer.stdout
    assert "because: a public one" in answer.stdout
    [found] = json.loads(audit("check", "--format", "json").stdout)["findings"]
    assert found["accepted"] == "a public one"


@pytest.mark.parametrize("text", ['accept = {"secret_in_clear x" = " "}', "accept = 1", 'require = "x"'])  # fmt: skip
def test_what_cannot_be_read_is_an_error(trail: Trail, audit: Audit, text: str) -> None:
    Path("audit.toml").write_text(text + "\n")
    assert audit("check").exit_code == 2


def test_an_unlogged_table_is_told(trail: Trail, audit: Audit) -> None:
    trail.execute("create unlogged table cache (id int primary key)")
    trail.audit("cache")
    answer = audit("check", "--format", "json")
    [finding] = json.loads(answer.stdout)["findings"]
    assert (finding["kind"], finding["severity"]) == ("unlogged_table", "warning")


def test_grants_say_who_can_run_them(trail: Trail, audit: Audit) -> None:
    role = f"looker_{trail.database.name[-8:]}"
    trail.execute(f"create role {role} login")
    try:
        dsn = trail.database.dsn.replace("postgres@", f"{role}@")
        answer = audit("grants", "--reader", "x", "--deployer", "y", "--dsn", dsn)
        assert answer.exit_code == 0
        assert "the role of this connection cannot" in answer.stderr
        assert "y becomes a member of postgres" in answer.stderr
        assert "cannot run" not in audit("grants", "--reader", "x").stderr
    finally:
        trail.execute(f"drop role {role}")
