from __future__ import annotations

import io
import json
import re
import shlex
import sys

import pytest

from audit_toolkit.capture import Progress
from audit_toolkit.cli.baseline import progress_bar
from tests.plugins.command import Audit
from tests.plugins.trail import Trail

ORDERS = """
    create table orders (id int primary key, status text, token text);
    insert into orders select g, 'new', 'tok-' || g from generate_series(1, 12) g;
"""


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute(ORDERS)
    trail.audit("orders", exclude=("token",))
    return trail


def test_baseline(shop: Trail, audit: Audit) -> None:
    first = audit("baseline", "--table", "orders", "--batch-rows", "5")
    assert (first.exit_code, first.stdout) == (
        0,
        "public.orders: 12 rows, 12 snapshots written\n",
    )
    assert first.stderr == "", "no bar where nobody looks"
    again = audit("baseline", "--table", "orders")
    assert again.stdout == "public.orders: 12 rows, 0 snapshots written\n"
    assert "tok-1" not in str(shop.events())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("first", "shown"), [("analyze orders", "5 of about 12 rows"), ("select", "5 rows")]
)
def test_a_baseline_says_how_far_it_is(
    shop: Trail, monkeypatch: pytest.MonkeyPatch, first: str, shown: str
) -> None:
    shop.execute(first)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar(shop.connection, shop.target("orders")) as show:
        for seen in (1, 5):
            show(Progress(seen=seen))
    bar = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert shown in bar
    assert bool(re.search(r"\d:\d\d:\d\d|-:--:--", bar)) == ("about" in shown)


def test_a_pause_from_end_to_end(shop: Trail, audit: Audit) -> None:
    audit("baseline", "--table", "orders")
    assert audit("pause", "--table", "orders", "--reason", "import").exit_code == 0
    shop.execute("update orders set status = 'unseen' where id = 1")
    checked = audit("check", "--format", "json")
    assert checked.exit_code == 3
    report = json.loads(checked.stdout)
    assert report["ok"] is False
    assert [finding["kind"] for finding in report["findings"]] == ["capture_paused"]
    assert set(report["findings"][0]) >= {"kind", "severity", "object", "detail", "remedy"}
    shown = audit("history", "orders", "1")
    assert "capture paused" in shown.stdout
    assert "why: import" in shown.stdout
    resumed = audit("resume", "--table", "orders", "--reason", "done")
    assert "audit baseline --table orders --reason 'after the pause'" in resumed.stderr
    assert audit("check").exit_code == 0
    closed = audit("baseline", "--table", "orders", "--reason", "after the pause")
    assert closed.stdout == "public.orders: 12 rows, 1 snapshot written\n"


AGAIN = "audit install --table public.orders --exclude token --sql | psql"


def test_a_table_that_was_made_anew_while_paused(shop: Trail, audit: Audit) -> None:
    """Nothing is left to be paused or resumed: every command says so, and the one that mends it."""
    shop.audit("orders", exclude=("token",))
    shop.execute("create table others (id int primary key)")
    shop.audit("others")
    for table in ("orders", "others"):
        assert audit("pause", "--table", table, "--reason", "import").exit_code == 0
    shop.execute(
        "drop table orders; create table orders (id int primary key, status text, token text)"
    )
    for command in ("pause", "resume"):
        answer = audit(command, "--table", "orders", "--reason", "x")
        assert (answer.exit_code, "lacks all triggers" in answer.stderr) == (2, True)
        assert AGAIN in answer.stderr
    checked = json.loads(audit("check", "--format", "json").stdout)["findings"]
    found = [f for f in checked if f["object"].endswith("public.orders")]
    assert {(f["kind"], f["remedy"]) for f in found} == {("trigger_missing", AGAIN)}
    [orders, _] = json.loads(audit("status", "--format", "json").stdout)["audited"]
    assert (orders["state"], orders["since"]) == ("off", None)
    assert "public.orders [off]: row\n    changes are not recorded" in audit("status").stdout
    shop.execute(audit(*shlex.split(AGAIN)[1:-2]).stdout)
    shop.execute("insert into orders values (1)")
    assert [event["action"] for event in shop.events()][-1] == "I"
    assert audit("check", "--table", "orders").exit_code == 0


