"""Who can do what to a sealed trail, and what finds it. The table in `docs/seals.md` is generated from this list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from audit_toolkit.cli.check import check_database
from audit_toolkit.completeness import reconcile
from audit_toolkit.config import TrailSettings
from audit_toolkit.connection import connect
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from audit_toolkit.schema.grants import render_grants
from audit_toolkit.seals import PublicKey, new_key, run_seal
from audit_toolkit.seals.checkpoints import write_note
from audit_toolkit.seals.keys import FileKey
from audit_toolkit.seals.verify import verify_within
from tests.attacks.elsewhere import Elsewhere
from tests.plugins.cluster import Server
from tests.plugins.database import Connection, Database, Databases
from tests.plugins.seeds import some_quick
from tests.plugins.trail import Trail
from tests.plugins.trail import audit as audit_table

APP, TABLES, TRAIL, SUPERUSER = (
    "application",
    "owner of a table",
    "owner of the trail",
    "superuser",
)
REDACTOR, SEALER, INSTALLER = "redactor", "sealer", "installer"
ROLES = {
    APP: "sab2_app",
    TABLES: "sab2_tables",
    TRAIL: "sab2_trail",
    SUPERUSER: None,
    REDACTOR: "sab2_redactor",
    SEALER: "sab2_sealer",
    INSTALLER: "sab2_installer",
}
SILENT = (
    "alter table audit.logged_actions disable trigger all; alter table {{leaf}} disable trigger all; {0}; "
    'alter table audit.logged_actions enable always trigger "00_audit_append_only"; '
    'alter table {{leaf}} enable always trigger "00_audit_append_only"'
)
ALL_SEALS = "audit.seal_checkpoints, audit.seal_tiles, audit.seal_keys, audit.seal_partitions, audit.seal_seeds"


@dataclass(frozen=True, slots=True)
class Sabotage:
    """An act, by whom, and the kinds of findings by which each command finds it; or why none does."""

    actors: tuple[str, ...]
    act: str
    sql: str
    verify: str | None = None
    check: str | None = None
    reconcile: str | None = None
    limit: str = ""
    """Why nothing finds it, where nothing does."""
    refused: str = ""
    """The SQLSTATE with which the server refuses it."""

    @property
    def outcome(self) -> str:
        """In words."""
        if self.refused:
            return "refused"
        commands = {"verify": self.verify, "check": self.check, "reconcile": self.reconcile}
        found = [f"`audit {name}`: `{kind}`" for name, kind in commands.items() if kind]
        return "; ".join(found) or f"nothing: {self.limit}"


def silently(sql: str) -> str:
    """Statements that the append-only triggers refuse, with these switched off meanwhile."""
    return SILENT.format(sql)


OWNERS = (TRAIL, SUPERUSER)
ANYBODY = (APP, TABLES)
DENIED, APPEND_ONLY = "42501", "55000"
_FORGED = "(schema_name, table_name, action, row_key, new_row) values ('shop', 'orders', 'I', '77', '{{\"id\": 77}}')"

REFUSED = [
    Sabotage(actors, act, sql, refused=DENIED)
    for act, sql, actors in [
        ("change, delete or insert an event", "update audit.logged_actions set new_row = null", (*ANYBODY, REDACTOR, SEALER, INSTALLER)),
        ("delete a seal, a tile or a salt", "delete from audit.seal_tiles", (*ANYBODY, REDACTOR, SEALER, INSTALLER)),
        ("reset the sequence of event ids", "select setval('audit.logged_actions_event_id_seq', 1)", (*ANYBODY, REDACTOR, SEALER, INSTALLER)),
        ("detach or drop a partition", "alter table audit.logged_actions detach partition {leaf}", (*ANYBODY, REDACTOR, SEALER, INSTALLER)),
        ("disable capture with session_replication_role", "set session_replication_role = replica", (*ANYBODY, TRAIL, REDACTOR, SEALER, INSTALLER)),
        ("drop the event triggers of the guard, or add one", "create function pg_temp.f() returns event_trigger language plpgsql as 'begin end'; create event trigger e on ddl_command_end execute function pg_temp.f()", (*ANYBODY, TRAIL, INSTALLER)),
        ("move the position of a consumer", "update audit.consumers set event_id = 999", (*ANYBODY, REDACTOR, SEALER, INSTALLER)),
        ("write an `M`, `G`, `B` or `R` event by a function", "select audit.record_gap('shop.orders', 'paused', 'forged')", (APP, REDACTOR, SEALER)),
        ("announce a redaction that did not happen", "select audit.announce_redaction('{{}}', 's', 't', '{{}}', '{{}}', false, false, false, 'x', null, null, null)", (*ANYBODY, REDACTOR, SEALER, INSTALLER)),
        ("say that a partition was dropped", "select audit.note_dropped('{leaf}'::regclass)", (*ANYBODY, REDACTOR, SEALER, INSTALLER)),
        ("destroy a salt, so that an event cannot be verified", "select audit.destroy_salt(1, 3)", (*ANYBODY, REDACTOR, SEALER, INSTALLER)),
        ("add to the sealed tree", "select audit.seal_add('{{0}}', '{{0}}', '{{}}', '{{}}', '[]', '[]', 999, 999, '', 'x')", (*ANYBODY, REDACTOR, INSTALLER)),
    ]
] + [
    Sabotage((SEALER,), "replace the last checkpoint by one of fewer events", "select audit.seal_add('{{0}}', '{{0}}', '{{}}', '{{}}', '[]', '[]', 1, 1, '\\x00', 'x')", refused=APPEND_ONLY),
    Sabotage(OWNERS, "change, delete or insert an event, without switching anything off", "delete from audit.logged_actions", refused=APPEND_ONLY),
]  # fmt: skip

ALL = [
    Sabotage(OWNERS, "change who made a change", silently("update audit.logged_actions set session_user_name = 'mallory' where event_id = 1"), "event_changed"),
    Sabotage(OWNERS, "change a value of an event", silently("update audit.logged_actions set new_row = new_row || '{{\"total\": 5}}' where event_id = 1"), "event_changed", reconcile="event_out_of_line"),
    Sabotage(OWNERS, "delete an event", silently("delete from audit.logged_actions where event_id = 1"), "event_removed", reconcile="event_out_of_line"),
    Sabotage((SUPERUSER,), "delete all events of a row, and the row", 'alter table shop.orders disable trigger "00_audit_row"; delete from shop.orders where id = 2; alter table shop.orders enable always trigger "00_audit_row"; update audit.captured_tables set triggers = audit.triggers_of(relation_id, function_name); ' + silently("delete from audit.logged_actions where row_key = '2'"), "event_removed"),
    Sabotage(OWNERS, "insert an event under an id from before the last seal", "insert into audit.logged_actions (event_id, schema_name, table_name, action) values (0, 'shop', 'gone', 'D')", "event_inserted"),
    Sabotage(OWNERS, "insert an event under an id that is taken", "insert into audit.logged_actions (event_id, schema_name, table_name, action) values (1, 'shop', 'gone', 'D')", "event_doubled", "event_ids_doubled"),
    Sabotage(OWNERS, "insert an event of a change that did not happen, with the next id", f"insert into audit.logged_actions {_FORGED}", reconcile="row_missing"),
    Sabotage(OWNERS, "insert an event of a table that is not audited, with the next id", "insert into audit.logged_actions (schema_name, table_name, action) values ('shop', 'gone', 'D')", limit="it is an event, with whichever login its writer put there"),
    Sabotage(OWNERS, "change an event that is not sealed yet", "insert into shop.orders values (70, 'new', 1); " + silently("update audit.logged_actions set session_user_name = 'mallory' where row_key = '70'"), limit="seal often, and run `audit witness`"),
    Sabotage(OWNERS, "swap the ids of two events", silently("update audit.logged_actions set event_id = 3 - event_id where event_id in (1, 2)"), "event_changed"),
    Sabotage(OWNERS, "leave the append-only trigger disabled", "alter table {leaf} disable trigger all", check="not_append_only"),
    Sabotage(OWNERS, "replace a function of the seals", "create or replace function audit.seal_leaves(relation regclass, first_id bigint, last_id bigint, salts bytea) returns table (leaf oid, ids int8multirange, hashes bytea) language sql as 'select null::oid, null::int8multirange, null::bytea'", check="schema_outdated"),
    Sabotage(OWNERS, "replace a capture function", "create or replace function audit.capture_shop__orders() returns trigger language plpgsql as 'begin return null; end'; update shop.orders set total = 3 where id = 1", check="function_changed", reconcile="row_differs"),
    Sabotage(OWNERS, "drop a partition with events", "drop table {leaf}", "event_removed", "gap", "row_unknown"),
    Sabotage(OWNERS, "detach a partition with events", "alter table audit.logged_actions detach partition {leaf}", "event_removed", "unattached", "row_unknown"),
    Sabotage(OWNERS, "swap a partition for a copy of its own, with one value changed", "create table audit.copy as table {leaf}; update audit.copy set role_name = 'mallory' where event_id = 1; alter table audit.logged_actions detach partition {leaf}; do $$ begin execute format('alter table %s rename to logged_actions_old', '{leaf}'); perform audit.make_leaf('{leaf_name}'); end $$; insert into {leaf} table audit.copy; alter table audit.logged_actions attach partition {leaf} for values {bounds}; drop table audit.copy, audit.logged_actions_old", "event_changed"),
    Sabotage(OWNERS, "detach a partition as maintenance does, and change an event there", "alter table audit.logged_actions detach partition {leaf}; insert into audit.partition_lifecycle (leaf, leaf_name, state, detached_at) values ('{leaf}', '{leaf_name}', 'detached', now()); alter table {leaf} disable trigger all; update {leaf} set role_name = 'mallory' where event_id = 1; alter table {leaf} enable always trigger \"00_audit_append_only\"", "event_changed", "gap", "row_unknown"),
    Sabotage(OWNERS, "say that a partition was dropped, and drop it", "insert into audit.partition_lifecycle (leaf, leaf_name, state, dropped_at) values ('{leaf}', '{leaf_name}', 'dropped', now()); drop table {leaf}", "drop_unannounced", "gap", "row_unknown"),
    Sabotage(OWNERS, "rename the trail, and put a view in its place", "alter table audit.logged_actions rename to hidden; create view audit.logged_actions as table audit.hidden", "trail_disguised", "trail_renamed"),
    Sabotage(OWNERS, "delete all seals", f"truncate {ALL_SEALS}", "trail_behind"),
    Sabotage(OWNERS, "delete the last checkpoint", "delete from audit.seal_checkpoints", "trail_behind"),
    Sabotage(OWNERS, "delete a tile", "delete from audit.seal_tiles", "tile_changed"),
    Sabotage(OWNERS, "change a hash of a tile", "update audit.seal_tiles set hashes = set_byte(hashes, 3, get_byte(hashes, 3) # 1)", "root_differs"),
    Sabotage(OWNERS, "delete salts", "delete from audit.seal_seeds", "salts_missing"),
    Sabotage(OWNERS, "sign the last checkpoint with a key of the same name", "update audit.seal_checkpoints set note = '{resigned}'", "checkpoint_invalid", "seal_key_unknown"),
    Sabotage(OWNERS, "put trail and seals back to an earlier state", silently("delete from audit.logged_actions where event_id > {size}") + "; update audit.seal_tiles set hashes = substring(hashes for 32 * {size}), ids = '{{[1,{size}]}}' where level = 0; update audit.seal_partitions set events = {size}, last_id = {size}; delete from audit.seal_checkpoints where tree_size > {size}", "trail_behind", reconcile="row_differs"),
    Sabotage(OWNERS, "say that a value was redacted", "insert into audit.redacted_slots (event_id, slot, redaction_id, commitment) values (1, 3, 1, sha256('x'))", "redaction_unannounced"),
    Sabotage((REDACTOR,), "erase a value by the function that it may call", "select audit.redact('shop', 'orders', '{{1}}', '{{status}}', '{{}}', false, false, false, 'forged')", "redaction_unsigned"),
    Sabotage((INSTALLER,), "say that capture of a table of its own is paused", "select audit.record_gap('dev.jobs', 'paused', 'forged')", check="capture_interrupted"),
    Sabotage(OWNERS, "write a `B` event, as if the trail had been restored", "insert into audit.logged_actions (schema_name, table_name, action, new_row) values ('audit', 'logged_actions', 'B', '{{}}')", limit="it is an event with whichever login its writer put there, and explains no other finding"),
    Sabotage(OWNERS, "write an `R` event that announces nothing", "insert into audit.logged_actions (schema_name, table_name, action, new_row) values ('shop', 'orders', 'R', '{{}}')", limit="it is an event with whichever login its writer put there, and no value is counted as redacted by it"),
    Sabotage(OWNERS, "write an `M` event of a partition that was not dropped", "insert into audit.logged_actions (schema_name, table_name, action, new_row) values ('audit', 'logged_actions', 'M', '{{\"kind\": \"partition dropped\", \"partition\": \"x\"}}')", limit="it is an event with whichever login its writer put there, and explains no event that is missing"),
    Sabotage(OWNERS, "delete the registry of captured tables", "delete from audit.captured_tables; update shop.orders set total = 3 where id = 1", check="capture_unregistered"),
    Sabotage((SUPERUSER,), "remove capture of a table, and its row of the registry", "drop function audit.capture_shop__orders() cascade; delete from audit.captured_tables where table_name = 'orders'", check="capture_unregistered"),
    Sabotage(OWNERS, "move the position of a consumer ahead", "insert into audit.consumers (name, event_id) values ('x', 999)", limit="the consumer misses ids"),
    Sabotage((SUPERUSER,), "write with session_replication_role = replica", "set session_replication_role = replica; update shop.orders set total = 3 where id = 1; set session_replication_role = origin", limit="it is captured all the same"),
    Sabotage((TABLES,), "create the table anew under its name", "drop table shop.orders; create table shop.orders (id int primary key, status text, total numeric)", check="trigger_missing", reconcile="row_missing"),
    Sabotage((TABLES,), "disable capture, change a row, enable it again", 'alter table shop.orders disable trigger "00_audit_row"; update shop.orders set total = 99 where id = 1; alter table shop.orders enable always trigger "00_audit_row"', check="capture_interrupted", reconcile="row_differs"),
    Sabotage(OWNERS, "add a tile behind the signed tree, so that nothing can be sealed any more", "insert into audit.seal_tiles (level, tile, hashes, ids) select level, tile + 1, hashes, '{{[900,901)}}' from audit.seal_tiles where level = 0", "tile_changed"),
    Sabotage(OWNERS, "change a seed of the salts", "update audit.seal_seeds set seed = sha256('x')", "event_changed"),
    Sabotage(OWNERS, "move an event to another partition, by its time", silently("update audit.logged_actions set action_tstamp = action_tstamp + interval '2 months' where event_id = 1"), "event_changed"),
    Sabotage(OWNERS, "change an earlier checkpoint in the database", "update audit.seal_checkpoints set root = sha256('x') where tree_size = {size}", "checkpoint_invalid"),
    Sabotage(OWNERS, "delete an earlier checkpoint in the database", "delete from audit.seal_checkpoints where tree_size = {size}", "checkpoint_invalid"),
    Sabotage(OWNERS, "change what is recorded of the sealed events of a partition", "update audit.seal_partitions set events = 1, last_id = first_id", "seal_record_changed"),
    Sabotage(OWNERS, "have a partition claim events of others, which its drop would explain", "update audit.seal_partitions set events = events + 1", "seal_record_changed"),
    Sabotage(OWNERS, "say that a partition is detached", "insert into audit.partition_lifecycle (leaf, leaf_name, state, detached_at) values ('{leaf}', '{leaf_name}', 'detached', '2020-01-01')", check="record_differs"),
    Sabotage(OWNERS, "swap the names of two partitions", "alter table {leaf} rename to swapped; alter table audit.logged_actions_past rename to {leaf_name}; alter table audit.swapped rename to logged_actions_past", limit="partitions are known by their bounds, whatever their names"),
    Sabotage(OWNERS, "have a rule swallow the events to come", "create rule swallow as on insert to audit.logged_actions do instead nothing", "trail_disguised", "unexpected_rule"),
    Sabotage(OWNERS, "have a trigger swallow the events to come", "create function audit.swallow() returns trigger language plpgsql as 'begin return null; end'; create trigger swallow before insert on audit.logged_actions for each row execute function audit.swallow()", check="unexpected_trigger"),
    Sabotage(OWNERS, "change what events say by default of who wrote them", "alter table {leaf} alter column session_user_name set default 'nobody'", check="column_changed"),
    Sabotage(OWNERS, "hide all events from others by row security", "alter table audit.logged_actions enable row level security", check="relation_changed"),
    Sabotage(OWNERS, "change the step of the sequence of event ids", "alter sequence audit.logged_actions_event_id_seq increment by 1000", check="sequence_changed"),
    Sabotage((SUPERUSER,), "have a capture trigger fire under a condition", 'drop trigger "00_audit_row" on shop.orders; create trigger "00_audit_row" after insert or update or delete on shop.orders for each row when (current_user <> \'mallory\') execute function audit.capture_shop__orders()', check="trigger_changed"),
    Sabotage(OWNERS, "put another table under the name of one that is captured", "update audit.captured_tables set table_name = 'other' where table_name = 'orders'", reconcile="row_unknown"),
    Sabotage((TRAIL,), "permit itself a redaction, and change an event", "insert into audit.redactions values (1, pg_current_xact_id()); update audit.logged_actions set new_row = new_row || '{{\"total\": 5}}' where event_id = 1; delete from audit.redactions", "event_changed", reconcile="event_out_of_line"),
    Sabotage(OWNERS, "bring a table of forged events as a detached partition", "do $$ begin perform audit.make_leaf('logged_actions_x'); end $$; insert into audit.logged_actions_x (event_id, action_tstamp, schema_name, table_name, action) values (2, now() - interval '1 year', 'shop', 'gone', 'D'); insert into audit.partition_lifecycle (leaf, leaf_name, state, detached_at) values ('audit.logged_actions_x', 'logged_actions_x', 'detached', now())", "event_doubled"),
    Sabotage(OWNERS, "add a key of its own to those that signed", "insert into audit.seal_keys values ('{vkey}')", limit="`audit verify` trusts the keys of `--key`; without them, it says that they are those of the database"),
    Sabotage(OWNERS, "hide checkpoints by row security", "alter table audit.seal_checkpoints enable row level security; create policy p on audit.seal_checkpoints using (tree_size < 1)", check="unexpected_policy"),
    Sabotage(OWNERS, "make a partition unlogged, so that a crash empties it", "alter table {leaf} set unlogged", check="leaf_changed"),
    Sabotage(OWNERS, "add a constraint that refuses the events to come", "alter table {leaf} add constraint nope check (table_name <> 'orders') not valid", check="unexpected_constraint"),
    Sabotage(OWNERS, "drop the primary key of the trail", "alter table audit.logged_actions drop constraint logged_actions_pkey", check="constraint_missing"),
    Sabotage(OWNERS, "have a trigger swallow what is sealed", "create function audit.swallow() returns trigger language plpgsql as 'begin return null; end'; create trigger swallow before insert on audit.seal_tiles for each row execute function audit.swallow()", check="unexpected_trigger"),
    Sabotage(OWNERS, "let the application write events", "grant insert, update on audit.logged_actions to sab2_app", check="writable_by_others"),
    Sabotage(OWNERS, "change where the trail says that it is", "update audit.home set system_identifier = '1'", check="trail_moved"),
    Sabotage((SUPERUSER,), "put a function before PostgreSQL's own in the search path, and change an event", "create schema evil; create function evil.sha256(bytea) returns bytea language sql immutable as 'select pg_catalog.sha256(''x''::bytea)'; set local search_path = evil, pg_catalog; " + silently("update audit.logged_actions set role_name = 'mallory' where event_id = 1"), "event_changed"),
    Sabotage((SUPERUSER,), "give a partition to another owner", "alter table {leaf} owner to sab2_app", check="wrong_owner"),
    Sabotage((SUPERUSER,), "have a capture function run with the rights of who writes", "alter function audit.capture_shop__orders() security invoker", check="wrong_security"),
    Sabotage((TABLES,), "rename the table, and put another in its place", "alter table shop.orders rename to orders_old; create table shop.orders (like shop.orders_old including all)", check="table_renamed"),
    Sabotage((TABLES,), "write to a table that inherits from it", "create table shop.child () inherits (shop.orders); insert into shop.child values (77, 'x', 1)", check="heir_not_audited"),
    Sabotage((TABLES,), "have a rule write to another table instead", "create table shop.shadow (like shop.orders); create rule r as on update to shop.orders do instead insert into shop.shadow values (new.*)", limit="the table is not changed, and the other one is not audited"),
    # Last, as no rollback takes it back.
    Sabotage(OWNERS, "reset the sequence of event ids", "select setval('audit.logged_actions_event_id_seq', 1)", check="sequence_behind"),
]  # fmt: skip

SHOP = """
    create schema shop authorization sab2_tables;
    create schema dev authorization sab2_installer;
    set role sab2_tables;
    create table shop.orders (id int primary key, status text, total numeric);
    set role sab2_installer;
    create table dev.jobs (id int primary key);
    reset role;
    grant usage on schema shop to sab2_trail; grant select, insert, update, delete on shop.orders to sab2_trail;
