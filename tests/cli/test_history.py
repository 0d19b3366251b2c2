from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.made import timeless
from tests.plugins.command import Audit
from tests.plugins.database import Database
from tests.plugins.golden import Golden
from tests.plugins.trail import Trail

STORY = """
    create table orders (id int primary key, status text, total numeric, note text, placed timestamptz);
"""


@pytest.fixture
def shop(trail: Trail) -> Trail:
    """An order that lives, changes its key and is deleted, and others beside it."""
    trail.execute(STORY)
    trail.audit("orders")
    say(trail, {"actor": "alice@example.com", "reason": "phone order", "request_id": "r-17"})
    trail.execute("insert into orders values (1, 'new', 12345678901234567890.12, null, null)")
    say(
        trail,
        {
            "actor": {"id": 7, "name": "bob"},
            "reason": "the customer paid " + "x" * 70 + " and " * 20,
        },
    )
    trail.execute(
        "update orders set status = 'paid', total = 1.0, note = '', placed = '2026-11-01 10:00+01'"
    )
    say(trail, None)
    trail.execute("update orders set total = 1.00, note = 'null', placed = null")
    trail.execute("update orders set note = repeat('long ', 100)")
    trail.execute("update orders set note = note || 'tail'")
    trail.execute("update orders set id = 2, note = E'two\\nlines\\u001b[31m'")
    trail.execute("insert into orders (id) values (3)")
    trail.execute("delete from orders where id = 2")
    trail.execute("truncate orders")
    return trail


def say(trail: Trail, context: dict[str, Any] | None) -> None:
    text = "" if context is None else json.dumps(context)
    trail.execute("select set_config('audit.context', %s, false)", [text])


