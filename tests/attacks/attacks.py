"""The attacks: who tries what, and the outcome. `docs/attacks.md` is generated from this list."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Actor(StrEnum):
    """Who attacks."""

    NOBODY = "any login"
    APP = "application"
    TABLE_OWNER = "owner of a table"
    READER = "reader"
    WRITES_ALL = "member of pg_write_all_data"
    MAINTAINER = "maintainer"
    ARCHIVER = "archiver"
    INSTALLER = "installer"
    OWNER = "owner of the trail"
    SUPERUSER = "superuser"

    @property
    def role(self) -> str:
        """The role that it logs in as."""
        return {
            Actor.NOBODY: "att_nobody",
            Actor.APP: "att_app",
            Actor.TABLE_OWNER: "att_table_owner",
            Actor.READER: "att_reader",
            Actor.WRITES_ALL: "att_writes_all",
            Actor.MAINTAINER: "att_maintainer",
            Actor.ARCHIVER: "att_archiver",
            Actor.INSTALLER: "att_installer",
            Actor.OWNER: "att_owner",
            Actor.SUPERUSER: "postgres",
        }[self]


@dataclass(frozen=True, slots=True)
class Attack:
    """Something tried on the shop of `conftest.py`."""

    actor: Actor
    aim: str
    sql: str


@dataclass(frozen=True, slots=True)
class Refused(Attack):
    """The server or the toolkit refuses it."""

    state: str = "42501"
    """The SQLSTATE; 42501 is a missing privilege."""


@dataclass(frozen=True, slots=True)
class Found(Attack):
    """It goes through, and the next `audit check` finds it."""

    kind: str = ""


@dataclass(frozen=True, slots=True)
class Possible(Attack):
    """It goes through unseen by `audit check`."""

    why: str = ""


GUARDED = "55000"
WRONG = "22023"

GRANTED = [Actor.MAINTAINER, Actor.ARCHIVER, Actor.INSTALLER]
"""Who was granted something by `audit grants`, and is no member of the owner."""

_EVENT = "(schema_name, table_name, action, row_key, new_row) values ('shop', 'orders', 'I', '9', '{\"id\": 9}')"
_LEAF = "audit.logged_actions_tail"
_CAPTURE = "audit.capture_shop__orders"

REFUSED = [
    Refused(actor, aim, sql)
    for aim, sql, actors in [
        ("read the trail", "table audit.logged_actions", [Actor.NOBODY, Actor.APP, Actor.TABLE_OWNER, *GRANTED]),
        ("read a partition directly", f"table {_LEAF}", [Actor.NOBODY, Actor.READER, *GRANTED]),
        ("erase values", "select audit.redact('shop', 'orders', '{1}', '{status}', '{}', false, false, false, 'forged')", [Actor.NOBODY, Actor.APP, Actor.TABLE_OWNER, Actor.READER, *GRANTED]),
        ("find out which events contain a value", "select audit.redactable('shop', 'orders', null, '{status}', '{}', false, false)", [Actor.NOBODY, Actor.APP, Actor.TABLE_OWNER, Actor.READER, *GRANTED]),
        ("read the mask key", "table audit.mask_key", [Actor.NOBODY, Actor.APP, Actor.READER, *GRANTED]),
        ("insert an event by hand", f"insert into audit.logged_actions {_EVENT}", [Actor.NOBODY, Actor.APP, Actor.TABLE_OWNER, Actor.READER, *GRANTED]),
        ("change an event", "update audit.logged_actions set new_row = null", [Actor.NOBODY, Actor.APP, Actor.READER, *GRANTED]),
        ("delete events", "delete from audit.logged_actions", [Actor.NOBODY, Actor.APP, Actor.READER, *GRANTED]),
        ("empty the trail", "truncate audit.logged_actions", [Actor.NOBODY, Actor.APP, Actor.READER, Actor.WRITES_ALL, *GRANTED]),
        ("drop a partition", f"drop table {_LEAF}", [Actor.APP, Actor.READER, Actor.TABLE_OWNER, Actor.WRITES_ALL, *GRANTED]),
        ("move the sequence of event ids", "select setval('audit.logged_actions_event_id_seq', 1)", [Actor.NOBODY, Actor.APP, Actor.READER, *GRANTED]),
        ("create a table in the schema of the trail", "create table audit.spy (x int)", [Actor.NOBODY, Actor.APP, Actor.READER, Actor.WRITES_ALL, *GRANTED]),
        ("create a trigger on the trail", "create trigger t before insert on audit.logged_actions for each row execute function suppress_redundant_updates_trigger()", [Actor.APP, Actor.READER, Actor.WRITES_ALL, *GRANTED]),
        ("disable capture", 'alter table shop.orders disable trigger "00_audit_row"', [Actor.NOBODY, Actor.APP, Actor.READER, Actor.WRITES_ALL, *GRANTED]),
        ("replace a capture function", f"create or replace function {_CAPTURE}() returns trigger language plpgsql as 'begin return null; end'", [Actor.APP, Actor.TABLE_OWNER, Actor.WRITES_ALL, *GRANTED]),
        ("call a capture function by hand", f"select {_CAPTURE}()", [Actor.NOBODY, Actor.APP, *GRANTED]),
        ("use the capture function of one table on another", f"create table own.fake (id int); create trigger t after insert on own.fake for each row execute function {_CAPTURE}()", [Actor.APP]),
        ("claim a gap in capture", "select audit.record_gap('shop.orders', 'paused', 'forged')", [Actor.NOBODY, Actor.APP, Actor.READER, *GRANTED]),
        ("record that a partition was detached long ago, so that maintenance drops it", "insert into audit.partition_lifecycle (leaf, leaf_name, state, detached_at) values ('audit.logged_actions', 'x', 'detached', '2000-01-01')", [Actor.WRITES_ALL]),
        ("end the hold of a partition", "update audit.partition_lifecycle set hold_reason = null", [Actor.WRITES_ALL]),
        ("pass a table off as another", "update audit.captured_tables set relation_id = 1", [Actor.WRITES_ALL]),
        ("pass the trail off as one that was moved", "update audit.home set database_oid = 1", [Actor.WRITES_ALL]),
        ("delete the record of where the trail is", "delete from audit.home", [Actor.WRITES_ALL]),
        ("claim that maintenance ran", "insert into audit.maintenance values ('partitions', now(), now(), '[]')", [Actor.WRITES_ALL, Actor.READER, *GRANTED]),
        ("lock the trail, so that writes wait", "lock table audit.logged_actions in access exclusive mode", [Actor.NOBODY, Actor.APP, Actor.READER, *GRANTED]),
        ("become the owner of the trail by a setting of a function", "create function pg_temp.f() returns void language plpgsql set role to att_owner as 'begin end'; select pg_temp.f()", [Actor.NOBODY, Actor.READER, *GRANTED]),
        ("publish the trail by logical replication", "create publication p for table audit.logged_actions", [Actor.NOBODY, Actor.READER, Actor.TABLE_OWNER, *GRANTED]),
        ("hide events by a policy", "create policy p on audit.logged_actions using (false)", [Actor.NOBODY, Actor.READER, *GRANTED]),
        ("write to the trail from a rule on its own table", "create rule r as on update to shop.orders do also insert into audit.logged_actions (schema_name, table_name, action) values ('shop', 'orders', 'U')", [Actor.TABLE_OWNER]),
        ("use the capture function of another table on its own", f"create trigger t after insert on shop.customers for each row execute function {_CAPTURE}()", [Actor.TABLE_OWNER]),
        ("read a file of the server into a large object", "select lo_import('/etc/passwd')", [Actor.APP]),
        ("connect to another server with dblink", "create extension dblink", [Actor.APP]),
        ("disable capture with session_replication_role", "set session_replication_role = replica", [Actor.NOBODY, Actor.APP, *GRANTED]),
    ]
    for actor in actors
]  # fmt: skip

_NOW = "(select leaf from audit.leaves() where lower_bound <= clock_timestamp() and upper_bound > clock_timestamp())"
_EXCHANGE = "security definer set search_path = pg_catalog, pg_temp as 'begin return null; end'"

BY_FUNCTION = [
    Refused(Actor.MAINTAINER, aim, sql, state)
    for aim, sql, state in [
        ("detach the current partition", f"select audit.maintain_detach({_NOW})", "42501"),
        ("detach the partition before the first one", "select audit.maintain_detach('audit.logged_actions_past')", "42501"),
        ("detach the catch-all partition", f"select audit.maintain_detach('{_LEAF}')", "42501"),
        ("detach a partition within the retention period", "select audit.maintain_detach('audit.logged_actions_first')", "42501"),
        ("detach a partition of another table", "select audit.maintain_detach('shop.visits_2026')", "42501"),
        ("drop an attached partition", "select audit.maintain_drop('audit.logged_actions_first'::regclass)", "42501"),
        ("drop a table that is not a partition", "select audit.maintain_drop('shop.orders'::regclass)", "42501"),
        ("drop the mask key as a partition", "select audit.maintain_drop('audit.mask_key'::regclass)", "42501"),
        ("detach a partition with ALTER TABLE", f"alter table audit.logged_actions detach partition {_LEAF}", "42501"),
        ("record that a partition was detached long ago", "insert into audit.partition_lifecycle (leaf, leaf_name, state, detached_at) select leaf, 'x', 'detached', '2000-01-01' from audit.leaves()", "42501"),
        ("allow itself a shorter retention", "update audit.maintenance set summary = '{}' where command = 'limits'", "42501"),
        ("allow itself a shorter retention through the record of a run", "select audit.maintain_note('limits', true, '{\"retention\": \"0\"}')", WRONG),
        ("end the catch-all partition early, so that writes fail", "select audit.maintain_cap(null, clock_timestamp() + interval '1 hour')", WRONG),
        ("leave a gap between partitions, so that writes fail", "select audit.maintain_create(array['logged_actions_x'], array['2098-01-01 00:00+00', '2099-01-01 00:00+00']::timestamptz[], true)", WRONG),
        ("inject SQL through the name of a partition", "select audit.maintain_create(array['x (a int); drop table audit.mask_key; --'], array['2098-01-01 00:00+00', '2099-01-01 00:00+00']::timestamptz[], false)", WRONG),
        ("create a partition with NULL bounds", "select audit.maintain_create(array['logged_actions_x'], array[null, null]::timestamptz[], false)", WRONG),
        ("inject SQL through the partition interval", "select audit.maintain_interval('day\", \"x\": \"')", WRONG),
        ("replace partitions through a relabelling", "select audit.maintain_relabel('logged_actions_x', '{}', array['2099-01-01 00:00+00']::timestamptz[])", GUARDED),
        ("find out whether another role's table has rows", "select audit.maintain_has_rows('shop.orders')", "42501"),
        ("read what happened, not only when", "select event_id, action_tstamp, row_key from audit.logged_actions", "42501"),
        ("read the trail through its own view", "create view pg_temp.v as table audit.logged_actions; table pg_temp.v", "42501"),
    ]
] + [
    Refused(Actor.ARCHIVER, aim, sql, "42501")
    for aim, sql in [
        ("read an attached partition by archiving it", f"select audit.archive_begin('{_LEAF}'::regclass)"),
        ("read another role's table by archiving it", "select audit.archive_begin('shop.orders'::regclass)"),
        ("read the mask key by archiving it", "select audit.archive_begin('audit.mask_key'::regclass)"),
        ("drop an attached partition", "select audit.maintain_drop('audit.logged_actions_first'::regclass)"),
    ]
] + [
    Refused(Actor.ARCHIVER, "claim that an attached partition is archived", f"select audit.archive_note('{_LEAF}'::regclass, 's3://x', audit.leaf_digest('{_LEAF}'), '')"),
    *(
        Refused(Actor.INSTALLER, aim, sql)
        for aim, sql in [
            ("claim a gap in capture of another role's table", "select audit.record_gap('shop.orders', 'paused', 'forged')"),
            ("begin capture of another role's table", "select audit.begin_capture('shop.orders', 'capture_shop__orders')"),
            ("begin capture of another role's table, without its lock", "select audit.note_beginning('shop.orders', 'capture_shop__orders')"),
            ("end capture of another role's table", "select audit.end_capture('capture_shop__orders')"),
            ("register the capture function of another table for its own", "select audit.note_capture('dev.jobs', 'capture_shop__orders')"),
            ("get a function of the trail granted as the capture function of a partitioned table", "select audit.note_capture('dev.parts', 'maintain_finish')"),
            ("use the capture function of another table on its own", f"create trigger t after insert on dev.jobs for each row execute function {_CAPTURE}()"),
            ("use its capture function on another table of its own, and write to that", "create trigger t after insert on dev.parts for each row execute function audit.capture_dev__jobs(); create table dev.p partition of dev.parts default; insert into dev.parts values (1)"),
            ("replace the function that captures its own table", f"create or replace function audit.capture_dev__jobs() returns trigger language plpgsql {_EXCHANGE}"),
            ("drop the function that captures its own table", "drop function audit.capture_dev__jobs() cascade"),
            ("change settings of the function that captures its own table", "alter function audit.capture_dev__jobs() set role to att_installer"),
            ("change the registry of captured tables", "delete from audit.captured_tables"),
        ]
    ),
]  # fmt: skip

GUARDS = [
    Refused(actor, aim, sql, GUARDED)
    for aim, sql in [
        ("change an event", "update audit.logged_actions set new_row = null"),
        ("change an event in its partition", f"update {_LEAF} set new_row = null"),
        ("delete events", "delete from audit.logged_actions"),
        ("empty a partition", f"truncate {_LEAF}"),
    ]
    for actor in (Actor.OWNER, Actor.SUPERUSER)
] + [
    Refused(Actor.WRITES_ALL, "change an event", "update audit.logged_actions set new_row = null", GUARDED),
    Refused(Actor.WRITES_ALL, "delete events", "delete from audit.logged_actions", GUARDED),
    Refused(Actor.WRITES_ALL, "delete the mask key, so that writes fail", "delete from audit.mask_key", GUARDED),
    Refused(Actor.WRITES_ALL, "add a second mask key", "insert into audit.mask_key values ('', '')", "23505"),
    Refused(Actor.SUPERUSER, "delete the mask key, so that writes fail", "delete from audit.mask_key", GUARDED),
]  # fmt: skip

SABOTAGE = [
    Found(actor, aim, sql, kind)
    for aim, sql, kind, actors in [
        ("claim that capture of its own table ended while it continues", "select audit.end_capture('capture_dev__jobs')", "capture_unregistered", [Actor.INSTALLER]),
        ("claim that capture of its own table was paused while it continues", "select audit.record_gap('dev.jobs', 'paused', 'not so')", "capture_interrupted", [Actor.INSTALLER]),
        ("discard events with a BEFORE INSERT trigger", "create function {schema}.f() returns trigger language plpgsql as 'begin return null; end'; create trigger zz before insert on audit.logged_actions for each row execute function {schema}.f()", "unexpected_trigger", [Actor.OWNER, Actor.SUPERUSER]),
        ("discard events with a rule", "create rule r as on insert to audit.logged_actions do instead nothing", "unexpected_rule", [Actor.OWNER]),
        ("discard events with a rule on a partition", f"create rule r as on insert to {_LEAF} do instead nothing", "unexpected_rule", [Actor.OWNER]),
        ("record events under another name", "alter table audit.logged_actions alter session_user_name set default 'ceo'", "column_changed", [Actor.OWNER]),
        ("record events under another transaction id", "alter table audit.logged_actions alter transaction_id set default '1'", "column_changed", [Actor.OWNER]),
        ("change a default of one partition", f"alter table {_LEAF} alter session_user_name set default 'ceo'", "column_changed", [Actor.OWNER]),
        ("change events with ALTER COLUMN … TYPE … USING", "alter table audit.logged_actions alter column query type varchar(99) using 'x'", "column_changed", [Actor.OWNER]),
        ("add a column that claims somebody's approval", "alter table audit.logged_actions add column approved_by text default 'ceo'", "unexpected_column", [Actor.OWNER]),
        ("refuse events with a constraint", "alter table audit.logged_actions add constraint c check (table_name <> 'orders') not valid", "unexpected_constraint", [Actor.OWNER]),
        ("refuse events with a constraint on a partition", f"alter table {_LEAF} add constraint c check (table_name <> 'orders') not valid", "unexpected_constraint", [Actor.OWNER]),
        ("drop the primary key of the trail", "alter table audit.logged_actions drop constraint logged_actions_pkey", "constraint_missing", [Actor.OWNER]),
        ("make writes fail with a unique index", f"create unique index u on {_LEAF} (table_name)", "unexpected_index", [Actor.OWNER]),
        ("run its own code in writes, through an index", "create function {schema}.g(text) returns text immutable language sql as 'select $1'; create index u on audit.logged_actions ({schema}.g(table_name))", "unexpected_index", [Actor.SUPERUSER]),
        ("drop the row index", "drop index audit.logged_actions_row_idx", "index_missing", [Actor.OWNER]),
        ("let others read the mask key", "grant select on audit.mask_key to att_app", "readable_by_others", [Actor.OWNER]),
        ("let others insert events", "grant insert on audit.logged_actions to att_app", "writable_by_others", [Actor.OWNER]),
        ("let others write some columns", "grant insert (new_row), update (new_row) on audit.logged_actions to att_app", "writable_by_others", [Actor.OWNER]),
        ("let others read some columns", "grant select (new_row) on audit.logged_actions to att_app", "readable_by_others", [Actor.OWNER]),
        ("let others read a column of a partition", f"grant select (new_row) on {_LEAF} to att_app", "grant_on_leaf", [Actor.OWNER]),
        ("let others execute a capture function", f"grant execute on function {_CAPTURE}() to att_app", "executable_by_others", [Actor.OWNER]),
        ("let everybody execute a capture function", f"grant execute on function {_CAPTURE}() to public", "executable_by_public", [Actor.OWNER]),
        ("let others execute a helper", "grant execute on function audit.make_leaf(text) to att_app", "executable_by_others", [Actor.OWNER]),
        ("let others create objects in the schema", "grant create on schema audit to att_app", "writable_by_others", [Actor.OWNER]),
        ("let others move the sequence", "grant update on sequence audit.logged_actions_event_id_seq to att_app", "writable_by_others", [Actor.OWNER]),
        ("grant future objects to others", "alter default privileges in schema audit grant all on tables to att_app", "unexpected_default_privileges", [Actor.OWNER]),
        ("create a partition that a crash empties", f"alter table {_LEAF} set unlogged", "leaf_changed", [Actor.OWNER]),
        ("disable the append-only trigger of the trail", 'alter table audit.logged_actions disable trigger "00_audit_append_only"', "not_append_only", [Actor.OWNER, Actor.SUPERUSER]),
        ("disable the append-only trigger of a partition", f'drop trigger "00_audit_append_only" on {_LEAF}', "not_append_only", [Actor.OWNER]),
        ("replace the append-only trigger by one that allows UPDATE", f'create or replace trigger "00_audit_append_only" before truncate on {_LEAF} for each statement execute function audit.refuse_change(); alter table {_LEAF} enable always trigger "00_audit_append_only"', "not_append_only", [Actor.OWNER]),
        ("make the append-only trigger refuse nothing", "create or replace function audit.refuse_change() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as 'begin return null; end'", "schema_outdated", [Actor.OWNER]),
        ("make a helper run as the owner of the trail", "alter function audit.make_leaf(text) security definer", "schema_outdated", [Actor.OWNER]),
        ("unpin the search_path of a helper", "alter function audit.record_gap(regclass, text, text) reset search_path", "schema_outdated", [Actor.OWNER]),
        ("unpin the search_path of a capture function", f"alter function {_CAPTURE}() reset search_path", "search_path_open", [Actor.OWNER]),
        ("change a setting of a capture function", f"alter function {_CAPTURE}() set role to att_app", "settings_changed", [Actor.OWNER]),
        ("add a function to the schema of the trail", "create function audit.mask(x text) returns text language sql as 'select 1::text'", "unexpected_function", [Actor.OWNER]),
        ("add a table to the schema of the trail", "create table audit.logged_actions_shadow (x int)", "unexpected_relation", [Actor.OWNER]),
        ("add a view to the schema of the trail", "create view audit.events as table audit.logged_actions", "unexpected_relation", [Actor.OWNER]),
        ("add a type to the schema of the trail", "create type audit.mood as enum ('fine')", "unexpected_object", [Actor.OWNER]),
        ("hide events from readers with a policy", "alter table audit.logged_actions enable row level security; create policy p on audit.logged_actions for select using (table_name <> 'orders')", "unexpected_policy", [Actor.OWNER]),
        ("hide all events from readers with row security and no policy", "alter table audit.logged_actions enable row level security", "relation_changed", [Actor.OWNER]),
        ("make writes fail with forced row security", "alter table audit.logged_actions force row level security", "relation_changed", [Actor.OWNER]),
        ("add rows of another table to a table of the trail by inheritance", "create table evil.more () inherits (audit.maintenance)", "unexpected_child", [Actor.SUPERUSER]),
        ("prevent the removal of events by a foreign key", "create table evil.pin (a bigint, b timestamptz, foreign key (a, b) references audit.logged_actions)", "unexpected_foreign_key", [Actor.SUPERUSER]),
        ("make event ids wrap around", "alter sequence audit.logged_actions_event_id_seq maxvalue 1000 cycle", "sequence_changed", [Actor.OWNER]),
        ("change the owner of a partition", f"alter table {_LEAF} owner to att_app", "wrong_owner", [Actor.SUPERUSER]),
        ("change the owner of a function of the trail", "alter function audit.make_leaf(text) owner to att_app", "wrong_owner", [Actor.SUPERUSER]),
        ("change the owner of the schema", "alter schema audit owner to att_nobody", "wrong_owner", [Actor.SUPERUSER]),
        ("run its code in everybody's DDL, with an event trigger", "create function evil.e() returns event_trigger language plpgsql as 'begin end'; alter function evil.e() owner to att_nobody; create event trigger e on ddl_command_end execute function evil.e()", "event_trigger_of_others", [Actor.SUPERUSER]),
        ("disable capture", 'alter table shop.orders disable trigger "00_audit_row"', "trigger_disabled", [Actor.TABLE_OWNER, Actor.SUPERUSER]),
        ("disable capture of its own table", 'alter table dev.jobs disable trigger "00_audit_row"', "trigger_disabled", [Actor.INSTALLER]),
        ("add a second trigger to its own table, and register that as intended", "create trigger zz after insert on dev.jobs for each row execute function audit.capture_dev__jobs(); alter table dev.jobs enable always trigger zz; select audit.note_capture('dev.jobs', 'capture_dev__jobs')", "unexpected_trigger", [Actor.INSTALLER]),
        ("capture nothing, with a trigger that has a condition, and register that as intended", 'drop trigger "00_audit_row" on dev.jobs; create trigger "00_audit_row" after insert or update or delete on dev.jobs for each row when (false) execute function audit.capture_dev__jobs(); alter table dev.jobs enable always trigger "00_audit_row"; select audit.note_capture(\'dev.jobs\', \'capture_dev__jobs\')', "trigger_changed", [Actor.INSTALLER]),
        ("replace its captured table by another one", 'alter table dev.jobs rename to former; create table dev.jobs (id int primary key, state text); create trigger "00_audit_row" after insert or update or delete on dev.jobs for each row execute function audit.capture_dev__jobs(); alter table dev.jobs enable always trigger "00_audit_row"', "foreign_trigger", [Actor.INSTALLER]),
        ("add a trigger with a name like ours", "create function shop.t() returns trigger language plpgsql as 'begin return null; end'; create trigger \"00_audit_aaa\" before update on shop.orders for each row execute function shop.t()", "foreign_trigger", [Actor.TABLE_OWNER]),
        ("rename the capture trigger", 'alter trigger "00_audit_row" on shop.orders rename to zz', "trigger_changed", [Actor.TABLE_OWNER]),
        ("rename the table, and create a new one with its name", "alter table shop.orders rename to former; create table shop.orders (id int)", "table_renamed", [Actor.TABLE_OWNER]),
        ("cap the catch-all partition, and leave it capped", "select audit.maintain_cap(null, clock_timestamp() + interval '60 days')", "tail_capped", [Actor.MAINTAINER]),
        ("insert an event with an id that the sequence did not assign", "insert into audit.logged_actions (event_id, schema_name, table_name, action) values (9223372036854775807, 'shop', 'orders', 'D')", "ids_run_out", [Actor.WRITES_ALL]),
        ("insert an event with the id of another event", "insert into audit.logged_actions (event_id, schema_name, table_name, action) values (1, 'shop', 'orders', 'D')", "event_ids_doubled", [Actor.WRITES_ALL]),
        ("insert an event with a time in the future", "insert into audit.logged_actions (action_tstamp, schema_name, table_name, action) values ('infinity', 'shop', 'orders', 'D')", "tail_has_rows", [Actor.WRITES_ALL]),
        ("drop the capture trigger of its own table", 'drop trigger "00_audit_row" on dev.jobs', "trigger_missing", [Actor.INSTALLER]),
        ("drop the capture trigger", 'drop trigger "00_audit_row" on shop.orders', "trigger_missing", [Actor.TABLE_OWNER]),
        ("make session_replication_role = replica disable capture", 'alter table shop.orders enable trigger "00_audit_row"', "trigger_not_always", [Actor.TABLE_OWNER]),
        ("replace a capture function", f"create or replace function {_CAPTURE}() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as 'begin return null; end'", "function_changed", [Actor.OWNER]),
        ("make a capture function SECURITY INVOKER", f"alter function {_CAPTURE}() security invoker", "wrong_security", [Actor.OWNER]),
        ("insert an event under the id of another transaction", "insert into audit.logged_actions (transaction_id, transaction_tstamp, schema_name, table_name, action) select transaction_id, now(), 'shop', 'orders', 'D' from audit.logged_actions order by 1 limit 1", "event_forged", [Actor.OWNER, Actor.SUPERUSER]),
        ("insert an event under the id of a future transaction", "insert into audit.logged_actions (transaction_id, schema_name, table_name, action) values ('4000000000', 'shop', 'orders', 'D')", "event_forged", [Actor.WRITES_ALL, Actor.OWNER, Actor.SUPERUSER]),
        ("hide a forged event by inserting a boundary event after it", "insert into audit.logged_actions (transaction_id, schema_name, table_name, action) values ('4000000000', 'shop', 'orders', 'D'); insert into audit.logged_actions (schema_name, table_name, action, new_row) values ('audit', 'logged_actions', 'B', '{}')", "event_forged", [Actor.WRITES_ALL]),
        ("drop the partition before the first one", "drop table audit.logged_actions_past", "no_past", [Actor.OWNER]),
        ("drop a past partition", "drop table audit.logged_actions_first", "gap", [Actor.OWNER]),
        ("replace a partition by a table of its own", f"alter table audit.logged_actions detach partition {_LEAF}; create table evil.leaf (like audit.logged_actions); alter table evil.leaf owner to att_owner; alter table audit.logged_actions attach partition evil.leaf for values from ('2099-01-01') to (maxvalue)", "leaf_changed", [Actor.SUPERUSER]),
    ]
    for actor in actors
]  # fmt: skip

ALL: list[Attack] = [*REFUSED, *BY_FUNCTION, *GUARDS, *SABOTAGE]

POSSIBLE = [
    Possible(Actor.TABLE_OWNER, "hide rows from other roles' statements with row security", "alter table shop.orders enable row level security; alter table shop.orders force row level security", "nothing changed, so nothing is captured"),
    Possible(Actor.TABLE_OWNER, "change rows with ALTER COLUMN … TYPE … USING", "alter table shop.orders alter column status type text using 'forged'", "triggers do not see what ALTER TABLE rewrites; an `M` event records the columns"),
    Possible(Actor.APP, "shadow the tables and functions that capture uses with temporary ones", "create temp table logged_actions (x int); create temp table pg_class (oid oid); create function pg_temp.to_jsonb(anyelement) returns jsonb language sql as 'select null::jsonb'; set local search_path = pg_temp, audit, pg_catalog; update shop.orders set status = 'z'", "no effect, because capture pins its search_path"),
    Possible(Actor.APP, "change the settings that a session may change", "set local timezone = 'Asia/Tokyo'; set local datestyle = 'SQL, DMY'; set local bytea_output = 'escape'; set local extra_float_digits = -15; set local transform_null_equals = on; set local array_nulls = off; set local quote_all_identifiers = on; set local row_security = off; update shop.orders set status = 'z'", "no effect, because capture pins the settings that matter"),
    Possible(Actor.READER, "read more through a view of its own", "create view pg_temp.v with (security_barrier) as table audit.logged_actions; table pg_temp.v", "the view shows only what the reader may read"),
    Possible(Actor.WRITES_ALL, "insert an event by hand, under its own transaction", f"insert into audit.logged_actions {_EVENT}", "PostgreSQL lets this role write every table; `audit access` names its members"),
    Possible(Actor.OWNER, "insert an event by hand, under its own transaction", f"insert into audit.logged_actions {_EVENT}", "capture itself writes as the owner; nobody should log in as that role"),
    Possible(Actor.SUPERUSER, "insert an event by hand, under its own transaction", f"insert into audit.logged_actions {_EVENT}", "a superuser can do everything"),
    Possible(Actor.SUPERUSER, "change an event with the append-only trigger disabled, and enable it again", 'alter table audit.logged_actions_tail disable trigger "00_audit_append_only"; update audit.logged_actions_tail set query = null; alter table audit.logged_actions_tail enable always trigger "00_audit_append_only"', "if done between two checks; keep copies outside the database (archive, stream)"),
    Possible(Actor.OWNER, "change events with ALTER COLUMN … TYPE … USING, to the same type", "alter table audit.logged_actions alter column query type text using 'x'", "an owner can rewrite its tables; nobody should log in as that role"),
    Possible(Actor.APP, "claim to be somebody else", "select set_config('audit.context', '{\"actor\": \"ceo\"}', true); update shop.orders set status = 'x'", "the context is a claim; `session_user_name` is not"),
    Possible(Actor.APP, "hide its role during a statement", "update shop.orders set status = 'y' where set_config('role', 'none', true) is not null", "`role_name` is the role at the moment of capture; a session cannot change `session_user_name`"),
]  # fmt: skip

ALL += POSSIBLE


def outcome_of(attack: Attack) -> str:
    """The outcome of an attack, in words."""
    match attack:
        case Refused(state="42501"):
            return "refused: no privilege"
        case Refused(state="55000"):
            return "refused: append-only"
        case Refused(state="22023"):
            return "refused: the function checks its arguments"
        case Refused(state=state):
            return f"refused: SQLSTATE {state}"
        case Found(kind=kind):
            return f"found by `audit check`: `{kind}`"
        case Possible(why=why):
            return f"possible: {why}"
    return "without effect"


def as_table() -> str:
    """The attacks as a table in Markdown: attack, actors, outcome."""
    actors: dict[tuple[str, str], list[str]] = {}
    for attack in ALL:
        actors.setdefault((attack.aim, outcome_of(attack)), []).append(attack.actor.value)
    rows = [f"| {aim} | {', '.join(by)} | {outcome} |" for (aim, outcome), by in actors.items()]
    return "\n".join(["| attack | by | outcome |", "|---|---|---|", *rows]) + "\n"
