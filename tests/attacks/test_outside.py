"""Attacks that no single statement makes: locks, races, addresses, terminals, claims."""

from __future__ import annotations

import json
import threading
from typing import Any

import psycopg
import pytest

from audit_toolkit.attribution.values import as_document
from audit_toolkit.config import CONTEXT_LIMIT, Capture, Mask, MaskMethod, TrailSettings
from audit_toolkit.connection import choose_dsn, connect
from audit_toolkit.errors import AuditError, ContextError
from audit_toolkit.plan import apply, single_flight
from audit_toolkit.schema import plan_trail
from tests.plugins.command import Audit
from tests.plugins.database import Database
from tests.plugins.trail import Trail

ORDERS = "create table orders (id int primary key, status text)"
CLAIM = "select set_config('audit.context', %s, true)"


def write(trail: Trail, context: str) -> None:
    with trail.database.connect(autocommit=False) as connection:
        connection.execute(CLAIM, [context])
        connection.execute("insert into orders select coalesce(max(id), 0) + 1 from orders")


@pytest.mark.parametrize("capture", ["row", "statement"])
@pytest.mark.parametrize(
    "value", ['""', '" "', '"\\t\\n"', "{}", "[]", "false", "true", "null", '[""]', '{"id": " "}']
)
def test_a_claim_that_says_nothing_is_none(trail: Trail, capture: Any, value: str) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", require_context="actor", capture=Capture(capture))
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="needs the key 'actor'"):
        write(trail, f'{{"actor": {value}}}')
    assert trail.events() == []


@pytest.mark.parametrize("value", ['"ann"', "0", "42", '{"id": 7}', '["a", ""]', '"ü"'])
def test_a_claim_that_says_something_is_one(trail: Trail, value: str) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", require_context="actor")
    write(trail, f'{{"actor": {value}}}')
    assert len(trail.events()) == 1


@pytest.mark.parametrize("capture", ["row", "statement"])
def test_a_huge_context_is_marked_and_the_write_goes_through(trail: Trail, capture: Any) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=Capture(capture))
    context = json.dumps({"actor": "x" * 5_000_000})
    write(trail, context)
    write(trail, "{" + "x" * CONTEXT_LIMIT)
    write(trail, json.dumps({"a": "x" * (CONTEXT_LIMIT - 9)}))
    huge, broken, largest = trail.events()
    assert huge["context"] == {"audit:oversize": {"bytes": len(context)}}
    assert broken["context"] == {"audit:oversize": {"bytes": CONTEXT_LIMIT + 1}}
    assert list(largest["context"]) == ["a"]


def test_a_huge_context_is_not_who(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", require_context="audit:oversize")
    trail.audit("orders", require_context="actor")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        write(trail, json.dumps({"actor": "x" * CONTEXT_LIMIT}))


def test_the_role_is_what_it_was_when_the_row_was_captured(trail: Trail) -> None:
    """`role_name` can be changed within a statement; `session_user_name` cannot."""
    trail.execute(ORDERS + "; insert into orders values (1, 'new')")
    trail.audit("orders")
    name = f"spoof_{trail.database.name[-8:]}"
    trail.execute(f"create role {name} login; grant select, update on orders to {name}")
    try:
        with trail.database.connect(user=name) as connection:
            connection.execute(f"set role {name}")
            connection.execute(
                "update orders set status = 'x' where set_config('role', 'none', true) = 'none'"
            )
        [event] = trail.events()
        assert (event["session_user_name"], event["role_name"]) == (name, None)
    finally:
        trail.execute(f"drop owned by {name}; drop role {name}")


@pytest.mark.parametrize(
    "key",
    ["authorization", "authorisation", "bearer", "jwt", "pass", "otp", "X-Authorization",
     "bearerToken", "userPass", "jwt_id"],
)  # fmt: skip
def test_keys_that_name_secrets_are_refused(key: str) -> None:
    with pytest.raises(ContextError, match="the name of a secret"):
        as_document({key: "x"})


@pytest.mark.parametrize("key", ["passenger", "compass", "author", "authority", "bypass_reason"])
def test_keys_that_only_sound_alike_are_not(key: str) -> None:
    assert as_document({key: "x"})


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:s3cr%ZZt@127.0.0.1:1/db",
        "postgresql://u:s3crt@[::1/db",
        "postgresql://u:s3cr@t@127.0.0.1:1/db",
        "postgresql://u:s3cr/t@127.0.0.1:1/db",
        "postgresql://u:s3cr?t@127.0.0.1:1/db",
        "postgresql://u:s3cr#t@127.0.0.1:1/db",
        "postgresql+asyncpg://u:s3cr%t@127.0.0.1:1/db",
        "postgresql://u:s3crt@127.0.0.1:1:2/db",
        "host=127.0.0.1 port=1 password=s3cr t",
        "host=127.0.0.1 port=1 password='s3crt",
        "host=127.0.0.1 port=1 password=x s3crt=1",
        "host=127.0.0.1 port=s3crt",
    ],
)
def test_no_password_is_printed(dsn: str) -> None:
    with pytest.raises(AuditError) as refusal, connect(choose_dsn(dsn)):
        pass
    said = f"{refusal.value.message} {refusal.value.hint}"
    assert "s3cr" not in said
    assert refusal.value.exit_code in (2, 4)


