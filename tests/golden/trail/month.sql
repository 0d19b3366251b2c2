begin;
set local lock_timeout = '3s';

-- The schema audit, unless somebody else has one of that name.
do $refuse$
declare
    trail oid;
    is_superuser constant boolean := (select rolsuper from pg_catalog.pg_roles where rolname = current_user);
    trusted oid[];
    object text;
begin
    -- Marks our own statements for the guard: see guard_ddl.
    perform pg_catalog.set_config('audit.guard', 'open', true);
    perform pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended('audit-toolkit install audit', 0)
    );

    select c.oid into trail
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = 'audit' and c.relname = 'logged_actions';

    -- Not for superusers, who are members of every role.
    trusted := array(
        select oid from pg_catalog.pg_roles
        where rolname = current_user
          or case when is_superuser then rolsuper else pg_catalog.pg_has_role(oid, 'usage') end
    );
    if exists (
        select from pg_catalog.pg_namespace
        where nspname = 'audit' and nspowner <> all (trusted)
    ) then
        raise exception using
            errcode = 'insufficient_privilege',
            message = 'audit: the schema audit belongs to another role',
            hint = 'connect as its owner, name its owner (--owner), or choose another schema: audit'
                ' install --audit-schema NAME';
    end if;

    if trail is not null and not exists (
        select from pg_catalog.pg_class
        where oid = trail
          and relkind = 'p'
          and relowner = any (trusted)
          and pg_catalog.obj_description(oid, 'pg_class') like '%"tool": "audit-toolkit"%'
    ) then
        raise exception using
            errcode = 'duplicate_table',
            message = 'audit: audit.logged_actions exists but was not created by audit-toolkit',
            hint = 'rename that table, or choose another schema: audit install --audit-schema NAME';
    end if;

    select shown into object
    from (
        select c.oid::regclass::text, c.relowner, pg_catalog.obj_description(c.oid, 'pg_class'),
            c.relkind = 'S'
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'audit'
          and c.relkind not in ('i', 'I', 't')
          and (
              c.relname like 'logged\_actions%'
              or c.relname in (
                  'mask_key', 'maintenance', 'partition_lifecycle', 'captured_tables',
                  'capture_progress', 'truncated_rows', 'home', 'consumers',
                  'dead_letters', 'seal_tiles', 'seal_checkpoints', 'seal_keys', 'seal_partitions', 'seal_seeds', 'redacted_slots', 'redaction_notes', 'redactions'
              )
          )
        union all
        select p.oid::regprocedure::text, p.proowner, pg_catalog.obj_description(p.oid, 'pg_proc'), false
        from pg_catalog.pg_proc as p
        join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'audit'
          and (
              p.proname like 'capture\_%'
              or p.proname like 'replay\_%'
              or p.proname in ('revoke_all', 'refuse_change', 'refuse_others', 'guard_relation', 'leaves', 'make_leaf', 'merkle_root', 'leaf_digest', 'ensure_past', 'ensure_partitions', 'mask', 'pick', 'stand_in', 'plain_type', 'columns_now', 'has_columns', 'known_part', 'columns_carried', 'names_now', 'disguised', 'image_sql', 'image_by', 'image_of', 'image_expression', 'hand_over', 'columns_of', 'changed_columns', 'partitions_of', 'triggers_of', 'code_of', 'table_with_capture', 'require_owner', 'let_owner_partition', 'columns_restored', 'partitions_restored', 'name_told', 'note_changes_by', 'note_changes', 'present_home', 'is_elsewhere', 'note_coverage', 'note_ddl', 'guard_ddl', 'captured_as', 'captured_relation', 'columns_are_noted', 'columns_in_doubt', 'noted_as', 'noted_by', 'is_noted', 'note_here', 'note_again', 'is_second_trigger', 'is_as_installed', 'await_wal', 'read_from_wal', 'record_by_triggers', 'has_other_key', 'has_withheld', 'has_truncated_leaf', 'note_former', 'note_beginning', 'begin_capture', 'columns_meant', 'note_capture', 'note_put_back', 'end_capture', 'record_gap', 'write_event', 'record_event', 'doubtful_events', 'note_dropped', 'maintain_limits', 'maintain_lock', 'maintain_interval', 'maintain_create', 'maintain_cap', 'maintain_past', 'maintain_validate', 'maintain_relabel', 'maintain_detach', 'maintain_finish', 'maintain_drop', 'maintain_hold', 'maintain_note', 'maintain_timeline', 'maintain_has_rows', 'archive_begin', 'archive_end', 'archive_note', 'archive_note_export', 'redacted', 'destroy_salt', 'refuse_redacted', 'holds_changes_only', 'row_before', 'present_period', 'deltas_after', 'altered_by', 'redactable', 'erase_events', 'announce_redaction', 'redact', 'seal_leaves', 'seal_relations', 'seal_salts', 'seal_begin', 'seal_reach', 'seal_block', 'seal_add', 'seal_note', 'former_columns', 'as_called_now', 'names_known', 'moved_to', 'name_now', 'names_of', 'require_life', 'audited_table', 'row_key_of', 'equal_keys', 'has_row', 'row_stayed', 'row_known_since', 'require_reach', 'require_known', 'require_whole', 'warn_of_triggers', 'warn_of_absence', 'warn_of_partitions', 'warn_of_gap', 'row_image_at', 'row_images_at', 'row_at', 'table_at', 'history')
          )
    ) as present (shown, owner, comment, has_no_comment)
    where owner <> all (trusted)
      or not (has_no_comment or coalesce(comment, '') like '%"tool": "audit-toolkit"%')
    order by shown
    limit 1;
    if found then
        raise exception using
            errcode = 'duplicate_object',
            message = 'audit: ' || object || ' exists but was not created by audit-toolkit',
            hint = 'find out who made it and drop it, or choose another schema: audit'
                ' install --audit-schema NAME';
    end if;
end
$refuse$;

do $refuse$
declare
    pending text;
begin
    select inhrelid::regclass::text into pending
    from pg_catalog.pg_inherits
    where inhparent = to_regclass('audit.logged_actions') and inhdetachpending;

    if found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'audit: a partition of audit.logged_actions has a pending DETACH CONCURRENTLY: '
                || pending,
            hint = 'finish it first: alter table audit.logged_actions detach partition '
                || pending || ' finalize';
    end if;
end
$refuse$;

-- Existing grants stay; a new trail has none.
select set_config('audit.granted_before', coalesce(string_agg(format(
    'grant %s%s on %s to %s%s', acl.privilege_type, of_column, object,
    case when acl.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end,
    case when acl.is_grantable then ' with grant option' else '' end), ';'), ''), true)
from (
    select
        case relkind when 'S' then 'sequence ' else '' end || oid::regclass as object, '' as of_column,
        relacl as granted, relowner as owner
    from pg_class
    where relnamespace = to_regnamespace('audit') and relkind in ('r', 'p', 'S')
    union all
    select c.oid::regclass::text, format(' (%I)', a.attname), a.attacl, c.relowner
    from pg_attribute as a
    join pg_class as c on c.oid = a.attrelid
    where c.relnamespace = to_regnamespace('audit') and c.relkind in ('r', 'p')
    union all
    select 'function ' || oid::regprocedure, '', proacl, proowner
    from pg_proc
    where pronamespace = to_regnamespace('audit')
      and proname in ('revoke_all', 'refuse_change', 'refuse_others', 'guard_relation', 'leaves', 'make_leaf', 'merkle_root', 'leaf_digest', 'ensure_past', 'ensure_partitions', 'mask', 'pick', 'stand_in', 'plain_type', 'columns_now', 'has_columns', 'known_part', 'columns_carried', 'names_now', 'disguised', 'image_sql', 'image_by', 'image_of', 'image_expression', 'hand_over', 'columns_of', 'changed_columns', 'partitions_of', 'triggers_of', 'code_of', 'table_with_capture', 'require_owner', 'let_owner_partition', 'columns_restored', 'partitions_restored', 'name_told', 'note_changes_by', 'note_changes', 'present_home', 'is_elsewhere', 'note_coverage', 'note_ddl', 'guard_ddl', 'captured_as', 'captured_relation', 'columns_are_noted', 'columns_in_doubt', 'noted_as', 'noted_by', 'is_noted', 'note_here', 'note_again', 'is_second_trigger', 'is_as_installed', 'await_wal', 'read_from_wal', 'record_by_triggers', 'has_other_key', 'has_withheld', 'has_truncated_leaf', 'note_former', 'note_beginning', 'begin_capture', 'columns_meant', 'note_capture', 'note_put_back', 'end_capture', 'record_gap', 'write_event', 'record_event', 'doubtful_events', 'note_dropped', 'maintain_limits', 'maintain_lock', 'maintain_interval', 'maintain_create', 'maintain_cap', 'maintain_past', 'maintain_validate', 'maintain_relabel', 'maintain_detach', 'maintain_finish', 'maintain_drop', 'maintain_hold', 'maintain_note', 'maintain_timeline', 'maintain_has_rows', 'archive_begin', 'archive_end', 'archive_note', 'archive_note_export', 'redacted', 'destroy_salt', 'refuse_redacted', 'holds_changes_only', 'row_before', 'present_period', 'deltas_after', 'altered_by', 'redactable', 'erase_events', 'announce_redaction', 'redact', 'seal_leaves', 'seal_relations', 'seal_salts', 'seal_begin', 'seal_reach', 'seal_block', 'seal_add', 'seal_note', 'former_columns', 'as_called_now', 'names_known', 'moved_to', 'name_now', 'names_of', 'require_life', 'audited_table', 'row_key_of', 'equal_keys', 'has_row', 'row_stayed', 'row_known_since', 'require_reach', 'require_known', 'require_whole', 'warn_of_triggers', 'warn_of_absence', 'warn_of_partitions', 'warn_of_gap', 'row_image_at', 'row_images_at', 'row_at', 'table_at', 'history')
    union all
    select 'schema ' || quote_ident(nspname), '', nspacl, nspowner
    from pg_namespace
    where nspname = 'audit'
) as present
cross join lateral aclexplode(granted) as acl
where acl.grantee <> owner;

create schema if not exists audit;

revoke all on schema audit from public;


-- The trail, audit.logged_actions: one row per event, partitioned by time.
-- CACHE 1: ids rise with capture, over all sessions.
create sequence if not exists audit.logged_actions_event_id_seq
    as bigint
    cache 1;

create table if not exists audit.logged_actions (
    event_id bigint not null default nextval(
        'audit.logged_actions_event_id_seq'::regclass
    ),
    action_tstamp timestamptz not null default clock_timestamp(),
    transaction_id xid8 not null default pg_current_xact_id(),
    schema_name text collate "C" not null,
    table_name text collate "C" not null,
    action text not null,
    row_key text collate "C",
    old_row_key text collate "C",
    old_row jsonb,
    new_row jsonb,
    context jsonb default case
        when octet_length(current_setting('audit.context', true)) > 65536
            then jsonb_build_object(
                'audit:oversize',
                jsonb_build_object('bytes', octet_length(current_setting('audit.context', true)))
            )
        else nullif(current_setting('audit.context', true), '')::jsonb
    end,
    session_user_name text default session_user,
    role_name text default nullif(current_setting('role'), 'none'),
    application_name text default nullif(current_setting('application_name'), ''),
    client_addr inet default inet_client_addr(),
    query text,
    transaction_tstamp timestamptz default transaction_timestamp(),
    primary key (event_id, action_tstamp)
)
partition by range (action_tstamp);

alter sequence audit.logged_actions_event_id_seq
    owned by audit.logged_actions.event_id;

-- all entries differ
-- The history of one row.
create index if not exists logged_actions_row_idx
    on audit.logged_actions (
        schema_name, table_name, row_key, event_id
    )
    with (deduplicate_items = off);

-- Finds rows whose key was changed. Nearly empty, so nearly free to maintain.
create index if not exists logged_actions_old_key_idx
    on audit.logged_actions (
        schema_name, table_name, old_row_key, event_id
    )
    where old_row_key is not null;

-- Everything that one transaction changed.
create index if not exists logged_actions_transaction_idx
    on audit.logged_actions (transaction_id);

-- Time ranges within a partition.
create index if not exists logged_actions_time_idx
    on audit.logged_actions using brin (action_tstamp);

comment on table audit.logged_actions is '{"tool": "audit-toolkit", "version": "0.3.0", "interval": "month", "hash": "48d2d5b574468d194d30b9bc3da4a243f307ccb0455b354afd23ab702c092ccd"}';

comment on column audit.logged_actions.event_id is 'rises with capture; gaps are normal';

comment on column audit.logged_actions.action_tstamp is 'when the change was captured; the partition key';

comment on column audit.logged_actions.transaction_id is 'the transaction that made the change';

comment on column audit.logged_actions.schema_name is 'schema of the audited table';

comment on column audit.logged_actions.table_name is 'the audited table; for a partitioned table its root';

comment on column audit.logged_actions.action is 'I insert, U update, D delete, T truncate, S snapshot of a row older than the trail, G gap in capture';

comment on column audit.logged_actions.row_key is 'primary key: one column as its text, several as a JSON array, NULL without a key';

comment on column audit.logged_actions.old_row_key is 'the key before an update that changed it';

comment on column audit.logged_actions.old_row is 'the row before the change';

comment on column audit.logged_actions.new_row is 'the row after the change';

comment on column audit.logged_actions.context is 'what the application said of this transaction (setting audit.context): a claim, not a proof';

comment on column audit.logged_actions.session_user_name is 'the login role';

comment on column audit.logged_actions.role_name is 'the role taken on with SET ROLE, NULL if none';

comment on column audit.logged_actions.application_name is 'application_name of the connection';

comment on column audit.logged_actions.client_addr is 'address of the client as the server sees it, NULL for a socket';

comment on column audit.logged_actions.query is 'the statement, only for tables installed with --capture-query';

comment on column audit.logged_actions.transaction_tstamp is 'when the transaction began: with transaction_id, tells it from those of another cluster';


-- Its functions, none of which PUBLIC may execute.
create or replace function audit.revoke_all(relation regclass)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
as $body$
declare
    grantee text;
begin
    for grantee in
        select distinct case
            when acl.grantee = 0 then 'public'
            else quote_ident(pg_get_userbyid(acl.grantee))
        end
        from pg_class
        cross join lateral aclexplode(relacl) as acl
        where oid = relation and acl.grantee <> relowner
    loop
        execute format('revoke all on %s from %s', relation, grantee);
    end loop;
end
$body$;

revoke all on function audit.revoke_all(regclass) from public;

create table if not exists audit.captured_tables (
    function_name text collate "C" primary key,
    relation_id oid not null unique,
    -- The name that its events have now.
    schema_name text collate "C" not null,
    table_name text collate "C" not null,
    -- By attribute number: {"1": {"name": "id", "type": "bigint"}}.
    columns jsonb not null,
    -- Their names when capture was installed, by attribute number: {"4": "secret"}.
    installed_columns jsonb not null,
    -- The same for functions that were replaced, by their digests: see note_put_back.
    meant_columns jsonb not null default '{}',
    -- By OID: {"16400": "public.visits_2026"}.
    partitions jsonb not null,
    -- The version (xmin) of each trigger, by name; it changes if a trigger is disabled and enabled again.
    triggers jsonb not null,
    -- What its functions were when they were installed: see code_of. NULL: not noted.
    code text,
    -- When triggers and functions were last seen to be those that are noted here.
    sound_at timestamptz,
    captured_since timestamptz not null,
    -- After this event, at this time, the trail had an event of every row: the
    -- table was empty, or a baseline had ended. Not after a gap in capture; -infinity:
    -- a baseline has begun since, and not ended.
    whole_after bigint,
    whole_since timestamptz,
    -- Events up to this one may show rows with other columns or by another rule: see deltas_after().
    deltas_after bigint,
    -- How the table is captured, as last recorded in the trail: see note_coverage.
    coverage jsonb,
    -- Captured from the WAL: what commits behind this position; before it,
    -- triggers recorded it. NULL: by triggers.
    wal_since pg_lsn,
    -- Why triggers record it again; the worker leaves it to them until audit capture resume.
    fallback text,
    -- The transaction that is installing or changing capture; the guard permits its DDL.
    installing xid8
);

select audit.revoke_all('audit.captured_tables'::regclass);

comment on table audit.captured_tables is '{"tool": "audit-toolkit", "version": "0.3.0"}';

create table if not exists audit.capture_progress (
    slot_name text collate "C" primary key,
    -- The last transaction that the trail has; it is written with its events, and never again.
    commit_lsn pg_lsn not null,
    -- All that committed before it is in the trail.
    read_until pg_lsn not null,
    system_identifier text collate "C",
    timeline integer,
    -- The version (xmin) of the publication; it changes if somebody alters what is published.
    publication text collate "C",
    -- The one worker holds the advisory lock with this key, which nobody can predict.
    lock_key bigint not null default ('x' || left(md5(gen_random_uuid()::text), 16))::bit(64)::bigint,
    events bigint not null default 0,
    ran_at timestamptz,
    -- All that had committed by then was in the trail.
    caught_up_at timestamptz,
    last_error text,
    last_error_at timestamptz,
    created_at timestamptz not null default clock_timestamp()
);

select audit.revoke_all('audit.capture_progress'::regclass);

comment on table audit.capture_progress is '{"tool": "audit-toolkit", "version": "0.3.0"}';

create table if not exists audit.truncated_rows (
    row_id uuid primary key default gen_random_uuid(),
    function_name text collate "C" not null,
    relation_id oid not null,
    -- B: rows of this table or partition follow; D: a row that was there; T: the whole table was emptied.
    action text collate "C" not null,
    -- The name that the table has now.
    schema_name text collate "C",
    table_name text collate "C",
    row_key text,
    old_row jsonb
);

select audit.revoke_all('audit.truncated_rows'::regclass);

comment on table audit.truncated_rows is '{"tool": "audit-toolkit", "version": "0.3.0"}';

-- The tree, in tiles of 256 hashes (C2SP tlog-tiles); an entry of level 1
-- is the root of a full tile of level 0.
create table if not exists audit.seal_tiles (
    level smallint not null check (level between 0 and 7),
    tile bigint not null check (tile >= 0),
    hashes bytea not null check (
        octet_length(hashes) >= 32 and octet_length(hashes) <= 8192 and octet_length(hashes) % 32 = 0
    ),
    -- Only for level 0: the event ids of its entries, in ascending order.
    ids int8multirange,
    primary key (level, tile),
    check ((ids is null) = (level > 0))
);

-- Hashes cannot be compressed.
alter table audit.seal_tiles
    alter column hashes set storage external;

-- Finds the tile of an event.
create index if not exists seal_tiles_first_idx
    on audit.seal_tiles (lower(ids))
    where level = 0;

-- Signed checkpoints. Every event up to up_to_id that existed then is among the first tree_size.
create table if not exists audit.seal_checkpoints (
    tree_size bigint primary key check (tree_size > 0),
    up_to_id bigint not null,
    root bytea not null check (octet_length(root) = 32),
    note text collate "C" not null,
    sealed_at timestamptz not null default clock_timestamp()
);

-- Public keys in the format of C2SP signed notes. The previous key signs the introduction of a new one.
create table if not exists audit.seal_keys (
    vkey text collate "C" primary key,
    introduction text collate "C",
    first_used_at timestamptz not null default clock_timestamp()
);

-- The sealed events of each partition, for when it is detached, archived or dropped.
create table if not exists audit.seal_partitions (
    -- A regclass survives pg_dump; an OID would not.
    leaf regclass not null,
    leaf_name text collate "C" not null,
    first_id bigint not null,
    last_id bigint not null,
    events bigint not null check (events > 0),
    primary key (leaf, leaf_name)
);

-- Nodes of the salt trees; all salts that were not destroyed can be computed from them. Node 1 of a block
-- covers 4096 ids, node 4096 + n covers one event, and node (4096 + n) *
-- 8 + s is the salt of one of its slots.
create table if not exists audit.seal_seeds (
    block bigint not null,
    node integer not null check (node between 1 and 65535),
    seed bytea not null check (octet_length(seed) = case when node < 8192 then 32 else 16 end),
    primary key (block, node)
);

-- Slots whose salt was destroyed: the commitment in the tree and, with a salt
-- of its own, one to the remaining values.
create table if not exists audit.redacted_slots (
    event_id bigint not null,
    slot smallint not null check (slot between 0 and 5),
    -- The R event that records the redaction.
    redaction_id bigint not null,
    commitment bytea not null check (octet_length(commitment) = 32),
    -- NULL if no value remains, or the slot was redacted again.
    salt bytea check (octet_length(salt) = 16),
    remaining bytea check (octet_length(remaining) = 32),
    primary key (event_id, slot, redaction_id)
);

-- Signed notes on what a redaction left of sealed events, by the holder of a
-- seal key. A redaction without one was not signed.
create table if not exists audit.redaction_notes (
    redaction_id bigint primary key,
    note text collate "C" not null
);

-- Permits redact to update events in its own transaction; empty otherwise.
create table if not exists audit.redactions (
    redaction_id bigint primary key,
    transaction_id xid8 not null
);

select audit.revoke_all('audit.seal_tiles'::regclass);

comment on table audit.seal_tiles is '{"tool": "audit-toolkit", "version": "0.3.0"}';

select audit.revoke_all('audit.seal_checkpoints'::regclass);

comment on table audit.seal_checkpoints is '{"tool": "audit-toolkit", "version": "0.3.0"}';

select audit.revoke_all('audit.seal_keys'::regclass);

comment on table audit.seal_keys is '{"tool": "audit-toolkit", "version": "0.3.0"}';

select audit.revoke_all('audit.seal_partitions'::regclass);

comment on table audit.seal_partitions is '{"tool": "audit-toolkit", "version": "0.3.0"}';

select audit.revoke_all('audit.seal_seeds'::regclass);

comment on table audit.seal_seeds is '{"tool": "audit-toolkit", "version": "0.3.0"}';

select audit.revoke_all('audit.redacted_slots'::regclass);

comment on table audit.redacted_slots is '{"tool": "audit-toolkit", "version": "0.3.0"}';

select audit.revoke_all('audit.redaction_notes'::regclass);

comment on table audit.redaction_notes is '{"tool": "audit-toolkit", "version": "0.3.0"}';

select audit.revoke_all('audit.redactions'::regclass);

comment on table audit.redactions is '{"tool": "audit-toolkit", "version": "0.3.0"}';

create or replace function audit.refuse_change()
    returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
begin
    -- redact runs as the owner of the trail; no other role can have announced a redaction.
    if tg_op = 'UPDATE' and current_user = (
        select pg_get_userbyid(c.relowner)
        from pg_class as c
        where c.oid = 'audit.redactions'::regclass
    ) then
        if exists (
            select from audit.redactions as r
            where r.transaction_id = pg_current_xact_id_if_assigned()
        ) then
            return null;
        end if;
    end if;
    raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = 'audit: ' || tg_table_schema || '.' || tg_table_name || ' is append-only, ' || tg_op
            || ' is refused',
        hint = 'events are immutable; they expire by dropping partitions';
end
$body$;

revoke all on function audit.refuse_change() from public;

create or replace function audit.refuse_others()
    returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
begin
    if not pg_has_role(current_user, (select relowner from pg_class where oid = tg_relid), 'usage') then
        raise exception using
            errcode = 'insufficient_privilege',
            message = 'audit: only the owner of the trail may change ' || tg_table_schema || '.'
                || tg_table_name;
    end if;
    return null;
end
$body$;

revoke all on function audit.refuse_others() from public;

create or replace function audit.guard_relation(relation regclass)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
as $body$
declare
    owner constant oid := (
        select relowner
        from pg_class
        where oid = 'audit.logged_actions'::regclass
    );
begin
    -- FOR EACH STATEMENT: such triggers are not cloned to partitions, so each gets its own.
    execute format(
        'create or replace trigger "00_audit_append_only"'
        ' before update or delete or truncate on %s'
        ' for each statement execute function %I.refuse_change()', relation, 'audit');
    execute format('alter table %s enable always trigger "00_audit_append_only"', relation);
    if owner <> (select relowner from pg_class where oid = relation) then
        execute format('alter table %s owner to %I', relation, pg_get_userbyid(owner));
    end if;
    perform audit.revoke_all(relation);
end
$body$;

revoke all on function audit.guard_relation(regclass) from public;

create or replace function audit.leaves()
    returns table (
        leaf regclass,
        lower_bound timestamptz,
        upper_bound timestamptz,
        is_tail boolean,
        is_default boolean,
        detach_pending boolean
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
as $body$
    -- NULL if there is no bound: MINVALUE, MAXVALUE, DEFAULT. Given the
    -- OID, pg_get_expr would lock the table.
    select
        c.oid::regclass,
        (regexp_match(bound, 'FROM \(''([^'']+)''\)'))[1]::timestamptz,
        (regexp_match(bound, 'TO \(''([^'']+)''\)'))[1]::timestamptz,
        bound like '%TO (MAXVALUE)',
        bound = 'DEFAULT',
        i.inhdetachpending
    from pg_inherits as i
    join pg_class as c on c.oid = i.inhrelid
    cross join lateral pg_get_expr(c.relpartbound, 0) as bound
    where i.inhparent = 'audit.logged_actions'::regclass
    order by 2 nulls first
$body$;

revoke all on function audit.leaves() from public;

create or replace function audit.make_leaf(name text)
    returns regclass
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
as $body$
declare
    trail pg_class := (
        select c from pg_class as c where oid = 'audit.logged_actions'::regclass
    );
    leaf regclass;
    extra text;
begin
    -- EXCLUDING IDENTITY: PostgreSQL 17 and newer refuse to attach a table with its own identity column.
    execute format(
        'create table %I.%I (like %s including all excluding identity)', 'audit', name,
        trail.oid::regclass
    );
    leaf := format('%I.%I', 'audit', name)::regclass;
    execute format('comment on table %s is %L', leaf, '{"tool": "audit-toolkit"}');
    if trail.reltablespace <> 0 then
        execute format(
            'alter table %s set tablespace %I', leaf,
            (select spcname from pg_tablespace where oid = trail.reltablespace));
    end if;

    -- Images over 2 kB are compressed, with lz4 if the server supports it and nobody
    -- chose otherwise: it takes a fraction of the time.
    if exists (
        select from pg_settings as s where s.name = 'default_toast_compression' and 'lz4' = any(s.enumvals)
    ) then
        for extra in
            select format('alter table %s alter %I set compression lz4', leaf, attname)
            from pg_attribute
            where attrelid = leaf and attname in ('old_row', 'new_row') and attcompression = ''
        loop
            execute extra;
        end loop;
    end if;

    select string_agg(
        format('%I = %L', split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)), ', '
    )
    into extra
    from unnest((
        select c.reloptions
        from audit.leaves() as l
        join pg_class as c on c.oid = l.leaf
        where c.relkind = 'r' and not l.is_tail
        order by l.lower_bound desc nulls last
        limit 1
    )) as setting;
    if extra is not null then
        execute format('alter table %s set (%s)', leaf, extra);
    end if;

    perform audit.guard_relation(leaf);
    -- Policies apply to access through the trail; without its own policies, the partition shows no rows.
    if trail.relrowsecurity then
        execute format('alter table %s enable row level security', leaf);
    end if;
    if trail.relowner <> (select relowner from pg_class where oid = leaf) then
        execute format('alter table %s owner to %I', leaf, pg_get_userbyid(trail.relowner));
    end if;
    return leaf;
end
$body$;

revoke all on function audit.make_leaf(text) from public;

create or replace function audit.merkle_root(hashes bytea)
    returns bytea
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
as $body$
declare
    pairs integer;
begin
    if octet_length(hashes) = 0 then
        return sha256(hashes);
    end if;
    while octet_length(hashes) > 32 loop
        pairs := octet_length(hashes) / 64;
        hashes := (
            select string_agg(
                sha256('\x01'::bytea || substring(hashes from 64 * pair + 1 for 64)), ''::bytea order by pair
            )
            from generate_series(0, pairs - 1) as pair
        ) || substring(hashes from 64 * pairs + 1);
    end loop;
    return hashes;
end
$body$;

revoke all on function audit.merkle_root(bytea) from public;

create or replace function audit.leaf_digest(leaf regclass)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
    set bytea_output = hex
as $body$
declare
    digest text;
begin
    -- By subtrees of 65536 leaves, as a value holds 1 GB at most: their roots are nodes of the whole.
    execute format($query$
        -- Only hashes are sorted, and not the events.
        with hashes as (
            select event_id, action_tstamp, sha256(
        '\x0001'::bytea
        || int8send(event_id)
        || int8send((extract(epoch from action_tstamp) * 1000000)::bigint)
        || int8send(transaction_id::text::bigint)
        || coalesce(
            int8send((extract(epoch from transaction_tstamp) * 1000000)::bigint), '\x8000000000000000'::bytea
        )
        || coalesce(int4send(octet_length(schema_name)) || schema_name, '\xffffffff'::bytea)
        || coalesce(int4send(octet_length(table_name)) || table_name, '\xffffffff'::bytea)
        || coalesce(int4send(octet_length(action)) || action, '\xffffffff'::bytea)
        || coalesce(int4send(octet_length(row_key)) || row_key, '\xffffffff'::bytea)
        || coalesce(int4send(octet_length(old_row_key)) || old_row_key, '\xffffffff'::bytea)
        || coalesce(int4send(octet_length(old_row)) || old_row, '\xffffffff'::bytea)
        || coalesce(int4send(octet_length(new_row)) || new_row, '\xffffffff'::bytea)
        || coalesce(int4send(octet_length(context)) || context, '\xffffffff'::bytea)
        || coalesce(int4send(octet_length(session_user_name)) || session_user_name, '\xffffffff'::bytea)
        || coalesce(int4send(octet_length(role_name)) || role_name, '\xffffffff'::bytea)
        || coalesce(int4send(octet_length(application_name)) || application_name, '\xffffffff'::bytea)
        || coalesce(int4send(octet_length(client_addr)) || client_addr, '\xffffffff'::bytea)
        || coalesce(int4send(octet_length(query)) || query, '\xffffffff'::bytea)
    ) as hash
            from (
                select event_id, action_tstamp, transaction_id, transaction_tstamp,
                    convert_to(schema_name::text, 'UTF8') as schema_name,
                    convert_to(table_name::text, 'UTF8') as table_name,
                    convert_to(action::text, 'UTF8') as action,
                    convert_to(row_key::text, 'UTF8') as row_key,
                    convert_to(old_row_key::text, 'UTF8') as old_row_key,
                    convert_to(old_row::text, 'UTF8') as old_row,
                    convert_to(new_row::text, 'UTF8') as new_row,
                    convert_to(context::text, 'UTF8') as context,
                    convert_to(session_user_name::text, 'UTF8') as session_user_name,
                    convert_to(role_name::text, 'UTF8') as role_name,
                    convert_to(application_name::text, 'UTF8') as application_name,
                    convert_to(query::text, 'UTF8') as query,
                    convert_to(nullif(concat(client_addr), ''), 'UTF8') as client_addr
                from %s offset 0
            ) as event
            offset 0
        ), leaves as (
            select *, (row_number() over (order by event_id, action_tstamp) - 1) / 65536 as subtree
            from hashes
        ), subtrees as (
            select
                subtree, count(*) as events,
                audit.merkle_root(
                    string_agg(hash, ''::bytea order by event_id, action_tstamp)
                ) as root
            from leaves
            group by subtree
        )
        select format(
            '%%s/sha256:%%s', coalesce(sum(events), 0),
            encode(
                audit.merkle_root(coalesce(string_agg(root, ''::bytea order by subtree), '')),
                'hex'
            ))
        from subtrees
    $query$, leaf) into digest;
    return digest;
end
$body$;

revoke all on function audit.leaf_digest(regclass) from public;

create or replace function audit.ensure_past()
    returns boolean
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
as $body$
declare
    trail constant regclass := 'audit.logged_actions';
    past regclass;
    reached timestamptz;
    first_bound timestamptz;
    name text := 'logged_actions_past';
begin
    -- A DEFAULT partition takes the past, too.
    select min(lower_bound)
    into first_bound
    from audit.leaves()
    having not bool_or(is_default);
    select leaf, upper_bound
    into past, reached
    from audit.leaves()
    where lower_bound is null and not is_default;
    if first_bound is null or past is not null and (
        reached >= first_bound or reached is null
        or not exists (
            select from pg_class where oid = past and relkind = 'r' and relname like 'logged\_actions\_past%'
        )
    ) then
        return false;
    end if;

    if past is null then
        while to_regclass(format('%I.%I', 'audit', name)) is not null loop
            name := name || '_';
        end loop;
        past := audit.make_leaf(name);
    else
        execute format('lock table only %s in access exclusive mode', trail);
        -- Other sessions now wait for this transaction, so it must not wait for a lock.
        execute format('lock table %s in access exclusive mode nowait', past);
        execute format('alter table %s detach partition %s', trail, past);
    end if;
    execute format(
        'alter table only %s attach partition %s for values from (minvalue) to (%L)', trail, past, first_bound
    );
    return true;
end
$body$;

revoke all on function audit.ensure_past() from public;

create or replace function audit.ensure_partitions(ahead integer default null)
    returns integer
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
    set lock_timeout = '2s'
as $body$
declare
    trail constant regclass := 'audit.logged_actions';
    unit constant text := coalesce(obj_description(trail, 'pg_class')::json ->> 'interval', 'month');
    step constant interval := '1 ' || unit;
    usual constant integer := case unit
        when 'day' then 45
        when 'week' then 12
        when 'month' then 6
    end;
    leaf_of_now constant timestamptz := date_trunc(unit, clock_timestamp());
    horizon constant timestamptz := leaf_of_now + step * (coalesce(ahead, usual) + 1);
    tail regclass := (select leaf from audit.leaves() where is_tail);
    tail_has_rows boolean;
    bound timestamptz;
    bounds timestamptz[] := '{}';
    leaf text;
    leaves text[] := '{}';
begin
    if ahead < 1 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'audit: at least one partition must be kept ahead, not ' || ahead;
    end if;

    -- Partitions follow each other without a gap. The first starts one
    -- step early, in case a clock is set back.
    bound := coalesce(
        (select lower_bound from audit.leaves() where is_tail),
        (select max(upper_bound) from audit.leaves()),
        leaf_of_now - step);
    if bound >= horizon or ahead is null and bound > leaf_of_now + step * (usual / 2) then
        perform audit.ensure_past();
        return 0;
    end if;

    if tail is null
        and to_regclass('audit.logged_actions_tail') is not null
    then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'audit: the catch-all partition is detached: partition maintenance is in'
                ' progress, or was interrupted',
            hint = 'audit partitions run attaches it again';
    end if;

    -- Created while nobody waits: they need no lock on the trail until they are attached.
    while bound < horizon and cardinality(leaves) < 60 loop
        leaf := 'logged_actions_' || to_char(bound, case unit
            when 'day' then 'YYYY_MM_DD'
            when 'week' then 'IYYY"w"IW'
            when 'month' then 'YYYY_MM'
        end);
        if to_regclass(format('%I.%I', 'audit', leaf)) is not null then
            leaf := 'logged_actions_from_' || to_char(bound, 'YYYY_MM_DD');
        end if;
        leaves := leaves || audit.make_leaf(leaf)::text;
        bounds := bounds || bound;
        -- After a change of the interval, the first partition reaches only to the next boundary.
        bound := date_trunc(unit, bound) + step;
    end loop;
    bounds := bounds || bound;

    if tail is null then
        tail := audit.make_leaf('logged_actions_tail');
    else
        execute format('alter table %s detach partition %s', trail, tail);
        execute format('select exists (select from %s)', tail) into tail_has_rows;
        if tail_has_rows then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format(
                    'audit: the catch-all partition %s has events: no other partition was created in time',
                    tail
                ),
                hint = 'nothing is lost and nothing was changed; audit partitions run turns'
                    ' it into an ordinary partition';
        end if;
    end if;

    for number in 1 .. cardinality(leaves) loop
        execute format(
            'alter table %s attach partition %s for values from (%L) to (%L)',
            trail, leaves[number], bounds[number], bounds[number + 1]);
    end loop;
    execute format(
        'alter table %s attach partition %s for values from (%L) to (maxvalue)', trail, tail, bound
    );
    perform audit.ensure_past();
    return cardinality(leaves);