class TestText:
    def test_the_history_of_a_row(self, audit: Audit, shop: Trail, golden: Golden) -> None:
        result = audit("history", "orders", "2")
        assert (result.exit_code, result.stderr) == (0, "")
        golden("history/row.txt", timeless(result.stdout, shop))

    def test_the_history_of_a_table(self, audit: Audit, shop: Trail, golden: Golden) -> None:
        result = audit("history", "orders", "--limit", "4")
        assert result.exit_code == 0
        assert result.stderr == "note: older events: audit history orders --before 6 --limit 4\n"
        golden("history/table.txt", timeless(result.stdout, shop))

    def test_other_kinds_of_events(self, audit: Audit, shop: Trail, golden: Golden) -> None:
        shop.execute("create table notes (id int primary key, v text)")
        shop.audit("notes", log_unchanged=True, capture_query=True)
        shop.execute("insert into notes values (1, 'x'); update notes set v = v")
        shop.execute("select audit.record_gap('notes', 'paused', 'bulk load, ticket 12')")
        shop.execute("select audit.record_gap('notes', 'resumed', 'done')")
        shop.execute(
            """
            insert into audit.logged_actions
                (schema_name, table_name, action, row_key, old_row, new_row, context)
            values
                ('public', 'notes', 'S', '2', null, '{"id": 2, "v": "y"}', '{"reason": "baseline"}'),
                ('public', 'notes', 'S', '1', '{"id": 1, "v": "x"}', null, '["no object"]')
            """
        )
        golden("history/other_kinds.txt", timeless(audit("history", "notes").stdout, shop))

    @pytest.mark.usefixtures("shop")
    def test_a_narrow_terminal(self, audit: Audit) -> None:
        lines = audit("history", "orders", "2", COLUMNS="50").stdout.splitlines()
        assert max(map(len, lines)) <= 50
        assert "│ by alice@example.com" in lines
        assert '│         + "long long long long… (502 characters)' in lines

    def test_without_unicode(self, shop: Trail, golden: Golden) -> None:
        shop.execute("insert into orders (id, status) values (9, '€ → ü')")
        done = run_process(shop, "history", "orders", "9", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
        text = done.stdout.decode("ascii").replace(" - 127.0.0.1", "")
        golden("history/ascii.txt", timeless(text, shop))

    @pytest.mark.usefixtures("shop")
    def test_colour_only_where_it_is_wanted(self, audit: Audit) -> None:
        assert "\x1b" not in audit("history", "orders").stdout
        assert "\x1b[" in audit("history", "orders", FORCE_COLOR="1").stdout
        assert "\x1b" not in audit("history", "orders", FORCE_COLOR="1", NO_COLOR="1").stdout

    @pytest.mark.usefixtures("shop")
    def test_a_terminal_is_told_how_long_ago_it_was(self, audit: Audit) -> None:
        assert "just now" in audit("history", "orders", "1", FORCE_COLOR="1", NO_COLOR="1").stdout

    def test_a_whole_table_is_cut(self, audit: Audit, shop: Trail) -> None:
        shop.execute("insert into orders select generate_series(100, 250)")
        result = audit("history", "orders")
        assert result.stdout.count("● ") == 100
        (border,) = shop.execute("select max(event_id) - 99 from audit.logged_actions")[0]
        assert result.stderr == (
            "note: showing the newest 100 events of public.orders; --limit 0 shows all\n"
            f"note: older events: audit history orders --before {border} --limit 100\n"
        )
        assert audit("history", "orders", "--limit", "0").stdout.count("● ") == 160
        assert audit("history", "orders", "--limit", "3").stdout.count("● ") == 3


class TestHostileValues:
    VALUE = "a\x1b]0;owned\x07\x9b31m\u202egnp.exe\u2066\u200b\xa0\r\n\t\x7f\ufeff[bold]x[/] :smile: %s \\n"

    @pytest.fixture(autouse=True)
    def _everywhere(self, trail: Trail) -> None:
        """The value as a column, a key, names, and everything that a client claims."""
        trail.execute('create table "t\x1b\u202e" ("c\x1b\u202e" text primary key, v text)')
        trail.audit('"t\x1b\u202e"', capture_query=True)
        say(trail, {"actor": self.VALUE, "reason": self.VALUE, self.VALUE: {"x": self.VALUE}})
        trail.execute("select set_config('application_name', 'shop', false)")
        trail.execute('insert into "t\x1b\u202e" values (%s)', [self.VALUE])
        trail.execute('update "t\x1b\u202e" set "c\x1b\u202e" = %s', [self.VALUE + "2"])

    @pytest.mark.parametrize("output", ["text", "json"])
    @pytest.mark.parametrize("arguments", [(), (VALUE,)])
    def test_nothing_reaches_the_terminal(
        self, audit: Audit, arguments: tuple[str, ...], output: str
    ) -> None:
        result = audit("history", "t\x1b\u202e", *arguments, "--format", output)
        assert result.exit_code == 0
        assert "".join(result.stdout.split("\n")).isprintable()
        assert result.stderr == ""

    def test_and_json_keeps_it(self, audit: Audit) -> None:
        events = json.loads(audit("history", "t\x1b\u202e", "--format", "json").stdout)["events"]
        assert events[0]["new_row"]["c\x1b\u202e"] == self.VALUE
        assert events[0]["context"]["actor"] == self.VALUE

    def test_errors_and_notes_are_harmless_too(self, audit: Audit, trail: Trail) -> None:
        trail.execute("create table orders (id int primary key)")
        trail.audit("orders")
        trail.execute("create table texts (id text primary key)")
        trail.audit("texts")
        for arguments in (
            ("no\x1b[31m",),
            ("orders", "\x1b[31m"),
            ("texts", "\x1b[31m"),
            ("orders", "--since", "\x1b[31m"),
            ("orders", "--action", "\x1b[31m"),
            ("orders", "--audit-schema", "\x1b[31m"),
        ):
            result = audit("history", *arguments)
            assert "".join(result.stderr.split("\n")).isprintable(), arguments
            assert result.stdout == ""


class TestJson:
    def test_all_of_it(self, audit: Audit, shop: Trail, golden: Golden) -> None:
        result = audit("history", "orders", "2", "--format", "json")
        assert (result.exit_code, result.stderr) == (0, "")
        golden("history/row.json", timeless(result.stdout, shop))

    @pytest.mark.usefixtures("shop")
    def test_numbers_come_out_as_they_are(self, audit: Audit) -> None:
        text = audit("history", "orders", "1", "--format", "json").stdout
        assert '"total": [12345678901234567890.12, 1.0]' in text
        assert '"total": [1.0, 1.00]' in text
        events = json.loads(text, parse_float=Decimal)["events"]
        assert events[0]["new_row"]["total"] == Decimal("12345678901234567890.12")

    def test_keys_are_promised(self, audit: Audit, shop: Trail) -> None:
        event = json.loads(audit("history", "orders", "--format", "json").stdout)["events"][0]
        assert list(event) == [
            *("event_id", "action_tstamp", "transaction_id", "action", "schema_name", "table_name"),
            *("row_key", "old_row_key", "changed", "old_row", "new_row", "context"),
            *("session_user_name", "role_name", "application_name", "client_addr", "query"),
            "changed_paths",
        ]
        moment = datetime.fromisoformat(event["action_tstamp"])
        stored = "select action_tstamp from audit.logged_actions where event_id = %s"
        assert moment == shop.execute(stored, [event["event_id"]])[0][0]
        assert event["action_tstamp"].endswith("+00:00")

    def test_a_whole_table_is_not_cut(self, audit: Audit, shop: Trail) -> None:
        shop.execute("insert into orders select generate_series(100, 2700)")
        result = audit("history", "orders", "--format", "json")
        ids = [event["event_id"] for event in json.loads(result.stdout)["events"]]
        assert len(ids) == 2610
        assert ids == sorted(ids)
        assert result.stderr == ""

    @pytest.mark.usefixtures("shop")
    def test_nothing_is_an_empty_list(self, audit: Audit) -> None:
        result = audit("history", "orders", "99", "--format", "json")
        assert (result.exit_code, json.loads(result.stdout)) == (0, {"events": []})

    def test_without_unicode(self, shop: Trail) -> None:
        shop.execute("insert into orders (id, status) values (9, '€ → ü 👩')")
        done = run_process(
            *(shop, "history", "orders", "9", "--format", "json"), PYTHONIOENCODING="latin-1"
        )
        (event,) = json.loads(done.stdout.decode("ascii"))["events"]
        assert event["new_row"]["status"] == "€ → ü 👩"

    def test_a_reader_that_leaves_early_is_no_error(self, shop: Trail) -> None:
        shop.execute("insert into orders select generate_series(100, 5000)")
        command = [sys.executable, "-m", "audit_toolkit", "history", "orders", "--format", "json"]
        environment = os.environ | {"AUDIT_DATABASE_URL": shop.database.dsn}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""


def run_process(
    trail: Trail, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "audit_toolkit", *arguments],
        capture_output=True,
        check=True,
        env=os.environ | {"AUDIT_DATABASE_URL": trail.database.dsn} | environment,
    )