@pytest.mark.parametrize("trigger", ["00_audit_row", "00_audit_truncate"])
def test_a_trigger_that_is_gone_is_not_resumed(shop: Trail, audit: Audit, trigger: str) -> None:
    shop.execute(f'drop trigger "{trigger}" on orders')
    answer = audit("resume", "--table", "orders", "--reason", "x")
    assert (answer.exit_code, AGAIN in answer.stderr) == (2, True)
    [orders] = json.loads(audit("status", "--format", "json").stdout)["audited"]
    assert orders["state"] == ("off" if trigger == "00_audit_row" else "on")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("pause", "--table", "orders"), 2, "missing option '--reason'"),
        (("pause", "--table", "orders", "--reason", " "), 2, "needs a reason"),
        (("resume", "--table", "orders", "--reason", "x"), 2, "is not paused"),
        (("pause", "--table", "plain", "--reason", "x"), 2, "public.plain is not audited"),
        (("baseline", "--table", "plain"), 2, "public.plain is not audited"),
        (("baseline", "--table", "ordres"), 2, "table 'ordres' does not exist"),
        (("baseline", "--table", "keyless"), 2, "no primary key"),
        (("check", "--table", "ordres"), 2, "table 'ordres' does not exist"),
        (("grants",), 2, "no role given"),
        (("grants", "--reader", "r", "--audit-schema", "nowhere"), 2, "no audit trail"),
    ],
)
def test_bad_input(
    shop: Trail, audit: Audit, arguments: tuple[str, ...], code: int, message: str
) -> None:
    shop.execute("create table plain (id int primary key); create table keyless (id int)")
    shop.audit("keyless")
    result = audit(*arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


def test_a_busy_table_is_exit_code_5(shop: Trail, audit: Audit) -> None:
    holder = shop.database.connect(autocommit=False)
    holder.execute("select from orders where id = 3 for update")
    result = audit("baseline", "--table", "orders", "--lock-timeout", "50ms")
    assert result.exit_code == 5
    assert "hint: " in result.stderr


def test_check_finds_nothing_on_a_fresh_trail(shop: Trail, audit: Audit) -> None:
    result = audit("check")
    assert (result.exit_code, result.stdout) == (
        0,
        "OK: everything installed is present, unchanged and enabled\n",
    )
    report = json.loads(audit("check", "--format", "json").stdout)
    assert (report["ok"], report["findings"]) == (True, [])


def test_check_of_one_table_and_of_errors_alone(shop: Trail, audit: Audit) -> None:
    shop.execute("create table users (id int primary key, password text)")
    shop.audit("users")
    assert audit("check").exit_code == 3
    assert audit("check", "--fail-on", "error").exit_code == 0
    assert audit("check", "--table", "orders").exit_code == 0
    assert audit("check", "--table", "users").exit_code == 3
    text = audit("check").stdout
    assert "warning: public.users.password: the column looks like a secret" in text
    assert "remedy: audit install --table public.users --mask password --sql | psql" in text


def test_check_finds_what_partitions_and_indexes_say(shop: Trail, audit: Audit) -> None:
    shop.execute("create index half on only audit.logged_actions (action)")
    found = json.loads(audit("check", "--format", "json").stdout)["findings"]
    assert any(finding["kind"].startswith("index_") for finding in found)


def test_check_without_a_trail(shop: Trail, audit: Audit) -> None:
    result = audit("check", "--audit-schema", "elsewhere")
    assert result.exit_code == 3
    assert "the database has no audit trail" in result.stdout


def test_a_role_that_may_not_read_the_trail_can_check_capture(shop: Trail, audit: Audit) -> None:
    shop.execute("create role check_looker login")
    try:
        dsn = shop.database.dsn.replace("postgres@", "check_looker@")
        result = audit("check", "--dsn", dsn, "--format", "json")
        kinds = {finding["kind"] for finding in json.loads(result.stdout)["findings"]}
        assert kinds <= {"not_checked"}
        shop.execute('alter table orders disable trigger "00_audit_row"')
        result = audit("check", "--dsn", dsn, "--format", "json")
        assert "trigger_disabled" in result.stdout
    finally:
        shop.execute("drop role check_looker")


def test_grants_are_printed_and_run(shop: Trail, audit: Audit) -> None:
    shop.execute("create role grants_reader login")
    try:
        result = audit("grants", "--reader", "grants_reader")
        assert result.exit_code == 0
        shop.execute(result.stdout)
        dsn = shop.database.dsn.replace("postgres@", "grants_reader@")
        assert audit("history", "orders", "--dsn", dsn).exit_code == 0
        assert audit("check", "--dsn", dsn).stdout.startswith("OK: everything installed")
    finally:
        shop.execute("drop owned by grants_reader; drop role grants_reader")


@pytest.mark.parametrize(
    ("grants", "command", "lacks"),
    [
        ("", "baseline", "USAGE on the schema"),
        ("", "pause", "USAGE on the schema"),
        ("grant usage on schema audit to {}", "pause", "EXECUTE on the function"),
        ("grant usage on schema audit to {}", "baseline", "EXECUTE on the function"),
    ],
)
def test_the_owner_of_a_table_is_told_what_it_lacks(
    shop: Trail, audit: Audit, grants: str, command: str, lacks: str
) -> None:
    """It owns the table already: to connect as its owner is no remedy."""
    role = f"{shop.database.name}_own"
    shop.execute(f"create role {role} login; alter table orders owner to {role}")
    try:
        shop.execute(grants.format(role))
        dsn = shop.database.dsn.replace("postgres@", f"{role}@")
        answer = audit(command, "-t", "orders", "--reason", "x", "--dsn", dsn)
        assert (answer.exit_code, "permission denied for" in answer.stderr) == (1, True)
        assert f"hint: the role of this connection lacks {lacks}" in answer.stderr
        assert "audit grants --help" in answer.stderr
        if command == "pause":
            shop.execute(audit("grants", "--installer", role).stdout)
            assert audit("pause", "-t", "orders", "--reason", "x", "--dsn", dsn).exit_code == 0
    finally:
        shop.execute(f"drop table orders; drop owned by {role}; drop role {role}")


def test_who_does_not_own_a_table_is_told_who_may(shop: Trail, audit: Audit) -> None:
    role = f"{shop.database.name}_guest"
    shop.execute(f"create role {role} login; grant select on orders to {role}")
    try:
        dsn = shop.database.dsn.replace("postgres@", f"{role}@")
        answer = audit("pause", "-t", "orders", "--reason", "x", "--dsn", dsn)
        assert (answer.exit_code, "must be owner of table" in answer.stderr) == (1, True)
        assert "hint: connect as the owner, or as a member of the owning role" in answer.stderr
    finally:
        shop.execute(f"drop owned by {role}; drop role {role}")


def test_an_owner_without_other_rights_on_the_table_may_pause_it(shop: Trail, audit: Audit) -> None:
    role = f"{shop.database.name}_owner"
    shop.execute(f"create role {role} login; alter table orders owner to {role}")
    shop.execute(f"revoke all on orders from {role}; grant usage on schema audit to {role}")
    shop.execute(f"grant execute on function audit.record_gap to {role}")
    try:
        dsn = shop.database.dsn.replace("postgres@", f"{role}@")
        answer = audit("pause", "-t", "orders", "--reason", "x", "--dsn", dsn)
        assert answer.exit_code == 0, answer.stderr
        assert shop.execute(
            "select distinct tgenabled from pg_trigger where tgrelid = 'orders'::regclass and tgname ~ '^00_audit'"
        ) == [("D",)]
    finally:
        shop.execute("reset role; alter table orders owner to postgres")
        shop.execute(f"drop owned by {role}; drop role {role}")