end
$body$;

revoke all on function audit.ensure_partitions(integer) from public;

create or replace function audit.mask(image jsonb, column_name text, method text)
    returns jsonb
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    value constant text := image ->> column_name;
    stand_in text;
begin
    if value is null then
        return image;
    end if;

    case method
        when 'redact' then
            stand_in := '[redacted]';
        when 'length' then
            stand_in := '[' || length(value) || ' characters]';
        when 'sha256-plain' then
            stand_in := 'sha256:' || encode(sha256(convert_to(value, 'UTF8')), 'hex');
        when 'sha256' then
            select 'hmac-sha256:'
                || encode(sha256(outer_pad || sha256(inner_pad || convert_to(value, 'UTF8'))), 'hex')
            into stand_in
            from audit.mask_key;
    end case;
    -- Without a mask key the value stays hidden, and the write succeeds.
    return image || jsonb_build_object(column_name, coalesce(stand_in, '[redacted]'));
end
$body$;

revoke all on function audit.mask(jsonb, text, text) from public;

create or replace function audit.pick(image jsonb, column_names text[])
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
    select coalesce(jsonb_object_agg(key, value), '{}')
    from jsonb_each(image)
    where key = any (column_names)
$body$;

revoke all on function audit.pick(jsonb, text[]) from public;

create or replace function audit.stand_in(value bytea)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
    select jsonb_build_object(
        'audit:oversize',
        jsonb_build_object('bytes', octet_length(value), 'sha256', encode(sha256(value), 'hex')))
$body$;

revoke all on function audit.stand_in(bytea) from public;

create or replace function audit.plain_type(type_id oid)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    found pg_type;
    inner_type oid := type_id;
    brackets text := '';
begin
    while inner_type >= 16384 loop  -- FirstNormalObjectId: below are the types that PostgreSQL comes with
        select * into found from pg_type where oid = inner_type;
        if found.typtype = 'd' then
            inner_type := found.typbasetype;
        elsif found.typsubscript = 'array_subscript_handler'::regproc and brackets = '' then
            inner_type := found.typelem;
            brackets := brackets || '[]';
        else
            return null;
        end if;
    end loop;
    select * into found from pg_type where oid = inner_type;
    if brackets <> '' and found.typsubscript = 'array_subscript_handler'::regproc then
        return null;  -- of a domain over an array: JSON would show it as an array of more dimensions
    end if;
    return format_type(inner_type, null) || brackets;
end
$body$;

revoke all on function audit.plain_type(oid) from public;

create or replace function audit.columns_now(
    relation regclass, out names text[], out types oid[]
)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
begin
    -- A row of NULLs, for the column names: a NULL becomes JSON whatever its type.
    execute format($query$
        select array(select json_object_keys(row_to_json(no_values)))
        from (
            select columns.* from (select) as one left join (select (null::%s).*) as columns on false
        ) as no_values
        $query$, relation)
    into names;
    execute (
        select format(
            'select array[%s]::oid[]',
            string_agg(format('pg_typeof((null::%s).%I)', relation, name), ', ' order by place)
        )
        from unnest(names) with ordinality as listed (name, place)
    )
    into types;
end
$body$;

revoke all on function audit.columns_now(regclass) from public;

create or replace function audit.has_columns(
    relation regclass, column_names text[], column_types text[], may_have_others boolean
)
    returns boolean
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    at_hand record;
begin
    select * into at_hand from audit.columns_now(relation);
    return column_names <@ at_hand.names and not exists (
        select
        from unnest(at_hand.names, at_hand.types) as present (name, type)
        left join unnest(column_names, column_types) as wanted (name, type) using (name)
        cross join audit.plain_type(present.type) as plain_type
        where case
            when wanted.name is null then not may_have_others or plain_type is null
            when wanted.type = 'any' then false
            when wanted.type = 'plain' then plain_type is null
            when wanted.type like 'exactly %'
                then 'exactly ' || format_type(present.type, null) <> wanted.type
            else coalesce(plain_type, 'foreign') <> wanted.type
        end
    );
end
$body$;

revoke all on function audit.has_columns(regclass, text[], text[], boolean) from public;

create or replace function audit.known_part(
    image jsonb, hidden text[], known text[], disguised text[]
)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
    select case when image ?& hidden then image else audit.pick(image, known) end - disguised
$body$;

revoke all on function audit.known_part(jsonb, text[], text[], text[]) from public;

create or replace function audit.columns_carried(installed jsonb, noted jsonb, present jsonb)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
    select coalesce(
        jsonb_object_agg(now.number, coalesce(installed ->> was.number, now.entry ->> 'name')), '{}')
    from jsonb_each(present) as now (number, entry)
    left join jsonb_each(noted) as was (number, entry) on was.entry ->> 'name' = now.entry ->> 'name'
    where installed ? was.number or not exists (
        select from jsonb_each_text(installed) as known (number, name)
        where known.name = now.entry ->> 'name' and noted ? known.number
          and exists (
            select from jsonb_each(present) as other (number, entry)
            where other.entry ->> 'name' = noted -> known.number ->> 'name'))
$body$;

revoke all on function audit.columns_carried(jsonb, jsonb, jsonb) from public;

create or replace function audit.names_now(
    relation regclass, function_name text, installed_names text[]
)
    returns text[]
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    installed jsonb;
    names text[];
    present jsonb := '{}';
    number integer := 0;
    name_now text;
begin
    select
        case
            when c.relation_id = relation then c.installed_columns
            else audit.columns_carried(
                c.installed_columns, c.columns, audit.columns_of(relation)
            )
        end into installed
    from audit.captured_tables as c
    where c.function_name = names_now.function_name;
    if not found then
        return installed_names;
    end if;
    if has_schema_privilege((select relnamespace from pg_class where oid = relation), 'usage') then
        select columns.names into names from audit.columns_now(relation) as columns;
    else
        names := array(
            select attname from pg_attribute
            where attrelid = relation and attnum > 0 and not attisdropped
            order by attnum);
    end if;
    -- The first so many names are those of the columns that are there, in the order of their numbers.
    foreach name_now in array names loop
        loop
            number := number + 1;
            exit when has_column_privilege(relation, number::smallint, 'select') is not null
                or number > 1600;  -- MaxHeapAttributeNumber
        end loop;
        present := present || jsonb_build_object(number, name_now);
    end loop;
    return array(
        select coalesce(
            (
                select present ->> known.number
                from jsonb_each_text(installed) as known (number, name)
                where known.name = wanted.name and present ? known.number
                order by known.number::integer desc
                limit 1
            ),
            case when exists (
                select from jsonb_each_text(present) as column_now (number, name)
                where column_now.name = wanted.name and not installed ? column_now.number
            ) then wanted.name else '' end)
        from unnest(installed_names) with ordinality as wanted (name, place)
        order by wanted.place
    );
end
$body$;

revoke all on function audit.names_now(regclass, text, text[]) from public;

create or replace function audit.disguised(
    relation regclass, function_name text, hidden text[]
)
    returns text[]
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
begin
    return array(
        select name_now
        from unnest(hidden, audit.names_now(relation, function_name, hidden))
            as renamed (name, name_now)
        where name_now not in (name, '')
    );
end
$body$;

revoke all on function audit.disguised(regclass, text, text[]) from public;

create or replace function audit.image_sql(
    names text[], types oid[], record text, mark boolean
)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
    select coalesce(
        case
            when bool_and(is_plain) then format('to_jsonb(%s)', record)
            else string_agg(format('jsonb_build_object(%s)', fields), ' || ' order by part)
        end, $text$'{}'::jsonb$text$)
    from (
        select
            (place - 1) / 50 as part,  -- a function takes 100 arguments
            bool_and(value = plain_value) as is_plain,
            string_agg(format('%L, %s', name, value), ', ' order by place) as fields
        from (
            select
                name,
                place,
                plain_value,
                case
                    when audit.plain_type(type) is null and mark
                        then format(
                            $text$case when num_nulls(%1$s) > 0 then null
                            when octet_length(format('%%s', %1$s)) > %2$s
                            then audit.stand_in(
                                convert_to(format('%%s', %1$s), 'UTF8')
                            ) else to_jsonb(format('%%s', %1$s)) end$text$,
                            plain_value, 16777216)
                    when audit.plain_type(type) is null
                        then format(
                            $text$case when num_nulls(%1$s) = 0 then format('%%s', %1$s) end$text$,
                            plain_value
                        )
                    when mark
                        and type in (
                            'text'::regtype, 'varchar'::regtype, 'bytea'::regtype, 'json'::regtype,
                            'xml'::regtype
                        )
                        then format(
                            $text$case when octet_length(%2$s) > %4$s%5$s
                            then audit.stand_in(%3$s) else to_jsonb(%1$s) end$text$,
                            plain_value,
                            plain_value || case
                                when type in ('json'::regtype, 'xml'::regtype) then '::text'
                                else ''
                            end,
                            case
                                when type = 'bytea'::regtype then plain_value
                                else format($text$convert_to(%s::text, 'UTF8')$text$, plain_value)
                            end,
                            16777216,
                            case
                                when type = 'json'::regtype
                                    then format(
                                        $text$ or %s::text ~ $re$(^|[^\\])(\\\\)*\\u0000$re$$text$,
                                        plain_value
                                    )
                                else ''
                            end)
                    else plain_value
                end as value
            from (
                select name, type, place, format('(%s).%I', record, name) as plain_value
                from unnest(names, types) with ordinality as listed (name, type, place)
            ) as listed
        ) as known
        group by part
    ) as parts
$body$;

revoke all on function audit.image_sql(text[], oid[], text, boolean) from public;

create or replace function audit.image_by(record anyelement, expression text)
    returns jsonb
    language plpgsql
    stable
    strict
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
    set intervalstyle = 'postgres'
    set bytea_output = 'hex'
    set extra_float_digits = 1
    set lc_monetary = 'C'
    set quote_all_identifiers = off
as $body$
declare
    image jsonb;
begin
    execute 'select ' || expression into image using record;
    return image;
end
$body$;

revoke all on function audit.image_by(anyelement, text) from public;

create or replace function audit.image_of(record anyelement, mark boolean default false)
    returns jsonb
    language plpgsql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $body$
declare
    names text[];
    types oid[];
begin
    -- A row of NULLs, for the column names: a NULL becomes JSON whatever its type.
    execute $query$
        select array(select json_object_keys(row_to_json(no_values)))
        from (
            select columns.* from (select) as one left join (select ($1).*) as columns on false
        ) as no_values
        $query$
    into names
    using record;
    execute (
        select format(
            'select array[%s]::oid[]', string_agg(format('pg_typeof(($1).%I)', name), ', ' order by place)
        )
        from unnest(names) with ordinality as listed (name, place)
    )
    into types
    using record;
    return audit.image_by(record, audit.image_sql(names, types, '$1', mark));
end
$body$;

revoke all on function audit.image_of(anyelement, boolean) from public;

create or replace function audit.image_expression(of_function text, mark boolean)
    returns text
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    relation constant regclass := audit.captured_relation(of_function);
begin
    if has_schema_privilege((select relnamespace from pg_class where oid = relation), 'usage') then
        return (
            select audit.image_sql(present.names, present.types, '$1', mark)
            from audit.columns_now(relation) as present);
    end if;
    return null;
end
$body$;

revoke all on function audit.image_expression(text, boolean) from public;

create or replace function audit.hand_over(function regprocedure)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    owner constant oid := (
        select relowner
        from pg_class
        where oid = 'audit.logged_actions'::regclass
    );
    grantee text;
begin
    if owner <> (select proowner from pg_proc where oid = function) then
        execute format('alter function %s owner to %I', function, pg_get_userbyid(owner));
    end if;
    for grantee in
        select distinct case
            when acl.grantee = 0 then 'public'
            else quote_ident(pg_get_userbyid(acl.grantee))
        end
        from pg_proc as p
        cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as acl
        where p.oid = function and acl.grantee <> p.proowner
    loop
        execute format('revoke all on function %s from %s cascade', function, grantee);
    end loop;
end
$body$;

revoke all on function audit.hand_over(regprocedure) from public;

create or replace function audit.columns_of(relation oid)
    returns jsonb
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
    select coalesce(
        jsonb_object_agg(
            attnum::text,
            jsonb_build_object('name', attname, 'type', format_type(atttypid, atttypmod))
                || case when labels is null then '{}' else jsonb_build_object('labels', labels) end),
        '{}')
    from pg_attribute
    cross join lateral (
        with recursive part (type) as (
            select atttypid where atttypid >= 16384  -- FirstNormalObjectId: PostgreSQL itself has no enum
            union
            select found.type
            from part
            join pg_type as t on t.oid = part.type
            cross join lateral (
                select t.typbasetype
                union all
                select t.typelem where t.typsubscript = 'array_subscript_handler'::regproc
                union all
                select a.atttypid from pg_attribute as a
                where a.attrelid = t.typrelid and t.typtype = 'c' and a.attnum > 0 and not a.attisdropped
                union all
                select r.rngsubtype from pg_range as r where t.oid in (r.rngtypid, r.rngmultitypid)
            ) as found (type)
            where found.type >= 16384
        )
        select jsonb_object_agg(e.oid::text, e.enumlabel) as labels
        from part
        join pg_enum as e on e.enumtypid = part.type
    ) as of_enum
    where attrelid = relation and attnum > 0 and not attisdropped
$body$;

revoke all on function audit.columns_of(oid) from public;

create or replace function audit.changed_columns(before jsonb, after jsonb)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
    select jsonb_strip_nulls(jsonb_build_object(
        'change', 'columns',
        'renamed',
        jsonb_object_agg(was ->> 'name', now ->> 'name') filter (where was ->> 'name' <> now ->> 'name'),
        'added', jsonb_object_agg(now ->> 'name', now ->> 'type') filter (where was is null),
        'dropped', jsonb_object_agg(was ->> 'name', was ->> 'type') filter (where now is null),
        'retyped', jsonb_object_agg(now ->> 'name', jsonb_build_array(was -> 'type', now -> 'type'))
            filter (where was ->> 'type' <> now ->> 'type'),
        'relabelled', jsonb_object_agg(now ->> 'name', labels) filter (where labels is not null)))
    from jsonb_each(before) as old_column (number, was)
    full join jsonb_each(after) as new_column (number, now) using (number)
    cross join lateral (
        select jsonb_object_agg(old_label.label, new_label.label) as labels
        from jsonb_each_text(was -> 'labels') as old_label (id, label)
        join jsonb_each_text(now -> 'labels') as new_label (id, label) using (id)
        where old_label.label <> new_label.label
    ) as renamed
$body$;

revoke all on function audit.changed_columns(jsonb, jsonb) from public;

create or replace function audit.partitions_of(relation oid)
    returns jsonb
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set quote_all_identifiers = off
as $body$
    select coalesce(jsonb_object_agg(tree.relid::oid::text, tree.relid::text), '{}')
    from pg_partition_tree(relation) as tree
    where tree.isleaf and tree.relid <> relation
$body$;

revoke all on function audit.partitions_of(oid) from public;

create or replace function audit.triggers_of(relation oid, function_name text)
    returns jsonb
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
    select coalesce(jsonb_object_agg(name, version), '{}')
    from (
        select t.tgname::text, t.xmin::text
        from pg_trigger as t
        join pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = relation
          and p.pronamespace = 'audit'::regnamespace
          and p.proname = function_name
          and t.tgenabled = 'A'
        union all
        select 'publication ' || pub.pubname, concat_ws(' ', r.xmin, told.xmin)
        from pg_publication_rel as r
        join pg_publication as pub on pub.oid = r.prpubid
        join pg_class as c on c.oid = r.prrelid
        left join pg_publication_rel as told
          on told.prpubid = pub.oid
         and told.prrelid = to_regclass('audit.truncated_rows')
         and exists (
            select from pg_trigger as t
            join pg_proc as p on p.oid = t.tgfoid
            where t.tgrelid = relation
              and p.pronamespace = 'audit'::regnamespace
              and p.proname = function_name
              and t.tgtype & 32 <> 0
              and t.tgenabled = 'A')
        where r.prrelid = relation
          and pub.pubname = 'audit_capture'
          and c.relreplident = 'f'
          and exists (
            select from pg_trigger as t
            join pg_proc as p on p.oid = t.tgfoid
            where t.tgrelid = relation
              and p.pronamespace = 'audit'::regnamespace
              and p.proname = function_name
            having bool_and(t.tgenabled = 'D') filter (where t.tgtype & 28 <> 0))
    ) as present (name, version)
$body$;

revoke all on function audit.triggers_of(oid, text) from public;

create or replace function audit.code_of(function_name text)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
    select encode(sha256(convert_to(string_agg(
        jsonb_build_array(
            p.proname, l.lanname, p.prosecdef, p.prosrc,
            array(select setting from unnest(p.proconfig) as setting order by setting collate "C"))::text,
        '' order by p.proname collate "C"), 'UTF8')), 'hex')
    from pg_proc as p
    join pg_language as l on l.oid = p.prolang
    where p.pronamespace = 'audit'::regnamespace
      and (
        p.proname = function_name
        or p.proname = 'replay' || substr(function_name, length('capture') + 1)
           and exists (
               select from pg_proc as capture
               where capture.pronamespace = p.pronamespace
                 and capture.proname = function_name
                 and strpos(capture.prosrc, 'c.wal_since is not null') > 0
           )
      )
$body$;

revoke all on function audit.code_of(text) from public;

create or replace function audit.table_with_capture(function_name text, known oid)
    returns oid
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
    select case when bool_or(c.oid = known) then known when count(*) = 1 then min(c.oid::bigint)::oid end
    from pg_class as c
    where not c.relispartition
      and exists (
        select from pg_trigger as t
        join pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = c.oid
          -- On a partition that was detached, only the trigger on TRUNCATE (32) is left.
          and t.tgtype & 28 <> 0
          and p.pronamespace = 'audit'::regnamespace
          and p.proname = function_name
      )
$body$;

revoke all on function audit.table_with_capture(text, oid) from public;

create or replace function audit.require_owner(relation oid)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    caller constant text := coalesce(nullif(current_setting('role'), 'none'), session_user);
begin
    if not exists (
        select from pg_class where oid = relation and pg_has_role(caller, relowner, 'usage')
    ) then
        raise exception using
            errcode = 'insufficient_privilege',
            message = 'audit: only the owner of ' || relation::regclass || ' may pause or resume its capture';
    end if;
end
$body$;

revoke all on function audit.require_owner(oid) from public;

create or replace function audit.let_owner_partition(relation regclass, function_name text)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    table_owner oid;
begin
    select t.relowner into table_owner
    from pg_class as t
    join pg_proc as p on p.proname = function_name
        and p.pronamespace = 'audit'::regnamespace
    where t.oid = relation
      and t.relkind = 'p'
      and not has_function_privilege(t.relowner, p.oid, 'execute');
    if found then
        execute format(
            'grant execute on function %I.%I() to %I', 'audit', function_name,
            pg_get_userbyid(table_owner)
        );
    end if;
end
$body$;

revoke all on function audit.let_owner_partition(regclass, text) from public;

create or replace function audit.columns_restored(noted jsonb, present jsonb)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
    with was as (
        select entry, row_number() over (order by number::integer) as place
        from jsonb_each(noted) as c (number, entry)
    ),
    now as (
        select number, entry, row_number() over (order by number::integer) as place
        from jsonb_each(present) as c (number, entry)
    ),
    kept as (
        select was.place as was_at, now.place as now_at
        from was
        join now on now.entry ->> 'name' = was.entry ->> 'name'
    ),
    was_between as (
        select
            (select count(*) from kept where was_at < place) as gap,
            jsonb_agg(entry order by place) as columns
        from was
        where place not in (select was_at from kept)
        group by gap
    ),
    now_between as (
        select
            (select count(*) from kept where now_at < place) as gap,
            jsonb_agg(entry order by place) as columns,
            array_agg(number order by place) as numbers
        from now
        where place not in (select now_at from kept)
        group by gap
    ),
    renamed as (
        select now_between.numbers[place] as number, former as entry
        from now_between
        join was_between using (gap)
        cross join jsonb_array_elements(was_between.columns) with ordinality as c (former, place)
        where gap < (select count(*) from kept)
          and jsonb_path_query_array(was_between.columns, '$[*].type')
              = jsonb_path_query_array(now_between.columns, '$[*].type')
          and not exists (
              select from kept
              join kept as other on other.was_at > kept.was_at and other.now_at < kept.now_at
          )
    )
    select present || coalesce((select jsonb_object_agg(number, entry) from renamed), '{}')
$body$;

revoke all on function audit.columns_restored(jsonb, jsonb) from public;

create or replace function audit.partitions_restored(noted jsonb, present jsonb)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
    select coalesce(
        jsonb_object_agg(coalesce(now.number, '-' || was.number), coalesce(now.name, was.name)), '{}'
    )
    from jsonb_each_text(noted) as was (number, name)
    left join jsonb_each_text(present) as now (number, name)
        on (parse_ident(now.name))[2] = (parse_ident(was.name))[2]
$body$;

revoke all on function audit.partitions_restored(jsonb, jsonb) from public;

