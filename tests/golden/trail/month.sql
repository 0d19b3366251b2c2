begin;
set local lock_timeout = '3s';

-- The schema audit, unless somebody else has one of that name.
do $refuse$
declare
    trail regclass;
begin
    if exists (
        select from pg_catalog.pg_namespace
        where nspname = 'audit' and not pg_catalog.pg_has_role(nspowner, 'usage')
    ) then
        raise exception using
            errcode = 'insufficient_privilege',
            message = 'audit: the schema audit belongs to another role',
            hint = 'connect as its owner, or choose another schema: audit install --audit-schema NAME';
    end if;

    trail := to_regclass('audit.logged_actions');
    if trail is not null and not exists (
        select from pg_catalog.pg_class
        where oid = trail
          and relkind = 'p'
          and pg_catalog.pg_has_role(relowner, 'usage')
          and pg_catalog.obj_description(oid, 'pg_class') like '%"tool": "audit-toolkit"%'
    ) then
        raise exception using
            errcode = 'duplicate_table',
            message = 'audit: audit.logged_actions exists and is not a trail of audit-toolkit',
            hint = 'rename that table, or choose another schema: audit install --audit-schema NAME';
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
            message = 'audit: a partition of audit.logged_actions is half detached: ' || pending,
            hint = 'finish it first: alter table audit.logged_actions detach partition '
                || pending || ' finalize';
    end if;
end
$refuse$;

create schema if not exists audit;

revoke all on schema audit from public;


-- The trail, audit.logged_actions: one row an event, partitioned by time.
-- CACHE 1: ids rise with capture, over all sessions.
create sequence if not exists audit.logged_actions_event_id_seq
    as bigint
    cache 1;

create table if not exists audit.logged_actions (
    event_id bigint not null default nextval('audit.logged_actions_event_id_seq'::regclass),
    action_tstamp timestamptz not null default clock_timestamp(),
    transaction_id xid8 not null default pg_current_xact_id(),
    schema_name text collate "C" not null,
    table_name text collate "C" not null,
    action text not null,
    row_key text collate "C",
    old_row_key text collate "C",
    old_row jsonb,
    new_row jsonb,
    context jsonb default nullif(current_setting('audit.context', true), '')::jsonb,
    session_user_name text not null default session_user,
    role_name text default nullif(current_setting('role'), 'none'),
    application_name text default nullif(current_setting('application_name'), ''),
    client_addr inet default inet_client_addr(),
    query text,
    primary key (event_id, action_tstamp)
)
partition by range (action_tstamp);

alter sequence audit.logged_actions_event_id_seq
    owned by audit.logged_actions.event_id;

-- The history of one row.
create index if not exists logged_actions_row_idx
    on audit.logged_actions (schema_name, table_name, row_key, event_id)
    with (deduplicate_items = off);

-- no two entries are alike, so there is nothing to look for

-- Where a row went whose key was changed: nearly empty, and next to free to keep.
create index if not exists logged_actions_old_key_idx
    on audit.logged_actions (schema_name, table_name, old_row_key, event_id)
    where old_row_key is not null;

-- Time ranges within a leaf.
create index if not exists logged_actions_time_idx
    on audit.logged_actions using brin (action_tstamp);

comment on table audit.logged_actions is '{"tool": "audit-toolkit", "version": "0.1.0", "interval": "month"}';

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


-- Its functions, none of which PUBLIC may execute.
create or replace function audit.revoke_all(relation regclass)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    grantee text;
begin
    for grantee in
        select distinct case when acl.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end
        from pg_class
        cross join lateral aclexplode(relacl) as acl
        where oid = relation and acl.grantee <> relowner
    loop
        execute format('revoke all on %s from %s', relation, grantee);
    end loop;
end
$body$;

revoke all on function audit.revoke_all(regclass) from public;

create or replace function audit.refuse_change()
    returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
begin
    raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = 'audit: ' || tg_table_schema || '.' || tg_table_name || ' is append-only, ' || tg_op || ' is refused',
        hint = 'events are never changed; old ones leave with their whole leaf';
