"""For every kind of finding: the drift is made on a real server and found, and its remedy removes it."""

from __future__ import annotations

import cProfile
import shlex
from typing import Any

import pytest

from audit_toolkit.capture.drift import audited_tables
from audit_toolkit.capture.pause import plan_resume
from audit_toolkit.capture.render import plan_uninstall
from audit_toolkit.capture.secrets import looks_secret
from audit_toolkit.catalog import Column, read_relations, read_table
from audit_toolkit.catalog.trail import read_trail_objects
from audit_toolkit.config import Capture, Interval, Mask, MaskMethod, TrailSettings, Truncate
from audit_toolkit.drift import find_drift
from audit_toolkit.findings import Finding
from audit_toolkit.migrations.compare import CaptureRequest, read_capture_state
from audit_toolkit.names import QualifiedName
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from tests.plugins.trail import SCHEMA, Trail

ALL = CaptureRequest(all_of_schema="public")
ORDERS = "create table orders (id int primary key, region text not null, total numeric)"


def drift(trail: Trail, **options: Any) -> list[Finding]:
    objects = read_trail_objects(trail.connection, SCHEMA, whole=True)
    relations = {relation.name: relation for relation in read_relations(trail.connection)}
    tables = {
        name: read_table(trail.connection, relations[name])
        for name in audited_tables(objects)
        if name in relations
    }
    return find_drift(objects, tables, **options)


def kinds(findings: list[Finding]) -> list[str]:
    return sorted(finding.kind for finding in findings)


def mend(trail: Trail, finding: Finding, **rule: Any) -> None:
    """Do what the remedy says."""
    words = shlex.split(finding.remedy)
    if words[:2] == ["psql", "-c"]:
        trail.execute(words[2])
    elif words[:2] == ["audit", "resume"]:
        there = trail.installed(words[3])
        assert there is not None
        apply(plan_resume(there, SCHEMA, "mended"), trail.connection)
    else:
        assert words[:3] == ["audit", "install", "--table"]
        trail.audit(words[3], **rule)


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute(ORDERS)
    trail.audit("orders")
    assert drift(trail) == []
    return trail


DRIFTS = {
    "trigger_disabled": 'alter table orders disable trigger "00_audit_row"',
    "trigger_not_always": 'alter table orders enable trigger "00_audit_row"',
    "trigger_missing": 'drop trigger "00_audit_truncate" on orders',
    "trigger_changed": """
        create or replace trigger "00_audit_row" after insert or update on orders
            for each row execute function audit.capture_public__orders();
        alter table orders enable always trigger "00_audit_row"
    """,
    "function_changed": """
        create or replace function audit.capture_public__orders() returns trigger language plpgsql
            security definer set search_path = pg_catalog, pg_temp as 'begin return null; end'
    """,
    "wrong_security": "alter function audit.capture_public__orders security invoker",
    "search_path_open": "alter function audit.capture_public__orders reset search_path",
    "executable_by_public": "grant execute on function audit.capture_public__orders to public",
    "foreign_trigger": """
        create table other (id int);
        create trigger borrowed after insert on other
            for each row execute function audit.capture_public__orders()
    """,
    "foreign_function": """
        create function audit.capture_public__nothing() returns trigger language plpgsql
            as 'begin return null; end'
    """,
    "key_changed": """
        alter table orders drop constraint orders_pkey;
        alter table orders add primary key (id, region)
    """,
    "capture_outdated": "alter table orders add at timestamptz",
    "not_append_only": 'drop trigger "00_audit_append_only" on audit.logged_actions_tail',
    "grant_on_leaf": "grant select on audit.logged_actions_tail to public",
    "table_gone": "drop table orders",
}