create or replace function audit.name_told(
    relation oid, known_schema text, known_table text
)
    returns text[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    told text[] := array[known_schema, known_table];
    step record;
    since bigint := 0;
begin
    loop
        select m.event_id, m.schema_name, m.table_name into step
        from audit.moved_to(told[1], told[2]) as m
        join audit.logged_actions as e
          on e.event_id = m.event_id and e.schema_name = m.schema_name and e.table_name = m.table_name
         and e.row_key is null
        where m.event_id > since and e.new_row ->> 'relation' = relation::text;
        exit when not found;
        told := array[step.schema_name, step.table_name];
        since := step.event_id;
    end loop;
    return told;
end
$body$;

revoke all on function audit.name_told(oid, text, text) from public;

create or replace function audit.note_changes_by(of_function text, ddl jsonb)
    returns integer
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    known audit.captured_tables;
    on_table oid;
    present record;
    has_events boolean;
    columns_now jsonb;
    partitions_now jsonb;
    changed jsonb;
    relabelled jsonb;
    in_doubt boolean;
    told text[];
    noted integer := 0;
    by_ddl constant jsonb :=
        case when ddl is null then '{}' else jsonb_build_object('ddl', ddl - 'query') end;
begin
    for known in
        select * from audit.captured_tables as c
        where of_function is null or c.function_name = of_function
        order by c.function_name
        for update skip locked
    loop
        -- Perhaps it was noted meanwhile, as the name that it left is another one's.
        select *
        into known
        from audit.captured_tables as c
        where c.function_name = known.function_name;
        continue when not found;
        -- What was written before the DDL may still be in the WAL: whoever
        -- reads that notes it when it is its turn.
        continue when known.wal_since is not null
            and coalesce(current_setting('audit.reading_wal', true), '') <> 'on';
        -- Of a table without events there is nothing to follow.
        has_events := exists (
            select from audit.logged_actions
            where schema_name = known.schema_name and table_name = known.table_name);
        on_table := audit.table_with_capture(known.function_name, known.relation_id);
        select n.nspname as schema_name, c.relname as table_name into present
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where c.oid = coalesce(on_table, known.relation_id);
        if not found then
            if has_events then
                insert into audit.logged_actions (
                    schema_name, table_name, action, new_row, query
                )
                values (known.schema_name, known.table_name, 'M',
                    jsonb_build_object('change', 'dropped', 'relation', known.relation_id::bigint)
                        || by_ddl,
                    ddl ->> 'query');
                noted := noted + 1;
            end if;
            delete from audit.captured_tables where function_name = known.function_name;
            continue;
        end if;
        -- Without a trigger, a table of another name may be any that got the
        -- OID: after a restore, OIDs are others.
        continue when on_table is null
            and (present.schema_name, present.table_name) <> (known.schema_name, known.table_name)
            and audit.is_elsewhere();
        continue when exists (
            select from audit.captured_tables as other
            where other.relation_id = on_table and other.function_name <> known.function_name);

        if on_table is not null then
            perform audit.let_owner_partition(on_table, known.function_name);
        end if;
        columns_now := audit.columns_of(coalesce(on_table, known.relation_id));
        partitions_now := audit.partitions_of(coalesce(on_table, known.relation_id));
        if on_table <> known.relation_id then
            -- Restored: its columns and partitions have other numbers, and are what they were.
            known.columns := audit.columns_restored(known.columns, columns_now);
            known.partitions := audit.partitions_restored(known.partitions, partitions_now);
        end if;

        if (present.schema_name, present.table_name) <> (known.schema_name, known.table_name) then
            -- First that the table of before left the name; two that changed places have each the other's.
            update audit.captured_tables as c
            set schema_name = present.schema_name, table_name = present.table_name
            where c.function_name = known.function_name;
            noted := noted + coalesce((
                select sum(audit.note_changes_by(other.function_name, null))
                from audit.captured_tables as other
                where other.function_name <> known.function_name
                  and (other.schema_name, other.table_name) = (
                      present.schema_name::text, present.table_name::text
                  )
            ), 0);
            told := audit.name_told(
                coalesce(on_table, known.relation_id), known.schema_name, known.table_name
            );
            if told = array[present.schema_name::text, present.table_name::text] then
                told := array[known.schema_name, known.table_name];
            end if;
            -- Without events there is nothing to follow; but the new name may have those of another table.
            if has_events or exists (
                select from audit.logged_actions
                where schema_name = present.schema_name and table_name = present.table_name)
            then
                insert into audit.logged_actions (
                    schema_name, table_name, action, new_row, query
                )
                values (present.schema_name, present.table_name, 'M', jsonb_build_object(
                    'change', 'renamed',
                    'from', to_jsonb(told),
                    'to', jsonb_build_array(present.schema_name, present.table_name),
                    'relation', coalesce(on_table, known.relation_id)::bigint)
                    || case
                        when on_table <> known.relation_id
                            then jsonb_build_object('was', known.relation_id::bigint)
                        else '{}'
                    end || by_ddl, ddl ->> 'query');
                noted := noted + 1;
            end if;
        end if;

        relabelled := null;
        if has_events and columns_now <> known.columns then
            changed := audit.changed_columns(known.columns, columns_now);
            relabelled := changed -> 'relabelled';
            changed := changed - 'relabelled';
        end if;
        if relabelled is not null and not exists (
            -- After a pause nothing is certain anyway.
            select from (
                select e.new_row ->> 'capture' as capture
                from audit.logged_actions as e
                where e.schema_name = present.schema_name and e.table_name = present.table_name
                  and e.row_key is null and e.action = 'G'
                order by e.event_id desc
                limit 1
            ) as gap
            where gap.capture = 'paused'
        ) then
            -- The rows have other values than their events, and perhaps other keys.
            insert into audit.logged_actions (schema_name, table_name, action, new_row, query)
            values (present.schema_name, present.table_name, 'G', jsonb_strip_nulls(jsonb_build_object(
                'capture', 'resumed',
                'reason', 'labels of an enum were renamed: events of before have the former ones',
                'labels', relabelled,
                'since', known.sound_at)) || by_ddl, ddl ->> 'query');
            noted := noted + 1;
        end if;
        in_doubt := has_events and columns_now <> known.columns
            and audit.columns_in_doubt(known.function_name);
        if in_doubt then
            insert into audit.logged_actions (schema_name, table_name, action, new_row)
            values (present.schema_name, present.table_name, 'G', jsonb_strip_nulls(jsonb_build_object(
                'capture', 'resumed',
                'exchanged', true,
                'reason', 'columns exchanged names, or took former ones, and rows were written before'
                    ' that was noted: their values may be in other columns',
                'since', known.sound_at)));
            noted := noted + 1;
        end if;
        if has_events and columns_now <> known.columns and changed - 'change' <> '{}' then
            insert into audit.logged_actions (schema_name, table_name, action, new_row, query)
            values (present.schema_name, present.table_name, 'M', changed
                || case when ddl is null then '{}'
                else jsonb_build_object('ddl', by_ddl -> 'ddl' || jsonb_build_object(
                    'before', (
                        select jsonb_object_agg(entry ->> 'name', entry ->> 'type')
                        from jsonb_each(known.columns) as c (number, entry)
                    ),
                    'after', (
                        select jsonb_object_agg(entry ->> 'name', entry ->> 'type')
                        from jsonb_each(columns_now) as c (number, entry)
                    ))) end,
                ddl ->> 'query');
            noted := noted + 1;
        end if;

        if has_events and partitions_now <> known.partitions then
            select jsonb_strip_nulls(jsonb_build_object(
                'change', 'partitions',
                'attached', jsonb_agg(now order by now) filter (where was is null),
                'detached', jsonb_agg(was order by was) filter (where now is null)))
            into changed
            from jsonb_each_text(known.partitions) as before (number, was)
            full join jsonb_each_text(partitions_now) as after (number, now) using (number)
            where was is null or now is null;
            if changed ->> 'attached' is not null or changed ->> 'detached' is not null then
                insert into audit.logged_actions (
                    schema_name, table_name, action, new_row, query
                )
                values (present.schema_name, present.table_name, 'M', changed || by_ddl, ddl ->> 'query');
                noted := noted + 1;
            end if;
        end if;

        update audit.captured_tables as c
        set relation_id = coalesce(on_table, known.relation_id),
            schema_name = present.schema_name, table_name = present.table_name,
            columns = columns_now, partitions = partitions_now,
            deltas_after = coalesce(
                pg_sequence_last_value('audit.logged_actions_event_id_seq'), 0
            ),
            whole_after = case when relabelled is null and not in_doubt then c.whole_after end,
            whole_since = case when relabelled is null and not in_doubt then c.whole_since end,
            meant_columns = case when on_table <> c.relation_id then '{}' else c.meant_columns end,
            -- Restored, it has other numbers. A name that is not there
            -- keeps the column hidden that it stood for.
            installed_columns = case when on_table <> c.relation_id
                then audit.columns_carried(c.installed_columns, c.columns, columns_now)
                -- A column that came instead of a dropped one is followed from here on: the rule may hide it.
                else c.installed_columns || (
                    select coalesce(jsonb_object_agg(number, entry -> 'name'), '{}')
                    from jsonb_each(columns_now) as column_now (number, entry)
                    where not c.installed_columns ? number and exists (
                        select from jsonb_each_text(c.installed_columns) as installed (former, name)
                        where name = entry ->> 'name' and not columns_now ? former))
            end
        where c.function_name = known.function_name
          and (c.relation_id, c.schema_name, c.table_name, c.columns, c.partitions) is distinct from (
              coalesce(on_table, known.relation_id), present.schema_name::text, present.table_name::text,
              columns_now, partitions_now);
    end loop;
    return noted;
end
$body$;

revoke all on function audit.note_changes_by(text, jsonb) from public;

create or replace function audit.note_changes(of_function text default null)
    returns integer
    language plpgsql
    security definer  -- callers need no rights on the trail; they can only record what is true
    set search_path = pg_catalog, pg_temp
as $body$
begin
    return audit.note_changes_by(of_function, null);
end
$body$;

revoke all on function audit.note_changes(text) from public;

create or replace function audit.present_home()
    returns table (
        system_identifier text, database_oid oid, database_name text, trail_oid oid, timeline integer
    )
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
begin
    select d.oid, d.datname
    into strict database_oid, database_name
    from pg_database as d
    where d.datname = current_database();
    trail_oid := 'audit.logged_actions'::regclass;
    if has_function_privilege('pg_catalog.pg_control_system()', 'execute') then
        system_identifier := (select c.system_identifier from pg_control_system() as c);
    end if;
    if not pg_is_in_recovery() then
        -- Right after a promotion pg_control_checkpoint() still has the former one.
        timeline := ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer;
    end if;
    return next;
end
$body$;

revoke all on function audit.present_home() from public;

create or replace function audit.is_elsewhere()
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
begin
    return has_table_privilege('audit.home', 'select')
        and has_function_privilege('audit.present_home()', 'execute')
        and not exists (
            select
            from audit.home as noted
            join audit.present_home() as present using (database_oid, trail_oid)
            where coalesce(present.system_identifier = noted.system_identifier, true)
        );
end
$body$;

revoke all on function audit.is_elsewhere() from public;

create or replace function audit.note_coverage()
    returns integer
    language plpgsql
    security definer  -- the trail belongs to its owner; callers can only record what is true
    set search_path = pg_catalog, pg_temp
as $body$
declare
    known audit.captured_tables;
    state jsonb;
    noted integer := 0;
begin
    if audit.is_elsewhere() then
        return 0;
    end if;
    for known in
        select *
        from audit.captured_tables as c
        order by c.function_name
        for update skip locked
    loop
        select jsonb_build_object(
            'capture', case
                when known.triggers = '{}' or exists (
                    select from jsonb_object_keys(known.triggers) as name where not present.triggers ? name
                ) then 'off'
                when known.triggers <> present.triggers or known.code <> present.code then 'interrupted'
                else 'on'
            end,
            'options', described.said -> 'options',
            'key', described.said -> 'key')
            || case when known.wal_since is null then '{}' else jsonb_build_object('assurance', 'wal') end
            || case
                when known.fallback is null then '{}'
                else jsonb_build_object('fallback', known.fallback)
            end
        into state
        from (values (
            audit.triggers_of(known.relation_id, known.function_name),
            audit.code_of(known.function_name)
        )) as present (triggers, code)
        left join (
            select obj_description(p.oid, 'pg_proc')::jsonb as said
            from pg_proc as p
            where p.pronamespace = 'audit'::regnamespace
              and p.proname = known.function_name
        ) as described on true;
        if state ->> 'capture' = 'on' then
            update audit.captured_tables as c
            set sound_at = clock_timestamp()
            where c.function_name = known.function_name;
        end if;
        continue when state = known.coverage;

        insert into audit.logged_actions (schema_name, table_name, action, new_row)
        values (known.schema_name, known.table_name, 'M',
            jsonb_build_object('change', 'capture', 'relation', known.relation_id::bigint)
            || state
            || case
                when known.coverage is null then jsonb_build_object('since', known.captured_since)
                else '{}'
            end);
        update audit.captured_tables as c
        set coverage = state
        where c.function_name = known.function_name;
        noted := noted + 1;
    end loop;
    return noted;
end
$body$;

revoke all on function audit.note_coverage() from public;

create or replace function audit.note_ddl()
    returns event_trigger
    language plpgsql
    security definer  -- the trail belongs to its owner; callers can only record what is true
    set search_path = pg_catalog, pg_temp
as $body$
declare
    about jsonb;
    one record;
    options jsonb;
    ddl jsonb;
begin
    -- ALTER TABLE is recorded at its end.
    if tg_event = 'sql_drop' and tg_tag = 'ALTER TABLE' or tg_tag in ('COMMENT', 'SECURITY LABEL')
        or to_regclass('audit.captured_tables') is null
        or to_regclass('audit.home') is null
    then
        return;
    elsif audit.is_elsewhere() then
        return;
    end if;
    if tg_event = 'sql_drop' then
        -- Tables that were dropped, and those that lost another trigger, a policy or a rule.
        select jsonb_agg(
            distinct jsonb_build_object('relation', found.relation::bigint, 'object', found.identity)
        )
        into about
        from (
            select
                object.object_identity as identity,
                case
                    when object.object_type in ('table', 'partitioned table') then object.objid
                    when object.object_type in ('trigger', 'policy', 'rule')
                        and object.address_names[3] not like '00\_audit\_%'
                        then to_regclass(
                            format('%I.%I', object.address_names[1], object.address_names[2])
                        )::oid
                end as relation
            from pg_event_trigger_dropped_objects() as object
            where not object.is_temporary and object.original
        ) as found
        where found.relation is not null;
    else
        select jsonb_agg(
            distinct jsonb_build_object('relation', found.relation::bigint, 'object', found.identity)
        )
        into about
        from (
            select
                command.object_identity as identity,
                coalesce(t.tgrelid, p.polrelid, r.ev_class, command.objid) as relation
            from pg_event_trigger_ddl_commands() as command
            left join pg_trigger as t on command.classid = 'pg_trigger'::regclass and t.oid = command.objid
            left join pg_policy as p on command.classid = 'pg_policy'::regclass and p.oid = command.objid
            left join pg_rewrite as r on command.classid = 'pg_rewrite'::regclass and r.oid = command.objid
            where command.classid in (
                'pg_class'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_rewrite'::regclass
            )
              and coalesce(t.tgname, '') not like '00\_audit\_%'
        ) as found;
    end if;

    for one in
        select distinct on (known.function_name) known.*, said ->> 'object' as object
        from jsonb_array_elements(about) as said
        join audit.captured_tables as known
          on known.relation_id = (said ->> 'relation')::oid
          or known.relation_id = pg_partition_root((said ->> 'relation')::oid::regclass)
          or known.partitions ? (said ->> 'relation')
        where known.installing is distinct from pg_current_xact_id()
        order by known.function_name, object
    loop
        select obj_description(p.oid, 'pg_proc')::jsonb -> 'options' into options
        from pg_proc as p
        where p.pronamespace = 'audit'::regnamespace and p.proname = one.function_name;
        ddl := jsonb_strip_nulls(jsonb_build_object(
            'tag', tg_tag,
            'object', one.object,
            'query', case when options ? 'capture_query' and not options ?| array['exclude', 'mask', 'only']
                then left(current_query(), 10000) end));
        continue when audit.note_changes_by(one.function_name, ddl) > 0;
        continue when exists (
            -- Only our own triggers, which are enabled: the command that
            -- resumes capture records what was disabled.
            select
            from pg_trigger as t
            join pg_proc as p on p.oid = t.tgfoid
            where t.tgrelid = one.relation_id
              and p.pronamespace = 'audit'::regnamespace
              and p.proname = one.function_name
              and (t.xmin::text::bigint - pg_current_xact_id()::text::bigint) & 4294967295 < 2147483648
            having count(*) > 0 and bool_and(t.tgenabled = 'A')
        );
        insert into audit.logged_actions (schema_name, table_name, action, new_row, query)
        select c.schema_name, c.table_name, 'M',
            jsonb_build_object('change', 'ddl', 'relation', one.relation_id::bigint, 'ddl', ddl - 'query'),
            ddl ->> 'query'
        from audit.captured_tables as c
        where c.function_name = one.function_name
          and exists (
            select from audit.logged_actions as e
            where e.schema_name = c.schema_name and e.table_name = c.table_name);
    end loop;
end
$body$;

revoke all on function audit.note_ddl() from public;

create or replace function audit.guard_ddl()
    returns event_trigger
    language plpgsql
    security definer  -- roles that run DDL need no rights on the registry
    set search_path = pg_catalog, pg_temp
as $body$
declare
    is_ours constant boolean := coalesce(current_setting('audit.guard', true), '') = 'open';
    refused text;
    remedy text;
begin
    if to_regclass('audit.captured_tables') is null
        or to_regclass('audit.home') is null
        or to_regclass('audit.partition_lifecycle') is null
    then
        if is_ours or tg_event <> 'sql_drop' then
            return;
        end if;
        refused := 'a registry of the audit trail was dropped';
        remedy := 'disable the guard first, which is recorded in the trail: audit guard off --reason ...';
    elsif audit.is_elsewhere() then
        return;
    elsif tg_event = 'sql_drop' then
        select
            case dropped.kind
                when 'table' then format('%s is audited', dropped.identity)
                when 'function' then format('%s captures %s', dropped.identity, dropped.of_table)
                when 'trigger' then format('trigger %s captures changes', dropped.identity)
                when 'partition'
                    then format('%s has events and was not detached by maintenance', dropped.identity)
                else format('%s belongs to the audit trail', dropped.identity)
            end,
            case
                when dropped.kind in ('table', 'function', 'trigger')
                    then 'stop auditing it first: audit uninstall --table ' || dropped.of_table
                when dropped.kind = 'partition' then 'to expire old events: audit partitions run'
                else 'disable the guard first, which is recorded in the trail: audit guard off --reason ...'
            end
        into refused, remedy
        from (
            select
                object.object_identity as identity,
                case
                    when known.relation_id = object.objid
                        and object.object_type in ('table', 'partitioned table')
                        then 'table'
                    when known.function_name is not null then object.object_type
                    when is_ours or object.schema_name is distinct from 'audit' then null
                    when object.object_type = 'table' and object.object_name like 'logged\_actions\_%'
                        then case
                        when not exists (
                            select from audit.partition_lifecycle as l
                            where l.leaf::oid = object.objid and l.state = 'detached'
                        ) then 'partition' end
                    when object.object_type in ('table', 'partitioned table', 'sequence')
                        or object.object_type = 'function'
                        and object.address_names[2] not like 'capture\_%'
                        and object.address_names[2] not like 'replay\_%' then 'trail'
                end as kind,
                case
                    when known.function_name is not null
                        then format('%I.%I', known.schema_name, known.table_name)
                end as of_table
            from pg_event_trigger_dropped_objects() as object
            left join audit.captured_tables as known
              on known.installing is distinct from pg_current_xact_id()
             and case object.object_type
                when 'function'
                    then object.schema_name = 'audit'
                        and object.address_names[2] = known.function_name
                when 'trigger' then known.relation_id = (
                        select coalesce(pg_partition_root(c.oid), c.oid)
                        from pg_class as c
                        join pg_namespace as n on n.oid = c.relnamespace
                        where n.nspname = object.address_names[1] and c.relname = object.address_names[2]
                    ) and (
                        known.triggers ? object.address_names[3]
                        or object.address_names[3] like '00\_audit\_truncate%'
                    )
                    and known.triggers <> '{}'
                else known.relation_id = object.objid and object.classid = 'pg_class'::regclass
            end
            where not object.is_temporary
            union all
            select object.object_identity, 'trail', null
            from pg_event_trigger_dropped_objects() as object
            where not is_ours and object.object_type = 'trigger'
              and object.address_names[1] = 'audit'
              and object.address_names[3] like '00\_audit\_%'
              and to_regclass(format('%I.%I', object.address_names[1], object.address_names[2])) is not null
        ) as dropped
        where dropped.kind is not null
        order by dropped.kind = 'trail'
        limit 1;
    else
        select
            case
                when broken.is_trail then format('%s keeps the trail append-only', broken.object)
                else format('%s captures changes of %s', broken.object, broken.of_table)
            end,
            case
                when broken.is_trail
                    then 'disable the guard first, which is recorded in the trail:'
                        ' audit guard off --reason ...'
                else 'pause capture, which is recorded in the trail: audit pause --table ' || broken.of_table
                    || ' --reason ...'
            end
        into refused, remedy
        from (
            -- The tables that the command concerns.
            select distinct coalesce(t.tgrelid, command.objid) as relation
            from pg_event_trigger_ddl_commands() as command
            left join pg_trigger as t on command.classid = 'pg_trigger'::regclass and t.oid = command.objid
            where command.classid in ('pg_class'::regclass, 'pg_trigger'::regclass)
        ) as touched
        cross join lateral (
            select format('trigger %I', name) as object,
                format('%I.%I', known.schema_name, known.table_name) as of_table, false as is_trail
            from audit.captured_tables as known
            join pg_proc as p on p.proname = known.function_name
                and p.pronamespace = 'audit'::regnamespace
            cross join jsonb_object_keys(known.triggers) as name
            left join pg_trigger as t on t.tgrelid = known.relation_id and t.tgname = name
            where known.relation_id = touched.relation
              and known.installing is distinct from pg_current_xact_id()
              and name not like 'publication %'  -- of what is read from the WAL
              and (t.oid is null or t.tgenabled <> 'A' or t.tgfoid <> p.oid)
            union all
            -- A partition has triggers of its own, which can be disabled separately.
            select format('trigger %I', t.tgname), format('%I.%I', known.schema_name, known.table_name), false
            from audit.captured_tables as known
            join pg_proc as p on p.proname = known.function_name
                and p.pronamespace = 'audit'::regnamespace
            join pg_trigger as t on t.tgrelid = touched.relation and t.tgfoid = p.oid
            where known.relation_id = pg_partition_root(touched.relation)
              and touched.relation <> known.relation_id
              and known.triggers <> '{}'
              and known.installing is distinct from pg_current_xact_id()
              and t.tgenabled in ('D', 'R')
            union all
            select 'trigger "00_audit_append_only"', null, true
            from pg_class as c
            where c.oid = touched.relation and not is_ours
              and c.relnamespace = 'audit'::regnamespace
              and (c.relname = 'logged_actions' or c.relispartition)
              and c.relkind in ('r', 'p')
              and not exists (
                select from pg_trigger as t
                where t.tgrelid = c.oid and t.tgname = '00_audit_append_only'
                  -- A partition gets its append-only trigger right after it is created.
                  and (t.tgenabled = 'A' or tg_tag = 'CREATE TRIGGER'))
            union all
            -- A partition that the command detached, and maintenance did not announce.
            select format('partition %s', c.oid::regclass), null, true
            from pg_class as c
            where not is_ours and tg_tag = 'ALTER TABLE'
              and touched.relation = 'audit.logged_actions'::regclass
              and c.relnamespace = 'audit'::regnamespace
              and c.relkind = 'r'
              and c.relname ~ '^logged_actions_[0-9]'
              and not exists (select from pg_inherits as i where i.inhrelid = c.oid)
              and obj_description(c.oid, 'pg_class') like '%"tool": "audit-toolkit"%'
              -- One created by this transaction will be attached.
              and not exists (
                select from pg_type as t
                where t.oid = c.reltype
                  and (t.xmin::text::bigint - pg_current_xact_id()::text::bigint) & 4294967295 < 2147483648)
              and not exists (
                select from audit.partition_lifecycle as l
                where l.leaf::oid = c.oid and l.state in ('detaching', 'detached'))
        ) as broken
        limit 1;

        if refused is null and not is_ours then
            select format('function %s belongs to the audit trail', command.object_identity),
                'to install a newer version: audit upgrade; otherwise disable the guard first:'
                    ' audit guard off --reason ...'
            into refused, remedy
            from pg_event_trigger_ddl_commands() as command
            join pg_proc as p on p.oid = command.objid
            where command.classid = 'pg_proc'::regclass
              and p.pronamespace = 'audit'::regnamespace
              and p.proname in ('revoke_all', 'refuse_change', 'refuse_others', 'guard_relation', 'leaves', 'make_leaf', 'merkle_root', 'leaf_digest', 'ensure_past', 'ensure_partitions', 'mask', 'pick', 'stand_in', 'plain_type', 'columns_now', 'has_columns', 'known_part', 'columns_carried', 'names_now', 'disguised', 'image_sql', 'image_by', 'image_of', 'image_expression', 'hand_over', 'columns_of', 'changed_columns', 'partitions_of', 'triggers_of', 'code_of', 'table_with_capture', 'require_owner', 'let_owner_partition', 'columns_restored', 'partitions_restored', 'name_told', 'note_changes_by', 'note_changes', 'present_home', 'is_elsewhere', 'note_coverage', 'note_ddl', 'guard_ddl', 'captured_as', 'captured_relation', 'columns_are_noted', 'columns_in_doubt', 'noted_as', 'noted_by', 'is_noted', 'note_here', 'note_again', 'is_second_trigger', 'is_as_installed', 'await_wal', 'read_from_wal', 'record_by_triggers', 'has_other_key', 'has_withheld', 'has_truncated_leaf', 'note_former', 'note_beginning', 'begin_capture', 'columns_meant', 'note_capture', 'note_put_back', 'end_capture', 'record_gap', 'write_event', 'record_event', 'doubtful_events', 'note_dropped', 'maintain_limits', 'maintain_lock', 'maintain_interval', 'maintain_create', 'maintain_cap', 'maintain_past', 'maintain_validate', 'maintain_relabel', 'maintain_detach', 'maintain_finish', 'maintain_drop', 'maintain_hold', 'maintain_note', 'maintain_timeline', 'maintain_has_rows', 'archive_begin', 'archive_end', 'archive_note', 'archive_note_export', 'redacted', 'destroy_salt', 'refuse_redacted', 'holds_changes_only', 'row_before', 'present_period', 'deltas_after', 'altered_by', 'redactable', 'erase_events', 'announce_redaction', 'redact', 'seal_leaves', 'seal_relations', 'seal_salts', 'seal_begin', 'seal_reach', 'seal_block', 'seal_add', 'seal_note', 'former_columns', 'as_called_now', 'names_known', 'moved_to', 'name_now', 'names_of', 'require_life', 'audited_table', 'row_key_of', 'equal_keys', 'has_row', 'row_stayed', 'row_known_since', 'require_reach', 'require_known', 'require_whole', 'warn_of_triggers', 'warn_of_absence', 'warn_of_partitions', 'warn_of_gap', 'row_image_at', 'row_images_at', 'row_at', 'table_at', 'history')
            limit 1;
        end if;
    end if;

    if refused is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'audit: ' || refused || ', and the guard refuses ' || tg_tag,
            hint = remedy;
    end if;
end
$body$;

revoke all on function audit.guard_ddl() from public;

create or replace function audit.captured_as(relation oid, function_name text, operation text)
    returns text[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    root constant oid := coalesce(pg_partition_root(relation), relation);
    captured oid;
    noted text[];
    present text[];
    is_read boolean;
begin
    select c.relation_id, array[c.schema_name, c.table_name], c.wal_since is not null
    into captured, noted, is_read
    from audit.captured_tables as c
    where c.function_name = captured_as.function_name;

    if captured is distinct from root and captured is distinct from relation then
        -- Restored, or never recorded: then its table is the only one with triggers that call the function.
        captured := audit.table_with_capture(function_name, captured);
        noted := null;
        if captured is distinct from root and captured is distinct from relation then
            if operation = 'TRUNCATE' then
                -- A detached partition keeps its trigger, but its changes no longer belong to the table.
                return null;
            end if;
            raise exception using
                errcode = 'insufficient_privilege',
                message = format(
                    'audit: %I.%s() does not capture %s', 'audit', function_name,
                    relation::regclass
                ),
                hint = 'drop the trigger, and install capture: audit install --table ' || relation::regclass;
        end if;
    end if;
    if captured <> root and exists (
        select from audit.captured_tables as c where c.relation_id = root
    ) then
        -- Attached to an audited table, which records it.
        return null;
    end if;

    -- Not from pg_class, which a transaction sees as it was when its snapshot was taken.
    present := parse_ident(captured::regclass::text);
    -- Where the WAL is read, the worker notes it, once it has what was written before.
    if present is distinct from noted and is_read is not true and not exists (
        -- By an event of its own: a setting that says so could be set by anybody.
        select from audit.logged_actions as e
        where e.transaction_id = pg_current_xact_id()
          and e.action = 'M'
          and e.new_row ->> 'change' = 'renamed'
          and e.new_row ->> 'relation' = captured::text and e.new_row -> 'to' = to_jsonb(present)
    ) then
        perform audit.note_here(function_name);
        select array[c.schema_name, c.table_name] into noted
        from audit.captured_tables as c
        where c.function_name = captured_as.function_name;
        if present is distinct from noted then
            -- Another transaction is noting it, and may roll back; or this one sees the registry as it was,
            -- and to write what others have written would end it. The events
            -- from here on are the table's in any case.
            insert into audit.logged_actions (schema_name, table_name, action, new_row)
            values (present[1], present[2], 'M', jsonb_build_object(
                'change', 'renamed', 'from', to_jsonb(noted), 'to', to_jsonb(present),
                'relation', captured::bigint));
        end if;
    end if;
    return present;
end
$body$;

revoke all on function audit.captured_as(oid, text, text) from public;

create or replace function audit.captured_relation(of_function text)
    returns regclass
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    known oid;
begin
    select c.relation_id
    into known
    from audit.captured_tables as c
    where c.function_name = of_function;
    if audit.triggers_of(known, of_function) = '{}' then
        -- Restored, or never recorded: then its table is the only one with triggers that call the function.
        known := audit.table_with_capture(of_function, known);
    end if;
    return known;
end
$body$;

revoke all on function audit.captured_relation(text) from public;

create or replace function audit.columns_are_noted(of_function text, relation oid)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
    select not exists (
        select
        from audit.captured_tables as c
        join pg_attribute as a on a.attrelid = relation and a.attnum > 0 and not a.attisdropped
        where c.function_name = of_function and c.relation_id = relation
          and (a.attname, format_type(a.atttypid, a.atttypmod)) is distinct from (
              c.columns -> a.attnum::text ->> 'name', c.columns -> a.attnum::text ->> 'type'
          )
    )
$body$;

revoke all on function audit.columns_are_noted(text, oid) from public;

create or replace function audit.columns_in_doubt(of_function text)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
    select exists (
        select
        from audit.captured_tables as c
        join pg_class as t on t.oid = c.relation_id
        join pg_namespace as n on n.oid = t.relnamespace
        join pg_attribute as a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
        cross join (
            select
                pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next,
                pg_current_xact_id_if_assigned() as own
        ) as present
        cross join lateral (
            -- The number in a row of the catalogue has 32 bits; none is further away than half of that.
            select greatest(
                next + ((a.xmin::text::bigint - next) & 4294967295 # 2147483648) - 2147483648, 3
            )::text::xid8 as number
        ) as ddl
        where c.function_name = of_function
          and ddl.number is distinct from present.own
          and not audit.is_elsewhere()
          and exists (
              select from jsonb_each(c.columns) as noted (number, entry)
              where entry ->> 'name' = a.attname and number <> a.attnum::text
          )
          and exists (
              select from audit.logged_actions as e
              where (e.schema_name, e.table_name) in ((c.schema_name, c.table_name), (n.nspname, t.relname))
                and e.action in ('I', 'U', 'D')
                and e.transaction_id is distinct from present.own
                and e.transaction_id >= ddl.number
          )
    )
$body$;

revoke all on function audit.columns_in_doubt(text) from public;

create or replace function audit.noted_as(
    of_function text, schema_installed text, table_installed text
)
    returns text[]
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    relation constant regclass := audit.captured_relation(of_function);
    -- Not from pg_class, which a transaction sees as it was when its snapshot was taken.
    present constant text[] := parse_ident(relation::text);
    noted text[];
begin
    if pg_partition_root(relation) <> relation then
        return null;  -- the table that it is part of may be audited by now
    end if;
    select array[c.schema_name, c.table_name] into noted
    from audit.captured_tables as c
    where c.function_name = of_function and c.relation_id = relation;
    if not audit.columns_are_noted(of_function, relation) then
        -- It may be taken back before anything else notes it. Where
        -- several sessions note it at once, one does.
        perform audit.note_here(of_function);
    end if;
    return case when present = coalesce(noted, array[schema_installed, table_installed]) then present end;
end
$body$;

revoke all on function audit.noted_as(text, text, text) from public;

create or replace function audit.noted_by(of_function text)
    returns xid8
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    relation constant regclass := audit.captured_relation(of_function);
    present constant bigint := pg_current_xact_id()::text::bigint;
    found_by record;
    writer bigint;
begin
    select c.xmin::text::bigint as made_by, c.xmax::text::bigint as taken_by into found_by
    from audit.captured_tables as c
    where c.function_name = of_function and c.relation_id = relation;
    foreach writer in array array[found_by.taken_by, found_by.made_by] loop
        continue when writer < 3;
        -- The numbers in a row have 32 bits; none is further away than half of that.
        writer := present + ((writer - present) & 4294967295 # 2147483648) - 2147483648;
        if writer >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint
            and current_setting('transaction_isolation') = 'repeatable read'
        then
            return '0'::xid8;  -- noted since the snapshot was taken, by this transaction or another
        elsif writer < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
            and pg_xact_status(writer::text::xid8) = 'in progress'
        then
            return writer::text::xid8;
        end if;
    end loop;
    return case when not audit.columns_are_noted(of_function, relation) then '0'::xid8 end;
end
$body$;

revoke all on function audit.noted_by(text) from public;

create or replace function audit.is_noted(
    of_function text, schema_installed text, table_installed text
)
    returns boolean
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
begin
    -- By statements of their own: within one, PostgreSQL might work out the second question first.
    if audit.noted_as(of_function, schema_installed, table_installed)
        is distinct from array[schema_installed, table_installed]
    then
        return false;
    end if;
    return audit.noted_by(of_function) is null;
end
$body$;

revoke all on function audit.is_noted(text, text, text) from public;

create or replace function audit.note_here(of_function text)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    isolation constant text := current_setting('transaction_isolation');
begin
    if isolation in ('read committed', 'read uncommitted') then
        perform audit.note_changes(of_function);
    elsif isolation = 'repeatable read' then
        begin
            perform audit.note_changes(of_function);
        exception
            when serialization_failure then
                null;
        end;
    end if;
end
$body$;

revoke all on function audit.note_here(text) from public;

create or replace function audit.note_again(of_function text)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    relation constant regclass := audit.captured_relation(of_function);
begin
    if not (
        audit.columns_are_noted(of_function, relation)
        and exists (
            select from audit.captured_tables as c
            where c.function_name = of_function
              and array[c.schema_name, c.table_name] = parse_ident(relation::text)))
    then
        perform audit.note_here(of_function);
    end if;
end
$body$;

revoke all on function audit.note_again(text) from public;

create or replace function audit.is_second_trigger(
    of_function text, names text[], relation oid, operation text, timing text, level text
)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
begin
    if operation <> 'TRUNCATE' and (timing <> 'AFTER' or level <> 'ROW') then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format(
                'audit: %I.%I() records changes after each row, and can be in no other trigger',
                'audit', of_function
            ),
            hint = 'drop the trigger of ' || relation::regclass;
    end if;
    return exists (
        select from pg_trigger as t
        join pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = relation
          and t.tgname = any (names)
          and t.tgenabled <> 'D'
          and (t.tgtype & 32 <> 0) = (operation = 'TRUNCATE')
          and p.pronamespace = 'audit'::regnamespace
          and p.proname = of_function
    );
end
$body$;

revoke all on function audit.is_second_trigger(
    text, text[], oid, text, text, text
) from public;

create or replace function audit.is_as_installed(
    of_function text, column_names text[], column_types text[], may_have_others boolean, hidden text[]
)
    returns boolean
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    relation constant regclass := audit.captured_relation(of_function);
begin
    -- By statements of their own: within one, PostgreSQL might work out the second question first.
    if not has_schema_privilege((select relnamespace from pg_class where oid = relation), 'usage') then
        return false;
    end if;
    if not audit.has_columns(relation, column_names, column_types, may_have_others) then
        return false;
    end if;
    return hidden = '{}' or audit.disguised(relation, of_function, hidden) = '{}';
end
$body$;

revoke all on function audit.is_as_installed(
    text, text[], text[], boolean, text[]
) from public;

create or replace function audit.await_wal(function_name text)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
declare
    known audit.captured_tables;
    wanted pg_lsn;
    present record;
    give_up_at timestamptz;
    flushed_at timestamptz;
    nothing_is_left boolean := false;
begin
    select *
    into known
    from audit.captured_tables as c
    where c.function_name = await_wal.function_name;
    if known.wal_since is null then
        return;
    end if;
    wanted := pg_current_wal_insert_lsn();
    give_up_at := clock_timestamp() + coalesce(
        nullif(current_setting('audit.wait_for_wal', true), '')::interval, '15 s'
    );
    flushed_at := clock_timestamp() + 3 * current_setting('wal_writer_delay')::interval;
    loop
        select p.read_until, p.slot_name,
            s.slot_name is not null and coalesce(s.wal_status <> 'lost', true) as is_there, s.active
        into present
        from audit.capture_progress as p
        left join pg_replication_slots as s on s.slot_name = p.slot_name;
        exit when not found
            or not present.is_there
            or present.read_until >= wanted
            or clock_timestamp() > give_up_at;
        if not present.active
            and (pg_current_wal_flush_lsn() >= wanted or clock_timestamp() > flushed_at)
        then
            -- Without a worker, the slot itself shows whether there is anything to be read: of what is
            -- flushed, as all commits are by then, also those with synchronous_commit = off.
            -- Reading waits for the end of a record that is flushed in part,
            -- which would be this transaction's own.
            begin
                if current_setting('server_version_num')::integer >= 170000 then
                    execute $flush$select pg_logical_emit_message(false, 'audit:flush', '', true)$flush$;
                elsif current_setting('server_version_num')::integer >= 160000 then
                    execute 'select pg_log_standby_snapshot()';
                end if;
            exception when insufficient_privilege then
                null;  -- then it is flushed within 15 seconds
            end;
            begin
                nothing_is_left := not exists (
                    select
                    -- Before 15, empty transactions are told, too, and would count as all that there is.
                    from pg_logical_slot_peek_binary_changes(
                        present.slot_name, null,
                        case when current_setting('server_version_num')::integer >= 150000 then 1 end,
                        'proto_version', '1',
                        'publication_names', quote_ident('audit_capture')) as told
                    where get_byte(told.data, 0) in (68, 73, 84, 85)  -- D, I, T, U
                );
                exit when nothing_is_left;
            exception when insufficient_privilege or object_in_use then
                null;
            end;
        end if;
        perform pg_sleep(0.05);
    end loop;
    if present.is_there and present.read_until < wanted and not nothing_is_left then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'audit: changes to %I.%I are still in the WAL, and not yet in the trail', known.schema_name,
                known.table_name
            ),
            hint = 'start the worker, which reads them, and try again: audit capture run';
    elsif present.is_there is not true then
        insert into audit.logged_actions (schema_name, table_name, action, new_row)
        values (known.schema_name, known.table_name, 'G', jsonb_build_object(
            'capture', 'resumed',
            'reason', 'the replication slot was lost: changes that were not read yet are unknown',
            'from_lsn', present.read_until, 'to_lsn', wanted));
    end if;
    perform set_config('audit.reading_wal', 'on', true);
    perform audit.note_changes(function_name);
    perform set_config('audit.reading_wal', '', true);
end
$body$;

revoke all on function audit.await_wal(text) from public;

create or replace function audit.read_from_wal(function_name text)
    returns boolean
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    known audit.captured_tables;
    relation oid;
    asked record;
    part record;
begin
    select *
    into known
    from audit.captured_tables as c
    where c.function_name = read_from_wal.function_name;
    relation := audit.table_with_capture(function_name, known.relation_id);
    if relation is distinct from known.relation_id then
        return false;
    end if;
    execute format('lock table %s in share row exclusive mode', relation::regclass);
    if not exists (
        select from pg_class as c
        join pg_publication_rel as r on r.prrelid = c.oid
        join pg_publication as p on p.oid = r.prpubid
        where c.oid = relation and p.pubname = 'audit_capture'
    ) then
        return false;
    end if;

    -- The guard permits DDL of whoever is installing.
    update audit.captured_tables as c
    set wal_since = coalesce(c.wal_since, pg_current_wal_insert_lsn()), installing = pg_current_xact_id()
    where c.function_name = read_from_wal.function_name;

    select c.relkind = 'p' as has_partitions, told.truncate,
        c.relkind = 'p' or told.truncate <> 'event' as keeps_truncate
    into asked
    from pg_class as c
    cross join pg_proc as p
    cross join coalesce(
        obj_description(p.oid, 'pg_proc')::jsonb #>> '{options,truncate}', 'event'
    ) as told (truncate)
    where c.oid = relation
      and p.pronamespace = 'audit'::regnamespace
      and p.proname = read_from_wal.function_name;
    if (select c.relreplident <> 'f' from pg_class as c where c.oid = relation) then
        execute format('alter table %s replica identity full', relation::regclass);
    end if;
    -- Its partitions, before their triggers.
    for part in
        select c.oid::regclass as name, c.relreplident
        from pg_partition_tree(relation) as tree
        join pg_class as c on c.oid = tree.relid
        where tree.isleaf and c.relkind = 'r' and c.oid <> relation
        order by c.oid
    loop
        if part.relreplident <> 'f' then
            execute format('alter table %s replica identity full', part.name);
        end if;
        if not exists (
            select from pg_trigger as t
            join pg_proc as p on p.oid = t.tgfoid
            where t.tgrelid = part.name and t.tgtype & 32 <> 0
              and p.pronamespace = 'audit'::regnamespace
              and p.proname = read_from_wal.function_name
        ) then
            execute format(
                'create trigger %I before truncate on %s for each statement execute function %I.%I()',
                case asked.truncate when 'forbid' then '00_audit_truncate' else '00_audit_truncate_rows' end,
                part.name, 'audit', function_name);
        end if;
    end loop;
    for part in
        select t.tgrelid::regclass as name, t.tgname, t.tgtype & 32 <> 0 and asked.keeps_truncate as is_kept
        from pg_trigger as t
        join pg_proc as p on p.oid = t.tgfoid
        where (
            t.tgrelid = relation
            or t.tgrelid in (select relid from pg_partition_tree(relation)) and t.tgtype & 32 <> 0
        )
          and t.tgenabled <> case when t.tgtype & 32 <> 0 and asked.keeps_truncate then 'A' else 'D' end
          and p.pronamespace = 'audit'::regnamespace
          and p.proname = read_from_wal.function_name
    loop
        -- Of a table with partitions, this goes down to theirs.
        execute format(
            'alter table %s %s trigger %I', part.name,
            case when part.is_kept then 'enable always' else 'disable' end, part.tgname
        );
    end loop;
    update audit.captured_tables as c
    set triggers = audit.triggers_of(relation, c.function_name), installing = null
    where c.function_name = read_from_wal.function_name;
    return true;
end
$body$;

revoke all on function audit.read_from_wal(text) from public;

create or replace function audit.record_by_triggers(function_name text, reason text)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    known audit.captured_tables;
    off record;
begin
    select *
    into known
    from audit.captured_tables as c
    where c.function_name = record_by_triggers.function_name;
    -- The guard permits DDL of whoever is installing.
    update audit.captured_tables as c
    set wal_since = null, fallback = reason, installing = pg_current_xact_id()
    where c.function_name = record_by_triggers.function_name;
    if exists (select from pg_class where oid = known.relation_id) then
        execute format('lock table %s in share row exclusive mode', known.relation_id::regclass);
    end if;
    for off in
        select t.tgrelid::regclass as name, t.tgname
        from pg_trigger as t
        join pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = known.relation_id and t.tgenabled <> 'A'
          and p.pronamespace = 'audit'::regnamespace
          and p.proname = record_by_triggers.function_name
    loop
        -- Of a table with partitions, this goes down to theirs.
        execute format('alter table %s enable always trigger %I', off.name, off.tgname);
    end loop;
    update audit.captured_tables as c
    set triggers = audit.triggers_of(c.relation_id, c.function_name), installing = null
    where c.function_name = record_by_triggers.function_name;
end
$body$;

revoke all on function audit.record_by_triggers(text, text) from public;

create or replace function audit.has_other_key(function_name text)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
    select key <> present or exists (
        -- Dropped, and made anew under its name.
        select from jsonb_each_text(installed_columns) as installed (number, name)
        where name = any (key)
        group by name
        having count(*) > 1
    )
    from (
        select
            c.installed_columns,
            array(
                select jsonb_array_elements_text(obj_description(p.oid, 'pg_proc')::jsonb -> 'key')
            ) as key,
            array(
                select coalesce(c.installed_columns ->> part.attnum::text, '')
                from pg_index as i
                cross join unnest(i.indkey::smallint[]) with ordinality as part (attnum, place)
                where i.indrelid = c.relation_id and i.indisprimary and part.place <= i.indnkeyatts
                order by part.place
            ) as present
        from audit.captured_tables as c
        join pg_proc as p on p.proname = c.function_name
        where c.function_name = has_other_key.function_name
          and p.pronamespace = 'audit'::regnamespace
          and jsonb_typeof(obj_description(p.oid, 'pg_proc')::jsonb -> 'key') = 'array'
    ) as compared
$body$;

revoke all on function audit.has_other_key(text) from public;

create or replace function audit.has_withheld(function_name text)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
    select exists (
        select from pg_attribute as a
        where a.attrelid = told.relation_id and a.attnum > 0 and not a.attisdropped
          and (
              not told.installed_columns ? a.attnum::text
              or a.attname = any (told.hidden) and told.installed_columns ->> a.attnum::text <> a.attname
          )
    )
    from (
        select
            c.relation_id, c.installed_columns,
            array(
                select jsonb_array_elements_text(options -> 'exclude')
                union all
                select jsonb_object_keys(options -> 'mask')
            ) as hidden
        from audit.captured_tables as c
        join pg_proc as p on p.proname = c.function_name
        cross join lateral (
            select obj_description(p.oid, 'pg_proc')::jsonb -> 'options' as options
        ) as installed
        where c.function_name = has_withheld.function_name
          and p.pronamespace = 'audit'::regnamespace
    ) as told
    where told.hidden
        <> audit.names_now(told.relation_id, has_withheld.function_name, told.hidden)
$body$;

revoke all on function audit.has_withheld(text) from public;

create or replace function audit.has_truncated_leaf(
    relation regclass, function_name text
)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
    select exists (
        select from pg_partition_tree(relation) as leaf
        where leaf.isleaf and leaf.level > 0
          and pg_relation_filenode(leaf.relid) <> leaf.relid::oid
          and not exists (
            select from pg_trigger as t
            join pg_proc as p on p.oid = t.tgfoid
            where t.tgrelid = leaf.relid
              and p.pronamespace = 'audit'::regnamespace
              and p.proname = has_truncated_leaf.function_name
              and t.tgtype & 32 <> 0  -- TRIGGER_TYPE_TRUNCATE
          )
    )
$body$;

revoke all on function audit.has_truncated_leaf(regclass, text) from public;

create or replace function audit.note_former(relation regclass, function_name text)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    said jsonb;
    name_now text[];
    key_now jsonb;
begin
    select obj_description(p.oid, 'pg_proc')::jsonb into said
    from pg_proc as p
    where p.proname = note_former.function_name
      and p.pronamespace = 'audit'::regnamespace
      and obj_description(p.oid, 'pg_proc') like '{"%';
    select array[n.nspname, c.relname], coalesce(
        (
            select jsonb_agg(a.attname order by k.place)
            from pg_index as i
            cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
            join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
            where i.indrelid = c.oid and i.indisprimary and k.place <= i.indnkeyatts
        ),
        '[]')
    into name_now, key_now
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = relation;
    if not exists (
        select from audit.logged_actions
        where schema_name = said -> 'table' ->> 0 and table_name = said -> 'table' ->> 1
    ) then
        return;
    end if;
    if said -> 'table' <> to_jsonb(name_now) and not exists (
        -- Events under the name are those of another audited table, too, and nothing tells them apart.
        select from pg_trigger as t
        join pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = to_regclass(format('%I.%I', said -> 'table' ->> 0, said -> 'table' ->> 1))
          and p.pronamespace = 'audit'::regnamespace
          and p.proname like 'capture\_%'
    ) then
        insert into audit.logged_actions (schema_name, table_name, action, new_row)
        values (name_now[1], name_now[2], 'M', jsonb_build_object(
            'change', 'renamed',
            'from', said -> 'table',
            'to', to_jsonb(name_now),
            'relation', relation::oid::bigint));
    end if;
    if said -> 'key' <> key_now then
        insert into audit.logged_actions (schema_name, table_name, action, new_row)
        values (name_now[1], name_now[2], 'G', jsonb_build_object(
            'capture', 'resumed',
            'reason', 'its primary key was changed: events of before have the former key'));
    end if;
end
$body$;

revoke all on function audit.note_former(regclass, text) from public;

create or replace function audit.note_beginning(relation regclass, function_name text)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
declare
    known audit.captured_tables;
    name_of record;
    captures oid;
    last_event record;
    former record;
    takes_statements boolean;
    is_on boolean;
    changed text;
    meant jsonb;
    columns_changed jsonb;
begin
    perform audit.require_owner(relation);
    captures := audit.table_with_capture(function_name, relation);
    if captures <> relation then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('audit: %I.%s() captures %s in this database, not %s',
                'audit', function_name, captures::regclass, relation),
            hint = 'tables were renamed by hand, here or where this was written: make the names agree';
    end if;
    select n.nspname as schema_name, c.relname as table_name into strict name_of
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = relation;
    -- Only what the trail knows under its OID or name, because a migration may install hundreds of tables.
    perform audit.note_changes(c.function_name)
    from audit.captured_tables as c
    where c.relation_id = relation
      or (c.schema_name, c.table_name) = (name_of.schema_name, name_of.table_name)
        or c.function_name = note_beginning.function_name;

    update audit.captured_tables as c
    set installing = pg_current_xact_id()
    where c.relation_id = relation or c.function_name = note_beginning.function_name;

    select * into known from audit.captured_tables as c where c.relation_id = relation;
    if found
        and known.triggers <> '{}'
        and known.triggers = audit.triggers_of(relation, known.function_name)
    then
        takes_statements := obj_description(
            to_regproc(format('%I.%I', 'audit', known.function_name)), 'pg_proc'
        )::jsonb #>> '{options,capture}' = 'statement';
        changed := case
            when known.code <> audit.code_of(known.function_name)
                then 'its capture function was changed by hand: changes may be missing'
            when audit.has_other_key(known.function_name)
                then 'its primary key was changed: events of before have the former key'
            when audit.has_withheld(known.function_name)
                then 'a column to be hidden was renamed or dropped: values of other columns were left out'
            when takes_statements and exists (select from pg_subscription_rel where srrelid = relation)
                then 'rows that replication brought were not recorded'
            when takes_statements and exists (select from pg_inherits where relation in (inhparent, inhrelid))
                then 'it is in an inheritance tree: rows of other tables were recorded as its own, or missed'
            when audit.has_truncated_leaf(relation, known.function_name)
                then 'a partition that came since may have been truncated, which was not recorded'
        end;
        if changed is null then
            return;  -- capture was never off
        end if;
        insert into audit.logged_actions (schema_name, table_name, action, new_row)
        values (name_of.schema_name, name_of.table_name, 'G', jsonb_build_object(
            'capture', 'resumed',
            'reason', changed,
            'since', known.sound_at));
        update audit.captured_tables as c
        set whole_after = null, whole_since = null
        where c.relation_id = relation;
        return;
    end if;
    is_on := known.function_name is null and exists (
        -- Capture that is not in the registry.
        select from pg_trigger as t
        join pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = relation
          and p.proname = note_beginning.function_name
          and p.pronamespace = 'audit'::regnamespace
          and not exists (
              select from audit.captured_tables as c
              where c.function_name = note_beginning.function_name
          )
        having bool_and(t.tgenabled = 'A'));
    if is_on and not exists (
        -- Releases without a registry said nothing of capture; otherwise it was taken out of it.
        select from audit.logged_actions as e
        where e.schema_name = name_of.schema_name
          and e.table_name = name_of.table_name
          and e.row_key is null
          and e.action = 'M'
          and e.new_row ->> 'change' in ('capture', 'dropped')
    ) then
        perform audit.note_former(relation, function_name);
        return;
    end if;

    select event_id, action, new_row into last_event
    from audit.logged_actions
    where schema_name = name_of.schema_name and table_name = name_of.table_name
    order by event_id desc
    limit 1;
    delete from audit.captured_tables as c where c.relation_id = relation;

    -- It may have had another name in the trail: capture was removed, and is installed again.
    select heard.* into former
    from audit.names_known() as name
    cross join lateral (
        select e.event_id, e.schema_name, e.table_name, e.new_row
        from audit.logged_actions as e
        where e.schema_name = name.schema_name
          and e.table_name = name.table_name
          and e.row_key is null
          and e.action in ('M', 'G')
          and e.new_row ->> 'relation' = note_beginning.relation::oid::text
        order by e.event_id desc
        limit 1
    ) as heard
    where not audit.is_elsewhere() and heard.event_id > coalesce((
        -- In another place, OIDs belong to other tables.
        select max(e.event_id) from audit.logged_actions as e
        where e.schema_name = 'audit'
          and e.table_name = 'logged_actions'
          and e.action = 'B'), 0)
    order by heard.event_id desc
    limit 1;
    if (former.schema_name, former.table_name) <> (name_of.schema_name, name_of.table_name) then
        insert into audit.logged_actions (schema_name, table_name, action, new_row)
        values (name_of.schema_name, name_of.table_name, 'M', jsonb_build_object(
            'change', 'renamed',
            'from', jsonb_build_array(former.schema_name, former.table_name),
            'to', jsonb_build_array(name_of.schema_name, name_of.table_name),
            'relation', relation::oid::bigint));
    elsif last_event is null then
        return;  -- the trail has nothing about it yet
    end if;
    if exists (
        -- The events under its name belong to a table that was renamed later, perhaps before it was dropped.
        select from audit.moved_to(name_of.schema_name, name_of.table_name)
    ) then
        insert into audit.logged_actions (schema_name, table_name, action, new_row)
        values (
            name_of.schema_name, name_of.table_name, 'M',
            jsonb_build_object('change', 'created', 'relation', relation::oid::bigint)
        );
        return;
    end if;
    -- Columns that were renamed meanwhile are the same.
    if known.function_name is null and former.new_row ? 'columns' then
        columns_changed := audit.changed_columns(
            former.new_row -> 'columns', audit.columns_of(relation)
        );
        if columns_changed - 'change' <> '{}' then
            insert into audit.logged_actions (schema_name, table_name, action, new_row)
            values (name_of.schema_name, name_of.table_name, 'M', columns_changed);
        end if;
    end if;
    meant := case
        when known.function_name is null then former.new_row -> 'meant'
        when known.code is null then known.meant_columns
        else known.meant_columns || jsonb_build_object(known.code, known.installed_columns)
    end;
    insert into audit.logged_actions (schema_name, table_name, action, new_row)
    values (name_of.schema_name, name_of.table_name, 'G', jsonb_strip_nulls(jsonb_build_object(
        'capture', 'resumed',
        'since', known.sound_at,
        'meant', nullif(meant, '{}'),
        'reason', case
            when former is null and last_event.action = 'M' and last_event.new_row ->> 'change' = 'dropped'
                then 'the table was made anew'
            when is_on then 'the registry of captured tables did not have it: changes may be missing'
            else 'capture was installed again; it was off for a while'
        end)));
end
$body$;

revoke all on function audit.note_beginning(regclass, text) from public;

create or replace function audit.begin_capture(relation regclass, function_name text)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
begin
    execute format('lock table %s in share row exclusive mode', relation);
    perform audit.await_wal(function_name);
    perform audit.note_beginning(relation, function_name);
end
$body$;

revoke all on function audit.begin_capture(regclass, text) from public;

create or replace function audit.columns_meant(
    relation regclass, function_name text, meant jsonb
)
    returns jsonb
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
    select coalesce(
        jsonb_object_agg(
            number,
            case
                when rule.only is not null and not rule.only ? (entry ->> 'name') and not in_key
                    then ''
                else coalesce(meant ->> number, entry ->> 'name')
            end),
        '{}')
    from audit.columns_of(relation) as present (columns)
    cross join jsonb_each(present.columns) as column_now (number, entry)
    cross join lateral (
        select exists (
            select from pg_index as i
            where i.indrelid = relation and i.indisprimary and number::smallint = any (i.indkey::smallint[])
        ) as in_key
    ) as key
    left join (
        select nullif(obj_description(p.oid, 'pg_proc')::jsonb #> '{options,only}', '[]') as only
        from pg_proc as p
        where p.proname = columns_meant.function_name
          and p.pronamespace = 'audit'::regnamespace
    ) as rule on true
    -- What came since and has the name of one that was there stays unknown, so that it is hidden like that.
    where meant ? number or not exists (
        select from jsonb_each_text(meant) as known (former, name)
        where name = entry ->> 'name' and present.columns ? former
    )
$body$;

revoke all on function audit.columns_meant(regclass, text, jsonb) from public;

create or replace function audit.note_capture(relation regclass, function_name text)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
declare
    since timestamptz := clock_timestamp();
    meant jsonb;
begin
    perform audit.require_owner(relation);
    -- The owner of one table must not register the function of another one for it, unless they own both.
    perform audit.require_owner(c.relation_id)
    from audit.captured_tables as c
    where c.function_name = note_capture.function_name
      and c.relation_id <> relation
      and audit.table_with_capture(c.function_name, c.relation_id) = c.relation_id;
    if audit.triggers_of(relation, function_name) = '{}' then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format(
                'audit: %s has no triggers that run %I.%I()', relation, 'audit', function_name
            ),
            hint = 'install capture: audit install --table ' || relation;
    end if;
    -- It may have been on the table before, and mean columns that have other names now.
    if not exists (
        select from audit.captured_tables as c
        where c.function_name = note_capture.function_name
    ) then
        select e.new_row -> 'meant'
        into meant
        from pg_class as t
        join pg_namespace as n on n.oid = t.relnamespace
        join audit.logged_actions as e
          on e.schema_name = n.nspname and e.table_name = t.relname
         and e.row_key is null and e.action = 'G'
        where t.oid = relation
        order by e.event_id desc
        limit 1;
    end if;
    -- Reinstalled under another name, it has another function.
    delete from audit.captured_tables as c
    where c.relation_id = relation and c.function_name <> note_capture.function_name
    returning c.captured_since into since;

    insert into audit.captured_tables as c
        (
            function_name, relation_id, schema_name, table_name, columns, installed_columns, meant_columns,
            partitions, triggers, code, sound_at, captured_since, whole_after, whole_since, deltas_after
        )
    select
        note_capture.function_name, t.oid, n.nspname, t.relname, audit.columns_of(t.oid),
        audit.columns_meant(
            relation, note_capture.function_name,
            meant -> audit.code_of(note_capture.function_name)
        ),
        coalesce(meant, '{}'),
        audit.partitions_of(t.oid),
        audit.triggers_of(t.oid, note_capture.function_name),
        audit.code_of(note_capture.function_name), clock_timestamp(),
        coalesce(since, clock_timestamp()),
        case when born.is_empty then born.newest_id end, case when born.is_empty then clock_timestamp() end,
        born.newest_id
    from pg_class as t
    join pg_namespace as n on n.oid = t.relnamespace
    cross join lateral (
        select
            -- No file of it has a page, which needs no right to read it.
            coalesce(
                (select sum(pg_relation_size(tree.relid)) from pg_partition_tree(t.oid) as tree),
                pg_relation_size(t.oid)
            ) = 0
            and not exists (
                select from audit.logged_actions as e
                where e.schema_name = n.nspname and e.table_name = t.relname) as is_empty,
            coalesce(
                pg_sequence_last_value('audit.logged_actions_event_id_seq'), 0
            ) as newest_id
    ) as born
    where t.oid = relation
    on conflict on constraint captured_tables_pkey do update
    set relation_id = excluded.relation_id, schema_name = excluded.schema_name,
        table_name = excluded.table_name,
        installing = null,
        columns = excluded.columns,
        installed_columns = case
            -- The same again: meant as it is written, and for the columns of now.
            when c.relation_id <> excluded.relation_id or c.code = excluded.code
                then excluded.installed_columns
            when c.meant_columns ? excluded.code
                then audit.columns_meant(
                    relation, c.function_name, c.meant_columns -> excluded.code
                )
            else excluded.installed_columns
        end,
        meant_columns = case
            when c.relation_id <> excluded.relation_id then '{}'
            when c.code is null then c.meant_columns
            else c.meant_columns || jsonb_build_object(c.code, c.installed_columns)
        end,
        partitions = excluded.partitions, triggers = excluded.triggers,
        code = excluded.code, sound_at = excluded.sound_at,
        deltas_after = excluded.deltas_after,
        captured_since = case
            when c.relation_id = excluded.relation_id then c.captured_since
            else excluded.captured_since
        end,
        whole_after = case
            when c.relation_id = excluded.relation_id then c.whole_after
            else excluded.whole_after
        end,
        whole_since = case
            when c.relation_id = excluded.relation_id then c.whole_since
            else excluded.whole_since
        end;

    -- Under another rule, triggers record it again; begin_capture waited for what was in the WAL.
    update audit.captured_tables as c
    set wal_since = null, fallback = null
    from pg_proc as p
    where c.function_name = note_capture.function_name
      and (c.wal_since is not null or c.fallback is not null)
      and p.proname = c.function_name
      and p.pronamespace = 'audit'::regnamespace
      and obj_description(p.oid, 'pg_proc')::jsonb #>> '{options,capture}' is distinct from 'wal';

    perform audit.let_owner_partition(relation, function_name);
end
$body$;

revoke all on function audit.note_capture(regclass, text) from public;

create or replace function audit.note_put_back(relation regclass, function_name text)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
begin
    perform audit.require_owner(relation);
    update audit.captured_tables as c
    set installed_columns = (
        select coalesce(jsonb_object_agg(number, coalesce(meant ->> number, entry ->> 'name')), '{}')
        from jsonb_each(c.columns) as column_now (number, entry)
        cross join (select c.meant_columns -> c.code) as of_function (meant)
        -- A column that came since has its name only where none is meant by it.
        where meant ? number or not exists (
            select from jsonb_each_text(meant) as known (former, name)
            where name = entry ->> 'name' and c.columns ? former)
    )
    where c.function_name = note_put_back.function_name
      and c.relation_id = relation
      and c.meant_columns ? c.code;
end
$body$;

revoke all on function audit.note_put_back(regclass, text) from public;

create or replace function audit.end_capture(function_name text)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
declare
    known audit.captured_tables;
begin
    perform audit.await_wal(function_name);
    perform audit.note_changes(function_name);
    select *
    into known
    from audit.captured_tables as c
    where c.function_name = end_capture.function_name;
    if not found then
        return;
    end if;
    perform audit.require_owner(known.relation_id);
    if exists (
        select from audit.logged_actions
        where schema_name = known.schema_name and table_name = known.table_name
    ) then
        insert into audit.logged_actions (schema_name, table_name, action, new_row)
        values (known.schema_name, known.table_name, 'G', jsonb_build_object(
            'capture', 'ended', 'reason', 'capture was taken off the table',
            'relation', known.relation_id::bigint,
            -- What an installation after this one needs, to follow columns that are renamed meanwhile.
            'columns', known.columns,
            'meant', known.meant_columns || case
                when known.code is null then '{}'
                else jsonb_build_object(known.code, known.installed_columns)
            end));
    end if;
    delete from audit.captured_tables as c where c.function_name = end_capture.function_name;
end
$body$;

revoke all on function audit.end_capture(text) from public;

create or replace function audit.record_gap(relation regclass, capture text, reason text)
    returns bigint
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
declare
    event bigint;
begin
    if capture is null or capture not in ('paused', 'resumed') or coalesce(trim(reason), '') = '' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'audit: a gap must be paused or resumed, with a reason';
    end if;
    perform audit.require_owner(relation);
    -- All of them: the OID of a restored table is not known yet.
    perform audit.note_changes();
    update audit.captured_tables as c
    set triggers = case capture
        when 'resumed' then audit.triggers_of(relation, c.function_name)
        else '{}'
    end,
        deltas_after = coalesce(
            pg_sequence_last_value('audit.logged_actions_event_id_seq'), 0
        ),
        whole_after = null, whole_since = null,  -- from here on, not every row has an event
        installing = pg_current_xact_id()
    where c.relation_id = relation;

    insert into audit.logged_actions (schema_name, table_name, action, new_row)
    select n.nspname, c.relname, 'G', jsonb_build_object('capture', capture, 'reason', reason)
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = relation
    returning event_id into strict event;
    return event;
end
$body$;

revoke all on function audit.record_gap(regclass, text, text) from public;

create or replace function audit.write_event(
    name text, payload jsonb, relation regclass, row_key text
)
    returns bigint
    language plpgsql
    security definer  -- callers may record events, and need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
declare
    present text[];
    event bigint;
begin
    if coalesce(name, '') !~ '\S' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'audit: an event of the application needs a name',
            hint = 'for example order.refunded';
    end if;
    if relation is not null then
        present := parse_ident(relation::text);
        -- Renamed, and not written to since.
        if exists (
            select from audit.captured_tables as c
            where c.relation_id = relation and array[c.schema_name, c.table_name] <> present
        ) then
            perform audit.note_here(null);
        end if;
    end if;
    -- The transaction gets its id before the event, for readers that follow the trail.
    perform pg_current_xact_id();
    insert into audit.logged_actions (schema_name, table_name, action, row_key, new_row)
    values (
        coalesce(present[1], 'audit'), coalesce(present[2], 'logged_actions'),
        'E', row_key, jsonb_build_object('name', name, 'payload', payload))
    returning event_id into strict event;
    return event;
end
$body$;

revoke all on function audit.write_event(text, jsonb, regclass, text) from public;

create or replace function audit.record_event(
    name text, payload jsonb default null, relation regclass default null, key text default null
)
    returns bigint
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    root constant regclass := coalesce(pg_partition_root(relation), relation);
begin
    if key is not null and root is null then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'audit: an event about a key needs the table that the key is of',
            hint = 'select audit.record_event(name, payload, table, key)';
    end if;
    return audit.write_event(
        name, payload, root, case when key is not null then audit.row_key_of(root, key) end);
end
$body$;

revoke all on function audit.record_event(text, jsonb, regclass, text) from public;

create or replace function audit.doubtful_events(newest bigint default null)
    returns table (event_id bigint, reason text)
    language plpgsql
    stable
    security definer  -- a maintainer may call it, but cannot read the trail
    set search_path = pg_catalog, pg_temp
as $body$
declare
    trail constant regclass := 'audit.logged_actions';
    own constant xid8 := pg_current_xact_id_if_assigned();
    future constant xid8 := pg_snapshot_xmax(pg_current_snapshot());
    last_id constant bigint := 4611686018427387904;  -- half of what there is: no sequence comes so far
    above bigint;
begin
    if (
        select count(*) <> 1 or not bool_and(
            coalesce(noted.system_identifier = present.system_identifier, true)
            and noted.database_oid = present.database_oid and noted.trail_oid = present.trail_oid)
        from audit.home as noted
        cross join audit.present_home() as present
    ) or exists (
        select from pg_subscription_rel
        where srrelid = trail or srrelid in (select inhrelid from pg_inherits where inhparent = trail)
    ) then
        return;
    end if;
    -- The B event was written together with the row of home that it describes.
    select greatest(
        (
            select max(e.event_id)
            from audit.logged_actions as e
            where e.schema_name = 'audit'
              and e.table_name = 'logged_actions'
              and e.action = 'B'
              and e.xmin = (select noted.xmin from audit.home as noted)
        ),
        (
            select max(e.event_id) from audit.logged_actions as e where e.event_id <= last_id
        ) - newest,
        0)
    into above;

    return query
    with event as materialized (
        select
            e.event_id, e.action, e.transaction_id, e.transaction_tstamp,
            coalesce(host(e.client_addr), '') as client,
            e.xmin::text::bigint as written_by,
            e.transaction_id::text::bigint & 4294967295 as named
        from audit.logged_actions as e
        where e.event_id > above
          and e.transaction_tstamp is not null
          and e.tableoid not in (
            select l.leaf::oid
            from audit.partition_lifecycle as l
            where l.archive is not null and l.state <> 'dropped')
    ), two_minds as (
        select e.transaction_id
        from event as e
        group by e.transaction_id
        having count(distinct e.transaction_tstamp) > 1 or count(distinct e.client) > 1
    ), doubt as (
        select
            e.event_id,
            case
                when e.event_id > last_id then 'no sequence gave its id'
                when e.written_by > 2 and (e.written_by - e.named) & 4294967295 > 2147483647
                    then 'it was written before the transaction began that it names'
                when e.transaction_id is distinct from own and e.transaction_id >= future
                    then 'the transaction that it names has not begun'
                when e.transaction_id is distinct from own and pg_xact_status(e.transaction_id) <> 'committed'
                    then 'the transaction that it names did not commit'
                when e.written_by <> e.named
                    and exists (select from event as other where other.named = e.written_by)
                    -- A redaction wrote it again, and left its number in the place of what it took away.
                    and not exists (
                        select
                        from event as redaction
                        join audit.logged_actions as left_over
                            on left_over.event_id = e.event_id
                        where redaction.action = 'R'
                          and redaction.event_id > e.event_id
                          and redaction.named = e.written_by
                          and concat_ws(
                              ' ', left_over.row_key, left_over.old_row_key, left_over.query,
                              left_over.context, left_over.old_row, left_over.new_row
                          )
                              ~ format('(audit:redacted": |\mredacted:)%s\M', redaction.event_id))
                    then 'another transaction than the one that it names wrote it'
                when e.transaction_id in (select two_minds.transaction_id from two_minds)
                    then 'events of its transaction name two beginnings or two clients'
            end as why
        from event as e
    )
    select doubt.event_id, doubt.why
    from doubt
    where doubt.why is not null
    order by doubt.event_id
    limit 1000;
end
$body$;

revoke all on function audit.doubtful_events(bigint) from public;

create or replace function audit.note_dropped(partition oid, by_hand boolean default false)
    returns bigint
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    noted bigint;
    entry record;
begin
    -- One at a time, so that the next one vouches for this one.
    lock table audit.partition_lifecycle in share row exclusive mode;
    if not exists (
        select from audit.partition_lifecycle as l
        where l.leaf::oid = partition and l.state = 'dropped' and l.drop_event is null
    ) then
        return null;
    end if;
    perform pg_current_xact_id();  -- the transaction gets its id before the event
    noted := nextval('audit.logged_actions_event_id_seq'::regclass);
    update audit.partition_lifecycle as l
    set drop_event = noted
    where l.leaf::oid = partition and l.state = 'dropped' and l.drop_event is null
    returning * into strict entry;
    insert into audit.logged_actions (event_id, schema_name, table_name, action, new_row)
    select
        noted, 'audit', 'logged_actions', 'M',
        jsonb_strip_nulls(jsonb_build_object(
            'change', 'partition', 'partition', entry.leaf_name, 'by_hand', nullif(by_hand, false),
            'lower', entry.lower_bound, 'upper', entry.upper_bound,
            'events', sum(p.events), 'first', min(p.first_id), 'last', max(p.last_id),
            'archive', entry.archive, 'digest', entry.archive_digest, 'manifest', entry.archive_manifest,
            'records', (
                select encode(
                    sha256(
                        convert_to(
                            string_agg(said.record, E'\n' order by said.drop_event, said.entry_id), 'UTF8'
                        )
                    ),
                    'hex'
                )
                from (
                    select l.drop_event, l.entry_id, jsonb_build_array(
    l.leaf_name, extract(epoch from l.lower_bound), extract(epoch from l.upper_bound),
    extract(epoch from l.dropped_at),
    l.archived_at is not null, l.drop_event,
    (select jsonb_agg(jsonb_build_array(p.leaf_name, p.first_id, p.last_id, p.events) order by p.leaf_name)
     from audit.seal_partitions as p where p.leaf = l.leaf))::text as record
                    from audit.partition_lifecycle as l
                    where l.drop_event <= noted and l.state = 'dropped'
                ) as said
            )))
    from (select) as one
    left join audit.seal_partitions as p on p.leaf = partition::regclass;
    return noted;
end
$body$;

revoke all on function audit.note_dropped(oid, boolean) from public;

create or replace function audit.maintain_limits(
    out kept_until timestamptz, out quarantined_until timestamptz, out archived_only boolean
)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $body$
begin
    select
        clock_timestamp() - (m.summary ->> 'retention')::interval,
        clock_timestamp() - (m.summary ->> 'quarantine')::interval,
        (m.summary ->> 'archived_only')::boolean
    into kept_until, quarantined_until, archived_only
    from audit.maintenance as m
    where m.command = 'limits';
    if kept_until is null or quarantined_until is null or archived_only is null then
        raise exception using
            errcode = 'insufficient_privilege',
            message = 'audit: the owner of the trail has not set which partitions a'
                ' maintainer may detach and drop',
            hint = 'as the owner, run what this prints: audit grants --maintainer ROLE --retention SPAN';
    end if;
end
$body$;

revoke all on function audit.maintain_limits() from public;

create or replace function audit.maintain_lock()
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
begin
    lock table audit.maintenance in share update exclusive mode;
end
$body$;

revoke all on function audit.maintain_lock() from public;

create or replace function audit.maintain_interval(unit text)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
declare
    trail constant regclass := 'audit.logged_actions';
begin
    if unit is null or unit not in ('day', 'week', 'month') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'audit: the interval of partitions must be one of: '
                || 'day, week, month';
    end if;
    execute format(
        'comment on table %s is %L', trail,
        regexp_replace(
            obj_description(trail, 'pg_class'), '"interval": "[a-z]+"', format('"interval": "%s"', unit)
        ));
end
$body$;

revoke all on function audit.maintain_interval(text) from public;

create or replace function audit.maintain_create(
    names text[], bounds timestamptz[], move_tail boolean
)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
as $body$
declare
    trail constant regclass := 'audit.logged_actions';
    number_of_new constant integer := cardinality(names);
    tail regclass;
    end_of_all timestamptz;
    free text := 'logged_actions_tail';
    obsolete name;
begin
    if names is null or bounds is null or move_tail is null
        or array_ndims(bounds) <> 1 or coalesce(array_ndims(names), 1) <> 1
        or cardinality(bounds) <> number_of_new + 1
        or exists (
            select from unnest(names) as new (name)
            where name is null or name !~ '^logged_actions_[a-z0-9_]{1,40}$'
        )
        or exists (
            select
            from unnest(bounds) with ordinality as b (bound, place)
            where bound is null
              or not isfinite(bound)
              or date_trunc('day', bound) <> bound
              or bound <= bounds[place - 1]
        )
    then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'audit: partitions need names that begin with logged_actions_, and rising bounds at'
                ' midnight UTC, one more than names';
    end if;
    if not move_tail and bounds[number_of_new + 1] <= clock_timestamp() then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'audit: past times need no new partition: events carry the time of their capture';
    end if;
    if (select count(*) from audit.leaves()) + number_of_new > 5000 then
        raise exception using
            errcode = 'program_limit_exceeded',
            message = 'audit: the trail would have more than 5000 partitions';
    end if;

    -- Created while nobody waits: they need no lock on the trail until they are attached.
    for number in 1 .. number_of_new loop
        perform audit.make_leaf(names[number]);
    end loop;
    if move_tail then
        lock table only audit.logged_actions in access exclusive mode;
        select l.leaf, l.lower_bound
        into tail, end_of_all
        from audit.leaves() as l
        where l.is_tail;
        if tail is null then
            end_of_all := coalesce(
                (select max(l.upper_bound) from audit.leaves() as l),
                least(bounds[1], clock_timestamp())
            );
        end if;
        if bounds[1] is distinct from end_of_all then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = format(
                    'audit: new partitions must begin where the last one ends, %s:'
                        ' writes in between would fail',
                    end_of_all
                );
        end if;
        if tail is not null then
            -- Other sessions now wait for this transaction, so it must not wait for a lock.
            execute format('lock table %s in access exclusive mode nowait', tail);
            execute format('alter table %s detach partition %s', trail, tail);
        end if;
    elsif exists (select from audit.leaves() where is_default) then
        lock table only audit.logged_actions in share row exclusive mode;
    else
        lock table only audit.logged_actions in share update exclusive mode;
    end if;
    for number in 1 .. number_of_new loop
        execute format(
            'alter table only %s attach partition %I.%I for values from (%L) to (%L)',
            trail, 'audit', names[number], bounds[number], bounds[number + 1]);
    end loop;
    if not move_tail then
        return;
    end if;

    if tail is null then
        -- A run detached it and ended before attaching it again, or it does not exist.
        select c.oid into tail
        from pg_class as c
        where c.relnamespace = 'audit'::regnamespace
          and c.relname like 'logged\_actions\_tail%'
          and c.relkind = 'r'
          and not c.relispartition
          and c.relowner = (select relowner from pg_class where oid = trail)
          and obj_description(c.oid, 'pg_class') = '{"tool": "audit-toolkit"}'
          and not exists (
              select from audit.partition_lifecycle as l
              where l.leaf = c.oid and l.state <> 'dropped'
          )
        order by c.relname
        limit 1;
    end if;
    if tail is null then
        while to_regclass(format('%I.%I', 'audit', free)) is not null loop
            free := 'logged_actions_tail_' || coalesce(nullif(substr(free, 21), '')::integer, 1) + 1;
        end loop;
        tail := audit.make_leaf(free);
    end if;
    execute format(
        'alter table only %s attach partition %s for values from (%L) to (maxvalue)', trail, tail,
        bounds[number_of_new + 1]);
    -- A CHECK left by a detach or a relabelling has other bounds, and would refuse events.
    for obsolete in
        select k.conname
        from pg_constraint as k
        join pg_attribute as a on a.attrelid = k.conrelid and k.conkey = array[a.attnum]
        where k.conrelid = tail and k.contype = 'c' and k.coninhcount = 0 and a.attname = 'action_tstamp'
    loop
        execute format('alter table %s drop constraint %I', tail, obsolete);
    end loop;
end
$body$;

revoke all on function audit.maintain_create(text[], timestamptz[], boolean) from public;

create or replace function audit.maintain_cap(first timestamptz, upper timestamptz)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
as $body$
declare
    tail regclass;
    tail_begins timestamptz;
begin
    select l.leaf, l.lower_bound
    into tail, tail_begins
    from audit.leaves() as l
    where l.is_tail and not l.detach_pending;
    if upper < clock_timestamp() + interval '30 days' or not isfinite(upper)
        or first > tail_begins and tail_begins < clock_timestamp() + interval '1 day' or not isfinite(first)
    then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'audit: the catch-all partition must not end within 30 days, nor begin later'
                ' than now: writes would fail';
    end if;
    execute format('alter table %s drop constraint if exists audit_relabel_cap', tail);
    if first is not null or upper is not null then
        create or replace function pg_temp.audit_relabel_cap()
            returns boolean
            language sql
            immutable
        as 'select true';
        grant execute on function pg_temp.audit_relabel_cap() to public;
        execute format(
            'alter table %s add constraint audit_relabel_cap check (%s) not valid', tail,
            concat_ws(
                ' and ', 'action_tstamp >= ' || quote_literal(first) || '::timestamptz',
                'action_tstamp < ' || quote_literal(upper) || '::timestamptz',
                'pg_temp.audit_relabel_cap()'));
    end if;
end
$body$;

revoke all on function audit.maintain_cap(timestamptz, timestamptz) from public;

create or replace function audit.maintain_past()
    returns boolean
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
begin
    return audit.ensure_past();
end
$body$;

revoke all on function audit.maintain_past() from public;

create or replace function audit.maintain_validate()
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
begin
    execute format(
        'alter table %s validate constraint audit_relabel_cap',
        (select l.leaf from audit.leaves() as l where l.is_tail));
end
$body$;

revoke all on function audit.maintain_validate() from public;

create or replace function audit.maintain_relabel(
    new_name text, names text[], bounds timestamptz[]
)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
as $body$
declare
    trail constant regclass := 'audit.logged_actions';
    tail regclass;
    lower_bound timestamptz;
begin
    lock table only audit.logged_actions in access exclusive mode;
    select l.leaf, l.lower_bound
    into tail, lower_bound
    from audit.leaves() as l
    where l.is_tail and not l.detach_pending;
    if new_name is null or new_name !~ '^logged_actions_[a-z0-9_]{1,40}$' or tail is null or not exists (
        select from pg_constraint where conrelid = tail and conname = 'audit_relabel_cap' and convalidated
    ) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'audit: the catch-all partition was not capped and validated, or the new name does not'
                ' begin with logged_actions_';
    end if;
    -- Other sessions now wait for this transaction, so it must not wait for a lock.
    execute format('lock table %s in access exclusive mode nowait', tail);
    execute format('alter table %s detach partition %s', trail, tail);
    execute format('alter table %s rename to %I', tail, new_name);
    execute format(
        'alter table only %s attach partition %s for values from (%s) to (%L)',
        trail, tail, coalesce(quote_literal(lower_bound), 'minvalue'), bounds[1]);
    execute format('alter table %s drop constraint audit_relabel_cap', tail);
    perform audit.guard_relation(tail);
    perform audit.maintain_create(names, bounds, true);
end
$body$;

revoke all on function audit.maintain_relabel(text, text[], timestamptz[]) from public;

create or replace function audit.maintain_detach(relation regclass)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
as $body$
declare
    trail constant regclass := 'audit.logged_actions';
    limits record;
    part record;
begin
    select * into limits from audit.maintain_limits();
    lock table only audit.logged_actions in access exclusive mode;
    select l.leaf, c.relname, l.lower_bound, l.upper_bound into part
    from audit.leaves() as l
    join pg_class as c on c.oid = l.leaf
    where l.leaf = relation
      and c.relkind = 'r'
      and l.lower_bound is not null  -- the partition for the past stays
      and l.upper_bound <= limits.kept_until
      and l.upper_bound <= clock_timestamp()
      and not l.detach_pending
      and not exists (
        select from audit.partition_lifecycle as held
        where held.leaf = l.leaf and held.state <> 'dropped' and held.hold_reason is not null);
    if not found then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('audit: a maintainer may not detach %s', relation),
            hint = format(
                'only partitions of the trail that end before %s and are not on hold', limits.kept_until
            );
    end if;
    -- Other sessions now wait for this transaction, so it must not wait for a lock.
    execute format('lock table %s in access exclusive mode nowait', part.leaf);
    -- Recorded before the detach, because the guard checks it.
    insert into audit.partition_lifecycle (
        leaf, leaf_name, lower_bound, upper_bound, state, detached_at
    )
    values (part.leaf, part.relname, part.lower_bound, part.upper_bound, 'detached', clock_timestamp())
    on conflict (leaf) where state <> 'dropped' do update
    set state = excluded.state, detached_at = excluded.detached_at;
    execute format('alter table %s detach partition %s', trail, part.leaf);
end
$body$;

revoke all on function audit.maintain_detach(regclass) from public;

create or replace function audit.maintain_finish()
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
as $body$
declare
    trail constant regclass := 'audit.logged_actions';
    pending regclass;
    gone record;
begin
    perform set_config('lock_timeout', (setting::integer / 4)::text, true)
    from pg_settings
    where name = 'deadlock_timeout';
    lock table only audit.logged_actions in share update exclusive mode;
    select inhrelid into pending from pg_inherits where inhparent = trail and inhdetachpending;
    if found then
        execute format('alter table %s detach partition %s finalize', trail, pending);
    end if;

    -- If somebody else detached it, or dropped it while attached, a person has to look at it.
    for gone in update audit.partition_lifecycle as l
    set state = now.state,
        detached_at = case now.state when 'detached' then clock_timestamp() end,
        dropped_at = case now.state when 'dropped' then clock_timestamp() end
    from (
        select
            known.entry_id,
            case
                when c.oid is null then 'dropped'
                when i.inhrelid is not null then 'attached'
                when known.state = 'detaching' then 'detached'
                else known.state
            end as state
        from audit.partition_lifecycle as known
        left join pg_class as c on c.oid = known.leaf
        left join pg_inherits as i on i.inhrelid = known.leaf and i.inhparent = trail
        where known.state <> 'dropped'
          and (c.oid is not null or known.state <> 'attached' or known.hold_reason is not null)
    ) as now
    where l.entry_id = now.entry_id and l.state <> now.state
    returning l.leaf::oid as leaf, l.state
    loop
        continue when gone.state <> 'dropped';
        perform audit.note_dropped(gone.leaf, true);
    end loop;
end
$body$;

revoke all on function audit.maintain_finish() from public;

create or replace function audit.maintain_drop(relation_id oid)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
as $body$
declare
    limits record;
    entry record;
begin
    select * into limits from audit.maintain_limits();
    select l.* into entry
    from audit.partition_lifecycle as l
    join pg_class as c on c.oid = l.leaf
    where l.leaf::oid = relation_id
      and l.state = 'detached'
      and l.hold_reason is null
      and l.detached_at <= limits.quarantined_until
      and l.upper_bound <= limits.kept_until
      and (l.archive_digest like '%/sha256:%' or not limits.archived_only)
      and c.relname = l.leaf_name
      and c.relnamespace = 'audit'::regnamespace
    for update of l;
    if found then
        execute format('lock table %s in access exclusive mode', entry.leaf);
    end if;
    if not found or exists (select from pg_inherits where inhrelid = relation_id) then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('audit: a maintainer may not drop %s', relation_id::regclass),
            hint = 'only partitions detached long enough ago, archived if required,'
                ' not renamed and not on hold';
    end if;
    if entry.archive_digest is not null
        and audit.leaf_digest(entry.leaf) <> entry.archive_digest
    then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('audit: %s does not match its archive any more', entry.leaf),
            hint = 'nothing was dropped; find out who changed it, then archive it'
                ' again: audit archive run --again';
    end if;
    execute format('drop table %s', entry.leaf);
    update audit.partition_lifecycle as l
    set state = 'dropped', dropped_at = clock_timestamp()
    where l.entry_id = entry.entry_id;
    perform audit.note_dropped(relation_id);
end
$body$;

revoke all on function audit.maintain_drop(oid) from public;

create or replace function audit.maintain_hold(relation_id oid, reason text)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
begin
    if coalesce(trim(reason), '') = '' then
        raise exception using errcode = 'invalid_parameter_value', message = 'audit: a hold needs a reason';
    end if;
    insert into audit.partition_lifecycle (
        leaf, leaf_name, lower_bound, upper_bound, state, hold_reason, held_by, held_at
    )
    select l.leaf, c.relname, l.lower_bound, l.upper_bound, 'attached', reason, session_user,
        clock_timestamp()
    from audit.leaves() as l
    join pg_class as c on c.oid = l.leaf
    where l.leaf::oid = relation_id
      and not exists (
          select from audit.partition_lifecycle as known
          where known.leaf = l.leaf and known.state <> 'dropped'
      );
    if not found then
        -- An earlier hold and its reason are kept.
        update audit.partition_lifecycle as l
        set hold_reason = reason, held_by = session_user, held_at = clock_timestamp()
        where l.leaf::oid = relation_id and l.state <> 'dropped' and l.hold_reason is null;
    end if;
end
$body$;

revoke all on function audit.maintain_hold(oid, text) from public;

create or replace function audit.maintain_note(command text, succeeded boolean, summary jsonb)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
begin
    if command is null
        or command not in ('partitions', 'maintain')
        or succeeded is null
        or length(summary::text) > 1000000
    then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'audit: a run must be of partitions or maintain, succeeded or failed,'
                ' with a summary of at most 1 MB';
    end if;
    insert into audit.maintenance as m (command, last_run_at, last_success_at, summary)
    values (
        command, clock_timestamp(), case when succeeded then clock_timestamp() end, coalesce(summary, '[]')
    )
    on conflict on constraint maintenance_pkey do update
    set last_run_at = excluded.last_run_at,
        last_success_at = coalesce(excluded.last_success_at, m.last_success_at),
        summary = excluded.summary;
end
$body$;

revoke all on function audit.maintain_note(text, boolean, jsonb) from public;

create or replace function audit.maintain_timeline()
    returns setof bigint
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
begin
    return query
with moved as (
        update audit.home as noted
        set timeline = present.timeline, since = clock_timestamp()
        from audit.present_home() as present
        cross join audit.home as before
        where (select count(*) from audit.home) = 1
          and noted.system_identifier
              is not distinct from coalesce(present.system_identifier, noted.system_identifier)
          and noted.database_oid = present.database_oid
          and noted.trail_oid = present.trail_oid
          and noted.timeline <> present.timeline
        returning noted.*, before.timeline as former_timeline
    )
    insert into audit.logged_actions (schema_name, table_name, action, new_row)
    select 'audit', 'logged_actions', 'B', jsonb_build_object(
        'system_identifier', system_identifier,
        'database', database_name,
        'timeline', timeline,
        'former', jsonb_build_object(
            'system_identifier', system_identifier, 'database', database_name, 'timeline', former_timeline
        ),
        'reason', 'the server was failed over, or recovered to a point in time')
    from moved
    returning event_id;
end
$body$;

revoke all on function audit.maintain_timeline() from public;

create or replace function audit.maintain_has_rows(relation regclass)
    returns boolean
    language plpgsql
    stable
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
declare
    has_rows boolean;
begin
    if not exists (
        select from pg_class
        where oid = relation and relkind = 'r' and relnamespace = 'audit'::regnamespace
          and relname like 'logged\_actions%'
    ) then
        raise exception using errcode = 'insufficient_privilege',
            message = format('audit: %s is not a partition of the trail', relation);
    end if;
    execute format('select exists (select from %s)', relation) into has_rows;
    return has_rows;
end
$body$;

revoke all on function audit.maintain_has_rows(regclass) from public;

create or replace function audit.archive_begin(relation_id oid)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '10s'
as $body$
begin
    if not exists (
        select from audit.partition_lifecycle as l
        join pg_class as c on c.oid = l.leaf
        where l.leaf::oid = relation_id
          and l.state = 'detached'
          and c.relname = l.leaf_name
          and c.relnamespace = 'audit'::regnamespace
    ) then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('audit: %s is not a partition to be archived', relation_id::regclass);
    end if;
    execute format('lock table %s in share mode', relation_id::regclass);
    execute format(
        'grant select on %s to %I', relation_id::regclass,
        coalesce(nullif(current_setting('role'), 'none'), session_user)
    );
end
$body$;

revoke all on function audit.archive_begin(oid) from public;

create or replace function audit.archive_end(relation_id oid)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
begin
    if exists (
        select from audit.partition_lifecycle as l
        where l.leaf::oid = relation_id and l.state = 'detached'
    ) then
        execute format(
            'revoke select on %s from %I', relation_id::regclass,
            coalesce(nullif(current_setting('role'), 'none'), session_user)
        );
    end if;
end
$body$;

revoke all on function audit.archive_end(oid) from public;

create or replace function audit.archive_note(
    relation_id oid, address text, digest text, manifest text
)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
declare
    relation regclass;
begin
    select l.leaf into relation
    from audit.partition_lifecycle as l
    where l.leaf::oid = relation_id and l.state = 'detached'
    for update;
    if relation is null
        or coalesce(address, '') = ''
        or digest is distinct from audit.leaf_digest(relation)
    then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'audit: %s is not detached, or does not match the archive', relation_id::regclass
            );
    end if;
    update audit.partition_lifecycle as l
    set archive = address, archive_digest = digest, archived_at = clock_timestamp(),
        archive_manifest = manifest
    where l.leaf = relation and l.state = 'detached';
end
$body$;

revoke all on function audit.archive_note(oid, text, text, text) from public;

create or replace function audit.archive_note_export(summary jsonb)
    returns void
    language plpgsql
    security definer  -- the trail belongs to its owner
    set search_path = pg_catalog, pg_temp
as $body$
begin
    if coalesce(
        jsonb_typeof(summary -> 'archives') <> 'array'
        or jsonb_typeof(summary -> 'marks') <> 'array'
        or jsonb_typeof(summary -> 'origin') <> 'string'
        or length(summary::text) > 1000000, true)
    then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'audit: what is noted of exports has archives, marks and an'
                ' origin, and is no longer than 1 MB';
    end if;
    insert into audit.maintenance as m (command, last_run_at, last_success_at, summary)
    values ('archive export', clock_timestamp(), clock_timestamp(), summary)
    on conflict on constraint maintenance_pkey do update
    set last_run_at = excluded.last_run_at,
        last_success_at = excluded.last_success_at,
        summary = excluded.summary;
end
$body$;

revoke all on function audit.archive_note_export(jsonb) from public;

create or replace function audit.redacted(
    image jsonb, columns text[], redaction bigint, before jsonb default null
)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
    select image || coalesce(
        jsonb_object_agg(
            entry.key,
            jsonb_build_object('audit:redacted', redaction)
            || case
                when before ? entry.key and (before -> entry.key)::text <> entry.value::text
                    then '{"changed": true}'::jsonb
                else '{}'
            end),
        '{}')
    from jsonb_each(case jsonb_typeof(image) when 'object' then image end) as entry (key, value)
    where entry.key = any(columns)
      and entry.value <> 'null'
      and not (jsonb_typeof(entry.value) = 'object'
    and jsonb_typeof(entry.value -> 'audit:redacted') = 'number'
    and entry.value - '{audit:redacted,changed}'::text[] = '{}')
$body$;

revoke all on function audit.redacted(jsonb, text[], bigint, jsonb) from public;

create or replace function audit.destroy_salt(event bigint, slot integer)
    returns bytea
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    wanted_block constant bigint := event / 4096;
    leaf constant integer := 4096 + event % 4096;
    above integer := leaf;
    found_seed bytea;
    halves bytea;
begin
    delete from audit.seal_seeds as s
    where s.block = wanted_block and s.node = leaf * 8 + slot
    returning s.seed into found_seed;
    if found_seed is not null then
        return found_seed;
    end if;
    while above > 0 loop
        delete from audit.seal_seeds as s
        where s.block = wanted_block and s.node = above
        returning s.seed into found_seed;
        exit when found_seed is not null;
        above := above / 2;
    end loop;
    if found_seed is null then
        return null;
    end if;
    for height in reverse 12..0 loop  -- from the root of the block down
        continue when leaf >> height <= above;
        halves := sha512(found_seed);
        if (leaf >> height) % 2 = 1 then
            insert into audit.seal_seeds
            values (wanted_block, (leaf >> height) - 1, substring(halves for 32));
            found_seed := substring(halves from 33);
        else
            insert into audit.seal_seeds
            values (wanted_block, (leaf >> height) + 1, substring(halves from 33));
            found_seed := substring(halves for 32);
        end if;
    end loop;
    halves := sha512(found_seed || '\x00'::bytea) || sha512(found_seed || '\x01'::bytea);
    insert into audit.seal_seeds
    select wanted_block, leaf * 8 + other, substring(halves from 16 * other + 1 for 16)
    from generate_series(0, 7) as other
    where other <> slot;
    return substring(halves from 16 * slot + 1 for 16);
end
$body$;

revoke all on function audit.destroy_salt(bigint, integer) from public;

create or replace function audit.refuse_redacted(image jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    erased_column text;
    redaction_id text;
begin
    -- Hardly any image contains the marker, so this is checked first.
    if position('"audit:redacted"' in image::text) > 0 then
        select key, value ->> 'audit:redacted' into erased_column, redaction_id
        from jsonb_each(image)
        where jsonb_typeof(value) = 'object'
    and jsonb_typeof(value -> 'audit:redacted') = 'number'
    and value - '{audit:redacted,changed}'::text[] = '{}'
        order by key
        limit 1;
        if found then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                constraint = 'redacted',  -- for programs
                message = 'audit: the value of ' || quote_ident(erased_column) || ' was redacted (event '
                    || redaction_id || ')',
                hint = 'audit history shows what is left of the row; audit show ' || redaction_id
                    || ' says who redacted it, and why';
        end if;
    end if;
    return image;
end
$body$;

revoke all on function audit.refuse_redacted(jsonb) from public;

create or replace function audit.holds_changes_only(old_row jsonb, new_row jsonb)
    returns boolean
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
begin
    return jsonb_typeof(old_row) = 'object' and jsonb_typeof(new_row) = 'object' and not exists (
        select
        from jsonb_each(case jsonb_typeof(old_row) when 'object' then old_row end) as stored (key, value)
        where coalesce((new_row -> stored.key)::text = stored.value::text, true)
    );
end
$body$;

revoke all on function audit.holds_changes_only(jsonb, jsonb) from public;

create or replace function audit.row_before(
    of_schema text, of_table text, of_key text, of_event bigint, stored jsonb
)
    returns jsonb
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    reached bigint := of_event;
    later jsonb := '{}';
    one record;
begin
    loop
        -- In pieces, so that the index is read from its end: with as many as there are, they might be sorted.
        for one in
            select
                e.event_id, e.new_row,
                e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) as is_part,
                case e.action
                    when 'U' then coalesce(e.old_row, '{}') || e.new_row
                    else e.new_row
                end as left_as
            from audit.logged_actions as e
            where e.schema_name = of_schema
              and e.table_name = of_table
              and e.row_key = of_key
              and e.action <> 'E'
              and e.event_id < reached
            order by e.event_id desc
            limit 50
        loop
            reached := one.event_id;
            if one.is_part then
                later := one.new_row || later;
                continue;
            end if;
            exit when one.left_as is null;
            return (
                -- That an event changed a redacted value is said of it alone.
                select jsonb_object_agg(
                    key,
                    case
                        when jsonb_typeof(value) = 'object'
    and jsonb_typeof(value -> 'audit:redacted') = 'number'
    and value - '{audit:redacted,changed}'::text[] = '{}'
                            then value - 'changed'
                        else value
                    end
                )
                from jsonb_each(one.left_as || later)
            ) || stored;
        end loop;
        exit when not found or not one.is_part;
    end loop;
    raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format(
            'audit: event %s of row %s of %I.%I holds only what it changed,'
                ' and the event with the whole row before it is missing',
            of_event, of_key, of_schema, of_table),
        hint = 'audit reconcile and audit verify say more of what is missing; audit history of the rows of'
            ' other keys is not affected';
end
$body$;

revoke all on function audit.row_before(text, text, text, bigint, jsonb) from public;

create or replace function audit.present_period(trail regclass, at_end boolean)
    returns timestamptz
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
    select case when at_end then l.upper_bound else l.lower_bound end
    from audit.leaves() as l
    where l.lower_bound <= transaction_timestamp() and l.upper_bound > transaction_timestamp()
      and not l.is_tail and not l.is_default and not l.detach_pending
$body$;

revoke all on function audit.present_period(regclass, boolean) from public;

create or replace function audit.deltas_after(
    relation regclass, of_function text, column_names text[]
)
    returns bigint
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
begin
    return (
        select c.deltas_after
        from audit.captured_tables as c
        join pg_proc as p on p.proname = c.function_name
            and p.pronamespace = 'audit'::regnamespace
        cross join audit.columns_now(relation) as present
        where c.function_name = of_function and c.relation_id = relation
          -- Off for a while, even in the transaction of an event.
          and c.triggers = audit.triggers_of(relation, of_function)
          and position(p.prosrc in pg_get_functiondef(p.oid)) > 0
          and (select count(*) from jsonb_object_keys(c.columns)) = cardinality(present.names)
          and column_names @> present.names and column_names <@ present.names
          and not exists (
            select
            from jsonb_each(c.columns) as noted (number, said)
            left join unnest(present.names, present.types) as now (name, type) on now.name = said ->> 'name'
            where now.type is distinct from to_regtype(said ->> 'type')
               -- Renamed, also where two changed places; or dropped, and made again. Not from pg_attribute,
               -- as under REPEATABLE READ it shows the columns of the snapshot.
               or (
                   pg_identify_object_as_address('pg_class'::regclass, relation, number::integer)
               ).object_names[3] is distinct from said ->> 'name'
          )
          and (
            select count(*) = 1 and bool_and(
                coalesce(noted.system_identifier = home.system_identifier, true)
                and noted.database_oid = home.database_oid and noted.trail_oid = home.trail_oid)
            from audit.home as noted
            cross join audit.present_home() as home
          )
    );
end
$body$;

revoke all on function audit.deltas_after(regclass, text, text[]) from public;

create or replace function audit.altered_by(relation regclass)
    returns xid[]
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
    select array(
        select a.xmin
        from pg_attribute as a
        where a.attrelid = relation and a.attnum > 0
        union
        select i.xmin
        from pg_partition_tree(relation) as part
        join pg_inherits as i on i.inhrelid = part.relid
    )
$body$;

revoke all on function audit.altered_by(regclass) from public;

create or replace function audit.redactable(
    wanted_schema text, wanted_table text, row_keys text[], columns text[], context_keys text[],
    with_keys boolean, with_query boolean
)
    returns jsonb
    language plpgsql
    security definer  -- returns counts, no values
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
as $body$
declare
    key_columns text[];
    events text;
    parts jsonb;
    own bigint[];
    groups jsonb;
    said jsonb;
    unknown jsonb;
    renamed jsonb;
begin
    perform audit.await_wal(asked.function_name)
    from (
        select min(c.function_name) as function_name
        from audit.captured_tables as c
        where c.wal_since is not null
          and (
              c.relation_id = to_regclass(format('%I.%I', wanted_schema, wanted_table))
              or (c.schema_name, c.table_name) = (wanted_schema, wanted_table)
              or context_keys <> '{}'
          )
    ) as asked
    -- Where the slot is gone, nothing comes of what it had.
    join audit.capture_progress as p on asked.function_name is not null
    join pg_replication_slots as s on s.slot_name = p.slot_name and s.wal_status <> 'lost';
    columns := coalesce(columns, '{}');
    select coalesce(array_agg(a.attname::text), '{}') into key_columns
    from pg_index as i
    join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
    where i.indrelid = to_regclass(format('%I.%I', wanted_schema, wanted_table)) and i.indisprimary;
    if with_keys then
        columns := columns || key_columns;
    elsif columns && key_columns then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'audit: a column to redact is part of the primary key, by which events are found',
            hint = 'add --keys: the keys of the rows are replaced, too';
    end if;

    select string_agg(format(
        'select tableoid, event_id, action, transaction_id, transaction_tstamp, schema_name,'
            ' table_name, row_key, old_row_key, '
        'old_row, new_row, context, query from %s', name), ' union all ')
    into events
    from (
        select 'audit.logged_actions'
        union all
        select l.leaf::text
        from audit.partition_lifecycle as l
        join pg_class as c on c.oid = l.leaf
        left join pg_inherits as i on i.inhrelid = c.oid and not i.inhdetachpending
        where l.state in ('detaching', 'detached') and i.inhrelid is null
    ) as relation (name);

    select jsonb_agg(jsonb_build_object(
        'schema_name', name.schema_name, 'table_name', name.table_name, 'after_id', name.after_id,
        'until_id', name.until_id,
        -- Where columns changed places, the name was that of another one. A
        -- dropped one that had the name is erased, too: see former_columns.
        'called', to_jsonb(array(
            select wanted from unnest(redactable.columns) as wanted
            where coalesce(name.columns -> wanted ->> 'now', wanted) = wanted) || array(
            select was from jsonb_each(coalesce(name.columns, '{}')) as former (was, entry)
            where entry ->> 'now' = any(redactable.columns)
               or exists (
                   select from unnest(redactable.columns) as wanted
                   where entry ->> 'now' = wanted || ' (dropped)')
            order by was))))
    into parts
    from audit.names_of(wanted_schema, wanted_table) as name;

    execute format($query$
        with recursive part as materialized (
            select *
            from jsonb_to_recordset($1) as part (
                schema_name text, table_name text, after_id bigint, until_id bigint
            )
        ), own as not materialized (
            select event.event_id, event.action, event.row_key, event.old_row_key
            from part
            join (%s) as event
              on event.schema_name = part.schema_name and event.table_name = part.table_name
             and event.event_id > part.after_id and event.event_id <= part.until_id
            where event.action in ('I', 'U', 'D', 'S', 'E')
        ), life (key, from_id, until_id) as (
            select key collate "C", 0::bigint, 9223372036854775807 from unnest($2) as key
            union
            -- Before and after a change of its key: for as long as it was the key of the row.
            select step.key, step.from_id, step.until_id
            from life
            join own
              on own.old_row_key is not null and life.key in (own.row_key, own.old_row_key)
             and own.event_id between life.from_id and life.until_id
            cross join lateral (
                select
                    own.old_row_key as key,
                    coalesce((
                        select max(arrival.event_id) from own as arrival
                        where arrival.row_key = own.old_row_key and arrival.event_id < own.event_id
                          and (arrival.action = 'I' or arrival.old_row_key is not null)
                    ), 0) as from_id,
                    own.event_id as until_id
                where own.row_key = life.key
                union all
                select
                    own.row_key,
                    own.event_id,
                    coalesce((
                        select min(departure.event_id) from own as departure
                        where departure.event_id > own.event_id
                          and (
                              departure.row_key = own.row_key and departure.action = 'D'
                              or departure.old_row_key = own.row_key
                          )
                    ), 9223372036854775807)
                where own.old_row_key = life.key
            ) as step
        )
        select coalesce(array_agg(distinct own.event_id), '{}')
        from own
        where $2 is null or exists (
            select from life
            where life.key in (own.row_key, own.old_row_key)
              and own.event_id between life.from_id and life.until_id
        )
    $query$, events) into own using parts, row_keys;

    execute format($query$
        with event as (
            select e.*, part.called, e.event_id = any($2) as is_own
            from (%s) as e
            left join lateral (
                select name.called
                from jsonb_to_recordset($1) as name (
                    schema_name text, table_name text, after_id bigint, until_id bigint, called text[]
                )
                where e.schema_name = name.schema_name and e.table_name = name.table_name
                  and e.event_id > name.after_id and e.event_id <= name.until_id
                limit 1
            ) as part on e.event_id = any($2)
            where e.event_id = any($2)
               or ($4 or $3 <> '{}') and e.action in ('I', 'U', 'D', 'S', 'T', 'E')
              and (e.transaction_id, e.transaction_tstamp) in (
                select mine.transaction_id, mine.transaction_tstamp
                from (%s) as mine
                where mine.event_id = any($2))
        ), holding as (
            select *
            from event
            where $4 and query is not null and query not like 'redacted:%%'
               or audit.redacted(context, $3, 0) is distinct from context
               or is_own and (
                   $5 and (row_key not like 'redacted:%%' or old_row_key not like 'redacted:%%')
                   or audit.redacted(old_row, called, 0) is distinct from old_row
                   or audit.redacted(
                       case action when 'E' then new_row -> 'payload' else new_row end, called, 0
                   )
                      is distinct from case action when 'E' then new_row -> 'payload' else new_row end)
        )
        select
            jsonb_build_object(
                'events', count(*),
                'keys', count(distinct row_key) filter (where is_own),
                'partitions', coalesce(jsonb_agg(distinct tableoid::regclass::text), '[]'),
                'with_query', (
                    select count(*)
                    from event as e
                    where e.is_own and not $4 and e.query is not null and e.query not like 'redacted:%%')),
            (
                select coalesce(jsonb_agg(one), '[]')
                from (
                    select coalesce(h.called, '{}') as columns, h.is_own,
                        array_agg(h.event_id order by h.event_id) as ids
                    from holding as h
                    group by 1, 2
                    order by min(h.event_id)
                ) as one
            )
        from holding
    $query$, events, events) into said, groups using parts, own, context_keys, with_query, with_keys;

    -- A column that the table does not have and never had is a typo: nothing would
    -- be erased, though somebody would think so.
    execute format($query$
        select coalesce(jsonb_agg(wanted.name), '[]')
        from unnest($2) as wanted (name)
        where not exists (
                select from pg_attribute as a
                where a.attrelid = to_regclass(format('%%I.%%I', $3, $4))
                  and a.attname = wanted.name
                  and a.attnum > 0
                  and not a.attisdropped)
          and not exists (
            select
            from jsonb_to_recordset($1) as part (
                schema_name text, table_name text, after_id bigint, until_id bigint
            )
            join (%s) as e
              on e.schema_name = part.schema_name and e.table_name = part.table_name
             and e.event_id > part.after_id and e.event_id <= part.until_id
            where e.old_row ? wanted.name or e.new_row ? wanted.name or e.new_row -> 'payload' ? wanted.name)
    $query$, events) into unknown using parts, columns, wanted_schema, wanted_table;

    -- One that has another name now is not meant by a former one: nothing would be erased.
    select coalesce(jsonb_agg(distinct jsonb_build_object('was', wanted, 'now', present.name)), '[]')
    into renamed
    from unnest(redactable.columns) as wanted
    cross join audit.names_of(wanted_schema, wanted_table) as name
    cross join lateral (
        select regexp_replace(name.columns -> wanted ->> 'now', ' [(]dropped[)]$', '') as name
    ) as present
    where present.name <> wanted
      and not exists (
        select from pg_attribute as a
        where a.attrelid = to_regclass(format('%I.%I', wanted_schema, wanted_table))
          and a.attname = wanted
          and a.attnum > 0
          and not a.attisdropped);

    return said || jsonb_build_object(
        'groups', groups,
        'columns', to_jsonb(columns),
        'found', cardinality(own),
        'unknown', unknown,
        'renamed', renamed,
        'held', (
            select coalesce(jsonb_agg(l.leaf_name || ' (' || l.hold_reason || ')' order by l.leaf_name), '[]')
            from audit.partition_lifecycle as l
            where l.hold_reason is not null
              and l.state <> 'dropped'
              and said -> 'partitions' @> to_jsonb(l.leaf::text)),
        'archived', (
            select coalesce(jsonb_agg(known.name order by known.name), '[]')
            from (
                select l.leaf_name
                from audit.partition_lifecycle as l
                where l.archive is not null
                union
                select 'exports in ' || (one ->> 'archive')
                from audit.maintenance as m
                cross join jsonb_array_elements(m.summary -> 'archives') as one
                where m.command = 'archive export'
                  and (one -> 'sha256' <> 'null' or one -> 'pending' <> 'null')
            ) as known (name)),
        'archived_here', (
            select coalesce(jsonb_agg(l.leaf_name order by l.leaf_name), '[]')
            from audit.partition_lifecycle as l
            where l.archive is not null
              and l.state <> 'dropped'
              and said -> 'partitions' @> to_jsonb(l.leaf::text)));
end
$body$;

revoke all on function audit.redactable(
    text, text, text[], text[], text[], boolean, boolean
) from public;

create or replace function audit.erase_events(
    events bigint[], columns text[], context_keys text[], erase_keys boolean, erase_query boolean,
    despite_hold boolean
)
    returns jsonb
    language plpgsql
    security definer  -- what redact announces to the trail's triggers counts for its owner alone
    set search_path = pg_catalog, pg_temp
as $body$
declare
    redaction bigint;
    relation text;
    held record;
    one record;
    sealed boolean;
    salt bytea;
    kept bytea;
    done bigint := 0;
begin
    lock table audit.maintenance,
        audit.seal_checkpoints in share update exclusive mode;
    perform pg_current_xact_id();
    redaction := nextval('audit.logged_actions_event_id_seq'::regclass);
    insert into audit.redactions (redaction_id, transaction_id)
    values (redaction, pg_current_xact_id());

    foreach relation in array array['audit.logged_actions'] || array(
        select l.leaf::text
        from audit.partition_lifecycle as l
        join pg_class as c on c.oid = l.leaf
        left join pg_inherits as i on i.inhrelid = c.oid and not i.inhdetachpending
        where l.state in ('detaching', 'detached') and i.inhrelid is null
    ) loop
        for one in execute format($query$
            select e.tableoid, e.event_id, e.action_tstamp,
                array[
                    e.row_key, e.old_row_key, e.old_row::text, e.new_row::text, e.context::text, e.query
                ] as former,
                array[
                    case when $6 and e.row_key is not null then 'redacted:' || $2 else e.row_key end,
                    case when $6 and e.old_row_key is not null then 'redacted:' || $2 else e.old_row_key end,
                    audit.redacted(e.old_row, $3, $2)::text,
                    case e.action
                        when 'E' then case when e.new_row ? 'payload'
                            then (e.new_row || jsonb_build_object(
                                'payload', case jsonb_typeof(e.new_row -> 'payload')
                                when 'object'
                                    then audit.redacted(
                                        e.new_row -> 'payload', $3, $2
                                    )
                                else e.new_row -> 'payload' end))
                            else e.new_row end
                        else audit.redacted(e.new_row, $3, $2, e.old_row)
                    end::text,
                    audit.redacted(e.context, $4, $2)::text,
                    case when $5 and e.query is not null then 'redacted:' || $2 else e.query end
                ] as present
            from %s as e
            where e.event_id = any($1) and e.action in ('I', 'U', 'D', 'S', 'T', 'E')
            order by e.event_id
            $query$, relation)
            using events, redaction, columns, context_keys, erase_query, erase_keys
        loop
            continue when one.former is not distinct from one.present;
            select l.leaf_name, l.hold_reason into held
            from audit.partition_lifecycle as l
            where l.leaf = one.tableoid::regclass and l.hold_reason is not null;
            if held.hold_reason is not null and not coalesce(despite_hold, false) then
                raise exception using
                    errcode = 'object_not_in_prerequisite_state',
                    message = format('audit: partition %s is on hold: %s', held.leaf_name, held.hold_reason),
                    hint = 'release the hold (audit partitions release), or erase all'
                        ' the same: audit redact --force';
            end if;
            sealed := exists (
                select
                from (
                    select t.ids
                    from audit.seal_tiles as t
                    where t.level = 0 and lower(t.ids) <= one.event_id
                    order by lower(t.ids) desc
                    limit 1
                ) as last
                where last.ids @> one.event_id
            );
            for place in 0..5 loop
                continue when not sealed or one.former[place + 1] is not distinct from one.present[place + 1];
                -- Without a salt it was redacted before: then the commitment is known.
                salt := audit.destroy_salt(one.event_id, place);
                kept := coalesce(
                    sha256(salt || convert_to(one.former[place + 1], 'UTF8')),
                    (select r.commitment from audit.redacted_slots as r
                     where r.event_id = one.event_id and r.slot = place limit 1));
                if kept is null then
                    raise exception using
                        errcode = 'object_not_in_prerequisite_state',
                        message = format('audit: the salts of event %s are missing', one.event_id),
                        hint = 'audit verify shows details';
                end if;
                update audit.redacted_slots as r set salt = null
                where r.event_id = one.event_id and r.slot = place;
                salt := uuid_send(gen_random_uuid());
                insert into audit.redacted_slots (
                    event_id, slot, redaction_id, commitment, salt, remaining
                )
                values (
                    one.event_id, place, redaction, kept, salt,
                    sha256(salt || convert_to(one.present[place + 1], 'UTF8'))
                )
                -- A partition that was restored twice has the event twice.
                on conflict on constraint redacted_slots_pkey do update
                set salt = excluded.salt, remaining = excluded.remaining;
            end loop;
            execute format($query$
                update %s as e
                set row_key = $3[1], old_row_key = $3[2], old_row = $3[3]::jsonb, new_row = $3[4]::jsonb,
                    context = $3[5]::jsonb, query = $3[6]
                where e.event_id = $1 and e.action_tstamp = $2
                $query$, relation)
            using one.event_id, one.action_tstamp, one.present;
            done := done + 1;
        end loop;
    end loop;

    -- With --store delta an update stores only what it changed where the newest event of the row leads to the
    -- rest, which is erased now, and not in the live row. Written again, that one is not by the transaction
    -- that wrote the row, and the next update is stored whole.
    update audit.logged_actions as e
    set query = e.query
    from (
        select distinct o.schema_name, o.table_name, o.row_key
        from audit.logged_actions as o
        where o.event_id = any(events) and o.row_key is not null
    ) as own
    cross join lateral (
        select n.event_id, n.action_tstamp
        from audit.logged_actions as n
        where n.schema_name = own.schema_name and n.table_name = own.table_name
          and n.row_key = own.row_key and n.action <> 'E'
        order by n.event_id desc
        limit 1
    ) as newest
    where e.event_id = newest.event_id and e.action_tstamp = newest.action_tstamp
      and e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row);

    delete from audit.redactions as r where r.redaction_id = redaction;
    return jsonb_build_object('redaction', redaction, 'events', done);
end
$body$;

revoke all on function audit.erase_events(
    bigint[], text[], text[], boolean, boolean, boolean
) from public;

create or replace function audit.announce_redaction(
    erased jsonb, table_schema text, table_name text, columns text[], context_keys text[],
    erase_keys boolean, erase_query boolean, despite_hold boolean, reason text, ticket text, files jsonb,
    note text
)
    returns bigint
    language plpgsql
    security definer  -- the trail belongs to its owner
    set search_path = pg_catalog, pg_temp
as $body$
declare
    redaction constant bigint := erased -> 'redaction';
    digest text;
begin
    if coalesce(announce_redaction.reason, '') !~ '\S' then
        raise exception using errcode = 'invalid_parameter_value',
            message = 'audit: a redaction needs a reason';
    end if;
    select encode(sha256(string_agg(
        int8send(r.event_id) || int2send(r.slot) || r.commitment
            || coalesce(r.remaining, decode(repeat('00', 32), 'hex')),
        '' order by r.event_id, r.slot)), 'hex')
    into digest
    from audit.redacted_slots as r
    where r.redaction_id = redaction;
    insert into audit.logged_actions (event_id, schema_name, table_name, action, new_row)
    values (
        redaction, table_schema, announce_redaction.table_name, 'R',
        jsonb_strip_nulls(jsonb_build_object(
            'reason', announce_redaction.reason, 'ticket', ticket, 'columns', to_jsonb(columns),
            'context', to_jsonb(context_keys),
            'keys', erase_keys, 'query', erase_query, 'despite_hold', nullif(despite_hold, false),
            'events', erased -> 'events', 'slots_sha256', digest,
            'signed', nullif(note is not null, false), 'files', files)));
    if note is not null then
        insert into audit.redaction_notes (redaction_id, note)
        values (redaction, announce_redaction.note);
    end if;
    return redaction;
end
$body$;

revoke all on function audit.announce_redaction(
    jsonb, text, text, text[], text[], boolean, boolean, boolean, text, text, jsonb, text
) from public;

create or replace function audit.redact(
    table_schema text, table_name text, events bigint[], columns text[], context_keys text[],
    erase_keys boolean, erase_query boolean, despite_hold boolean, reason text, ticket text default null
)
    returns bigint
    language plpgsql
    security definer  -- the trail belongs to its owner; callers can only erase values
    set search_path = pg_catalog, pg_temp
as $body$
begin
    return audit.announce_redaction(
        audit.erase_events(
            events, columns, context_keys, erase_keys, erase_query, despite_hold
        ),
        table_schema, table_name, columns, context_keys, erase_keys, erase_query, despite_hold, reason,
        ticket, null, null);
end
$body$;

revoke all on function audit.redact(
    text, text, bigint[], text[], text[], boolean, boolean, boolean, text, text
) from public;

create or replace function audit.seal_leaves(
    relation regclass, first_id bigint, last_id bigint, salts bytea
)
    returns table (
        leaf oid,
        ids int8multirange,
        hashes bytea
    )
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
    set bytea_output = hex
as $body$
begin
    -- The salts appear once, because each use of a parameter puts a copy of it into the plan.
    return query execute format($query$
        with given as materialized (
            select $3 as salts
        ), redacted as materialized (
            select
                event_id
                ,
                (array_agg(commitment) filter (where slot = 0))[1]
                    as row_key
                ,
                (array_agg(commitment) filter (where slot = 1))[1]
                    as old_row_key
                ,
                (array_agg(commitment) filter (where slot = 2))[1]
                    as old_row
                ,
                (array_agg(commitment) filter (where slot = 3))[1]
                    as new_row
                ,
                (array_agg(commitment) filter (where slot = 4))[1]
                    as context
                ,
                (array_agg(commitment) filter (where slot = 5))[1]
                    as query
            from audit.redacted_slots
            where event_id between $1 and $2
            group by event_id
        ), leaves as materialized (
            select
                event.tableoid as leaf, event.event_id, event.action_tstamp,
                sha256(
                    '\x0001'::bytea
                    || int8send(event.event_id)
                    || timestamptz_send(event.action_tstamp)
                    || xid8send(event.transaction_id)
                    || coalesce(timestamptz_send(event.transaction_tstamp), '\x8000000000000000'::bytea)
                    || int4send(coalesce(length(event.schema_name), -1))
                    || int4send(coalesce(length(event.table_name), -1))
                    || int4send(coalesce(length(event.action), -1))
                    || int4send(coalesce(length(event.session_user_name), -1))
                    || int4send(coalesce(length(event.role_name), -1))
                    || int4send(coalesce(length(event.application_name), -1))
                    || int4send(coalesce(length(nullif(concat(event.client_addr), '')), -1))
                    || convert_to(concat(event.schema_name, event.table_name, event.action, event.session_user_name, event.role_name, event.application_name, nullif(concat(event.client_addr), '')), 'UTF8')
                    || coalesce('\x00000020'::bytea || coalesce(redacted.row_key, sha256(
                        substring(
                            salts from (16 * (
                                8 * (event.event_id - $1)
                                + 0
                            ))::integer + 1 for 16
                        )
                        || convert_to(event.row_key, 'UTF8'))), '\xffffffff'::bytea)
                    || coalesce('\x00000020'::bytea || coalesce(redacted.old_row_key, sha256(
                        substring(
                            salts from (16 * (
                                8 * (event.event_id - $1)
                                + 1
                            ))::integer + 1 for 16
                        )
                        || convert_to(event.old_row_key, 'UTF8'))), '\xffffffff'::bytea)
                    || coalesce('\x00000020'::bytea || coalesce(redacted.old_row, sha256(
                        substring(
                            salts from (16 * (
                                8 * (event.event_id - $1)
                                + 2
                            ))::integer + 1 for 16
                        )
                        || convert_to(event.old_row::text, 'UTF8'))), '\xffffffff'::bytea)
                    || coalesce('\x00000020'::bytea || coalesce(redacted.new_row, sha256(
                        substring(
                            salts from (16 * (
                                8 * (event.event_id - $1)
                                + 3
                            ))::integer + 1 for 16
                        )
                        || convert_to(event.new_row::text, 'UTF8'))), '\xffffffff'::bytea)
                    || coalesce('\x00000020'::bytea || coalesce(redacted.context, sha256(
                        substring(
                            salts from (16 * (
                                8 * (event.event_id - $1)
                                + 4
                            ))::integer + 1 for 16
                        )
                        || convert_to(event.context::text, 'UTF8'))), '\xffffffff'::bytea)
                    || coalesce('\x00000020'::bytea || coalesce(redacted.query, sha256(
                        substring(
                            salts from (16 * (
                                8 * (event.event_id - $1)
                                + 5
                            ))::integer + 1 for 16
                        )
                        || convert_to(event.query, 'UTF8'))), '\xffffffff'::bytea)
                ) as hash
            from %s as event
            cross join given
            left join redacted on redacted.event_id = event.event_id
            where event.event_id between $1 and $2
        )
        select
            leaf,
            range_agg(int8range(event_id, event_id, '[]')),
            string_agg(hash, ''::bytea order by event_id, action_tstamp)
        from leaves
        group by leaf
    $query$, relation) using first_id, last_id, salts;
end
$body$;

revoke all on function audit.seal_leaves(regclass, bigint, bigint, bytea) from public;

create or replace function audit.seal_relations()
    returns setof regclass
    language plpgsql  -- the record of partitions is made later
    stable
    set search_path = pg_catalog, pg_temp
as $body$
begin
    return query
    select 'audit.logged_actions'::regclass
    union all
    select l.leaf
    from audit.partition_lifecycle as l
    join pg_class as c on c.oid = l.leaf
    left join pg_inherits as i on i.inhrelid = c.oid and not i.inhdetachpending
    where l.state in ('detaching', 'detached') and i.inhrelid is null;
end
$body$;

revoke all on function audit.seal_relations() from public;

create or replace function audit.seal_salts(first_id bigint, last_id bigint)
    returns bytea
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
as $body$
    with recursive tree (node, seed, below) as (
        -- `below` levels are between a node and the events.
        select s.node, s.seed, 12 - (length(ltrim(s.node::bit(32)::text, '0')) - 1)
        from audit.seal_seeds as s
        where s.block = first_id >> 12 and s.node < 8192
        union all
        select child.node, substring(parent.hash from 32 * (child.node % 2) + 1 for 32), below - 1
        from tree
        cross join lateral (select sha512(seed) as hash offset 0) as parent
        cross join lateral (values (2 * node), (2 * node + 1)) as child (node)
        where below > 0
          and (child.node + 1) << (below - 1) > 4096 + (first_id & 4095)
          and child.node << (below - 1) <= 4096 + (last_id & 4095)
    )
    select string_agg(
        coalesce(
            sha512(tree.seed || '\x00'::bytea) || sha512(tree.seed || '\x01'::bytea),
            (
                select string_agg(coalesce(s.seed, decode(repeat('00', 16), 'hex')), ''::bytea order by slot)
                from generate_series(0, 7) as slot
                left join audit.seal_seeds as s
                  on s.block = first_id >> 12 and s.node = event * 8 + slot
            )
        ),
        ''::bytea order by event)
    from generate_series(
        (4096 + (first_id & 4095))::integer, (4096 + (last_id & 4095))::integer) as event
    left join tree on tree.node = event and tree.below = 0
$body$;

revoke all on function audit.seal_salts(bigint, bigint) from public;

create or replace function audit.seal_begin()
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
begin
    if audit.is_elsewhere() then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'audit: the trail came from another cluster or database, and may be sealed there',
            hint = 'audit adopt --reason REASON continues it here';
    end if;
    perform set_config('synchronous_commit', 'on', true), set_config('lock_timeout', '3s', true);
    lock table audit.seal_checkpoints in share update exclusive mode;
end
$body$;

revoke all on function audit.seal_begin() from public;

create or replace function audit.seal_reach(
    first_id bigint, out next_id bigint, out last_detached bigint
)
    language plpgsql
    stable
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
as $body$
declare
    relation regclass;
    found_first bigint;
    found_last bigint;
begin
    for relation in select * from audit.seal_relations() loop
        execute format(
            'select min(event_id) from %s where event_id >= $1', relation
        ) into found_first using first_id;
        next_id := least(next_id, found_first);
        continue when relation = 'audit.logged_actions'::regclass;
        execute format('select max(event_id) from %s', relation) into found_last;
        last_detached := greatest(last_detached, found_last);
    end loop;
end
$body$;

revoke all on function audit.seal_reach(bigint) from public;

create or replace function audit.seal_block(first_id bigint, last_id bigint)
    returns table (
        leaf bigint,
        leaf_name text,
        ids int8multirange,
        hashes bytea,
        doubled bigint
    )
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set standard_conforming_strings = on
    set quote_all_identifiers = off
as $body$
declare
    wanted_block constant bigint := first_id >> 12;
    relation regclass;
    salts bytea;
    part record;
begin
    if last_id < first_id or last_id - wanted_block * 4096 > 4095 then
        raise exception using
            errcode = 'invalid_parameter_value', message = 'audit: the ids must be of one block of 4096';
    end if;
    if not exists (select from audit.seal_seeds as s where s.block = wanted_block) then
        insert into audit.seal_seeds (block, node, seed)
        values (
            wanted_block, 1,
            sha256(
                uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
            )
        );
    end if;
    salts := audit.seal_salts(first_id, last_id);
    for relation in select * from audit.seal_relations() loop
        for part in
            select l.leaf, c.relname, l.ids, l.hashes, octet_length(l.hashes) / 32 as events
            from audit.seal_leaves(relation, first_id, last_id, salts) as l
            join pg_class as c on c.oid = l.leaf
            order by l.leaf
        loop
            leaf := part.leaf;
            leaf_name := part.relname;
            ids := part.ids;
            hashes := part.hashes;
            doubled := null;
            if part.events <> (select sum(upper(r) - lower(r)) from unnest(part.ids) as r) then
                execute format(
                    'select event_id from %s where event_id between $1 and $2 and tableoid = $3 group by'
                        ' event_id having count(*) > 1 limit 1',
                    relation)
                into doubled
                using first_id, last_id, part.leaf;
            end if;
            return next;
        end loop;
    end loop;
end
$body$;

revoke all on function audit.seal_block(bigint, bigint) from public;

create or replace function audit.seal_add(
    levels smallint[], tiles bigint[], tile_hashes bytea[], tile_ids text[], partitions jsonb, keys jsonb,
    size bigint, up_to bigint, root_hash bytea, signed_note text
)
    returns void
    language plpgsql
    security definer  -- callers can only add to the tree
    set search_path = pg_catalog, pg_temp
as $body$
begin
    if exists (
        select from audit.seal_checkpoints as c
        where c.tree_size >= size or c.up_to_id >= up_to
    ) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('audit: a checkpoint of %s events does not follow the last one', size);
    end if;
    if exists (
        select
        from unnest(levels, tiles, tile_hashes, tile_ids) as new (level, tile, hashes, ids)
        join audit.seal_tiles as t using (level, tile)
        where substring(new.hashes for octet_length(t.hashes)) <> t.hashes
           or not coalesce(new.ids::int8multirange, '{}') @> coalesce(t.ids, '{}')
    ) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'audit: what was sealed cannot be changed';
    end if;
    insert into audit.seal_tiles (level, tile, hashes, ids)
    select new.level, new.tile, new.hashes, new.ids::int8multirange
    from unnest(levels, tiles, tile_hashes, tile_ids) as new (level, tile, hashes, ids)
    on conflict on constraint seal_tiles_pkey do update set hashes = excluded.hashes, ids = excluded.ids;

    insert into audit.seal_partitions as p (leaf, leaf_name, first_id, last_id, events)
    select new.leaf::oid, new.name, new.first, new.last, new.events
    from jsonb_to_recordset(partitions) as new (
        leaf bigint, name text, first bigint, last bigint, events bigint
    )
    on conflict on constraint seal_partitions_pkey do update
    set first_id = least(p.first_id, excluded.first_id),
        last_id = greatest(p.last_id, excluded.last_id),
        events = p.events + excluded.events;

    insert into audit.seal_checkpoints (tree_size, up_to_id, root, note)
    values (size, up_to, root_hash, signed_note);

    insert into audit.seal_keys (vkey, introduction)
    select new.vkey, new.introduction
    from jsonb_to_recordset(keys) as new (vkey text, introduction text)
    on conflict on constraint seal_keys_pkey do nothing;
end
$body$;

revoke all on function audit.seal_add(
    smallint[], bigint[], bytea[], text[], jsonb, jsonb, bigint, bigint, bytea, text
) from public;

create or replace function audit.seal_note(succeeded boolean, summary jsonb)
    returns void
    language plpgsql
    security definer  -- callers need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $body$
begin
    if succeeded is null or summary is null or length(summary::text) > 1000000 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'audit: a run must have succeeded or failed, with a summary of at most 1 MB';
    end if;
    insert into audit.maintenance as m (command, last_run_at, last_success_at, summary)
    values ('seal', clock_timestamp(), case when succeeded then clock_timestamp() end, summary)
    on conflict on constraint maintenance_pkey do update
    set last_run_at = excluded.last_run_at,
        last_success_at = coalesce(excluded.last_success_at, m.last_success_at),
        summary = excluded.summary;
end
$body$;

revoke all on function audit.seal_note(boolean, jsonb) from public;

create or replace function audit.former_columns(
    change jsonb, since jsonb, names_there text[]
)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
    select nullif(coalesce(since, '{}') || coalesce(jsonb_object_agg(was, jsonb_build_object(
        'now', coalesce(since -> became ->> 'now', became),
        -- Where another column had the name that it got, images of before have that name, too.
        'again', coalesce(change -> 'added', '{}') ? was
            and not coalesce(change -> 'dropped', '{}') ? became
            and not coalesce(change -> 'renamed', '{}') ? became,
        'step', (
            select count(distinct later -> 'step') from jsonb_each(since) as known (name, later)
        ))), '{}'), '{}')
    from (
        select was, became from jsonb_each_text(change -> 'renamed') as renamed (was, became)
        union all
        select was, was || ' (dropped)'
        from jsonb_object_keys(change -> 'dropped') as was
        where (was = any (names_there) or since ? was) and not coalesce(change -> 'renamed', '{}') ? was
    ) as former
$body$;

revoke all on function audit.former_columns(jsonb, jsonb, text[]) from public;

create or replace function audit.as_called_now(
    image jsonb, columns jsonb, whole jsonb default null
)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $body$
    with candidate as (
        select was, now ->> 'now' as now, (now -> 'step')::integer as step
        from jsonb_each(columns) as former (was, now)
        where coalesce(whole, image) ? was
          and not ((now -> 'again')::boolean and coalesce(whole, image) ? (now ->> 'now'))
    ),
    renamed as (
        select distinct on (now) was, now from candidate order by now, step desc
    )
    select case
        when image is not null
            then coalesce(jsonb_object_agg(coalesce(renamed.now, entry.key), entry.value), '{}')
    end
    from jsonb_each(image) as entry (key, value)
    left join renamed on renamed.was = entry.key
    where renamed.was is not null
       or entry.key not in (select now from renamed) and entry.key not in (select was from candidate)
$body$;

revoke all on function audit.as_called_now(jsonb, jsonb, jsonb) from public;

create or replace function audit.names_known()
    returns table (schema_name text, table_name text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
    with recursive name as (
        (
            select e.schema_name, e.table_name
            from audit.logged_actions as e
            order by e.schema_name, e.table_name
            limit 1
        )
        union all
        select following.*
        from name
        cross join lateral (
            select e.schema_name, e.table_name
            from audit.logged_actions as e
            where (e.schema_name, e.table_name) > (name.schema_name, name.table_name)
            order by e.schema_name, e.table_name
            limit 1
        ) as following
    )
    select name.schema_name, name.table_name from name
$body$;

revoke all on function audit.names_known() from public;

create or replace function audit.moved_to(
    wanted_schema text, wanted_table text, before_id bigint default 9223372036854775807
)
    returns table (event_id bigint, schema_name text, table_name text)
    language sql
    stable
    rows 1
    set search_path = pg_catalog, pg_temp
as $body$
    with came as (
        select e.event_id, e.new_row ->> 'relation' as relation
        from audit.logged_actions as e
        where e.schema_name = wanted_schema
          and e.table_name = wanted_table
          and e.row_key is null
          and e.action = 'M'
          and e.new_row ->> 'change' in ('renamed', 'created') and e.event_id < before_id
        order by e.event_id desc
        limit 1
    )
    select went.event_id, went.schema_name, went.table_name
    from audit.names_known() as name
    cross join lateral (
        select e.event_id, e.schema_name, e.table_name,
            coalesce(e.new_row ->> 'was', e.new_row ->> 'relation') as relation
        from audit.logged_actions as e
        where e.schema_name = name.schema_name
          and e.table_name = name.table_name
          and e.row_key is null
          and e.action = 'M'
          and e.new_row ->> 'change' = 'renamed'
          and e.new_row -> 'from' = jsonb_build_array(wanted_schema, wanted_table) and e.event_id < before_id
        order by e.event_id desc
        limit 1
    ) as went
    where not exists (
        select from came
        where came.event_id > went.event_id
           or came.relation <> went.relation and not exists (
               -- Restored in between, it has another OID.
               select from audit.logged_actions as b
               where b.schema_name = 'audit' and b.table_name = 'logged_actions'
                 and b.action = 'B'
                 and b.event_id > came.event_id and b.event_id < went.event_id
           )
    )
    order by went.event_id desc
    limit 1
$body$;

revoke all on function audit.moved_to(text, text, bigint) from public;

create or replace function audit.name_now(wanted_schema text, wanted_table text)
    returns table (schema_name text, table_name text)
    language plpgsql
    stable
    rows 1
    set search_path = pg_catalog, pg_temp
as $body$
#variable_conflict use_column
declare
    step record;
    since bigint := 0;
begin
    schema_name := wanted_schema;
    table_name := wanted_table;
    loop
        select * into step from audit.moved_to(schema_name, table_name) where event_id > since;
        exit when not found;
        schema_name := step.schema_name;
        table_name := step.table_name;
        since := step.event_id;
    end loop;
    if has_table_privilege('audit.captured_tables', 'select') then
        -- What is not noted yet.
        select n.nspname, c.relname into step
        from audit.captured_tables as known
        join pg_class as c on c.oid = known.relation_id
        join pg_namespace as n on n.oid = c.relnamespace
        where (known.schema_name, known.table_name) = (name_now.schema_name, name_now.table_name);
        if found then
            schema_name := step.nspname;
            table_name := step.relname;
        end if;
    end if;
    if (schema_name, table_name) <> (wanted_schema, wanted_table) then
        return next;
    end if;
end
$body$;

revoke all on function audit.name_now(text, text) from public;

create or replace function audit.names_of(
    wanted_schema text, wanted_table text, known_names jsonb default null
)
    returns table (schema_name text, table_name text, after_id bigint, until_id bigint, columns jsonb)
    language plpgsql
    stable
    rows 2
    set search_path = pg_catalog, pg_temp
as $body$
#variable_conflict use_column
declare
    may_look constant boolean :=
        has_table_privilege('audit.captured_tables', 'select');
    relation oid;
    columns_there text[];
    at_schema text := wanted_schema;
    at_table text := wanted_table;
    reach bigint := 9223372036854775807;
    called jsonb;  -- the columns, as as_called_now takes them
    told text[];
    known record;
    noted jsonb;
    entry jsonb;
    said jsonb;
    entry_id bigint;
    owner text;  -- the table, as the events name it; not known before the first
    arrived bigint;  -- the first event that is the table's
    came_from jsonb;
    former jsonb;
    is_over boolean;  -- what came before is not the table's
    until bigint;
    parts jsonb := '[]';
begin
    if known_names is not null then
        return query
            select found.*
            from jsonb_to_recordset(known_names) as found (
                schema_name text, table_name text, after_id bigint, until_id bigint, columns jsonb
            );
        return;
    end if;
    select c.oid into relation
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = wanted_schema and c.relname = wanted_table;
    columns_there := array(
        select attname from pg_attribute where attrelid = relation and attnum > 0 and not attisdropped
    );
    if may_look then
        select k.schema_name, k.table_name, k.columns, k.function_name, exists (
            select from pg_attribute as a
            where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
              and case
                  when k.columns ? a.attnum::text
                      then k.columns -> a.attnum::text ->> 'name' <> a.attname
                  else exists (
                      select from jsonb_each(k.columns) as c (number, entry)
                      where entry ->> 'name' = a.attname)
              end
        ) as has_other_columns into known
        from audit.captured_tables as k
        where k.relation_id = relation;
        if (
            known.has_other_columns
            or (known.schema_name, known.table_name) <> (wanted_schema, wanted_table)
        )
            and not exists (
            select from pg_trigger as t
            join pg_proc as p on p.oid = t.tgfoid
            where t.tgrelid = relation
              and p.pronamespace = 'audit'::regnamespace
              and p.proname = known.function_name
        ) then
            -- After a restore, the OID may be that of another table.
            known := null;
        end if;
    end if;
    if may_look and known is null then
        -- Restored under another name: it has another number, and the function of before.
        select
            k.schema_name, k.table_name, null::jsonb as columns, k.function_name,
            false as has_other_columns
        into known
        from audit.captured_tables as k
        where (k.schema_name, k.table_name) <> (wanted_schema, wanted_table)
          and (
            -- On it, and not on the one that the registry has.
            select bool_or(t.tgrelid = relation and t.tgtype & 28 <> 0)
                and not bool_or(t.tgrelid = k.relation_id)
            from pg_trigger as t
            join pg_proc as p on p.oid = t.tgfoid
            where t.tgrelid in (relation, k.relation_id)
              and p.pronamespace = 'audit'::regnamespace
              and p.proname = k.function_name
        )
        limit 1;
    end if;
    if not may_look or known is null then
        if relation is not null and not exists (
            select from pg_trigger as t
            join pg_proc as p on p.oid = t.tgfoid
            where t.tgrelid = relation
              and p.pronamespace = 'audit'::regnamespace
              and p.proname like 'capture\_%'
        ) and exists (select from audit.moved_to(wanted_schema, wanted_table)) then
            return;
        end if;
    else
        if known.has_other_columns then
            called := audit.former_columns(
                audit.changed_columns(
                    known.columns, audit.columns_of(relation)
                ),
                null, columns_there
            );
        end if;
        if (known.schema_name, known.table_name) <> (wanted_schema, wanted_table) and not coalesce((
            -- Not noted yet, but by transactions that had a snapshot of before.
            select max(event_id) filter (where (schema_name, table_name) = (wanted_schema, wanted_table))
                > coalesce(
                    max(event_id) filter (
                        where (schema_name, table_name) = (known.schema_name, known.table_name)
                    ),
                    0
                )
            from audit.logged_actions
            where (schema_name, table_name) in (
                (wanted_schema, wanted_table), (known.schema_name, known.table_name)
            )
              and row_key is null and action = 'M'
              and new_row ->> 'change' = 'renamed' and new_row ->> 'relation' = relation::text
        ), false) then
            -- What was written under the name is its own only if it had the name before, and came back.
            parts := jsonb_build_array(jsonb_build_object('name', jsonb_build_array(at_schema, at_table),
                'after_id', reach, 'until_id', reach, 'columns', called));
            reach := reach - 1;
            told := audit.name_told(relation, known.schema_name, known.table_name);
            at_schema := told[1];
            at_table := told[2];
        end if;
    end if;

    loop
        select jsonb_agg(new_row || jsonb_build_object('event_id', event_id) order by event_id desc)
        into noted
        from audit.logged_actions
        where schema_name = at_schema and table_name = at_table and row_key is null and action = 'M'
          and event_id < reach
          and (
              new_row ->> 'change' in ('renamed', 'created', 'dropped')
              or new_row ->> 'change' = 'columns' and new_row ?| array['renamed', 'dropped']
          );

        if noted is null and parts = '[]' then
            return query select at_schema, at_table, 0::bigint, reach, called;
            return;
        end if;
        arrived := 0;
        came_from := null;
        is_over := false;
        for entry in select value from jsonb_array_elements(noted) loop
            entry_id := entry -> 'event_id';
            said := entry -> 'relation';
            if entry ->> 'change' = 'columns' then
                continue;
            elsif came_from is not null then
                -- Told by several transactions at the same time; or it came there once before.
                exit when said #>> '{}' is distinct from owner
                    or entry -> 'from' is distinct from came_from
                    or exists (
                    select from audit.logged_actions
                    where schema_name = came_from ->> 0
                      and table_name = came_from ->> 1
                      and row_key is null
                      and action = 'M'
                      and new_row ->> 'change' = 'renamed' and new_row ->> 'relation' = owner
                      and event_id > entry_id and event_id < arrived
                );
                arrived := entry_id;
            elsif owner is not null and owner is distinct from said #>> '{}' and not exists (
                -- Restored in between, it has another OID.
                select from audit.logged_actions
                where schema_name = 'audit' and table_name = 'logged_actions' and action = 'B'
                  and event_id > entry_id and event_id < reach
            ) then
                -- Another table: it was here before, or took the name
                -- before it was noted that this one had left.
                if entry ->> 'change' = 'dropped' then
                    arrived := entry_id + 1;
                    exit;
                end if;
                reach := entry_id;
            elsif entry ->> 'change' = 'dropped' then
                owner := coalesce(owner, said #>> '{}');
                is_over := is_over or relation is not null;
            else
                -- Before a restore it had another OID, unless that was adopted first.
                owner := coalesce(entry ->> 'was', said #>> '{}');
                arrived := entry_id;
                exit when is_over or entry ->> 'change' = 'created';
                came_from := nullif(entry -> 'from', 'null');
            end if;
        end loop;

        until := reach;
        for entry in select value from jsonb_array_elements(noted) where value ->> 'change' = 'columns' loop
            entry_id := entry -> 'event_id';
            continue when entry_id >= reach;
            exit when entry_id < arrived;
            former := audit.former_columns(entry, called, columns_there);
            continue when former is not distinct from called;
            parts := parts || jsonb_build_object('name', jsonb_build_array(at_schema, at_table),
                'after_id', entry_id, 'until_id', until, 'columns', called);
            called := former;
            until := entry_id;
        end loop;
        parts := parts || jsonb_build_object('name', jsonb_build_array(at_schema, at_table),
            'after_id', greatest(arrived - 1, 0), 'until_id', until, 'columns', called);

        exit when came_from is null;
        at_schema := came_from ->> 0;
        at_table := came_from ->> 1;
        reach := arrived;
    end loop;

    -- A table that came back to its name is not noticed at once: the capture function is made for the name.
    -- What is there since it left is its own, unless another table is known to have had the name.
    return query
        select
            part.name ->> 0,
            part.name ->> 1,
            case
                when part.left_before < part.after_id and not exists (
                    select from audit.logged_actions as e
                    where e.schema_name = part.name ->> 0
                      and e.table_name = part.name ->> 1
                      and e.row_key is null
                      and e.action = 'M'
                      and e.new_row ->> 'change' in ('renamed', 'created', 'dropped')
                      and e.event_id > part.came_before and e.event_id <= part.after_id
                ) then part.left_before
                else part.after_id
            end,
            part.until_id,
            nullif(part.columns, 'null')
        from (
            select
                found.*,
                lead(found.until_id) over newest_first as left_before,
                lead(found.after_id) over newest_first + 1 as came_before
            from jsonb_to_recordset(parts) as found (
                name jsonb, after_id bigint, until_id bigint, columns jsonb
            )
            window newest_first as (partition by found.name order by found.until_id desc)
        ) as part
        order by part.until_id desc;
end
$body$;

revoke all on function audit.names_of(text, text, jsonb) from public;

create or replace function audit.require_life(
    wanted_schema text, wanted_table text, moment timestamptz, names jsonb default null
)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
as $body$
declare
    first record;
    oldest record;
    former record;
begin
    select name.* into first
    from audit.names_of(wanted_schema, wanted_table, names) as name
    order by name.until_id
    limit 1;
    if first.after_id is null or first.after_id = 0 then
        return;
    end if;
    select e.schema_name, e.table_name, e.event_id, e.action_tstamp into oldest
    from audit.logged_actions as e
    where e.schema_name = first.schema_name and e.table_name = first.table_name and e.row_key is null
      and e.event_id = first.after_id + 1
      and e.new_row ->> 'change' = 'created'
      and e.action_tstamp > moment;
    if found then
        select went.* into former
        from audit.moved_to(oldest.schema_name, oldest.table_name, oldest.event_id) as went;
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'audit: since %3$s %1$I.%2$I is another table than before', wanted_schema, wanted_table,
                oldest.action_tstamp
            ),
            hint = case
                when former is null then 'the former table was renamed; use its present name'
                else format(
                    'the former table is now %I.%I: use that name', former.schema_name, former.table_name
                )
            end;
    end if;
end
$body$;

revoke all on function audit.require_life(text, text, timestamptz, jsonb) from public;

create or replace function audit.audited_table(row_type regtype)
    returns regclass
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    relation regclass;
begin
    select coalesce(pg_partition_root(c.oid), c.oid) into relation
    from pg_type as t
    join pg_class as c on c.oid = t.typrelid
    where t.oid = row_type and c.relkind in ('r', 'p');
    if not found then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('audit: %s is not the type of a table''s rows', row_type),
            hint = 'give the table as in null::public.orders';
    end if;
    return relation;
end
$body$;

revoke all on function audit.audited_table(regtype) from public;

create or replace function audit.row_key_of(relation regclass, key text)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
    set intervalstyle = 'postgres'
    set bytea_output = 'hex'
    set extra_float_digits = 1
as $body$
declare
    column_names text;
    casts text[];
    foreign_types boolean[];
    row_key text;
begin
    select
        string_agg(
            quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by k.place
        ),
        array_agg(format_type(a.atttypid, a.atttypmod) order by k.place),
        array_agg(audit.plain_type(a.atttypid) is null order by k.place)
    into column_names, casts, foreign_types
    from pg_index as i
    cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
    join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = relation and i.indisprimary and k.place <= i.indnkeyatts;

    if casts is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('audit: %s has no primary key: its rows cannot be told apart', relation);
    end if;
    if cardinality(casts) = 1 then
        execute format(
            case
                -- The trail shows arrays as JSON does.
                when not foreign_types[1] and casts[1] like '%[]' and key ~ '^\s*\[.*\]\s*$'
                    then 'select to_jsonb(part) #>> ''{}'' from jsonb_to_record(jsonb_build_object(''part'','
                        ' $1::jsonb)) as made (part %s)'
                when foreign_types[1]
                    then 'select format(''%%s'', $1::%s)' else 'select to_jsonb($1::%s) #>> ''{}''' end,
            casts[1])
        into row_key using key;
        return case
                 when octet_length(row_key) > 2500 then
                     'audit:sha256:' || encode(sha256(convert_to(row_key, 'UTF8')), 'hex')
                 else row_key
             end;
    end if;
    if key !~ '^\s*\[' or jsonb_array_length(key::jsonb) <> cardinality(casts) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('audit: %s cannot be a key of %s', quote_literal(key), relation),
            hint = format('give its values (%s) as one JSON array', column_names);
    end if;
    execute (
        select 'select jsonb_build_array('
            || string_agg(
                format(
                    case
                        when not is_foreign and type_name like '%[]'
                            then '(select to_jsonb(part) from jsonb_to_record(jsonb_build_object(''part'','
                                ' $1 -> %s)) as made (part %s))'
                        when is_foreign then 'to_jsonb(format(''%%s'', ($1 ->> %s)::%s))'
                        else 'to_jsonb(($1 ->> %s)::%s)'
                    end,
                    place - 1, type_name),
                ', ' order by place) || ')::text'
        from unnest(casts, foreign_types) with ordinality as part (type_name, is_foreign, place)
    ) into row_key using key::jsonb;
    return case
                 when octet_length(row_key) > 2500 then
                     'audit:sha256:' || encode(sha256(convert_to(row_key, 'UTF8')), 'hex')
                 else row_key
             end;
end
$body$;

revoke all on function audit.row_key_of(regclass, text) from public;

create or replace function audit.equal_keys(relation regclass, key text)
    returns text[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
    set intervalstyle = 'postgres'
    set bytea_output = 'hex'
    set extra_float_digits = 1
as $body$
declare
    row_key constant text := audit.row_key_of(relation, key);
    wanted_schema text;
    wanted_table text;
    types text[];
    condition text;
    found text[];
begin
    -- Compared as array elements, which finds the type's operator in any schema.
    select
        array_agg(
            format_type(a.atttypid, -1)
                || coalesce(' collate ' || nullif(a.attcollation, 0)::regcollation::text, '') order by k.place
        )
            filter (where not exists (
                with recursive base as (
                    select t.oid, t.typname, t.typtype, t.typbasetype, t.typnamespace
                    from pg_catalog.pg_type t
                    where t.oid = a.atttypid
                    union all
                    select t.oid, t.typname, t.typtype, t.typbasetype, t.typnamespace
                    from base
                    join pg_catalog.pg_type t on t.oid = base.typbasetype
                    where base.typtype = 'd'
                )
                select
                from base
                where base.typtype = 'e'
                   or base.typtype = 'b'
                   and base.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
                   and (
                       base.typname = 'numeric' and a.atttypmod <> -1
                       or base.typname in (
                           'int2', 'int4', 'int8', 'oid', 'uuid', 'bool', 'date', 'time', 'timestamp', 'timestamptz',
                           'bytea', 'name', 'inet', 'cidr', 'macaddr', 'text', 'varchar', 'bpchar', 'char'
                       )
                       and not exists (
                           select from pg_catalog.pg_collation c
                           where c.oid = a.attcollation and not c.collisdeterministic
                       )
                   )
            )),
        case count(*)
            when 1 then format(
                'case when starts_with(key, ''redacted:'') or starts_with(key, ''audit:sha256:'') then false'
                    ' else array[key::%1$s] = array[$1::%1$s] end',
                min(
                    format_type(a.atttypid, -1)
                        || coalesce(' collate ' || nullif(a.attcollation, 0)::regcollation::text, '')
                )
            )
            else format(
                'case when left(key, 1) <> %L or jsonb_array_length(key::jsonb) <> %s then false else %s end',
                '[', count(*),
                string_agg(
                    format(
                        'array[(key::jsonb ->> %1$s)::%2$s] = array[($1::jsonb ->> %1$s)::%2$s]',
                        k.place - 1,
                        format_type(a.atttypid, -1)
                            || coalesce(' collate ' || nullif(a.attcollation, 0)::regcollation::text, '')
                    ),
                    ' and '
                )
            )
        end
    into types, condition
    from pg_index as i
    cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
    join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = relation and i.indisprimary and k.place <= i.indnkeyatts;
    if types is null then
        return array[row_key];
    end if;

    select n.nspname, c.relname into wanted_schema, wanted_table
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = relation;
    execute format($query$
        select array_agg(key order by latest desc)
        from (
            select key, max(event_id) as latest
            from (
                select e.event_id, unnest(array[e.row_key, e.old_row_key]) as key
                from audit.names_of($2, $3) as name
                join audit.logged_actions as e
                  on e.schema_name = name.schema_name and e.table_name = name.table_name
                 and e.event_id > name.after_id and e.event_id <= name.until_id
                where e.row_key is not null
            ) as event
            where key is not null and %s
            group by key
        ) as known
        $query$, condition)
    into found using row_key, wanted_schema, wanted_table;
    return coalesce(found, array[row_key]);
exception when data_exception then
    return array[row_key];  -- the trail has keys of a former type
end
$body$;

revoke all on function audit.equal_keys(regclass, text) from public;

create or replace function audit.has_row(relation regclass, wanted_key text)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    condition text;
    is_there boolean;
begin
    if has_table_privilege(relation, 'select') is not true then
        return null;
    end if;
    select string_agg(
        format('%I = (%s)::%s', a.attname,
            case when i.indnkeyatts = 1 then '$1' else format('$1::jsonb ->> %s', k.place - 1) end,
            format_type(a.atttypid, a.atttypmod)),
        ' and ')
    into condition
    from pg_index as i
    cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
    join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = relation and i.indisprimary and k.place <= i.indnkeyatts;
    if condition is null then
        return null;
    end if;
    begin
        -- Tables that inherit from it have events of their own.
        execute format(
            'select exists (select from %s%s where %s)',
            case when (select relkind from pg_class where oid = relation) <> 'p' then 'only ' end,
            relation, condition
        ) into is_there using wanted_key;
    exception
        when data_exception or integrity_constraint_violation then
            return null;  -- a key of former columns, which those of now cannot hold
    end;
    return is_there;
end
$body$;

revoke all on function audit.has_row(regclass, text) from public;

create or replace function audit.row_stayed(
    wanted_schema text, wanted_table text, wanted_key text, last_id bigint, names jsonb default null
)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    later record;
begin
    for later in
        select
            (array_agg(action order by event_id))[1] as action,
            bool_or(arrives) as arrives,
            sum(arrives::integer - leaves::integer) as rows_more
        from (
            select e.event_id, e.transaction_id, e.action,
                e.action = 'I' or e.action = 'U' and e.old_row_key is not null as arrives,
                e.action = 'D' as leaves
            from audit.names_of(wanted_schema, wanted_table, names) as name
            join audit.logged_actions as e
              on e.schema_name = name.schema_name and e.table_name = name.table_name
             and e.event_id > name.after_id and e.event_id <= name.until_id
            where e.row_key = wanted_key and e.action <> 'E' and e.event_id > last_id
            union all
            select e.event_id, e.transaction_id, e.action, false, true
            from audit.names_of(wanted_schema, wanted_table, names) as name
            join audit.logged_actions as e
              on e.schema_name = name.schema_name and e.table_name = name.table_name
             and e.event_id > name.after_id and e.event_id <= name.until_id
            where e.old_row_key = wanted_key and e.event_id > last_id
        ) as event
        group by transaction_id
        order by min(event_id)
    loop
        if later.rows_more <> 0 or not later.arrives then
            return later.rows_more <= 0;
        elsif later.action = 'I' then
            return false;
        end if;
    end loop;
    return exists (
        -- What became of it then is not known.
        select
        from audit.names_of(wanted_schema, wanted_table, names) as name
        join audit.logged_actions as e
          on e.schema_name = name.schema_name and e.table_name = name.table_name
         and e.event_id > name.after_id and e.event_id <= name.until_id
        where e.row_key is null and e.action in ('G', 'T') and e.event_id > last_id
    ) or audit.has_row(
        to_regclass(format('%I.%I', wanted_schema, wanted_table)), wanted_key
    ) is not false;
end
$body$;

revoke all on function audit.row_stayed(text, text, text, bigint, jsonb) from public;

create or replace function audit.row_known_since(
    wanted_schema text, wanted_table text, wanted_key text, names jsonb default null
)
    returns timestamptz
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    called record;
    earliest record;
    is_older boolean;
    is_doubtful boolean;
    last_id bigint;
begin
    for called in
        select * from audit.names_of(wanted_schema, wanted_table, names) order by until_id
    loop
        select event_id, action_tstamp, transaction_id, action,
            action = 'I' or row_key = wanted_key and old_row_key is not null as arrives
        into earliest
        from (
            (
                select * from audit.logged_actions
                where schema_name = called.schema_name
                  and table_name = called.table_name
                  and row_key = wanted_key
                  and action <> 'E'
                  and event_id > called.after_id and event_id <= called.until_id
                order by event_id
                limit 1
            )
            union all
            (
                select * from audit.logged_actions
                where schema_name = called.schema_name
                  and table_name = called.table_name
                  and old_row_key = wanted_key
                  and event_id > called.after_id and event_id <= called.until_id
                order by event_id
                limit 1
            )
        ) as event
        order by event_id
        limit 1;
        exit when found;
    end loop;
    if earliest is null or earliest.arrives then
        return null;
    end if;

    -- Within a transaction ids may be out of order. The row is older if the transaction started from a row
    -- that it did not bring; if it ended as it began, only a row that it did not
    -- bring, or deleted first, was there before.
    select
        sum(change) < 0
        or sum(change) = 0
        and (
            bool_or(deficit < 0)
            or not bool_or(arrives)
            or earliest.action = 'D' and bool_and(action in ('D', 'I'))
        )
        or earliest.action = 'S',
        sum(change) = 0 and not bool_or(deficit < 0) and earliest.action = 'D',
        max(event_id)
    into is_older, is_doubtful, last_id
    from (
        select *, sum(change) over (partition by image::text) as deficit
        from (
            select event_id, action, 1 as change, action = 'I' or old_row_key is not null as arrives,
case action when 'U' then coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, '{}') || new_row else new_row end as image
            from audit.logged_actions
            where schema_name = called.schema_name
              and table_name = called.table_name
              and row_key = wanted_key
              and action <> 'E'
              and event_id between earliest.event_id and called.until_id
              and transaction_id = earliest.transaction_id
              and new_row is not null
            union all
            select event_id, action, -1, false, case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end
            from audit.logged_actions
            where schema_name = called.schema_name
              and table_name = called.table_name
              and row_key = wanted_key
              and action <> 'E'
              and event_id between earliest.event_id and called.until_id
              and transaction_id = earliest.transaction_id
              and old_row is not null and old_row_key is null
            union all
            select event_id, action, -1, false, case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end
            from audit.logged_actions
            where schema_name = called.schema_name
              and table_name = called.table_name
              and old_row_key = wanted_key
              and event_id between earliest.event_id and called.until_id
              and transaction_id = earliest.transaction_id
        ) as event
    ) as event;
    return case
        when is_older and not (
            is_doubtful and not audit.row_stayed(
                wanted_schema, wanted_table, wanted_key, last_id, names
            )
        ) then earliest.action_tstamp
    end;
end
$body$;

revoke all on function audit.row_known_since(text, text, text, jsonb) from public;

create or replace function audit.require_reach(
    wanted_schema text, wanted_table text, wanted_key text, moment timestamptz, names jsonb default null
)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
as $body$
declare
    since constant timestamptz :=
        audit.row_known_since(wanted_schema, wanted_table, wanted_key, names);
begin
    if since is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'audit: the trail has events of row %s of %I.%I only from %s on', wanted_key, wanted_schema,
                wanted_table, since
            ),
            detail = format('Asked for: %s. The row is older than its first event.', moment),
            hint = 'audit baseline records rows that existed before capture began';
    end if;
end
$body$;

revoke all on function audit.require_reach(text, text, text, timestamptz, jsonb) from public;

create or replace function audit.require_known(
    relation regclass, wanted_key text, names jsonb default null
)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    wanted_schema text;
    wanted_table text;
begin
    select n.nspname, c.relname into wanted_schema, wanted_table
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = relation;
    if exists (
        select
        from audit.names_of(wanted_schema, wanted_table, names) as name
        join audit.logged_actions as e
          on e.schema_name = name.schema_name and e.table_name = name.table_name
         and e.event_id > name.after_id and e.event_id <= name.until_id
        where e.row_key = wanted_key and e.action <> 'E'
    ) or exists (
        select
        from audit.names_of(wanted_schema, wanted_table, names) as name
        join audit.logged_actions as e
          on e.schema_name = name.schema_name and e.table_name = name.table_name
         and e.event_id > name.after_id and e.event_id <= name.until_id
        where e.old_row_key = wanted_key
    ) or exists (
        select
        from audit.names_of(wanted_schema, wanted_table, names) as name
        join audit.logged_actions as e
          on e.schema_name = name.schema_name and e.table_name = name.table_name
         and e.event_id > name.after_id and e.event_id <= name.until_id
        where e.row_key is null and e.action = 'T'
    ) then
        return;
    end if;

    if audit.has_row(relation, wanted_key) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'audit: the trail has no events of row %s of %s: it has not changed since capture began',
                wanted_key, relation
            ),
            hint = 'audit baseline records rows that existed before capture began';
    end if;
end
$body$;

revoke all on function audit.require_known(regclass, text, jsonb) from public;

create or replace function audit.require_whole(
    relation regclass, wanted_schema text, wanted_table text, has_key boolean, moment timestamptz,
    names jsonb default null
)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
    set intervalstyle = 'postgres'
    set bytea_output = 'hex'
    set extra_float_digits = 1
as $body$
declare
    may_look constant boolean := has_table_privilege(relation, 'select') and not exists (
        select
        from audit.names_of(wanted_schema, wanted_table, names) as name
        join audit.logged_actions as e
          on e.schema_name = name.schema_name and e.table_name = name.table_name
         and e.event_id > name.after_id and e.event_id <= name.until_id
        where e.row_key is null and e.action in ('G', 'T')
    ) and not exists (
        -- With --when, rows without events are expected.
        select from pg_trigger as t
        join pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = relation
          and p.proname like 'capture\_%'
          and obj_description(p.oid, 'pg_proc')::jsonb -> 'options' ->> 'when' is not null
    );
    -- Tables that inherit from it have events of their own.
    own_rows constant text := format(
        '%s%s',
        case when (select relkind from pg_class where oid = relation) <> 'p' then 'only ' end,
        relation);
    called record;
    example text;
begin
    select * into called from audit.names_of(wanted_schema, wanted_table, names) limit 1;
    if not has_key then
        if may_look then
            execute format('select (count(*) > $1)::text from %s', own_rows)
            into example
            using (
                select coalesce(sum((new_row is not null)::integer - (old_row is not null)::integer), 0)
                from (
                    select
                        event_id, action_tstamp, transaction_id, schema_name, table_name, action, row_key, old_row_key,
                        case
                            when called.columns is null then old_row
                            else audit.as_called_now(
                                case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, called.columns,
                                coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                            )
                        end as old_row,
                        case
                            when called.columns is null then new_row
                            else audit.as_called_now(
                                case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then case action when 'U' then coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, '{}') || new_row else new_row end
                    else new_row end, called.columns,
                                coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                            )
                        end as new_row
                    from audit.logged_actions
                    where schema_name = called.schema_name
                      and table_name = called.table_name
                      and event_id > called.after_id
                      and action <> 'E'
                    union all
                    select
                        e.event_id, e.action_tstamp, e.transaction_id, e.schema_name, e.table_name, e.action, e.row_key,
                        e.old_row_key,
                        case
                            when name.columns is null then e.old_row
                            else audit.as_called_now(
                                whole.old_row, name.columns, coalesce(whole.old_row, whole.new_row)
                            )
                        end,
                        case
                            when name.columns is null then e.new_row
                            else audit.as_called_now(
                                whole.new_row, name.columns, coalesce(whole.old_row, whole.new_row)
                            )
                        end
                    from audit.names_of(wanted_schema, wanted_table, names) as name
                join audit.logged_actions as e
                  on e.schema_name = name.schema_name and e.table_name = name.table_name
                 and e.event_id > name.after_id and e.event_id <= name.until_id
                    cross join lateral (
                        select
                            case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end as old_row,
                            case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then case e.action when 'U' then coalesce(case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end, '{}') || e.new_row else e.new_row end
                    else e.new_row end as new_row
                        where name.columns is not null
                        union all
                        select null, null where name.columns is null
                    ) as whole
                    where name.until_id < called.until_id and e.action <> 'E'
                ) as event
                where action in ('I', 'U', 'D', 'S')
            );
            example := case example when 'true' then '(without a key)' end;
        end if;
    else
        perform audit.require_reach(wanted_schema, wanted_table, key, moment, names)
        from (
            with name as materialized (
                select * from audit.names_of(wanted_schema, wanted_table, names)
            ),
            suspect as materialized (
                select earliest.key, earliest.event_id
                from (
                    select distinct on (later.key) later.key, event_id, later.arrives
                    from (
                        select
                            event_id, action_tstamp, transaction_id, schema_name, table_name, action, row_key, old_row_key,
                            case
                                when called.columns is null then old_row
                                else audit.as_called_now(
                                    case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, called.columns,
                                    coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                                )
                            end as old_row,
                            case
                                when called.columns is null then new_row
                                else audit.as_called_now(
                                    case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then case action when 'U' then coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, '{}') || new_row else new_row end
                        else new_row end, called.columns,
                                    coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                                )
                            end as new_row
                        from audit.logged_actions
                        where schema_name = called.schema_name
                          and table_name = called.table_name
                          and event_id > called.after_id
                          and action <> 'E'
                        union all
                        select
                            e.event_id, e.action_tstamp, e.transaction_id, e.schema_name, e.table_name, e.action, e.row_key,
                            e.old_row_key,
                            case
                                when name.columns is null then e.old_row
                                else audit.as_called_now(
                                    whole.old_row, name.columns, coalesce(whole.old_row, whole.new_row)
                                )
                            end,
                            case
                                when name.columns is null then e.new_row
                                else audit.as_called_now(
                                    whole.new_row, name.columns, coalesce(whole.old_row, whole.new_row)
                                )
                            end
                        from audit.names_of(wanted_schema, wanted_table, names) as name
                    join audit.logged_actions as e
                      on e.schema_name = name.schema_name and e.table_name = name.table_name
                     and e.event_id > name.after_id and e.event_id <= name.until_id
                        cross join lateral (
                            select
                                case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end as old_row,
                                case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then case e.action when 'U' then coalesce(case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end, '{}') || e.new_row else e.new_row end
                        else e.new_row end as new_row
                            where name.columns is not null
                            union all
                            select null, null where name.columns is null
                        ) as whole
                        where name.until_id < called.until_id and e.action <> 'E'
                    ) as event
                    cross join lateral (values
                        (row_key, action = 'I' or old_row_key is not null),
                        (old_row_key, false)
                    ) as later (key, arrives)
                    where later.key is not null
                      and action_tstamp > moment
                    order by later.key, event_id
                ) as earliest
                where not arrives
            ),
            -- Few are looked up by the index. Of many, the events of before are read as a whole, and grouped:
            -- a join, which without statistics could be a loop over all pairs, is in neither.
            many as materialized (
                select count(*) > 1000 as suspects from suspect
            ),
            unseen as materialized (
                select suspect.key, suspect.event_id
                from suspect
                where not (select suspects from many)
                  and not exists (
                      select
                      from name
                      join audit.logged_actions as e
                        on e.schema_name = name.schema_name and e.table_name = name.table_name
                       and e.event_id > name.after_id and e.event_id <= name.until_id
                      where e.row_key = suspect.key and e.action <> 'E' and e.event_id < suspect.event_id
                      offset 0
                  )
                  and not exists (
                      select
                      from name
                      join audit.logged_actions as e
                        on e.schema_name = name.schema_name and e.table_name = name.table_name
                       and e.event_id > name.after_id and e.event_id <= name.until_id
                      where e.old_row_key = suspect.key and e.event_id < suspect.event_id
                      offset 0
                  )
                union all
                select of_key.key, max(of_key.event_id)
                from (
                    select key, event_id, null::bigint as before_id
                    from suspect
                    where (select suspects from many)
                    union all
                    select earlier.key, null, event_id
                    from (
                        select
                            event_id, action_tstamp, transaction_id, schema_name, table_name, action, row_key, old_row_key,
                            case
                                when called.columns is null then old_row
                                else audit.as_called_now(
                                    case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, called.columns,
                                    coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                                )
                            end as old_row,
                            case
                                when called.columns is null then new_row
                                else audit.as_called_now(
                                    case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then case action when 'U' then coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, '{}') || new_row else new_row end
                        else new_row end, called.columns,
                                    coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                                )
                            end as new_row
                        from audit.logged_actions
                        where schema_name = called.schema_name
                          and table_name = called.table_name
                          and event_id > called.after_id
                          and action <> 'E'
                        union all
                        select
                            e.event_id, e.action_tstamp, e.transaction_id, e.schema_name, e.table_name, e.action, e.row_key,
                            e.old_row_key,
                            case
                                when name.columns is null then e.old_row
                                else audit.as_called_now(
                                    whole.old_row, name.columns, coalesce(whole.old_row, whole.new_row)
                                )
                            end,
                            case
                                when name.columns is null then e.new_row
                                else audit.as_called_now(
                                    whole.new_row, name.columns, coalesce(whole.old_row, whole.new_row)
                                )
                            end
                        from audit.names_of(wanted_schema, wanted_table, names) as name
                    join audit.logged_actions as e
                      on e.schema_name = name.schema_name and e.table_name = name.table_name
                     and e.event_id > name.after_id and e.event_id <= name.until_id
                        cross join lateral (
                            select
                                case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end as old_row,
                                case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then case e.action when 'U' then coalesce(case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end, '{}') || e.new_row else e.new_row end
                        else e.new_row end as new_row
                            where name.columns is not null
                            union all
                            select null, null where name.columns is null
                        ) as whole
                        where name.until_id < called.until_id and e.action <> 'E'
                    ) as event
                    cross join lateral (values (row_key), (old_row_key)) as earlier (key)
                    where (select suspects from many)
                      and earlier.key is not null
                      and action_tstamp <= moment
                ) as of_key
                group by of_key.key
                having min(of_key.before_id) > max(of_key.event_id)
                    or min(of_key.before_id) is null
            )
            select unseen.key
            from unseen
            where not exists (
                select
                from name
                join audit.logged_actions as e
                  on e.schema_name = name.schema_name and e.table_name = name.table_name
                 and e.event_id > name.after_id and e.event_id <= name.until_id
                where e.row_key is null
                  and e.action = 'G'
                  and e.event_id < unseen.event_id
                  and e.action_tstamp > moment
                offset 0
            )
        ) as latecomer;
        if may_look then
            execute format($query$
                select %2$s from %1$s as present
                except
                select row_key from audit.logged_actions
                where schema_name = $1 and table_name = $2 and event_id > $3 and action <> 'E'
                except
                select e.row_key
                from audit.names_of($4, $5, $7) as name
                join audit.logged_actions as e
                  on e.schema_name = name.schema_name and e.table_name = name.table_name
                 and e.event_id > name.after_id and e.event_id <= name.until_id
                where name.until_id < $6 and e.action <> 'E'
                order by 1
                limit 1
                $query$,
                own_rows,
                (
                    select case count(*)
                        when 1 then format(
                            case
                                when bool_or(audit.plain_type(a.atttypid) is null)
                                    then 'format(''%%s'', present.%I)'
                                else 'to_jsonb(present.%I) #>> ''{}'''
                            end,
                            min(a.attname))
                        else format('jsonb_build_array(%s)::text', string_agg(
                            format(
                                case
                                    when audit.plain_type(a.atttypid) is null
                                        then 'format(''%%s'', present.%I)'
                                    else 'present.%I'
                                end,
                                a.attname),
                            ', ' order by k.place))
                    end
                    from pg_index as i
                    cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
                    join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
                    where i.indrelid = relation and i.indisprimary and k.place <= i.indnkeyatts
                )
            ) into example
            using called.schema_name, called.table_name, called.after_id, wanted_schema, wanted_table,
                called.until_id, names;
        end if;
    end if;

    if example is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'audit: the trail has no events of row %s of %s: it has not changed since capture began',
                example, relation
            ),
            hint = 'audit baseline records rows that existed before capture began';
    end if;