end
$body$;

revoke all on function audit.refuse_change() from public;

create or replace function audit.guard_relation(relation regclass)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    owner constant oid := (select relowner from pg_class where oid = 'audit.logged_actions'::regclass);
begin
    -- For each statement: such triggers are not cloned to leaves, so every leaf gets its own.
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
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
as $body$
    -- A bound is NULL where there is none: MINVALUE, MAXVALUE, DEFAULT.
    select
        c.oid::regclass,
        (regexp_match(bound, 'FROM \(''([^'']+)''\)'))[1]::timestamptz,
        (regexp_match(bound, 'TO \(''([^'']+)''\)'))[1]::timestamptz,
        bound like '%TO (MAXVALUE)',
        bound = 'DEFAULT',
        i.inhdetachpending
    from pg_inherits as i
    join pg_class as c on c.oid = i.inhrelid
    cross join lateral pg_get_expr(c.relpartbound, c.oid) as bound
    where i.inhparent = 'audit.logged_actions'::regclass
    order by 2 nulls first
$body$;

revoke all on function audit.leaves() from public;

create or replace function audit.make_leaf(name text)
    returns regclass
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    trail pg_class := (select c from pg_class as c where oid = 'audit.logged_actions'::regclass);
    leaf regclass;
    extra text;
begin
    -- EXCLUDING IDENTITY: PostgreSQL 17 and newer refuse to attach a table that has an identity of its own.
    execute format('create table %I.%I (like %s including all excluding identity)', 'audit', name, trail.oid::regclass);
    leaf := format('%I.%I', 'audit', name)::regclass;
    execute format('comment on table %s is %L', leaf, '{"tool": "audit-toolkit", "version": "0.1.0"}');
    if trail.reltablespace <> 0 then
        execute format(
            'alter table %s set tablespace %I', leaf, (select spcname from pg_tablespace where oid = trail.reltablespace));
    end if;

    select string_agg(format('%I = %L', split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)), ', ')
    into extra
    from unnest((
        select c.reloptions
        from audit.leaves() as l
        join pg_class as c on c.oid = l.leaf
        where c.relkind = 'r'
        order by l.lower_bound desc nulls last
        limit 1
    )) as setting;
    if extra is not null then
        execute format('alter table %s set (%s)', leaf, extra);
    end if;

    perform audit.guard_relation(leaf);
    for extra in
        select format(
            'grant %s on %s to %s%s', acl.privilege_type, leaf,
            case when acl.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end,
            case when acl.is_grantable then ' with grant option' else '' end)
        from aclexplode(trail.relacl) as acl
        where acl.grantee <> trail.relowner
    loop
        execute extra;
    end loop;
    -- Policies guard the way through the trail; without any of its own, the leaf itself shows no row.
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

create or replace function audit.leaf_digest(leaf regclass)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set extra_float_digits = 1
as $body$
declare
    digest text;
begin
    execute format($query$
        select concat_ws('/',
            count(*),
            coalesce(sum(('x' || left(hash, 16))::bit(64)::bigint), 0),
            coalesce(sum(('x' || substr(hash, 17, 16))::bit(64)::bigint), 0))
        from %s as event
        cross join lateral (
            select encode(sha256(convert_to(string_agg(coalesce(length(field) || ':' || field, '-'), '' order by place), 'UTF8')), 'hex')
            from unnest(array[
                event_id::text, (extract(epoch from action_tstamp) * 1000000)::bigint::text, transaction_id::text,
                schema_name, table_name, action, row_key, old_row_key, old_row::text, new_row::text, context::text,
                session_user_name, role_name, application_name, nullif(concat(client_addr), ''), query
            ]) with ordinality as fields (field, place)
        ) as row_hash (hash)
    $query$, leaf) into digest;
    return digest;
end
$body$;

revoke all on function audit.leaf_digest(regclass) from public;