def test_the_lock_of_a_run_cannot_be_held_by_a_login(trail: Trail) -> None:
    import hashlib

    key = int.from_bytes(hashlib.sha256(b"audit-toolkit audit").digest()[:8], signed=True)
    name = f"squat_{trail.database.name[-8:]}"
    trail.execute(f"create role {name} login")
    try:
        with trail.database.connect(user=name) as squatter:
            squatter.execute("select pg_advisory_lock(%s)", [key])
            with single_flight(trail.database.dsn, "audit"):
                pass
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                squatter.execute(
                    "begin; lock table audit.maintenance in share update exclusive mode"
                )
    finally:
        trail.execute(f"drop role {name}")


def test_two_first_installations_at_once(database: Database) -> None:
    plan, errors = plan_trail(TrailSettings()), []

    def install() -> None:
        try:
            with connect(database.dsn) as connection:
                apply(plan, connection)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=install) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert database.execute("select count(*) > 3 from audit.leaves()") == [(True,)]


PREPARED: dict[str, str] = {
    "the schema": "create schema audit authorization {mallory}",
    "maintenance": """
        create schema audit;
        create table audit.maintenance (command text collate "C" primary key, last_run_at timestamptz not null,
            last_success_at timestamptz, summary jsonb not null);
        alter table audit.maintenance owner to {mallory}
    """,
    "mask_key": "create schema audit; create table audit.mask_key (inner_pad bytea, outer_pad bytea)",
    "a view in the place of a table": "create schema audit; create view audit.mask_key as select ''::bytea as inner_pad",
    "partition_lifecycle": "create schema audit; create table audit.partition_lifecycle (leaf regclass)",
    "the sequence": """
        create schema audit; create sequence audit.logged_actions_event_id_seq;
        alter sequence audit.logged_actions_event_id_seq owner to {mallory}
    """,
    "a partition": "create schema audit; create table audit.logged_actions_tail (x int)",
    "a function": """
        create schema audit;
        create function audit.mask(image jsonb, column_name text, method text) returns jsonb language sql as 'select image';
        alter function audit.mask owner to {mallory}
    """,
    "a function with our comment": """
        create schema audit;
        create function audit.refuse_change() returns trigger language plpgsql as 'begin return null; end';
        comment on function audit.refuse_change() is '{{"tool": "audit-toolkit"}}';
        alter function audit.refuse_change() owner to {mallory}
    """,
    "a trail with our comment": """
        create schema audit;
        create table audit.logged_actions (action_tstamp timestamptz) partition by range (action_tstamp);
        comment on table audit.logged_actions is '{{"tool": "audit-toolkit"}}';
        alter table audit.logged_actions owner to {mallory}
    """,
}