end
$body$;

revoke all on function audit.require_whole(
    regclass, text, text, boolean, timestamptz, jsonb
) from public;

create or replace function audit.warn_of_triggers(wanted_schema text, wanted_table text)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    relation oid := to_regclass(format('%I.%I', wanted_schema, wanted_table));
    known audit.captured_tables;
begin
    if relation is null then
        return;
    end if;
    if not exists (
        select from pg_trigger as t
        join pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = relation
          and p.pronamespace = 'audit'::regnamespace
          and p.proname like 'capture\_%'
          and t.tgtype & 28 <> 0
          and (t.tgenabled in ('A', 'O') or audit.triggers_of(relation, p.proname) <> '{}')
    ) then
        raise warning using
            message = format(
                'audit: capture of %I.%I is disabled: changes since its last event are unknown',
                wanted_schema, wanted_table
            ),
            hint = 'audit check says how to enable it';
    elsif has_table_privilege('audit.captured_tables', 'select') then
        -- A table that was dropped and restored has another number, and the function of before.
        select c.* into known
        from audit.captured_tables as c
        where c.relation_id = relation or c.function_name in (
            select p.proname
            from pg_trigger as t
            join pg_proc as p on p.oid = t.tgfoid
            where t.tgrelid = relation
              and p.pronamespace = 'audit'::regnamespace
        )
        order by c.relation_id = relation desc
        limit 1;
        if known.triggers <> '{}'
            and known.triggers <> audit.triggers_of(relation, known.function_name)
            and not audit.is_elsewhere()
        then
            raise warning using
                message = format(
                    case when known.relation_id = relation
                        then 'audit: capture of %I.%I was disabled and enabled by hand:'
                            ' changes made meanwhile are unknown'
                        else 'audit: %I.%I was dropped and restored: its rows may not be as events left them'
                    end,
                    wanted_schema, wanted_table),
                hint = 'audit check says how to record the gap';
        elsif known.code <> audit.code_of(known.function_name) then
            raise warning using
                message = format(
                    'audit: the capture function of %I.%I was changed by hand: '
                    'changes made since then may be missing',
                    wanted_schema, wanted_table),
                hint = 'audit check says how to put it right, and to record the gap';
        elsif jsonb_path_exists(known.columns, '$.*.labels')
            and audit.changed_columns(
                known.columns, audit.columns_of(relation)
            ) ? 'relabelled'
            and not audit.is_elsewhere()
        then
            raise warning using
                message = format(
                    'audit: labels of an enum of %I.%I were renamed: events of before have the former ones',
                    wanted_schema, wanted_table),
                hint = 'audit baseline records the rows as they are now';
        elsif audit.columns_in_doubt(known.function_name) then
            raise warning using
                message = format(
                    'audit: columns of %I.%I exchanged names, or took former ones, and rows were written'
                        ' before the trail noted that: their values may be in other columns',
                    wanted_schema, wanted_table),
                hint = 'audit baseline notes it, and records the rows as they are now';
        end if;
    end if;
