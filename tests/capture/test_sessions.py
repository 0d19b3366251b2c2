"""What a session can set, be or call itself changes nothing of what is recorded."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from audit_toolkit.capture.render import pinned_settings
from audit_toolkit.config import Capture
from tests.plugins.trail import Trail

BOTH = pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])

HOSTILE_SETTINGS = [
    "set timezone = 'Asia/Kathmandu'",
    "set datestyle = 'SQL, DMY'",
    "set intervalstyle = 'iso_8601'",
    "set bytea_output = 'escape'",
    "set extra_float_digits = -15",
    "set lc_monetary = 'C'",
    "set search_path = evil, pg_catalog",
    "set xmloption = content",
    "set standard_conforming_strings = off",
    "set role = app",
    "set quote_all_identifiers = on",
]

SAMPLES = """
    create type stay as (nights interval, days daterange);
    create table samples (
        id int primary key,
        at timestamptz, span interval, raw bytea, ratio float8, price money, days daterange,
        moments tstzmultirange, corner point, stays stay[]
    );
    grant insert on samples to app;
"""
SAMPLE = """
    insert into samples values (
        1, '2026-03-04 05:06:07.89+00', interval '1 year -2 days 03:04:05.6', '\\x00ff5c', 0.1::float8 + 0.2,
        12.5::numeric::money, '[2026-02-01,2026-03-04)',
        '{[2026-02-01 00:00+00,2026-03-04 00:00+00)}', point(0.1::float8 + 0.2, 1),
        array[row(interval '1 day 2:00', '[2026-02-01,2026-03-04)')::stay]
    )