create or replace function audit.ensure_partitions(ahead integer default null)
    returns integer
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
    set lock_timeout = '2s'
as $body$
declare
    trail constant regclass := 'audit.logged_actions';
    unit constant text := obj_description(trail, 'pg_class')::json ->> 'interval';
    step constant interval := '1 ' || unit;
    usual constant integer := case unit when 'day' then 45 when 'week' then 12 when 'month' then 6 end;
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
            message = 'audit: at least one leaf is kept ahead, not ' || ahead;
    end if;

    -- Leaves follow each other without a gap. The very first begins one step early, as clocks are set back.
    bound := coalesce(
        (select lower_bound from audit.leaves() where is_tail),
        (select max(upper_bound) from audit.leaves()),
        leaf_of_now - step);
    if bound >= horizon or ahead is null and bound > leaf_of_now + step * (usual / 2) then
        return 0;
    end if;

    if tail is null and to_regclass('audit.logged_actions_tail') is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'audit: the tail is detached: a run of the partitions is under way, or was interrupted',
            hint = 'audit partitions run puts it back';
    end if;

    -- Made while nobody waits: until they are attached, no lock on the trail is needed.
    while bound < horizon loop
        leaf := 'logged_actions_' || to_char(bound, case unit when 'day' then 'YYYY_MM_DD' when 'week' then 'IYYY"w"IW' when 'month' then 'YYYY_MM' end);
        if to_regclass(format('%I.%I', 'audit', leaf)) is not null then
            leaf := 'logged_actions_from_' || to_char(bound, 'YYYY_MM_DD');
        end if;
        leaves := leaves || audit.make_leaf(leaf)::text;
        bounds := bounds || bound;
        -- After a change of the interval, the first leaf reaches only to the next boundary.
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
                message = format('audit: events have reached the tail %s: no leaf was made for so long', tail),
                hint = 'nothing is lost and nothing was changed; audit partitions run gives the tail an upper bound';
        end if;
    end if;

    for number in 1 .. cardinality(leaves) loop
        execute format(
            'alter table %s attach partition %s for values from (%L) to (%L)',
            trail, leaves[number], bounds[number], bounds[number + 1]);
    end loop;
    execute format('alter table %s attach partition %s for values from (%L) to (maxvalue)', trail, tail, bound);
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
            select 'hmac-sha256:' || encode(sha256(outer_pad || sha256(inner_pad || convert_to(value, 'UTF8'))), 'hex')
            into strict stand_in
            from audit.mask_key;
    end case;
    return image || jsonb_build_object(column_name, stand_in);
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
        'audit:oversize', jsonb_build_object('bytes', octet_length(value), 'sha256', encode(sha256(value), 'hex')))
$body$;

revoke all on function audit.stand_in(bytea) from public;

create or replace function audit.hand_over(function regprocedure)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $body$
declare
    owner constant oid := (select relowner from pg_class where oid = 'audit.logged_actions'::regclass);
begin
    if owner <> (select proowner from pg_proc where oid = function) then
        execute format('alter function %s owner to %I', function, pg_get_userbyid(owner));
    end if;
end
$body$;

revoke all on function audit.hand_over(regprocedure) from public;

create or replace function audit.record_gap(relation regclass, capture text, reason text)
    returns bigint
    language plpgsql
    security definer  -- the trail belongs to its owner
    set search_path = pg_catalog, pg_temp
as $body$
declare
    caller constant text := coalesce(nullif(current_setting('role'), 'none'), session_user);
    event bigint;
begin
    if capture is null or capture not in ('paused', 'resumed') or coalesce(trim(reason), '') = '' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'audit: a gap is either paused or resumed, and has a reason';
    end if;
    if not exists (select from pg_class where oid = relation and pg_has_role(caller, relowner, 'usage')) then
        raise exception using
            errcode = 'insufficient_privilege',
            message = 'audit: only the owner of ' || relation || ' can pause or resume its capture';
    end if;

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