end
$body$;

revoke all on function audit.warn_of_triggers(text, text) from public;

create or replace function audit.warn_of_absence(wanted_schema text, wanted_table text)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    names jsonb;  -- not asked for yet
begin
    if not exists (
        -- Otherwise the gap is in the trail.
        select
        from (
            select e.new_row ->> 'capture' as capture
            from audit.names_of(wanted_schema, wanted_table, names) as name
            join audit.logged_actions as e
              on e.schema_name = name.schema_name and e.table_name = name.table_name
             and e.event_id > name.after_id and e.event_id <= name.until_id
            where e.row_key is null and e.action = 'G'
            order by e.event_id desc
            limit 1
        ) as gap
        where gap.capture in ('paused', 'ended')
    ) then
        perform audit.warn_of_triggers(wanted_schema, wanted_table);
    end if;
end
$body$;

revoke all on function audit.warn_of_absence(text, text) from public;

create or replace function audit.warn_of_partitions(
    wanted_schema text, wanted_table text, wanted_key text, moment timestamptz, names jsonb default null
)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
as $body$
declare
    relation constant oid := to_regclass(format('%I.%I', wanted_schema, wanted_table));
    known audit.captured_tables;
    is_restored boolean;
    present jsonb;
    left_it text;
    noted record;
begin
    if has_table_privilege('audit.captured_tables', 'select')
        and (select relkind from pg_class where oid = relation) = 'p'
    then
        -- Restored, tables have other numbers.
        is_restored := audit.is_elsewhere();
        select * into known
        from audit.captured_tables as c
        where case
            when is_restored then (c.schema_name, c.table_name) = (wanted_schema, wanted_table)
            else c.relation_id = relation
        end;
        present := audit.partitions_of(relation);
        select min(name) into left_it
        from jsonb_each_text(
            case
                when is_restored
                    then audit.partitions_restored(known.partitions, present)
                else known.partitions
            end
        ) as partition (number, name)
        where not present ? number;
    end if;
    if left_it is null then
        select e.event_id, e.action_tstamp, e.new_row -> 'detached' ->> 0 as partition into noted
        from audit.names_of(wanted_schema, wanted_table, names) as name
        join audit.logged_actions as e
          on e.schema_name = name.schema_name and e.table_name = name.table_name
         and e.event_id > name.after_id and e.event_id <= name.until_id
        where e.row_key is null
          and e.action = 'M'
          and e.new_row ->> 'change' = 'partitions' and e.new_row ? 'detached'
          and e.action_tstamp <= moment
        -- + 0: otherwise a cached plan may scan the primary key from its end, possibly through all events.
        order by e.event_id + 0 desc
        limit 1;
        if not found
            or known.whole_since > noted.action_tstamp and known.whole_since <= moment
            or exists (
                select
                from audit.names_of(wanted_schema, wanted_table, names) as name
                join audit.logged_actions as e
                  on e.schema_name = name.schema_name and e.table_name = name.table_name
                 and e.event_id > name.after_id and e.event_id <= name.until_id
                where (
                    wanted_key is null and e.action = 'S' and known.whole_since is distinct from '-infinity'
                    or e.row_key = wanted_key and e.action <> 'E'
                    or e.row_key is null and e.action = 'T'
                )
                  and e.event_id > noted.event_id
                  and e.action_tstamp <= moment
            )
        then
            return;
        end if;
        left_it := noted.partition;
    end if;
    raise warning using
        message = format(
            'audit: partition %s is no longer part of %I.%I: rows that went with it are still in the answer',
            left_it, wanted_schema, wanted_table),
        hint = 'audit baseline records the rows as they are now';