"""
STORY = """
    insert into shop.orders values (1, 'new', 10), (2, 'new', 20);
    update shop.orders set total = 30 where id = 1;
    update shop.orders set total = 40 where id = 1;
"""


@dataclass(slots=True)
class Shop:
    """A sealed trail, and what is kept outside of it."""

    trail: Trail
    key: FileKey
    kept: list[tuple[str, str]]
    words: dict[str, object]

    @property
    def connection(self) -> Connection:
        return self.trail.connection


@pytest.fixture(scope="module")
def shop(cluster: Server, databases: Databases) -> Iterator[Shop]:
    """One database for all acts, each of which is rolled back."""
    name = databases.create("empty")
    dsn = databases.server.dsn(name)
    roles = [role for role in ROLES.values() if role]
    with ExitStack() as closing:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("; ".join(f"create role {role}" for role in roles).encode())
        closing.callback(_forget, cluster.dsn(), roles)
        closing.callback(databases.drop, name)
        with connect(dsn) as connection:
            connection.execute(SHOP.encode())
            apply(plan_trail(TrailSettings(owner=ROLES[TRAIL])), connection)
        own = closing.enter_context(psycopg.connect(dsn, autocommit=True))
        trail = Trail(Database(name, dsn, own, databases.server.bin_dir, closing))
        for table in ("shop.orders", "dev.jobs"):
            audit_table(own, table)
        for statement in render_grants(
            "audit",
            str(ROLES[TRAIL]),
            redactor=ROLES[REDACTOR],
            sealer=ROLES[SEALER],
            installer=ROLES[INSTALLER],
            captures=["capture_dev__jobs"],
        ):
            own.execute(statement.encode())
        own.execute(STORY.encode())
        yield _sealed(trail)


def _sealed(trail: Trail) -> Shop:
    """Seal twice: an earlier state, and the one that is attacked."""
    key, notes = new_key("example.com/shop"), []
    for statement in (
        "select audit.note_coverage()",
        "update shop.orders set total = 50 where id = 1",
    ):
        trail.execute(statement)
        with connect(trail.database.dsn) as connection:
            run = run_seal(connection, "audit", key, wait=10)
        assert run.note
        notes.append(run.note)
    [(leaf, low, high)] = trail.execute(
        "select leaf::text, lower_bound, upper_bound from audit.leaves() "
        "where lower_bound <= now() and upper_bound > now()"
    )
    return Shop(trail, key, [("kept", note) for note in notes], _words(leaf, low, high, key, notes))


def _words(
    leaf: str, low: object, high: object, key: FileKey, notes: list[str]
) -> dict[str, object]:
    """What the statements of the list name."""
    thief = new_key("example.com/shop")
    text = notes[-1].rpartition("\n\n")[0] + "\n"
    return {
        "leaf": leaf,
        "leaf_name": leaf.split(".")[1],
        "bounds": f"from ('{low}') to ('{high}')",
        "resigned": write_note(text, thief.public, thief.sign(text)),
        "vkey": str(thief.public),
        "size": notes[0].split("\n")[1],
    }


def _forget(dsn: str, roles: list[str]) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"drop role {', '.join(roles)}".encode())


def attempt(shop: Shop, actor: str, sabotage: Sabotage) -> None:
    """Do it, as whoever does it."""
    role = ROLES[actor]
    if role:
        shop.connection.execute(f"set local session authorization {role}".encode())
    shop.connection.execute(sabotage.sql.format(**shop.words).encode())
    shop.connection.execute("reset session authorization")


def found(shop: Shop) -> dict[str, set[str]]:
    """The kinds of findings of each command."""
    connection = shop.connection
    connection.execute("set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'")
    keys: list[PublicKey] = [shop.key.public]
    verified = verify_within(connection, "audit", keys=keys, outside=shop.kept).findings
    checked = check_database(connection, "audit")
    compared = [one for table in reconcile(connection, [], "audit") for one in table.findings]
    return {
        command: {finding.kind.value for finding in findings}
        for command, findings in (("verify", verified), ("check", checked), ("reconcile", compared))
    }


def test_nothing_is_found_before(shop: Shop) -> None:
    with shop.connection.transaction(force_rollback=True):
        assert found(shop) == {"verify": set(), "check": set(), "reconcile": set()}


EVERY_RUN = {
    "change who made a change",
    "change a value of an event",
    "delete an event",
    "insert an event of a change that did not happen, with the next id",
    "swap a partition for a copy of its own, with one value changed",
    "say that a partition was dropped, and drop it",
    "put trail and seals back to an earlier state",
    "sign the last checkpoint with a key of the same name",
}
CASES = [(actor, one) for one in ALL for actor in one.actors]
QUICK = [(actor, one) for actor, one in CASES if one.act in EVERY_RUN and actor == TRAIL]


@pytest.mark.parametrize(
    "case", some_quick(CASES, QUICK), ids=lambda case: f"{case[0]}: {case[1].act}"
)
def test_an_act_is_found_by_what_the_table_says(shop: Shop, case: tuple[str, Sabotage]) -> None:
    actor, sabotage = case
    with shop.connection.transaction(force_rollback=True):
        attempt(shop, actor, sabotage)
        for command, kinds in found(shop).items():
            named = getattr(sabotage, command)
            assert (named in kinds) if named else not kinds, (command, kinds)


@pytest.mark.parametrize("sabotage", REFUSED, ids=lambda one: one.act)
def test_an_act_is_refused(shop: Shop, sabotage: Sabotage) -> None:
    connection = shop.connection
    for actor in sabotage.actors:
        with connection.transaction(force_rollback=True):
            with pytest.raises(psycopg.Error) as refusal, connection.transaction():
                attempt(shop, actor, sabotage)
            assert refusal.value.sqlstate == sabotage.refused, (actor, refusal.value)
            connection.execute("reset session authorization")


_SEAL, _FILES, _COPY = "seals/test_seal.py::test_", "OS administrator", "whoever restores or copies"
ELSEWHERE = [
    Elsewhere("change an event in the files of the server", _FILES, "`audit verify`: `event_changed`", "seals/test_files.py::test_an_event_that_was_changed_in_the_files_of_the_server"),
    Elsewhere("set the clock back while events are sealed", _FILES, "nothing: events keep the order of their ids; a time stamp of an authority tells", "seals/test_files.py::test_a_clock_that_goes_back_while_events_are_sealed"),
    Elsewhere("change a checkpoint that is kept, or put another in its place", _FILES, "`audit verify`: `checkpoint_invalid`", "seals/test_files.py::test_a_checkpoint_that_was_changed_where_it_is_kept"),
    Elsewhere("put a file of more events beside the checkpoints, so that nothing is sealed any more", _FILES, "`audit seal` refuses, and names it; `audit verify`: `checkpoint_invalid`", "seals/test_files.py::test_a_file_that_is_put_before_the_sealer"),
    Elsewhere("remove the checkpoints that are kept", _FILES, "nothing: `audit verify` counts those that agree; keep them in a second place", "seals/test_files.py::test_checkpoints_that_were_removed_are_counted"),
    Elsewhere("replace the key of the sealer", _FILES, "`audit seal` refuses; `audit verify`: `checkpoint_invalid`", f"{_SEAL}who_rewrites_all_of_it_needs_the_key"),
    Elsewhere("move, change or remove files of the archive", _FILES, "`audit archive verify`", "archive/test_tampering.py::test_every_tampering_is_found"),
    Elsewhere("put back a backup, and go on from there", _COPY, "`audit seal` refuses; `audit verify`: `trail_behind`, later `trail_forked`", f"{_SEAL}a_trail_that_was_put_back_is_not_sealed_on"),
    Elsewhere("write the trail anew, and seal it with the key of the sealer", _COPY, "`audit verify`: `trail_behind`, later `trail_forked`", f"{_SEAL}who_rewrites_all_of_it_needs_the_key"),
    Elsewhere("write into the archive of the original from a copy", _COPY, "refused", "archive/test_tampering.py::test_a_copy_of_the_database_never_writes_over_the_archive"),
    Elsewhere("say that checkpoints were stored, so that none gets outside any more", "owner of the trail, superuser, sealer", "nothing: `audit seal` asks each place what it has", f"{_SEAL}a_place_is_asked_what_it_has"),
    Elsewhere("rewrite the record of what was dropped", "owner of the trail, superuser", "`audit verify`: `drop_record_changed`", "seals/test_dropped.py::test_a_record_that_was_rewritten_is_found"),
    Elsewhere("drop the event triggers of the guard", "superuser", "`audit check`: `guard_missing`", "completeness/test_guard.py::test_a_guard_that_is_gone_is_found"),
    Elsewhere("drop a partition as maintenance does, before its retention is over", "owner of the trail, superuser", "nothing: `audit verify` names the event that says so, and its login", "seals/test_dropped.py::test_what_was_dropped_is_said_by_events"),
    Elsewhere("announce a redaction that erased nothing", "owner of the trail, superuser", "`audit verify`: `redaction_unannounced`", "seals/test_disguises.py::test_who_announces_a_redaction_that_erased_nothing_is_found"),
    Elsewhere("replace a function, so that a signed redaction changes more", "owner of the trail, superuser", "`audit redact --key` refuses", "seals/test_signed_redaction.py::test_a_function_that_changes_more_gets_no_signature"),
    Elsewhere("remove or replace the signature of a redaction", "owner of the trail, superuser", "`audit verify`: `redaction_unsigned`", "seals/test_signed_redaction.py::test_whoever_changes_the_signature_is_found"),
    Elsewhere("replace a value beside one that is redacted, as `audit redact` would", "owner of the trail, superuser", "`audit verify`: `redaction_unsigned` (a warning once one was signed)", "seals/test_signed_redaction.py::test_a_value_that_is_changed_beside_a_redacted_one_is_found"),
]  # fmt: skip


def as_table() -> str:
    """Them as a table in Markdown."""
    rows = [f"| {one.act} | {', '.join(one.actors)} | {one.outcome} |" for one in (*REFUSED, *ALL)]
    rows += [f"| {one.aim} | {one.by} | {one.outcome} |" for one in ELSEWHERE]
    return "\n".join(["| act | by | found by |", "|---|---|---|", *rows]) + "\n"


def test_the_table_is_what_the_docs_publish(request: pytest.FixtureRequest) -> None:
    page = Path(__file__).parents[2] / "docs" / "seals.md"
    text = page.read_text(encoding="utf-8")
    before, mark, rest = text.partition("### Who can do what, and what finds it\n\n")
    after = rest[rest.index("\n\n## ") :] if mark else ""
    intro = rest[: rest.index("| act |")] if mark else ""
    wanted = f"{before}{mark}{intro}{as_table().rstrip()}{after}"
    if request.config.getoption("--update-golden"):
        page.write_text(wanted, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == wanted, "pytest --update-golden, and read the diff"
    assert [one.test for one in ELSEWHERE if not one.is_there] == []