class TestFilters:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("--action", "I"), "II"),
            (("--action", "insert", "--action", "DELETE"), "IID"),
            (("--action", "t"), "T"),
            (("--limit", "2"), "DT"),
            (("--limit", "1", "--action", "update"), "U"),
            (("--since", "1h"), "IUUUUUIDT"),
            (("--since", "yesterday", "--until", "now"), "IUUUUUIDT"),
            (("--until", "2 days ago"), ""),
            (("--since", "2000-01-01", "--until", "2000-01-02T00:00+01:00"), ""),
        ],
    )
    @pytest.mark.usefixtures("shop")
    def test_what_is_left(self, audit: Audit, arguments: tuple[str, ...], expected: str) -> None:
        result = audit("history", "orders", *arguments, "--format", "json")
        assert result.exit_code == 0
        events = json.loads(result.stdout)["events"]
        assert "".join(event["action"] for event in events) == expected
        note = "note: no events of public.orders match these filters\n"
        assert result.stderr == ("" if expected else note)

    @pytest.mark.usefixtures("shop")
    def test_a_moment_of_the_trail_itself(self, audit: Audit) -> None:
        events = json.loads(audit("history", "orders", "--format", "json").stdout)["events"]
        since, until = events[2]["action_tstamp"], events[4]["action_tstamp"]
        found = audit("history", "orders", "--since", since, "--until", until, "--format", "json")
        assert json.loads(found.stdout)["events"] == events[2:4]