end
$body$;

revoke all on function audit.warn_of_partitions(
    text, text, text, timestamptz, jsonb
) from public;

create or replace function audit.warn_of_gap(
    wanted_schema text, wanted_table text, wanted_key text, moment timestamptz, names jsonb default null
)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
as $body$
declare
    relation constant oid := to_regclass(format('%I.%I', wanted_schema, wanted_table));
    known audit.captured_tables;
    called record;
    gap record;
begin
    perform audit.warn_of_partitions(wanted_schema, wanted_table, wanted_key, moment, names);
    for called in select * from audit.names_of(wanted_schema, wanted_table, names) loop
        select e.action_tstamp, e.new_row ->> 'since' as since, e.new_row ? 'labels' as of_labels,
            e.new_row ? 'exchanged' as of_names
        into gap
        from audit.logged_actions as e
        where e.schema_name = called.schema_name and e.table_name = called.table_name
          and e.row_key is null
          and e.action = 'G'
          and e.event_id > called.after_id and e.event_id <= called.until_id
          and e.action_tstamp > moment
          and case when e.action = 'G' then (e.new_row ->> 'since')::timestamptz end < moment
        order by e.event_id + 0
        limit 1;
        if found then
            raise warning using
                message = format(
                    case
                        when gap.of_labels then 'audit: labels of an enum of %I.%I were renamed at some time'
                            ' between %s and %s: rows may have had other values'
                        when gap.of_names then 'audit: columns of %I.%I exchanged names at some time'
                            ' between %s and %s: values may be in other columns'
                        else 'audit: capture of %I.%I was off at some time between %s and %s:'
                            ' changes may be missing'
                    end,
                    wanted_schema, wanted_table, gap.since::timestamptz, gap.action_tstamp),
                hint = 'audit history shows the gap, with its reason';
        end if;
    end loop;
    gap := null;
    for called in select * from audit.names_of(wanted_schema, wanted_table, names) loop
        select e.event_id, e.action_tstamp, e.new_row ->> 'capture' as capture,
            e.new_row ? 'labels' as of_labels, e.new_row ? 'exchanged' as of_names
        into gap
        from audit.logged_actions as e
        where e.schema_name = called.schema_name and e.table_name = called.table_name
          and e.row_key is null
          and e.action = 'G'
          and e.event_id > called.after_id and e.event_id <= called.until_id
          and e.action_tstamp <= moment
        -- + 0: otherwise a cached plan may scan the primary key from its end, possibly through all events.
        order by e.event_id + 0 desc
        limit 1;
        exit when found;
    end loop;
    if gap is null then
        perform audit.warn_of_triggers(wanted_schema, wanted_table);
        return;
    end if;
    if has_table_privilege('audit.captured_tables', 'select') then
        select c.* into known from audit.captured_tables as c where c.relation_id = relation;
    end if;
    if known.whole_after >= gap.event_id and known.whole_since <= moment or exists (
        select
        from audit.names_of(wanted_schema, wanted_table, names) as name
        join audit.logged_actions as e
          on e.schema_name = name.schema_name and e.table_name = name.table_name
         and e.event_id > name.after_id and e.event_id <= name.until_id
        where (
            wanted_key is null and e.action = 'S' and known.whole_since is distinct from '-infinity'
            or e.row_key = wanted_key and e.action <> 'E'
            or e.row_key is null and e.action = 'T'
        )
          and e.event_id > gap.event_id
          and e.action_tstamp <= moment
    ) then
        if gap.capture not in ('paused', 'ended') then
            perform audit.warn_of_triggers(wanted_schema, wanted_table);
        end if;
        return;
    end if;
    raise warning using
        message = case
            when gap.of_labels then format(
                'audit: labels of an enum of %I.%I were renamed before %s:'
                    ' events of before have the former ones',
                wanted_schema, wanted_table, gap.action_tstamp)
            when gap.of_names then format(
                'audit: columns of %I.%I exchanged names before %s, and rows were written before that was'
                    ' noted: their values may be in other columns',
                wanted_schema, wanted_table, gap.action_tstamp)
            when gap.capture = 'paused' then format(
                'audit: capture of %I.%I has been paused since %s: changes made since then are unknown',
                wanted_schema, wanted_table, gap.action_tstamp)
            when gap.capture = 'ended' then format(
                'audit: capture of %I.%I has been off since %s: changes made since then are unknown',
                wanted_schema, wanted_table, gap.action_tstamp)
            else format('audit: capture of %I.%I was off until %s: earlier changes are unknown',
                wanted_schema, wanted_table, gap.action_tstamp)
        end,
        hint = 'audit baseline records the rows as they are now';