def test_a_key_that_was_renamed_is_the_same_key(trail: Trail) -> None:
    trail.execute("create table visits (id int primary key, at date)")
    trail.audit("visits")
    trail.execute("alter table visits rename id to at2; alter table visits rename at to id")
    [finding] = drift(trail)
    assert finding.kind == "capture_outdated"
    trail.execute("alter table visits drop constraint visits_pkey, add primary key (id)")
    assert [finding.kind for finding in drift(trail)] == ["key_changed"]


def test_a_setting_that_is_not_pinned_any_more(trail: Trail) -> None:
    trail.execute("create table visits (id int primary key, at timestamptz)")
    trail.audit("visits")
    trail.execute("alter function audit.capture_public__visits reset timezone")
    [finding] = drift(trail)
    assert finding.kind == "settings_changed"
    mend(trail, finding)
    assert drift(trail) == []


def test_what_a_capture_of_deltas_pins_was_installed(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", store="delta")
    assert drift(trail) == []


@pytest.mark.parametrize("kind", DRIFTS)
def test_each_kind_is_found_and_its_remedy_removes_it(shop: Trail, kind: str) -> None:
    shop.execute(DRIFTS[kind])
    [finding] = drift(shop)
    assert finding.kind == kind
    assert finding.message
    mend(shop, finding)
    assert drift(shop) == []


def test_leaves_without_their_truncate_trigger(trail: Trail) -> None:
    trail.execute("create table visits (id int) partition by range (id)")
    trail.audit("visits")
    trail.execute("create table visits_1 partition of visits for values from (0) to (9)")
    found = drift(trail)
    assert "leaf_without_trigger" in kinds(found)
    mend(trail, found[0])
    assert drift(trail) == []


def test_an_audited_table_that_became_a_partition_of_one(trail: Trail) -> None:
    """Its own capture is in the way of the root's, and is taken off: as a partition it could not be installed."""
    trail.execute(
        "create table visits (id int) partition by range (id); create table early (id int)"
    )
    trail.audit("visits")
    trail.audit("early")
    trail.execute("alter table visits attach partition early for values from (0) to (9)")
    missing, left = drift(trail)
    assert (missing.kind, left.kind) == ("leaf_without_trigger", "leaf_audited")
    mend(trail, missing)
    assert drift(trail) == [left]
    assert left.remedy == "audit uninstall --table public.early --upgrade"
    end = plan_uninstall(QualifiedName("public", "early"), SCHEMA)
    apply(end, trail.connection)
    assert drift(trail) == []
    trail.execute("insert into visits values (1); truncate early")
    rows = [(event["table_name"], event["action"]) for event in trail.events()]
    assert rows[-2:] == [("visits", "I"), ("visits", "D")]


@pytest.mark.parametrize("mend_by", ["remedy", "noting"])
def test_another_owner_of_a_partitioned_table(trail: Trail, mend_by: str) -> None:
    trail.execute("create role old_owner; create role new_owner")
    try:
        trail.execute("""
            grant create, usage on schema public to old_owner, new_owner;
            create table visits (id int) partition by range (id);
            alter table visits owner to old_owner
        """)
        trail.audit("visits")
        trail.execute("alter table visits owner to new_owner")
        former, missing = sorted(
            drift(trail), key=lambda finding: finding.kind != "executable_by_others"
        )
        assert (former.kind, missing.kind) == ("executable_by_others", "owner_may_not_execute")
        mend(trail, former)
        if mend_by == "remedy":
            mend(trail, missing)
        else:
            trail.execute("select audit.note_changes()")
        assert drift(trail) == []
        trail.execute("""
            set role new_owner;
            create table visits_1 partition of visits for values from (0) to (9);
            insert into visits values (1);
            reset role
        """)
        assert [event["action"] for event in trail.events()][-1] == "I"
    finally:
        trail.execute("drop owned by old_owner, new_owner cascade; drop role old_owner, new_owner")


def test_writable_by_others(shop: Trail) -> None:
    shop.execute("grant insert on audit.logged_actions to public")
    [finding] = drift(shop)
    assert (finding.kind, "public insert" in finding.message) == ("writable_by_others", True)
    mend(shop, finding)
    assert drift(shop) == []


def test_reading_may_be_granted_to_somebody(shop: Trail) -> None:
    shop.execute("create role drift_reader")
    try:
        shop.execute("grant select on audit.logged_actions to drift_reader")
        assert drift(shop) == []
        shop.execute("grant select on audit.logged_actions to public")
        [finding] = drift(shop)
        assert (finding.kind, finding.subject) == ("readable_by_others", "audit.logged_actions")
        mend(shop, finding)
        assert drift(shop) == []
    finally:
        shop.execute("drop owned by drift_reader; drop role drift_reader")


def test_an_owner_of_its_own_for_a_capture_function(shop: Trail) -> None:
    shop.execute("create role drift_owner")
    try:
        shop.execute("grant usage, create on schema audit to drift_owner")
        shop.execute("alter function audit.capture_public__orders owner to drift_owner")
        *grants, owner = sorted(drift(shop), key=lambda finding: finding.kind == "wrong_owner")
        assert owner.kind == "wrong_owner"
        assert kinds(grants) == ["writable_by_others"]
        for finding in (owner, *grants):
            mend(shop, finding)
        assert drift(shop) == []
    finally:
        shop.execute("drop owned by drift_owner; drop role drift_owner")


def test_a_trail_function_that_is_not_this_version_s(shop: Trail) -> None:
    shop.execute(
        "create or replace function audit.revoke_all(relation regclass) returns void"
        " language plpgsql set search_path = pg_catalog, pg_temp as 'begin end'"
    )
    assert {finding.remedy for finding in drift(shop)} == {"audit upgrade --upgrade"}


@pytest.mark.parametrize("interval", Interval)
def test_a_trail_whose_comment_was_changed(trail: Trail, interval: Interval) -> None:
    trail.execute("drop schema audit cascade")
    apply(plan_trail(TrailSettings(interval=interval)), trail.connection)
    before = trail.execute("select obj_description('audit.logged_actions'::regclass)")
    trail.execute("comment on table audit.logged_actions is 'what we changed'")
    [finding] = drift(trail)
    assert finding.kind == "comment_changed"
    mend(trail, finding)
    assert drift(trail) == []
    assert trail.execute("select obj_description('audit.logged_actions'::regclass)") == before


def test_no_trail_at_all(trail: Trail) -> None:
    trail.execute("drop schema audit cascade")
    assert kinds(drift(trail)) == ["trail_missing"]


def test_what_belongs_to_a_trail_in_another_schema_is_not_foreign(shop: Trail) -> None:
    assert kinds(find_drift(read_trail_objects(shop.connection, "elsewhere"), {})) == [
        "trail_missing"
    ]


def test_columns_that_look_secret(trail: Trail) -> None:
    trail.execute(
        "create table users (id int primary key, name text, password_hash text, iban text)"
    )
    trail.audit("users", exclude=("iban",))
    [finding] = drift(trail)
    assert finding.kind == "secret_in_clear"
    assert finding.subject == "public.users.password_hash"
    assert finding.remedy.endswith("--mask password_hash --upgrade")
    trail.audit("users", only=("name",))
    assert drift(trail) == []


def column(name: str, type_name: str = "text") -> Column:
    return Column(
        name=name,
        type_name=type_name,
        not_null=False,
        generated=False,
        identity=False,
        key_position=None,
        type_parts=frozenset(),
        plain_type="text",
    )


@pytest.mark.parametrize(
    ("name", "type_name"),
    [(name, "text") for name in [
        "password", "api_key", "apiKey", "auth_token", "SSN", "cvv2", "salt", "user_password", "userpassword",
        "PasswordHash", "jwt", "otp_code", "pin", "iban", "client_secret", "secrets", "tax_id", "accesstoken",
        "refresh_tokens", "bearer", "pwd", "pw_hash", "encryptedPw", "passhash", "access_key", "ssh_keys",
        "signing_key", "recovery_codes", "session_cookie", "passport_no",
    ]]
    + [("ssn", "bigint"), ("pin", "integer"), ("card_number", "numeric(19,0)"), ("otp", "integer"),
       ("passport", "bigint"), ("password", "bytea"), ("token", "uuid"), ("tokens", "text[]"), ("secret", "jsonb")],
)  # fmt: skip
def test_names_and_types_that_look_secret(name: str, type_name: str) -> None:
    assert looks_secret(column(name, type_name))


@pytest.mark.parametrize(
    ("name", "type_name"),
    [(name, "text") for name in [
        "status", "total", "company", "spinning", "note", "expansion", "footprint", "secretary", "opinion",
        "passenger", "compass", "Spanish", "pint", "token_count", "password_policy", "tokenizer", "session_id",
        "author_key", "compass_heading", "sort_key",
    ]]
    + [("max_tokens", "integer"), ("password_changed_at", "timestamp with time zone"), ("token", "integer"),
       ("has_password", "boolean"), ("otp_enabled", "boolean"), ("pin_attempts", "smallint"), ("secret_until", "date")],
)  # fmt: skip
def test_names_and_types_that_do_not(name: str, type_name: str) -> None:
    assert not looks_secret(column(name, type_name))


def test_a_secret_that_somebody_accepted_shows_why(trail: Trail) -> None:
    trail.execute("create table users (id int primary key, token text, password text)")
    trail.audit("users")
    trail.execute(
        "comment on column users.token is 'For the API. audit: in clear, of the test system'"
    )
    password, token = sorted(drift(trail), key=lambda finding: finding.subject)
    assert (token.subject, token.accepted) == ("public.users.token", "of the test system")
    assert password.accepted is None
    assert password.remedy == "audit install --table public.users --mask password --upgrade"


def test_one_remedy_hides_all_secrets_and_keeps_what_is_hidden(trail: Trail) -> None:
    trail.execute("create table users (id int primary key, token text, password text, email text)")
    trail.audit("users", mask=(Mask(column="email", method=MaskMethod.LENGTH),))
    remedies = {finding.remedy for finding in drift(trail)}
    assert remedies == {
        "audit install --table public.users --mask email=length --mask password --mask token --upgrade".replace(
            "--mask password --mask token", "--mask token --mask password"
        )
    }


def test_a_secret_in_the_key_cannot_be_masked(trail: Trail) -> None:
    trail.execute("create table sessions (token text primary key)")
    trail.audit("sessions")
    [finding] = drift(trail)
    assert "cannot be hidden" in finding.message
    mend(trail, finding)
    [finding] = drift(trail)
    assert finding.accepted == "REASON"


def test_a_hidden_column_that_was_renamed_stays_hidden_by_the_remedy(trail: Trail) -> None:
    trail.execute("create table users (id int primary key, note text, email text, card text)")
    trail.audit("users", exclude=("note",), mask=(Mask(column="email", method=MaskMethod.SHA256),))
    trail.execute("alter table users rename note to remark")
    trail.execute("alter table users rename email to mail")
    found = [finding for finding in drift(trail) if finding.kind == "hidden_column_gone"]
    assert [finding.message for finding in found] == [
        "a column named in its options was renamed to mail",
        "a column named in its options was renamed to remark",
    ]
    command = "audit install --table public.users --exclude remark --mask mail=sha256 --upgrade"
    assert {finding.remedy for finding in found} == {command}


def test_a_hidden_column_that_was_dropped(trail: Trail) -> None:
    trail.execute("create table users (id int primary key, note text)")
    trail.audit("users", exclude=("note",))
    trail.execute("alter table users drop note")
    [finding] = [finding for finding in drift(trail) if finding.kind == "hidden_column_gone"]
    assert finding.message == "a column named in its options was dropped"
    assert finding.remedy == "audit install --table public.users --capture row --upgrade"
    mend(trail, finding)
    assert drift(trail) == []


@pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
@pytest.mark.parametrize("rule", [{"mask": (Mask(column="email"),)}, {"exclude": ("email",)}])
def test_what_is_computed_from_a_hidden_column_is_hidden(
    trail: Trail, rule: dict[str, Any], capture: Capture
) -> None:
    trail.execute("""
        create table people (id int primary key, email text, name text,
            folded text generated always as (lower(email)) stored,
            words tsvector generated always as
                (to_tsvector('simple', coalesce(name, '') || coalesce(email, ''))) stored,
            shouted text generated always as (upper(name)) stored)
    """)
    trail.audit("people", capture=capture, **rule)
    trail.execute(
        "insert into people values (1, 'Ann@Example.org', 'Ann'); update people set name = 'Bea'"
    )
    assert "example" not in str(trail.events()).lower()
    assert trail.events()[1]["new_row"]["shouted"] == "BEA"
    assert drift(trail) == []


def test_a_computed_column_that_is_added_later_is_found(trail: Trail) -> None:
    trail.execute("create table people (id int primary key, email text)")
    trail.audit("people", exclude=("email",))
    trail.execute("alter table people add folded text generated always as (lower(email)) stored")
    assert "hidden_value_computed" in kinds(drift(trail))
    trail.audit("people", exclude=("email",))
    assert drift(trail) == []
    trail.execute("insert into people values (1, 'ann@example.org')")
    assert "example" not in str(trail.events())


def test_a_pause_is_no_mystery(shop: Trail) -> None:
    shop.execute('alter table orders disable trigger "00_audit_row"')
    [name] = audited_tables(read_trail_objects(shop.connection, SCHEMA))
    [finding] = drift(shop, paused={name: "import"})
    assert (finding.kind, finding.message) == ("capture_paused", "capture is paused: import")
    assert finding.remedy == "audit resume --table public.orders --reason REASON"


@pytest.mark.parametrize(
    "rule",
    [
        {"capture": Capture.STATEMENT},
        {"truncate": Truncate.FORBID},
        {"truncate": Truncate.ROWS},
        {"require_context": "it's", "when": "total > 0"},
    ],
)
def test_no_rule_is_drift_by_itself(trail: Trail, rule: dict[str, Any]) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", **rule)
    assert drift(trail) == []
    trail.execute('drop trigger "00_audit_truncate" on orders')
    [finding] = drift(trail)
    for word in map(str, rule.values()):
        assert word in shlex.split(finding.remedy)


def test_any_role_can_look(shop: Trail) -> None:
    shop.execute("create role drift_looker login")
    try:
        looker = shop.database.connect(user="drift_looker")
        objects = read_trail_objects(looker, SCHEMA, whole=True)
        relations = {relation.name: relation for relation in read_relations(looker)}
        tables = {n: read_table(looker, relations[n]) for n in audited_tables(objects)}
        assert find_drift(objects, tables) == []
        assert len(tables) == 1
    finally:
        shop.execute("drop role drift_looker")


@pytest.mark.thorough
def test_the_work_grows_with_the_tables(trail: Trail) -> None:
    """By the calls of functions: seven times the tables, at most four times the work; much does not depend on them."""
    counted = []
    for first, number in ((0, 8), (8, 60)):
        for one in range(first, number):
            trail.execute(f"create table t{one} (id int primary key)")
            trail.audit(f"t{one}")
        relations = read_relations(trail.connection)
        read_capture_state(trail.connection, relations, ALL, SCHEMA)  # renders, once
        profile = cProfile.Profile()
        profile.runcall(read_capture_state, trail.connection, relations, ALL, SCHEMA)
        counted.append(sum(entry.callcount for entry in profile.getstats()))
    few, many = counted
    assert many <= 4 * few