comment on function audit.revoke_all(regclass) is '{"tool": "audit-toolkit", "version": "0.1.0"}';

comment on function audit.refuse_change() is '{"tool": "audit-toolkit", "version": "0.1.0"}';

comment on function audit.guard_relation(regclass) is '{"tool": "audit-toolkit", "version": "0.1.0"}';

comment on function audit.leaves() is '{"tool": "audit-toolkit", "version": "0.1.0"}';

comment on function audit.make_leaf(text) is '{"tool": "audit-toolkit", "version": "0.1.0"}';

comment on function audit.leaf_digest(regclass) is '{"tool": "audit-toolkit", "version": "0.1.0"}';

comment on function audit.ensure_partitions(integer) is '{"tool": "audit-toolkit", "version": "0.1.0"}';

comment on function audit.mask(jsonb, text, text) is '{"tool": "audit-toolkit", "version": "0.1.0"}';

comment on function audit.pick(jsonb, text[]) is '{"tool": "audit-toolkit", "version": "0.1.0"}';

comment on function audit.stand_in(bytea) is '{"tool": "audit-toolkit", "version": "0.1.0"}';

comment on function audit.hand_over(regprocedure) is '{"tool": "audit-toolkit", "version": "0.1.0"}';

comment on function audit.record_gap(regclass, text, text) is '{"tool": "audit-toolkit", "version": "0.1.0"}';


-- The key of keyed masks.
create table if not exists audit.mask_key (
    inner_pad bytea not null,
    outer_pad bytea not null
);

select audit.revoke_all('audit.mask_key'::regclass);

comment on table audit.mask_key is '{"tool": "audit-toolkit", "version": "0.1.0"}';

-- 64 random bytes, drawn once: whoever has them can test guesses of masked values.
insert into audit.mask_key (inner_pad, outer_pad)
with secret as materialized (
    select
        sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
        || sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) as key
)
select
    string_agg(set_byte('\x00'::bytea, 0, get_byte(key, place) # 54), ''::bytea order by place),
    string_agg(set_byte('\x00'::bytea, 0, get_byte(key, place) # 92), ''::bytea order by place)
from secret
cross join generate_series(0, 63) as place
where not exists (select from audit.mask_key)
having count(*) > 0;


-- What maintenance records: leaves on their way out, its last success.
create table if not exists audit.partition_lifecycle (
    -- As regclass it survives pg_dump, which an OID would not.
    leaf regclass not null,
    leaf_name text collate "C" not null,
    lower_bound timestamptz,
    upper_bound timestamptz,
    state text collate "C" not null check (state in ('attached', 'detaching', 'detached', 'dropped')),
    detached_at timestamptz,
    dropped_at timestamptz,
    -- A leaf with a reason stays, whatever the retention.
    hold_reason text,
    held_by text,
    held_at timestamptz,
    -- Set together, once the archive was read back and agreed with the leaf.
    archive text,
    archive_digest text,
    archived_at timestamptz,
    check ((archive is null) = (archive_digest is null) and (archive is null) = (archived_at is null))
);

create unique index if not exists partition_lifecycle_leaf_idx
    on audit.partition_lifecycle (leaf)
    where state <> 'dropped';

select audit.revoke_all('audit.partition_lifecycle'::regclass);

comment on table audit.partition_lifecycle is '{"tool": "audit-toolkit", "version": "0.1.0"}';

create table if not exists audit.maintenance (
    command text collate "C" primary key,
    last_run_at timestamptz not null,
    last_success_at timestamptz,
    summary jsonb not null
);

select audit.revoke_all('audit.maintenance'::regclass);

comment on table audit.maintenance is '{"tool": "audit-toolkit", "version": "0.1.0"}';


-- Append-only, without grants, and with leaves well ahead of the server's clock.
select audit.guard_relation('audit.logged_actions'::regclass);

select audit.revoke_all('audit.logged_actions_event_id_seq'::regclass);

-- From the leaf before the present one to well ahead of it, and the tail.
select audit.ensure_partitions();

commit;