end
$body$;

revoke all on function audit.warn_of_gap(text, text, text, timestamptz, jsonb) from public;

create or replace function audit.row_image_at(
    wanted_schema text, wanted_table text, wanted_key text, moment timestamptz, names jsonb default null
)
    returns jsonb
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    truncated bigint;  -- the last TRUNCATE until then: what was before is gone
    called record;
    latest record;
    previous bigint;
    remains jsonb;
    outcome record;
    by_id jsonb;  -- how the last event of the last transaction left it
    doubtful_id bigint;  -- that event, where it is an INSERT behind the DELETE of the same
    is_known boolean := false;
begin
    for called in select * from audit.names_of(wanted_schema, wanted_table, names) loop
        previous := called.until_id + (called.until_id < 9223372036854775807)::integer;
        -- + 0: otherwise a cached plan may scan the primary key from its end, possibly through all events.
        select max(e.event_id + 0) into truncated
        from audit.logged_actions as e
        where e.schema_name = called.schema_name and e.table_name = called.table_name
          and e.row_key is null and (e.action = 'T' or e.action = 'M' and e.new_row ->> 'change' = 'dropped')
          and e.event_id > called.after_id and e.event_id < previous and e.action_tstamp <= moment;
        called.after_id := coalesce(truncated, called.after_id);

        loop
            select
                event_id, transaction_id, action, old_row, new_row, old_row_key,
                row_key = wanted_key and new_row is not null as is_there,
action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) as is_part,
                lead(transaction_id) over (order by event_id desc) is distinct from transaction_id as is_alone
            into latest
            from (
                (
                    select event_id, transaction_id, schema_name, table_name, action, row_key, old_row_key,
                        old_row, new_row
                    from audit.logged_actions
                    where schema_name = called.schema_name and table_name = called.table_name
                      and row_key = wanted_key and action <> 'E'
                      and event_id > called.after_id and event_id < previous and action_tstamp <= moment
                    order by event_id desc
                    limit 2
                )
                union all
                (
                    select event_id, transaction_id, schema_name, table_name, action, row_key, old_row_key,
                        old_row, new_row
                    from audit.logged_actions
                    where schema_name = called.schema_name and table_name = called.table_name
                      and old_row_key = wanted_key
                      and event_id > called.after_id and event_id < previous and action_tstamp <= moment
                    order by event_id desc
                    limit 2
                )
            ) as event
            order by event_id desc
            limit 1;            exit when not found;
            if latest.is_part then
                latest.old_row := audit.row_before(
                    called.schema_name, called.table_name, wanted_key, latest.event_id, latest.old_row
                );
            end if;

            -- The only event of its transaction says how it ended, unless it changed nothing.
            remains := case latest.action
                when 'U' then coalesce(latest.old_row, '{}') || latest.new_row
                else latest.new_row end;
            if latest.is_alone and latest.is_there then
                if latest.old_row_key is not null or remains::text is distinct from latest.old_row::text then
                    return case when called.columns is null then remains
                        else audit.as_called_now(remains, called.columns) end;
                end if;
            elsif latest.is_alone and latest.old_row is not null then
                return null;
            end if;

            -- Other transactions come before or after, never between: they waited for the lock on the row.
            select coalesce(max(event_id), called.after_id) into previous
            from (
                (
                    select event_id from audit.logged_actions
                    where schema_name = called.schema_name and table_name = called.table_name
                      and row_key = wanted_key and action <> 'E'
                      and event_id > called.after_id and event_id < latest.event_id
                      and transaction_id <> latest.transaction_id
                    order by event_id desc
                    limit 1
                )
                union all
                (
                    select event_id from audit.logged_actions
                    where schema_name = called.schema_name and table_name = called.table_name
                      and old_row_key = wanted_key
                      and event_id > called.after_id and event_id < latest.event_id
                      and transaction_id <> latest.transaction_id
                    order by event_id desc
                    limit 1
                )
            ) as event;

            -- Each event puts an image of the row in place (1), takes one away (-1), or both.
            select
                sum(change)::integer as rows_more,
                bool_or(arrives)
                    and not (
                        (array_agg(action order by event_id))[1] = 'D' and bool_and(action in ('D', 'I'))
                    ) as arrives,
                bool_or(surplus <> 0) as is_changed,
                (
                    array_agg(image order by event_id desc) filter (where surplus > 0 and change > 0)
                )[1] as image
            into outcome
            from (
                select
                    *,
                    sum(change) over (partition by image::text) as surplus,
                    change > 0 and (action = 'I' or old_row_key is not null) as arrives
                from (
                    select
                        event_id, action, old_row_key, 1 as change,
case action when 'U' then coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, '{}') || new_row else new_row end as image
                    from audit.logged_actions
                    where schema_name = called.schema_name and table_name = called.table_name
                      and row_key = wanted_key and action <> 'E'
                      and event_id > previous and event_id <= latest.event_id
                      and new_row is not null
                    union all
                    select
                        event_id, action, old_row_key, -1 as change,
case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end as image
                    from audit.logged_actions
                    where schema_name = called.schema_name and table_name = called.table_name
                      and row_key = wanted_key and action <> 'E'
                      and event_id > previous and event_id <= latest.event_id
                      and old_row is not null
                      and old_row_key is null
                    union all
                    select
                        event_id, action, old_row_key, -1 as change,
case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end as image
                    from audit.logged_actions
                    where schema_name = called.schema_name and table_name = called.table_name
                      and old_row_key = wanted_key
                      and event_id > previous and event_id <= latest.event_id
                ) as event
            ) as event;
            if outcome.rows_more < 0 then
                return null;
            elsif outcome.image is not null then
                return case when called.columns is null then outcome.image
                    else audit.as_called_now(outcome.image, called.columns) end;
            elsif outcome.is_changed then
                return null;
            end if;
            -- All came back to what it was, which an earlier transaction says. If there is none, a row that
            -- came in this one also went in it, unless it was deleted first and then put back, which
            -- row_stayed tells.
            if not is_known then
                is_known := true;
                if latest.is_there and not outcome.arrives then
                    by_id := audit.as_called_now(remains, called.columns);
                    doubtful_id := case when latest.action = 'I' then latest.event_id end;
                end if;
            end if;
            previous := previous + 1;
        end loop;
        exit when truncated is not null;
    end loop;

    if not is_known and truncated is null then
        perform audit.require_reach(wanted_schema, wanted_table, wanted_key, moment, names);
    elsif doubtful_id is not null
        and not audit.row_stayed(wanted_schema, wanted_table, wanted_key, doubtful_id, names)
    then
        return null;
    end if;
    return by_id;