class TestKeys:
    @pytest.fixture(autouse=True)
    def _lines(self, trail: Trail) -> None:
        trail.execute("create table lines (region text, n int, primary key (region, n))")
        trail.audit("lines")
        trail.execute("insert into lines values ('eu', 42), ('us', -1)")

    @pytest.mark.parametrize(
        "key", [("eu", "42"), ('["eu",42]',), ('["eu", 42]',), (' [ "eu" , 42 ] ',)]
    )
    def test_several_columns(self, audit: Audit, key: tuple[str, ...]) -> None:
        assert audit("history", "lines", *key).stdout.startswith('public.lines ["eu", 42]\n')

    def test_a_dash(self, audit: Audit) -> None:
        assert audit("history", "lines", "--", "us", "-1").stdout.startswith(
            'public.lines ["us", -1]\n'
        )


class TestNothingToShow:
    def test_no_events_yet(self, audit: Audit, trail: Trail) -> None:
        trail.execute(STORY)
        trail.audit("orders")
        result = audit("history", "orders")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == (
            "note: the trail has no events of public.orders: it has not changed since capture began\n"
        )

    @pytest.mark.usefixtures("shop")
    def test_an_unknown_key(self, audit: Audit) -> None:
        result = audit("history", "orders", "99")
        assert (result.exit_code, result.stdout) == (0, "")
        assert "no such row in the trail: public.orders 99" in result.stderr


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message", "hint"),
        [
            (("order",), "table 'order'", "did you mean public.orders?"),
            (("a.b.c",), "'a.b.c' is not the name of a table", "write table, schema.table"),
            (("notes",), "public.notes is not audited", "audit install --table public.notes"),
            (("orders", "x"), "'x' cannot be a key of public.orders", "one value of type integer"),
            (("orders", "1", "2"), "'1' '2' cannot be a key", "one value of type integer (id)"),
            (("keyless", "1"), "public.keyless has no primary key", "leave out the key"),
            (
                ("orders", "--since", "soon"),
                "--since: 'soon' is not a valid time",
                "write 2026-11-01",
            ),
            (("orders", "--until", ""), "--until: '' is not a valid time", "write 2026-11-01"),
            (("orders", "--since", "9999999999d"), "--since: '9999999999d' is no", "write 2026"),
            (
                ("orders", "--since", "now", "--until", "1h"),
                "since must be earlier than until:",
                "the beginning",
            ),
            (
                ("orders", "--action", "X"),
                "--action: 'X' is not a valid kind of event",
                "choose one of insert",
            ),
            (
                ("orders", "--audit-schema", "x"),
                "no audit trail in the schema x",
                "add --audit-schema audit",
            ),
        ],
    )
    def test_usage(
        self, audit: Audit, shop: Trail, arguments: tuple[str, ...], message: str, hint: str
    ) -> None:
        shop.execute("create table notes (id int); create table keyless (v int)")
        shop.audit("keyless")
        shop.execute("insert into keyless values (1)")
        result = audit("history", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        error, remedy = result.stderr.splitlines()
        assert error.startswith("error: ")
        assert remedy.startswith("hint: ")
        assert message in error
        assert hint in remedy

    @pytest.mark.parametrize(
        "arguments",
        [
            ("orders", "--limit", "-1"),
            ("orders", "--limit", "x"),
            ("orders", "--format", "xml"),
        ],
    )
    def test_what_typer_refuses(self, audit: Audit, arguments: tuple[str, ...]) -> None:
        assert audit("history", *arguments).exit_code == 2

    def test_no_trail(self, audit: Audit, database: Database) -> None:
        result = audit("history", "orders", "--dsn", database.dsn)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            "error: this database has no audit trail in the schema audit\n"
            "hint: its migration comes from audit install --table TABLE; "
            "is this the right database, and was it upgraded?\n"
        )

    def test_no_server(self, audit: Audit) -> None:
        result = audit("history", "orders", "--dsn", "postgresql://x:secret@127.0.0.1:1/x")
        assert (result.exit_code, result.stdout) == (4, "")
        assert "cannot connect" in result.stderr
        assert "secret" not in result.stderr

    def test_another_kind_of_database(self, audit: Audit) -> None:
        assert audit("history", "orders", "--dsn", "mysql://localhost/x").exit_code == 2