"""


@pytest.fixture
def samples(trail: Trail) -> Trail:
    trail.execute("create schema evil")
    exists = trail.execute("select 1 from pg_roles where rolname = 'app'")
    if not exists:
        trail.execute("create role app login")
    trail.execute(SAMPLES)
    return trail


@BOTH
def test_settings_do_not_change_what_is_recorded(samples: Trail, capture: Capture) -> None:
    samples.audit("samples", capture=capture)
    for settings in ([], *([setting] for setting in HOSTILE_SETTINGS), HOSTILE_SETTINGS):
        with samples.database.connect(autocommit=False) as connection:
            # Values are sent in one way; only what the trigger sees of the session differs.
            connection.execute("create temp table given as select * from samples limit 0")
            connection.execute(
                SAMPLE.replace("insert into samples values", "insert into given values")
            )
            connection.execute("grant select on given to app")
            for setting in settings:
                connection.execute(setting)
            connection.execute("insert into public.samples select * from pg_temp.given")
            connection.execute("reset role")
            connection.execute("delete from public.samples")
            connection.commit()
    inserts = [event for event in samples.events() if event["action"] == "I"]
    texts = {event["new_text"] for event in inserts}
    assert len(inserts) == len(HOSTILE_SETTINGS) + 2
    assert len(texts) == 1, texts


def test_what_is_pinned_follows_from_the_types(samples: Trail) -> None:
    pinned = dict(pinned_settings(samples.table("samples")))
    assert pinned == {
        "timezone": "UTC",
        "datestyle": "ISO, YMD",
        "intervalstyle": "postgres",
        "bytea_output": "hex",
        "extra_float_digits": "1",
        "lc_monetary": "C",
        "quote_all_identifiers": "off",
    }
    samples.execute("create table plain (id int primary key, name text, born date, at timestamp)")
    assert pinned_settings(samples.table("plain")) == ()


def test_who_is_recorded_under_set_role(samples: Trail) -> None:
    samples.audit("samples")
    samples.execute("set application_name = 'shop'; set role app")
    samples.execute("insert into samples (id) values (1)")
    samples.execute("reset role; reset application_name")
    samples.execute("insert into samples (id) values (2)")
    taken, own = samples.events()
    assert (taken["session_user_name"], taken["role_name"]) == ("postgres", "app")
    assert (own["session_user_name"], own["role_name"]) == ("postgres", None)
    assert (taken["application_name"], own["application_name"]) == ("shop", None)
    assert str(taken["client_addr"]) == "127.0.0.1"


def test_context_lasts_for_its_transaction(samples: Trail) -> None:
    samples.audit("samples")
    set_context = "select set_config('audit.context', %s, true)"
    with samples.connection.transaction():
        samples.execute(set_context, ['{"actor": "user:42", "tags": ["a", 1]}'])
        samples.execute("insert into samples (id) values (1)")
    samples.execute("insert into samples (id) values (2)")
    first, second = samples.events()
    assert first["context"] == {"actor": "user:42", "tags": ["a", 1]}
    assert second["context"] is None
    assert first["transaction_id"] != second["transaction_id"]


def connect_as(trail: Trail, role: str) -> psycopg.Connection[Any]:
    return trail.database.connect(user=role)


def test_an_application_without_rights_on_the_trail_is_captured(samples: Trail) -> None:
    samples.audit("samples")
    app = connect_as(samples, "app")
    app.execute("insert into samples (id) values (1)")
    assert samples.events()[0]["session_user_name"] == "app"
    for statement in (
        "select * from audit.logged_actions",
        "insert into audit.logged_actions (schema_name, table_name, action) values ('a', 'b', 'I')",
        "select * from audit.logged_actions_tail",
        "select nextval('audit.logged_actions_event_id_seq')",
        "select * from audit.mask_key",
        "select audit.ensure_partitions()",
        "select audit.mask('{}', 'a', 'sha256')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(statement)


def test_objects_in_front_of_the_search_path_are_not_run(samples: Trail) -> None:
    samples.execute(
        """
        grant usage, create on schema evil to app;
        grant temporary on database "%s" to app;
    """.replace("%s", samples.database.name)
    )
    samples.audit("samples")
    app = connect_as(samples, "app")
    app.execute("""
        create function evil.fire() returns text language plpgsql as $$
            begin raise exception 'EVIL RUNS AS %', current_user; end $$;
        create function evil.to_jsonb(anyelement) returns jsonb language sql as 'select evil.fire()::jsonb';
        create function evil.current_setting(text, boolean) returns text language sql as 'select evil.fire()';
        create function evil.clock_timestamp() returns timestamptz language sql as 'select evil.fire()::timestamptz';
        create function evil.steal(jsonb, text) returns text language sql as 'select evil.fire()';
        create operator evil.->> (leftarg = jsonb, rightarg = text, function = evil.steal);
        create temp table logged_actions (id int);
        create function pg_temp.inet_client_addr() returns inet language sql as 'select evil.fire()::inet';
        set search_path = evil, pg_temp, pg_catalog, public;
    """)
    app.execute("insert into public.samples (id) values (1)")
    assert samples.story() == [("I", "1")]


def test_the_capture_function_cannot_be_borrowed(samples: Trail) -> None:
    samples.audit("samples")
    samples.execute("grant usage on schema audit to app; grant create on schema evil to app")
    samples.execute("grant usage on schema evil to app")
    app = connect_as(samples, "app")
    app.execute("create table evil.forged (id int)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("""
            create trigger forge after insert on evil.forged
                for each row execute function audit.capture_public__samples()
        """)
    app.execute("insert into samples (id) values (1)")
    assert samples.story() == [("I", "1")]


DEFINERS = {
    "await_wal",
    *("end_capture", "note_beginning", "note_capture", "note_changes", "note_put_back"),
    *("record_gap", "write_event"),
    *("note_coverage", "note_ddl", "guard_ddl"),
    *("redact", "redactable", "erase_events", "announce_redaction"),
    *("seal_begin", "seal_reach", "seal_block", "seal_add", "seal_note"),
    *("archive_begin", "archive_end", "archive_note", "archive_note_export", "doubtful_events"),
    *("maintain_cap", "maintain_create", "maintain_detach", "maintain_drop", "maintain_finish"),
    *(
        "maintain_has_rows",
        "maintain_hold",
        "maintain_interval",
        "maintain_lock",
        "maintain_note",
        "maintain_past",
    ),
    *("maintain_relabel", "maintain_timeline", "maintain_validate"),
}
"""What runs as the owner of the trail besides capture; each looks by itself who asks, and for what."""


def test_every_function_is_locked_down(samples: Trail) -> None:
    samples.audit("samples")
    rows = samples.execute("""
        select p.proname, p.prosecdef, p.proconfig, p.prosrc,
               has_function_privilege('app', p.oid, 'execute')
        from pg_proc p where p.pronamespace = 'audit'::regnamespace
    """)
    assert len(rows) >= 9
    for name, definer, settings, source, public in rows:
        assert "search_path=pg_catalog, pg_temp" in settings, name
        assert not public, name
        assert definer == (name.startswith("capture_") or name in DEFINERS), name
        assert "exception\n    when" not in source.lower(), name
        assert "pg_notify" not in source, name
    capture = next(row for row in rows if row[0].startswith("capture_"))
    assert "execute" not in capture[3], "no dynamic SQL in the row path"