end
$body$;

revoke all on function audit.row_image_at(text, text, text, timestamptz, jsonb) from public;

create or replace function audit.row_images_at(
    wanted_schema text, wanted_table text, moment timestamptz, names jsonb default null
)
    returns table (key text, image jsonb)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
#variable_conflict use_column
declare
    truncated bigint;  -- the last TRUNCATE until then: what was before is gone
    called record;
begin
    if names is null then
        names := (
            select coalesce(jsonb_agg(name), '[]')
            from audit.names_of(wanted_schema, wanted_table) as name
        );
    end if;
    select * into called from audit.names_of(wanted_schema, wanted_table, names) limit 1;
    select coalesce(max(e.event_id), 0) into truncated
    from audit.names_of(wanted_schema, wanted_table, names) as name
join audit.logged_actions as e
  on e.schema_name = name.schema_name and e.table_name = name.table_name
 and e.event_id > name.after_id and e.event_id <= name.until_id
    where e.row_key is null and (e.action = 'T' or e.action = 'M' and e.new_row ->> 'change' = 'dropped')
      and e.action_tstamp <= moment;

    return query
        select known.key, known.image
        from (
            select
                event.key,
                case
                    -- Where a transaction changed the row again and again,
                    -- the last id may not be the last change.
                    when is_same_transaction and not is_insert_and_update
                        then audit.row_image_at(
                            wanted_schema, wanted_table, event.key, moment, names
                        )
                    when leaves_row
                        then case action when 'U' then coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, '{}') || new_row else new_row end                end as image
            from (
                select
                    *,
                    row_number() over latest_first as place,
                    coalesce(
                        lead(transaction_id) over latest_first = transaction_id, false
                    ) as is_same_transaction,
                    action = 'U'
                        and lead(action) over latest_first = 'I'
                        and old_row = lead(new_row) over latest_first
                        and lead(transaction_id, 2) over latest_first
                            is distinct from transaction_id as is_insert_and_update
                from (
                    select row_key as key, event_id, transaction_id, schema_name, table_name, action, row_key,
                        old_row_key, old_row, new_row, new_row is not null as leaves_row
                    from (
                        select
                            event_id, action_tstamp, transaction_id, schema_name, table_name, action, row_key, old_row_key,
                            case
                                when called.columns is null then old_row
                                else audit.as_called_now(
                                    case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, called.columns,
                                    coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                                )
                            end as old_row,
                            case
                                when called.columns is null then new_row
                                else audit.as_called_now(
                                    case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then case action when 'U' then coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, '{}') || new_row else new_row end
                        else new_row end, called.columns,
                                    coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                                )
                            end as new_row
                        from audit.logged_actions
                        where schema_name = called.schema_name
                          and table_name = called.table_name
                          and event_id > called.after_id
                          and action <> 'E'
                        union all
                        select
                            e.event_id, e.action_tstamp, e.transaction_id, e.schema_name, e.table_name, e.action, e.row_key,
                            e.old_row_key,
                            case
                                when name.columns is null then e.old_row
                                else audit.as_called_now(
                                    whole.old_row, name.columns, coalesce(whole.old_row, whole.new_row)
                                )
                            end,
                            case
                                when name.columns is null then e.new_row
                                else audit.as_called_now(
                                    whole.new_row, name.columns, coalesce(whole.old_row, whole.new_row)
                                )
                            end
                        from audit.names_of(wanted_schema, wanted_table, names) as name
                    join audit.logged_actions as e
                      on e.schema_name = name.schema_name and e.table_name = name.table_name
                     and e.event_id > name.after_id and e.event_id <= name.until_id
                        cross join lateral (
                            select
                                case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end as old_row,
                                case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then case e.action when 'U' then coalesce(case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end, '{}') || e.new_row else e.new_row end
                        else e.new_row end as new_row
                            where name.columns is not null
                            union all
                            select null, null where name.columns is null
                        ) as whole
                        where name.until_id < called.until_id and e.action <> 'E'
                    ) as event
                    where row_key is not null
                      and event_id > truncated and action_tstamp <= moment
                    union all
                    select old_row_key, event_id, transaction_id, schema_name, table_name, action, row_key,
                        old_row_key, null, null, false
                    from (
                        select
                            event_id, action_tstamp, transaction_id, schema_name, table_name, action, row_key, old_row_key,
                            case
                                when called.columns is null then old_row
                                else audit.as_called_now(
                                    case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, called.columns,
                                    coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                                )
                            end as old_row,
                            case
                                when called.columns is null then new_row
                                else audit.as_called_now(
                                    case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then case action when 'U' then coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, '{}') || new_row else new_row end
                        else new_row end, called.columns,
                                    coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                                )
                            end as new_row
                        from audit.logged_actions
                        where schema_name = called.schema_name
                          and table_name = called.table_name
                          and event_id > called.after_id
                          and action <> 'E'
                        union all
                        select
                            e.event_id, e.action_tstamp, e.transaction_id, e.schema_name, e.table_name, e.action, e.row_key,
                            e.old_row_key,
                            case
                                when name.columns is null then e.old_row
                                else audit.as_called_now(
                                    whole.old_row, name.columns, coalesce(whole.old_row, whole.new_row)
                                )
                            end,
                            case
                                when name.columns is null then e.new_row
                                else audit.as_called_now(
                                    whole.new_row, name.columns, coalesce(whole.old_row, whole.new_row)
                                )
                            end
                        from audit.names_of(wanted_schema, wanted_table, names) as name
                    join audit.logged_actions as e
                      on e.schema_name = name.schema_name and e.table_name = name.table_name
                     and e.event_id > name.after_id and e.event_id <= name.until_id
                        cross join lateral (
                            select
                                case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end as old_row,
                                case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then case e.action when 'U' then coalesce(case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end, '{}') || e.new_row else e.new_row end
                        else e.new_row end as new_row
                            where name.columns is not null
                            union all
                            select null, null where name.columns is null
                        ) as whole
                        where name.until_id < called.until_id and e.action <> 'E'
                    ) as event
                    where old_row_key is not null
                      and event_id > truncated and action_tstamp <= moment
                ) as event
                window latest_first as (partition by event.key order by event_id desc)
            ) as event
            where place = 1
        ) as known
        where known.image is not null;
end
$body$;

revoke all on function audit.row_images_at(text, text, timestamptz, jsonb) from public;

create or replace function audit.row_at(base anyelement, key text, moment timestamptz)
    returns setof anyelement
    language plpgsql
    stable
    rows 1
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
    set intervalstyle = 'postgres'
as $body$
declare
    relation constant regclass := audit.audited_table(pg_typeof(base));
    keys constant text[] := audit.equal_keys(relation, key);
    wanted_key text := keys[1];
    wanted_schema text;
    wanted_table text;
    names jsonb;
    image jsonb;
begin
    select n.nspname, c.relname into wanted_schema, wanted_table
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = relation;
    names := (
        select coalesce(jsonb_agg(name), '[]')
        from audit.names_of(wanted_schema, wanted_table) as name
    );
    perform audit.require_life(wanted_schema, wanted_table, moment, names);
    foreach wanted_key in array keys loop
        image := audit.row_image_at(wanted_schema, wanted_table, wanted_key, moment, names);
        exit when image is not null;
    end loop;
    if image is null then
        perform audit.require_known(relation, wanted_key, names);
    end if;
    perform audit.warn_of_gap(wanted_schema, wanted_table, wanted_key, moment, names);
    if image is not null then
        -- EXECUTE: a cached plan would keep the columns that the table had when it was planned.
        return query execute 'select populated.* from jsonb_populate_record($1, $2) as populated' using base,
            audit.refuse_redacted(image);
    end if;
end
$body$;

revoke all on function audit.row_at(anyelement, text, timestamptz) from public;

create or replace function audit.table_at(base anyelement, moment timestamptz)
    returns setof anyelement
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
    set intervalstyle = 'postgres'
    set bytea_output = 'hex'
    set extra_float_digits = 1
as $body$
declare
    relation constant regclass := audit.audited_table(pg_typeof(base));
    home record;
    wanted_schema text;
    wanted_table text;
    names jsonb;
    truncated bigint;
    called record;
    batch record;
begin
    select n.nspname as schema_name, c.relname as table_name, i.indexrelid is not null as has_key into home
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    left join pg_index as i on i.indrelid = c.oid and i.indisprimary
    where c.oid = relation;
    wanted_schema := home.schema_name;
    wanted_table := home.table_name;
    names := (
        select coalesce(jsonb_agg(name), '[]')
        from audit.names_of(wanted_schema, wanted_table) as name
    );
    select * into called from audit.names_of(wanted_schema, wanted_table, names) limit 1;
    select coalesce(max(e.event_id), 0) into truncated
    from audit.names_of(wanted_schema, wanted_table, names) as name
join audit.logged_actions as e
  on e.schema_name = name.schema_name and e.table_name = name.table_name
 and e.event_id > name.after_id and e.event_id <= name.until_id
    where e.row_key is null and (e.action = 'T' or e.action = 'M' and e.new_row ->> 'change' = 'dropped')
      and e.action_tstamp <= moment;

    perform audit.require_life(wanted_schema, wanted_table, moment, names);
    perform audit.warn_of_gap(wanted_schema, wanted_table, null, moment, names);
    if truncated = 0 then
        perform audit.require_whole(
            relation, wanted_schema, wanted_table, home.has_key, moment, names
        );
    end if;
    if not home.has_key then
        -- Rows without a key are told apart by nothing but their looks:
        -- what came less what went is what is there.
        for batch in
            select array_agg(known.image) as images, array_agg(known.copies) as copies
            from (
                select image, copies, row_number() over () / 1000 as number
                from (
                    select (array_agg(image))[1] as image, sum(change) as copies
                    from (
                        select case action when 'U' then coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, '{}') || new_row else new_row end as image, 1 as change
                        from (
                            select
                                event_id, action_tstamp, transaction_id, schema_name, table_name, action, row_key, old_row_key,
                                case
                                    when called.columns is null then old_row
                                    else audit.as_called_now(
                                        case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, called.columns,
                                        coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                                    )
                                end as old_row,
                                case
                                    when called.columns is null then new_row
                                    else audit.as_called_now(
                                        case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then case action when 'U' then coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, '{}') || new_row else new_row end
                            else new_row end, called.columns,
                                        coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                                    )
                                end as new_row
                            from audit.logged_actions
                            where schema_name = called.schema_name
                              and table_name = called.table_name
                              and event_id > called.after_id
                              and action <> 'E'
                            union all
                            select
                                e.event_id, e.action_tstamp, e.transaction_id, e.schema_name, e.table_name, e.action, e.row_key,
                                e.old_row_key,
                                case
                                    when name.columns is null then e.old_row
                                    else audit.as_called_now(
                                        whole.old_row, name.columns, coalesce(whole.old_row, whole.new_row)
                                    )
                                end,
                                case
                                    when name.columns is null then e.new_row
                                    else audit.as_called_now(
                                        whole.new_row, name.columns, coalesce(whole.old_row, whole.new_row)
                                    )
                                end
                            from audit.names_of(wanted_schema, wanted_table, names) as name
                        join audit.logged_actions as e
                          on e.schema_name = name.schema_name and e.table_name = name.table_name
                         and e.event_id > name.after_id and e.event_id <= name.until_id
                            cross join lateral (
                                select
                                    case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end as old_row,
                                    case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then case e.action when 'U' then coalesce(case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end, '{}') || e.new_row else e.new_row end
                            else e.new_row end as new_row
                                where name.columns is not null
                                union all
                                select null, null where name.columns is null
                            ) as whole
                            where name.until_id < called.until_id and e.action <> 'E'
                        ) as event
                        where event_id > truncated and action_tstamp <= moment
                          and action in ('I', 'U', 'S') and new_row is not null
                        union all
                        select case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, -1
                        from (
                            select
                                event_id, action_tstamp, transaction_id, schema_name, table_name, action, row_key, old_row_key,
                                case
                                    when called.columns is null then old_row
                                    else audit.as_called_now(
                                        case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, called.columns,
                                        coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                                    )
                                end as old_row,
                                case
                                    when called.columns is null then new_row
                                    else audit.as_called_now(
                                        case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then case action when 'U' then coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, '{}') || new_row else new_row end
                            else new_row end, called.columns,
                                        coalesce(case when action = 'U' and row_key is not null and old_row_key is null and audit.holds_changes_only(old_row, new_row) then audit.row_before(schema_name, table_name, row_key, event_id, old_row) else old_row end, new_row)
                                    )
                                end as new_row
                            from audit.logged_actions
                            where schema_name = called.schema_name
                              and table_name = called.table_name
                              and event_id > called.after_id
                              and action <> 'E'
                            union all
                            select
                                e.event_id, e.action_tstamp, e.transaction_id, e.schema_name, e.table_name, e.action, e.row_key,
                                e.old_row_key,
                                case
                                    when name.columns is null then e.old_row
                                    else audit.as_called_now(
                                        whole.old_row, name.columns, coalesce(whole.old_row, whole.new_row)
                                    )
                                end,
                                case
                                    when name.columns is null then e.new_row
                                    else audit.as_called_now(
                                        whole.new_row, name.columns, coalesce(whole.old_row, whole.new_row)
                                    )
                                end
                            from audit.names_of(wanted_schema, wanted_table, names) as name
                        join audit.logged_actions as e
                          on e.schema_name = name.schema_name and e.table_name = name.table_name
                         and e.event_id > name.after_id and e.event_id <= name.until_id
                            cross join lateral (
                                select
                                    case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end as old_row,
                                    case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then case e.action when 'U' then coalesce(case when e.action = 'U' and e.row_key is not null and e.old_row_key is null and audit.holds_changes_only(e.old_row, e.new_row) then audit.row_before(e.schema_name, e.table_name, e.row_key, e.event_id, e.old_row) else e.old_row end, '{}') || e.new_row else e.new_row end
                            else e.new_row end as new_row
                                where name.columns is not null
                                union all
                                select null, null where name.columns is null
                            ) as whole
                            where name.until_id < called.until_id and e.action <> 'E'
                        ) as event
                        where event_id > truncated and action_tstamp <= moment
                          and action in ('U', 'D', 'S') and old_row is not null
                    ) as event
                    group by format(
                        '%s', jsonb_populate_record(base, audit.refuse_redacted(image))
                    )
                    having sum(change) > 0
                ) as counted
            ) as known
            group by known.number
        loop
            -- EXECUTE: see below.
            return query execute $query$
                select populated.*
                from unnest($1, $2) as known (image, copies)
                cross join generate_series(1, known.copies)
                cross join lateral jsonb_populate_record($3, known.image) as populated
                $query$
                using batch.images, batch.copies, base;
        end loop;
        return;
    end if;

    -- EXECUTE: a cached plan would keep the columns that the table had when it was planned.
    return query execute $query$
        select populated.*
        from audit.row_images_at($1, $2, $3, $5) as known
        cross join lateral jsonb_populate_record(
            $4, audit.refuse_redacted(known.image)
        ) as populated
        $query$
        using wanted_schema, wanted_table, moment, base, names;
end
$body$;

revoke all on function audit.table_at(anyelement, timestamptz) from public;

create or replace function audit.history(relation regclass, key text)
    returns table (
        valid_from timestamptz,
        valid_to timestamptz,
        event_id bigint,
        transaction_id xid8,
        actor text,
        context jsonb,
        row_image jsonb
    )
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    audited constant regclass := coalesce(pg_partition_root(relation), relation);
    keys constant text[] := audit.equal_keys(audited, key);
    wanted_schema text;
    wanted_table text;
    names jsonb;
begin
    select n.nspname, c.relname into wanted_schema, wanted_table
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = audited;
    names := (
        select coalesce(jsonb_agg(name), '[]')
        from audit.names_of(wanted_schema, wanted_table) as name
    );
    perform audit.warn_of_gap(wanted_schema, wanted_table, keys[1], 'infinity', names);
    return query
        with name as materialized (
            select * from audit.names_of(wanted_schema, wanted_table, names)
        )
        select version.began, version.ended, version.event_id, version.transaction_id, version.actor,
            version.context, version.image
        from (
            select
                last_of.event_id,
                last_of.transaction_id,
                coalesce(nullif(last_of.context ->> 'actor', ''), last_of.session_user_name) as actor,
                last_of.context,
                last_of.action_tstamp as began,
                lead(last_of.action_tstamp) over (order by last_of.event_id) as ended,
                (
                    select found.image
                    from unnest(keys) as same (key)
                    cross join lateral audit.row_image_at(
                        wanted_schema, wanted_table, same.key, last_of.action_tstamp, names
                    ) as found (image)
                    where found.image is not null
                    limit 1
                ) as image
            from (
                select distinct on (event.transaction_id) event.*
                from (
                    select e.*
                    from name
                    join audit.logged_actions as e
                      on e.schema_name = name.schema_name and e.table_name = name.table_name
                     and e.event_id > name.after_id and e.event_id <= name.until_id
                    where e.row_key = any(keys) and e.action <> 'E'
                    union all
                    select e.*
                    from name
                    join audit.logged_actions as e
                      on e.schema_name = name.schema_name and e.table_name = name.table_name
                     and e.event_id > name.after_id and e.event_id <= name.until_id
                    where e.old_row_key = any(keys)
                    union all
                    select e.*
                    from name
                    join audit.logged_actions as e
                      on e.schema_name = name.schema_name and e.table_name = name.table_name
                     and e.event_id > name.after_id and e.event_id <= name.until_id
                    where e.row_key is null and (e.action = 'T' or e.action = 'M' and e.new_row ->> 'change' = 'dropped')
                ) as event
                order by event.transaction_id, event.event_id desc
            ) as last_of
        ) as version
        where version.image is not null
        order by version.event_id;
end
$body$;

revoke all on function audit.history(regclass, text) from public;

comment on function audit.revoke_all(regclass)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.refuse_change()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.refuse_others()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.guard_relation(regclass)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.leaves()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.make_leaf(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.merkle_root(bytea)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.leaf_digest(regclass)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.ensure_past()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.ensure_partitions(integer)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.mask(jsonb, text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.pick(jsonb, text[])
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.stand_in(bytea)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.plain_type(oid)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.columns_now(regclass)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.has_columns(regclass, text[], text[], boolean)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.known_part(jsonb, text[], text[], text[])
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.columns_carried(jsonb, jsonb, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.names_now(regclass, text, text[])
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.disguised(regclass, text, text[])
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.image_sql(text[], oid[], text, boolean)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.image_by(anyelement, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.image_of(anyelement, boolean)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.image_expression(text, boolean)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.hand_over(regprocedure)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.columns_of(oid)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.changed_columns(jsonb, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.partitions_of(oid)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.triggers_of(oid, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.code_of(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.table_with_capture(text, oid)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.require_owner(oid)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.let_owner_partition(regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.columns_restored(jsonb, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.partitions_restored(jsonb, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.name_told(oid, text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.note_changes_by(text, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.note_changes(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.present_home()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.is_elsewhere()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.note_coverage()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.note_ddl()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.guard_ddl()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.captured_as(oid, text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.captured_relation(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.columns_are_noted(text, oid)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.columns_in_doubt(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.noted_as(text, text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.noted_by(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.is_noted(text, text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.note_here(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.note_again(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.is_second_trigger(text, text[], oid, text, text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.is_as_installed(text, text[], text[], boolean, text[])
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.await_wal(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.read_from_wal(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.record_by_triggers(text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.has_other_key(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.has_withheld(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.has_truncated_leaf(regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.note_former(regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.note_beginning(regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.begin_capture(regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.columns_meant(regclass, text, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.note_capture(regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.note_put_back(regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.end_capture(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.record_gap(regclass, text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.write_event(text, jsonb, regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.record_event(text, jsonb, regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.doubtful_events(bigint)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.note_dropped(oid, boolean)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_limits()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_lock()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_interval(text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_create(text[], timestamptz[], boolean)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_cap(timestamptz, timestamptz)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_past()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_validate()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_relabel(text, text[], timestamptz[])
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_detach(regclass)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_finish()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_drop(oid)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_hold(oid, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_note(text, boolean, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_timeline()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.maintain_has_rows(regclass)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.archive_begin(oid)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.archive_end(oid)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.archive_note(oid, text, text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.archive_note_export(jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.redacted(jsonb, text[], bigint, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.destroy_salt(bigint, integer)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.refuse_redacted(jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.holds_changes_only(jsonb, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.row_before(text, text, text, bigint, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.present_period(regclass, boolean)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.deltas_after(regclass, text, text[])
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.altered_by(regclass)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.redactable(text, text, text[], text[], text[], boolean, boolean)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.erase_events(bigint[], text[], text[], boolean, boolean, boolean)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.announce_redaction(jsonb, text, text, text[], text[], boolean, boolean, boolean, text, text, jsonb, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.redact(text, text, bigint[], text[], text[], boolean, boolean, boolean, text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.seal_leaves(regclass, bigint, bigint, bytea)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.seal_relations()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.seal_salts(bigint, bigint)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.seal_begin()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.seal_reach(bigint)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.seal_block(bigint, bigint)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.seal_add(smallint[], bigint[], bytea[], text[], jsonb, jsonb, bigint, bigint, bytea, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.seal_note(boolean, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.former_columns(jsonb, jsonb, text[])
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.as_called_now(jsonb, jsonb, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.names_known()
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.moved_to(text, text, bigint)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.name_now(text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.names_of(text, text, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.require_life(text, text, timestamptz, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.audited_table(regtype)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.row_key_of(regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.equal_keys(regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.has_row(regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.row_stayed(text, text, text, bigint, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.row_known_since(text, text, text, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.require_reach(text, text, text, timestamptz, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.require_known(regclass, text, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.require_whole(regclass, text, text, boolean, timestamptz, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.warn_of_triggers(text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.warn_of_absence(text, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.warn_of_partitions(text, text, text, timestamptz, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.warn_of_gap(text, text, text, timestamptz, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.row_image_at(text, text, text, timestamptz, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.row_images_at(text, text, timestamptz, jsonb)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.row_at(anyelement, text, timestamptz)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.table_at(anyelement, timestamptz)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

comment on function audit.history(regclass, text)
    is '{"tool": "audit-toolkit", "version": "0.3.0"}';

do $grants$
declare
    object text;
begin
    for object in
        select distinct format(
            '%s from %s', shown,
            case when acl.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end
        )
        from (
            select 'function ' || oid::regprocedure, proacl, proowner
            from pg_catalog.pg_proc
            where pronamespace = 'audit'::regnamespace
              and proname in ('revoke_all', 'refuse_change', 'refuse_others', 'guard_relation', 'leaves', 'make_leaf', 'merkle_root', 'leaf_digest', 'ensure_past', 'ensure_partitions', 'mask', 'pick', 'stand_in', 'plain_type', 'columns_now', 'has_columns', 'known_part', 'columns_carried', 'names_now', 'disguised', 'image_sql', 'image_by', 'image_of', 'image_expression', 'hand_over', 'columns_of', 'changed_columns', 'partitions_of', 'triggers_of', 'code_of', 'table_with_capture', 'require_owner', 'let_owner_partition', 'columns_restored', 'partitions_restored', 'name_told', 'note_changes_by', 'note_changes', 'present_home', 'is_elsewhere', 'note_coverage', 'note_ddl', 'guard_ddl', 'captured_as', 'captured_relation', 'columns_are_noted', 'columns_in_doubt', 'noted_as', 'noted_by', 'is_noted', 'note_here', 'note_again', 'is_second_trigger', 'is_as_installed', 'await_wal', 'read_from_wal', 'record_by_triggers', 'has_other_key', 'has_withheld', 'has_truncated_leaf', 'note_former', 'note_beginning', 'begin_capture', 'columns_meant', 'note_capture', 'note_put_back', 'end_capture', 'record_gap', 'write_event', 'record_event', 'doubtful_events', 'note_dropped', 'maintain_limits', 'maintain_lock', 'maintain_interval', 'maintain_create', 'maintain_cap', 'maintain_past', 'maintain_validate', 'maintain_relabel', 'maintain_detach', 'maintain_finish', 'maintain_drop', 'maintain_hold', 'maintain_note', 'maintain_timeline', 'maintain_has_rows', 'archive_begin', 'archive_end', 'archive_note', 'archive_note_export', 'redacted', 'destroy_salt', 'refuse_redacted', 'holds_changes_only', 'row_before', 'present_period', 'deltas_after', 'altered_by', 'redactable', 'erase_events', 'announce_redaction', 'redact', 'seal_leaves', 'seal_relations', 'seal_salts', 'seal_begin', 'seal_reach', 'seal_block', 'seal_add', 'seal_note', 'former_columns', 'as_called_now', 'names_known', 'moved_to', 'name_now', 'names_of', 'require_life', 'audited_table', 'row_key_of', 'equal_keys', 'has_row', 'row_stayed', 'row_known_since', 'require_reach', 'require_known', 'require_whole', 'warn_of_triggers', 'warn_of_absence', 'warn_of_partitions', 'warn_of_gap', 'row_image_at', 'row_images_at', 'row_at', 'table_at', 'history')
            union all
            select 'schema ' || quote_ident(nspname), nspacl, nspowner
            from pg_catalog.pg_namespace
            where nspname = 'audit'
        ) as present (shown, granted, owner)
        cross join lateral pg_catalog.aclexplode(granted) as acl
        where acl.grantee <> owner
    loop
        execute 'revoke all on ' || object || ' cascade';
    end loop;
end
$grants$;


-- The key of keyed masks.
create table if not exists audit.mask_key (
    -- Only for a publication FOR ALL TABLES, which needs to identify rows.
    inner_pad bytea not null primary key,
    outer_pad bytea not null
);

-- Older releases created it without.
do $key$
begin
    if not exists (
        select from pg_catalog.pg_index
        where indrelid = 'audit.mask_key'::regclass and indisprimary
    ) then
        alter table audit.mask_key add primary key (inner_pad);
    end if;
end
$key$;

-- There is one key. Even a member of pg_write_all_data can neither remove it nor add another.
create unique index if not exists mask_key_only_one
    on audit.mask_key ((true));

select audit.guard_relation('audit.mask_key'::regclass);

comment on table audit.mask_key is '{"tool": "audit-toolkit", "version": "0.3.0"}';

-- 64 random bytes, drawn once: whoever has them can test guesses of masked values.
insert into audit.mask_key (inner_pad, outer_pad)
with secret as materialized (
    select
        sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
        || sha256(
            uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
        ) as key
)
select
    string_agg(set_byte('\x00'::bytea, 0, get_byte(key, place) # 54), ''::bytea order by place),
    string_agg(set_byte('\x00'::bytea, 0, get_byte(key, place) # 92), ''::bytea order by place)
from secret
cross join generate_series(0, 63) as place
where not exists (select from audit.mask_key)
having count(*) > 0;


-- Maintenance records: partitions on their way out, the last success.
create table if not exists audit.partition_lifecycle (
    -- A regclass survives pg_dump; an OID would not.
    leaf regclass not null,
    leaf_name text collate "C" not null,
    lower_bound timestamptz,
    upper_bound timestamptz,
    state text collate "C" not null check (state in ('attached', 'detaching', 'detached', 'dropped')),
    detached_at timestamptz,
    dropped_at timestamptz,
    -- A partition with a hold is kept, whatever the retention.
    hold_reason text,
    held_by text,
    held_at timestamptz,
    -- Set together, once the archive was read back and matches the partition.
    archive text,
    archive_digest text,
    archived_at timestamptz,
    -- Without it, a publication FOR ALL TABLES would reject every update.
    entry_id uuid not null default gen_random_uuid() primary key,
    -- The SHA-256 of its manifest; the chain of manifests only covers it once another one follows.
    archive_manifest text,
    -- The M event that says that it was dropped.
    drop_event bigint,
    check ((archive is null) = (archive_digest is null) and (archive is null) = (archived_at is null))
);

-- Older releases created it without them.
do $key$
begin
    if not exists (
        select from pg_catalog.pg_attribute
        where attrelid = 'audit.partition_lifecycle'::regclass
          and attname = 'entry_id'
          and not attisdropped
    ) then
        alter table audit.partition_lifecycle
            add column entry_id uuid not null default gen_random_uuid() primary key;
    end if;
    if not exists (
        select from pg_catalog.pg_attribute
        where attrelid = 'audit.partition_lifecycle'::regclass
          and attname = 'archive_manifest'
          and not attisdropped
    ) then
        alter table audit.partition_lifecycle add column archive_manifest text;
    end if;
    if not exists (
        select from pg_catalog.pg_attribute
        where attrelid = 'audit.partition_lifecycle'::regclass
          and attname = 'drop_event'
          and not attisdropped
    ) then
        alter table audit.partition_lifecycle add column drop_event bigint;
    end if;
end
$key$;

create unique index if not exists partition_lifecycle_leaf_idx
    on audit.partition_lifecycle (leaf)
    where state <> 'dropped';

select audit.revoke_all('audit.partition_lifecycle'::regclass);

comment on table audit.partition_lifecycle is '{"tool": "audit-toolkit", "version": "0.3.0"}';

create table if not exists audit.maintenance (
    command text collate "C" primary key,
    last_run_at timestamptz not null,
    last_success_at timestamptz,
    summary jsonb not null
);

select audit.revoke_all('audit.maintenance'::regclass);

comment on table audit.maintenance is '{"tool": "audit-toolkit", "version": "0.3.0"}';


-- Who is told what the trail holds, and how far.
create table if not exists audit.consumers (
    name text collate "C" primary key,
    -- Every event up to this one was delivered, put aside, or not
    -- requested; the id is only valid in this trail.
    event_id bigint not null,
    event_tstamp timestamptz,
    system_identifier text collate "C",
    timeline integer,
    -- The one instance that delivers holds the advisory lock with this key, and changes the row under its
    -- lease. The key is random, because others could hold a lock whose key they can predict.
    lock_key bigint not null default ('x' || left(md5(gen_random_uuid()::text), 16))::bit(64)::bigint,
    lease uuid,
    lease_pid integer,
    leased_at timestamptz,
    options jsonb not null default '{}',
    delivered bigint not null default 0,
    delivered_at timestamptz,
    failures integer not null default 0,
    last_error text,
    last_error_at timestamptz,
    -- How long retention waits for this consumer at most.
    hold_for interval,
    created_at timestamptz not null default clock_timestamp()
);

select audit.revoke_all('audit.consumers'::regclass);

comment on table audit.consumers is '{"tool": "audit-toolkit", "version": "0.3.0"}';

create table if not exists audit.dead_letters (
    consumer text collate "C" not null references audit.consumers (name) on delete cascade,
    event_id bigint not null,
    event_tstamp timestamptz not null,
    schema_name text collate "C" not null,
    table_name text collate "C" not null,
    row_key text collate "C",
    tries integer not null,
    reason text not null,
    refused_at timestamptz not null default clock_timestamp(),
    is_due boolean not null default false,
    primary key (consumer, event_id)
);

select audit.revoke_all('audit.dead_letters'::regclass);

comment on table audit.dead_letters is '{"tool": "audit-toolkit", "version": "0.3.0"}';


-- Where the trail is, so that it notices when it was moved.
create table if not exists audit.home (
    system_identifier text collate "C",
    database_oid oid not null,
    database_name text collate "C" not null,
    trail_oid oid not null,
    timeline integer,
    since timestamptz not null default clock_timestamp()
);

-- For a publication FOR ALL TABLES, which needs to identify rows.
alter table audit.home replica identity full;

select audit.revoke_all('audit.home'::regclass);

comment on table audit.home is '{"tool": "audit-toolkit", "version": "0.3.0"}';

insert into audit.home (system_identifier, database_oid, database_name, trail_oid, timeline)
select system_identifier, database_oid, database_name, trail_oid, timeline
from audit.present_home()
where not exists (select from audit.home);

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.captured_tables
    for each statement execute function audit.refuse_others();

alter table audit.captured_tables enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.capture_progress
    for each statement execute function audit.refuse_others();

alter table audit.capture_progress enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.truncated_rows
    for each statement execute function audit.refuse_others();

alter table audit.truncated_rows enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.home
    for each statement execute function audit.refuse_others();

alter table audit.home enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.maintenance
    for each statement execute function audit.refuse_others();

alter table audit.maintenance enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.partition_lifecycle
    for each statement execute function audit.refuse_others();

alter table audit.partition_lifecycle enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.seal_tiles
    for each statement execute function audit.refuse_others();

alter table audit.seal_tiles enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.seal_checkpoints
    for each statement execute function audit.refuse_others();

alter table audit.seal_checkpoints enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.seal_keys
    for each statement execute function audit.refuse_others();

alter table audit.seal_keys enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.seal_partitions
    for each statement execute function audit.refuse_others();

alter table audit.seal_partitions enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.seal_seeds
    for each statement execute function audit.refuse_others();

alter table audit.seal_seeds enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.redacted_slots
    for each statement execute function audit.refuse_others();

alter table audit.redacted_slots enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.redaction_notes
    for each statement execute function audit.refuse_others();

alter table audit.redaction_notes enable always trigger "00_audit_owner_only";

create or replace trigger "00_audit_owner_only"
    before insert or update or delete or truncate on audit.redactions
    for each statement execute function audit.refuse_others();

alter table audit.redactions enable always trigger "00_audit_owner_only";


-- Append-only, with the grants it had before, and with partitions well ahead of the server's clock.
select audit.guard_relation('audit.logged_actions'::regclass);

select audit.revoke_all('audit.logged_actions_event_id_seq'::regclass);

-- Partitions from the previous one to well ahead, the catch-all partition, and one for the past.
select audit.ensure_partitions();

-- Records where the trail starts, so that a missing first partition is detected.
insert into audit.partition_lifecycle (leaf, leaf_name, lower_bound, upper_bound, state)
select l.leaf, c.relname, l.lower_bound, l.upper_bound, 'attached'
from audit.leaves() as l
join pg_catalog.pg_class as c on c.oid = l.leaf
where l.lower_bound is not null
  and not l.is_tail
  and not exists (select from audit.partition_lifecycle)
order by l.lower_bound nulls first
limit 1;

do $granted$
begin
    if current_setting('audit.granted_before', true) <> '' then
        execute current_setting('audit.granted_before');
    end if;
end
$granted$;

commit;