class TestProject:
    @pytest.fixture
    def audit(self, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> Audit:
        """As elsewhere, but without the variable that names the database."""
        monkeypatch.delenv("AUDIT_DATABASE_URL")
        return audit

    def make_project(self, url: str) -> None:
        Path("migrations/versions").mkdir(parents=True)
        Path("migrations/env.py").touch()
        Path("alembic.ini").write_text(
            f"[alembic]\nscript_location = migrations\nsqlalchemy.url = {url}\n"
        )

    def test_the_database_is_that_of_the_project(self, audit: Audit, shop: Trail) -> None:
        self.make_project(shop.database.dsn.replace("postgresql://", "postgresql+psycopg://"))
        assert audit("history", "orders").exit_code == 0

    def test_a_named_configuration(self, audit: Audit, shop: Trail) -> None:
        self.make_project(shop.database.dsn)
        Path("alembic.ini").rename("other.ini")
        assert audit("history", "orders", "--config", "other.ini").exit_code == 0
        result = audit("history", "orders", "--config", "missing.ini")
        assert result.exit_code == 2
        assert "missing.ini" in result.stderr

    def test_a_broken_revision_keeps_nobody_from_reading(self, audit: Audit, shop: Trail) -> None:
        self.make_project(shop.database.dsn)
        Path("migrations/versions/1_bad.py").write_text("raise RuntimeError('broken')")
        assert audit("history", "orders").exit_code == 0
        Path("alembic.ini").write_text("broken")
        assert audit("history", "orders").exit_code == 2
        assert audit("history", "orders", "--dsn", shop.database.dsn).exit_code == 0

    def test_without_a_project_libpq_decides(self, audit: Audit) -> None:
        result = audit("history", "orders", PGHOST="127.0.0.1", PGPORT="1")
        assert result.exit_code == 4


def test_help(audit: Audit, golden: Golden) -> None:
    result = audit("history", "--help", COLUMNS="100", TERMINAL_WIDTH="100")
    assert result.exit_code == 0
    golden("history/help.txt", re.sub(r"Usage: \S+", "Usage: audit", result.stdout))


def test_a_renamed_table_shows_what_was_before(audit: Audit, shop: Trail) -> None:
    shop.execute("alter table orders rename to purchases; insert into purchases (id) values (7)")
    result = audit("history", "purchases", "--dsn", shop.database.dsn)
    assert result.exit_code == 0
    assert "renamed from public.orders" in result.stdout
    assert " inserted as public.orders 1 by " in result.stdout
    assert "event 9 " in result.stdout
    assert "event 1 " in result.stdout
    former = audit("history", "orders", "--dsn", shop.database.dsn)
    assert former.stdout == result.stdout
    assert "note: public.orders is now called public.purchases" in former.stderr
    for verb in (
        ("row-at", "orders", "7", "--at", "now"),
        ("table-at", "orders", "--at", "now"),
        ("diff", "orders", "--from", "2020-01-01"),
        ("blame", "orders", "7"),
    ):
        answer = audit(*verb, "--dsn", shop.database.dsn)
        assert answer.exit_code == 0, answer.stderr
        assert "is now called public.purchases" in answer.stderr