@pytest.mark.parametrize("what", PREPARED)
def test_what_somebody_prepared_is_not_taken_over(database: Database, what: str) -> None:
    """Also not by a superuser, who is a member of every role."""
    mallory = f"mallory_{database.name[-8:]}"
    database.execute(f"create role {mallory}")
    try:
        database.execute(PREPARED[what].format(mallory=mallory))
        with (
            pytest.raises(Exception, match=r"belongs to another role|was not created by"),
            connect(database.dsn) as connection,
        ):
            apply(plan_trail(TrailSettings()), connection)
    finally:
        database.execute(f"drop owned by {mallory} cascade; drop role {mallory}")


DEFAULTS = """
    alter default privileges grant all on tables to {role};
    alter default privileges grant all on sequences to {role};
    alter default privileges grant execute on functions to {role} with grant option;
    alter default privileges grant all on schemas to {role};
"""


def test_default_privileges_give_nothing(database: Database) -> None:
    role = f"default_{database.name[-8:]}"
    database.execute(f"create role {role} login;" + DEFAULTS.format(role=role) + ORDERS)
    trail = Trail(database)
    try:
        with connect(database.dsn) as connection:
            apply(plan_trail(TrailSettings()), connection)
        trail.audit("orders")
        from audit_toolkit.cli.check import check_database

        with connect(database.dsn) as connection:
            assert check_database(connection, "audit") == []
        with database.connect(user=role) as app:
            for statement in ("select audit.capture_public__orders()", "select audit.leaves()"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    app.execute(statement.encode())
    finally:
        database.execute(f"drop owned by {role}; drop role {role}")


def test_writes_go_through_without_the_key_of_masks(trail: Trail) -> None:
    trail.execute("create table people (id int primary key, email text)")
    trail.audit("people", mask=(Mask(column="email", method=MaskMethod.SHA256),))
    trail.execute("""
        alter table audit.mask_key disable trigger "00_audit_append_only";
        delete from audit.mask_key;
        insert into people values (1, 'ann@example.org')
    """)
    [event] = trail.events()
    assert event["new_row"]["email"] == "[redacted]"


HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"


@pytest.mark.parametrize(
    "command",
    [
        ("history", "orders"),
        ("table-at", "orders", "--at", "now"),
        ("row-at", "orders", "1", "--at", "now"),
        ("blame", "orders", "1"),
        ("show", "1"),
        ("check",),
        ("status",),
        ("access",),
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_terminal_obeys_what_is_printed(
    trail: Trail, audit: Audit, command: tuple[str, ...], form: str
) -> None:
    trail.execute('create table orders (id int primary key, status text, "\x1b[31mred" text)')
    trail.execute(f'create table "evil{HOSTILE}" (password text)')
    trail.audit("orders")
    trail.audit(f'"evil{HOSTILE}"')
    trail.execute("insert into orders values (1, %s, %s)", [HOSTILE, HOSTILE])
    trail.execute('create role "r\x1b[31m"; grant insert on audit.logged_actions to "r\x1b[31m"')
    try:
        options = ("--format", "jsonl" if command[0] == "table-at" else form)
        answer = audit(*command, *options)
        assert answer.exit_code in (0, 3), answer.output
        assert answer.stdout
        for sign in "\x1b\x07\x9b\u202e":
            assert sign not in answer.output
    finally:
        trail.execute('drop owned by "r\x1b[31m"; drop role "r\x1b[31m"')


def test_a_table_in_a_terminal_is_not_obeyed_either(trail: Trail) -> None:
    """Into a file it goes as it is, to be loaded again."""
    import os
    import pty
    import subprocess
    import sys

    trail.execute("create table orders (id int primary key, status text)")
    trail.audit("orders")
    trail.execute("insert into orders values (1, %s)", [HOSTILE])
    command = [sys.executable, "-m", "audit_toolkit", "table-at", "orders", "--at", "now"]
    command += ["--dsn", trail.database.dsn]
    assert HOSTILE.encode() in subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    ours, its = pty.openpty()
    subprocess.run(command, stdout=its, check=True)
    os.close(its)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "id,status" in shown
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)
