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

-- What was granted before stays granted; on a new trail, nothing is.
select set_config('audit.granted_before', coalesce(string_agg(format(
    'grant %s%s on %s%s to %s%s', acl.privilege_type, of_column, kind, relation,
    case when acl.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end,
    case when acl.is_grantable then ' with grant option' else '' end), ';'), ''), true)
from (
    select
        oid::regclass as relation, case relkind when 'S' then 'sequence ' else '' end as kind, '' as of_column,
        relacl as granted, relowner as owner
    from pg_class
    where relnamespace = 'audit'::regnamespace and relkind in ('r', 'p', 'S')
    union all
    select c.oid::regclass, '', format(' (%I)', a.attname), a.attacl, c.relowner
    from pg_attribute as a
    join pg_class as c on c.oid = a.attrelid
    where c.relnamespace = 'audit'::regnamespace and c.relkind in ('r', 'p')
) as present
cross join lateral aclexplode(granted) as acl
where acl.grantee <> owner;


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

-- All that one transaction changed.
create index if not exists logged_actions_transaction_idx
    on audit.logged_actions (transaction_id);

-- Time ranges within a leaf.
create index if not exists logged_actions_time_idx
    on audit.logged_actions using brin (action_tstamp);

comment on table audit.logged_actions is '{"tool": "audit-toolkit", "version": "0.2.0", "interval": "month", "hash": "5dedaad12c429ca3a09db5b1771fb9a1ed7ed043d6df38de4177eb630147ba74"}';

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
    execute format('comment on table %s is %L', leaf, '{"tool": "audit-toolkit"}');
    if trail.reltablespace <> 0 then
        execute format(
            'alter table %s set tablespace %I', leaf, (select spcname from pg_tablespace where oid = trail.reltablespace));
    end if;

    -- Images over 2 kB are compressed, by lz4 in a fraction of the time, if the server has it and nobody chose otherwise.
    if exists (select from pg_settings as s where s.name = 'default_toast_compression' and 'lz4' = any(s.enumvals)) then
        for extra in
            select format('alter table %s alter %I set compression lz4', leaf, attname)
            from pg_attribute
            where attrelid = leaf and attname in ('old_row', 'new_row') and attcompression = ''
        loop
            execute extra;
        end loop;
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
    unit constant text := coalesce(obj_description(trail, 'pg_class')::json ->> 'interval', 'month');
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
            hint = 'name the table as in null::public.orders';
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
    row_key text;
begin
    select
        string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by k.place),
        array_agg(format_type(a.atttypid, a.atttypmod) order by k.place)
    into column_names, casts
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
        execute format('select to_jsonb($1::%s) #>> ''{}''', casts[1]) into row_key using key;
        return row_key;
    end if;
    if key !~ '^\s*\[' or jsonb_array_length(key::jsonb) <> cardinality(casts) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('audit: %s cannot be a key of %s', quote_literal(key), relation),
            hint = format('write its values (%s) as one JSON array', column_names);
    end if;
    execute (
        select 'select jsonb_build_array('
            || string_agg(format('to_jsonb(($1 ->> %s)::%s)', place - 1, type_name), ', ' order by place) || ')::text'
        from unnest(casts) with ordinality as part (type_name, place)
    ) into row_key using key::jsonb;
    return row_key;
end
$body$;

revoke all on function audit.row_key_of(regclass, text) from public;

create or replace function audit.row_known_since(wanted_schema text, wanted_table text, wanted_key text)
    returns timestamptz
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    earliest record;
    is_older boolean;
begin
    select event_id, action_tstamp, transaction_id, action, action = 'I' or row_key = wanted_key and old_row_key is not null as arrives
    into earliest
    from (
        (
            select * from audit.logged_actions
            where schema_name = wanted_schema and table_name = wanted_table and row_key = wanted_key
            order by event_id
            limit 1
        )
        union all
        (
            select * from audit.logged_actions
            where schema_name = wanted_schema and table_name = wanted_table and old_row_key = wanted_key
            order by event_id
            limit 1
        )
    ) as event
    order by event_id
    limit 1;
    if not found or earliest.arrives then
        return null;
    end if;

    -- Within a transaction ids may be out of order. The row is older if the transaction started from a row that it
    -- did not bring; if it ended as it began, only a row that it did not bring, or deleted first, was there before.
    select
        sum(change) < 0
        or sum(change) = 0 and (bool_or(deficit < 0) or not bool_or(arrives) or earliest.action = 'D' and bool_and(action in ('D', 'I')))
        or earliest.action = 'S'
    into is_older
    from (
        select *, sum(change) over (partition by image::text) as deficit
        from (
            select action, 1 as change, action = 'I' or old_row_key is not null as arrives,
                case action when 'U' then coalesce(old_row, '{}') || new_row else new_row end as image
            from audit.logged_actions
            where schema_name = wanted_schema and table_name = wanted_table and row_key = wanted_key
              and event_id >= earliest.event_id and transaction_id = earliest.transaction_id and new_row is not null
            union all
            select action, -1, false, old_row
            from audit.logged_actions
            where schema_name = wanted_schema and table_name = wanted_table and row_key = wanted_key
              and event_id >= earliest.event_id and transaction_id = earliest.transaction_id
              and old_row is not null and old_row_key is null
            union all
            select action, -1, false, old_row
            from audit.logged_actions
            where schema_name = wanted_schema and table_name = wanted_table and old_row_key = wanted_key
              and event_id >= earliest.event_id and transaction_id = earliest.transaction_id
        ) as event
    ) as event;
    return case when is_older then earliest.action_tstamp end;
end
$body$;

revoke all on function audit.row_known_since(text, text, text) from public;

create or replace function audit.require_reach(
    wanted_schema text, wanted_table text, wanted_key text, moment timestamptz
)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
as $body$
declare
    since constant timestamptz := audit.row_known_since(wanted_schema, wanted_table, wanted_key);
begin
    if since is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('audit: the trail knows row %s of %I.%I only from %s on', wanted_key, wanted_schema, wanted_table, since),
            detail = format('Asked for: %s. The row is older than its first event.', moment),
            hint = 'audit baseline records the rows that were there before capture began';
    end if;
end
$body$;

revoke all on function audit.require_reach(text, text, text, timestamptz) from public;

create or replace function audit.require_known(relation regclass, wanted_key text)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    condition text;
    is_there boolean;
begin
    if exists (
        select from audit.logged_actions as event
        join pg_class as c on c.relname = event.table_name
        join pg_namespace as n on n.oid = c.relnamespace and n.nspname = event.schema_name
        where c.oid = relation and (row_key = wanted_key or row_key is null and action = 'T')
    ) or exists (
        select from audit.logged_actions as event
        join pg_class as c on c.relname = event.table_name
        join pg_namespace as n on n.oid = c.relnamespace and n.nspname = event.schema_name
        where c.oid = relation and old_row_key = wanted_key
    ) or not has_table_privilege(relation, 'select') then
        return;
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
    execute format('select exists (select from %s where %s)', relation, condition) into is_there using wanted_key;
    if is_there then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('audit: the trail has no event of row %s of %s: it has not changed since capture began',
                wanted_key, relation),
            hint = 'audit baseline records the rows that were there before capture began';
    end if;
end
$body$;

revoke all on function audit.require_known(regclass, text) from public;

create or replace function audit.require_whole(
    relation regclass, wanted_schema text, wanted_table text, has_key boolean, moment timestamptz
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
        select from audit.logged_actions
        where schema_name = wanted_schema and table_name = wanted_table and row_key is null and action in ('G', 'T')
    ) and not exists (
        -- With --when, rows without events are as they should be.
        select from pg_trigger as t
        join pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = relation
          and p.proname like 'capture\_%'
          and obj_description(p.oid, 'pg_proc')::jsonb -> 'options' ->> 'when' is not null
    );
    example text;
begin
    if not has_key then
        if may_look then
            execute format('select (count(*) > $1)::text from %s', relation)
            into example
            using (
                select coalesce(sum((new_row is not null)::integer - (old_row is not null)::integer), 0)
                from audit.logged_actions
                where schema_name = wanted_schema and table_name = wanted_table
            );
            example := case example when 'true' then '(without a key)' end;
        end if;
    else
        perform audit.require_reach(wanted_schema, wanted_table, key, moment)
        from (
            select distinct on (key) key, event_id, arrives
            from (
                select row_key as key, event_id, action = 'I' or old_row_key is not null as arrives
                from audit.logged_actions
                where schema_name = wanted_schema and table_name = wanted_table and row_key is not null
                  and action_tstamp > moment
                union all
                select old_row_key, event_id, false
                from audit.logged_actions
                where schema_name = wanted_schema and table_name = wanted_table and old_row_key is not null
                  and action_tstamp > moment
            ) as later
            order by key, event_id
        ) as earliest
        -- OFFSET 0: each looks by the index for its own key. As a join, without statistics, it would be a loop over all
        -- pairs of events.
        where not arrives
          and not exists (
              select from audit.logged_actions as event
              where schema_name = wanted_schema and table_name = wanted_table and row_key = key
                and event.event_id < earliest.event_id
              offset 0
          )
          and not exists (
              select from audit.logged_actions as event
              where schema_name = wanted_schema and table_name = wanted_table and old_row_key = key
                and event.event_id < earliest.event_id
              offset 0
          )
          and not exists (
              select from audit.logged_actions as event
              where schema_name = wanted_schema and table_name = wanted_table and row_key is null and action = 'G'
                and event.event_id < earliest.event_id and action_tstamp > moment
              offset 0
          );
        if may_look then
            execute format($query$
                select %2$s from %1$s as present
                except
                select row_key from audit.logged_actions
                where schema_name = $1 and table_name = $2
                order by 1
                limit 1
                $query$,
                relation,
                (
                    select case count(*)
                        when 1 then format('to_jsonb(present.%I) #>> ''{}''', min(a.attname))
                        else format('jsonb_build_array(%s)::text', string_agg(format('present.%I', a.attname), ', ' order by k.place))
                    end
                    from pg_index as i
                    cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
                    join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
                    where i.indrelid = relation and i.indisprimary and k.place <= i.indnkeyatts
                )
            ) into example using wanted_schema, wanted_table;
        end if;
    end if;

    if example is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('audit: the trail has no event of row %s of %s: it has not changed since capture began', example, relation),
            hint = 'audit baseline records the rows that were there before capture began';
    end if;
end
$body$;

revoke all on function audit.require_whole(regclass, text, text, boolean, timestamptz) from public;

create or replace function audit.warn_of_gap(
    wanted_schema text, wanted_table text, wanted_key text, moment timestamptz
)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
as $body$
declare
    gap record;
begin
    select event_id, action_tstamp, new_row ->> 'capture' as capture into gap
    from audit.logged_actions
    where schema_name = wanted_schema
      and table_name = wanted_table
      and row_key is null
      and action = 'G'
      and action_tstamp <= moment
    order by event_id desc
    limit 1;
    if not found or exists (
        select from audit.logged_actions
        where schema_name = wanted_schema
          and table_name = wanted_table
          and (wanted_key is null and action = 'S' or row_key = wanted_key or row_key is null and action = 'T')
          and event_id > gap.event_id
          and action_tstamp <= moment
    ) then
        return;
    end if;
    raise warning using
        message = case gap.capture
            when 'paused' then format('audit: capture of %I.%I is paused since %s: what changed then is not known',
                wanted_schema, wanted_table, gap.action_tstamp)
            else format('audit: capture of %I.%I was paused until %s: what changed before is not known',
                wanted_schema, wanted_table, gap.action_tstamp)
        end,
        hint = 'audit baseline records what the trail has missed';
end
$body$;

revoke all on function audit.warn_of_gap(text, text, text, timestamptz) from public;

create or replace function audit.row_image_at(
    wanted_schema text, wanted_table text, wanted_key text, moment timestamptz
)
    returns jsonb
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
declare
    truncated bigint;  -- the last TRUNCATE until then: what was before is gone
    latest record;
    previous bigint := 9223372036854775807;
    outcome record;
    by_id jsonb;  -- how the last event of the last transaction left it
    is_known boolean := false;
begin
    select coalesce(max(event_id), 0) into truncated
    from audit.logged_actions
    where schema_name = wanted_schema
      and table_name = wanted_table
      and row_key is null
      and action = 'T'
      and action_tstamp <= moment;

    loop
        select event_id, transaction_id, action, old_row, new_row, row_key = wanted_key and new_row is not null as is_there
        into latest
        from (
            (
                select * from audit.logged_actions
                where schema_name = wanted_schema and table_name = wanted_table and row_key = wanted_key
                  and event_id > truncated and event_id < previous and action_tstamp <= moment
                order by event_id desc
                limit 1
            )
            union all
            (
                select * from audit.logged_actions
                where schema_name = wanted_schema and table_name = wanted_table and old_row_key = wanted_key
                  and event_id > truncated and event_id < previous and action_tstamp <= moment
                order by event_id desc
                limit 1
            )
        ) as event
        order by event_id desc
        limit 1;
        exit when not found;

        -- Other transactions come before or after, never between: they waited for the lock on the row.
        select coalesce(max(event_id), truncated) into previous
        from (
            (
                select event_id from audit.logged_actions
                where schema_name = wanted_schema and table_name = wanted_table and row_key = wanted_key
                  and event_id > truncated and event_id < latest.event_id and transaction_id <> latest.transaction_id
                order by event_id desc
                limit 1
            )
            union all
            (
                select event_id from audit.logged_actions
                where schema_name = wanted_schema and table_name = wanted_table and old_row_key = wanted_key
                  and event_id > truncated and event_id < latest.event_id and transaction_id <> latest.transaction_id
                order by event_id desc
                limit 1
            )
        ) as event;

        select
            sum(change)::integer as rows_more,
            bool_or(arrives) and not ((array_agg(action order by event_id))[1] = 'D' and bool_and(action in ('D', 'I'))) as arrives,
            bool_or(surplus <> 0) as is_changed,
            (array_agg(image order by event_id desc) filter (where surplus > 0 and change > 0))[1] as image
        into outcome
        from (
            select
                *,
                sum(change) over (partition by image::text) as surplus,
                change > 0 and (action = 'I' or old_row_key is not null) as arrives
            from (
                select event_id, action, old_row_key, 1 as change, case action when 'U' then coalesce(old_row, '{}') || new_row else new_row end as image
                from audit.logged_actions
                where schema_name = wanted_schema and table_name = wanted_table and row_key = wanted_key
                  and event_id > previous and event_id <= latest.event_id and new_row is not null
                union all
                select event_id, action, old_row_key, -1, old_row
                from audit.logged_actions
                where schema_name = wanted_schema and table_name = wanted_table and row_key = wanted_key
                  and event_id > previous and event_id <= latest.event_id and old_row is not null and old_row_key is null
                union all
                select event_id, action, old_row_key, -1, old_row
                from audit.logged_actions
                where schema_name = wanted_schema and table_name = wanted_table and old_row_key = wanted_key
                  and event_id > previous and event_id <= latest.event_id
            ) as event
        ) as event;

        if outcome.rows_more < 0 then
            return null;
        elsif outcome.image is not null then
            return outcome.image;
        elsif outcome.is_changed then
            return null;
        end if;
        -- All came back to what it was, which an earlier transaction says. If there is none, a row that came in this
        -- one also went in it, unless it was deleted first and then put back.
        if not is_known then
            is_known := true;
            by_id := case when latest.is_there and not outcome.arrives then
                case latest.action when 'U' then coalesce(latest.old_row, '{}') || latest.new_row else latest.new_row end
            end;
        end if;
        previous := previous + 1;
    end loop;

    if not is_known and truncated = 0 then
        perform audit.require_reach(wanted_schema, wanted_table, wanted_key, moment);
    end if;
    return by_id;
end
$body$;

revoke all on function audit.row_image_at(text, text, text, timestamptz) from public;

create or replace function audit.row_images_at(wanted_schema text, wanted_table text, moment timestamptz)
    returns table (key text, image jsonb)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $body$
#variable_conflict use_column
declare
    truncated bigint;  -- the last TRUNCATE until then: what was before is gone
begin
    select coalesce(max(event_id), 0) into truncated
    from audit.logged_actions
    where schema_name = wanted_schema
      and table_name = wanted_table
      and row_key is null
      and action = 'T'
      and action_tstamp <= moment;

    return query
        select known.key, known.image
        from (
            select
                event.key,
                case
                    -- Where a transaction changed the row again and again, the last id may not be the last change.
                    when is_same_transaction and not is_insert_and_update
                        then audit.row_image_at(wanted_schema, wanted_table, event.key, moment)
                    when leaves_row
                        then case action when 'U' then coalesce(old_row, '{}') || new_row else new_row end
                end as image
            from (
                select
                    *,
                    row_number() over latest_first as place,
                    coalesce(lead(transaction_id) over latest_first = transaction_id, false) as is_same_transaction,
                    action = 'U'
                        and lead(action) over latest_first = 'I'
                        and old_row = lead(new_row) over latest_first
                        and lead(transaction_id, 2) over latest_first is distinct from transaction_id as is_insert_and_update
                from (
                    select row_key as key, event_id, transaction_id, action, old_row, new_row, new_row is not null as leaves_row
                    from audit.logged_actions
                    where schema_name = wanted_schema and table_name = wanted_table and row_key is not null
                      and event_id > truncated and action_tstamp <= moment
                    union all
                    select old_row_key, event_id, transaction_id, action, null, null, false
                    from audit.logged_actions
                    where schema_name = wanted_schema and table_name = wanted_table and old_row_key is not null
                      and event_id > truncated and action_tstamp <= moment
                ) as event
                window latest_first as (partition by event.key order by event_id desc)
            ) as event
            where place = 1
        ) as known
        where known.image is not null;
end
$body$;

revoke all on function audit.row_images_at(text, text, timestamptz) from public;

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
    wanted_key constant text := audit.row_key_of(relation, key);
    home record;
    image jsonb;
begin
    select n.nspname as schema_name, c.relname as table_name into home
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = relation;
    image := audit.row_image_at(home.schema_name, home.table_name, wanted_key, moment);
    if image is null then
        perform audit.require_known(relation, wanted_key);
    end if;
    perform audit.warn_of_gap(home.schema_name, home.table_name, wanted_key, moment);
    return query
        select populated.*
        from jsonb_populate_record(base, image) as populated
        where image is not null;
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
    truncated bigint;
begin
    select n.nspname as schema_name, c.relname as table_name, i.indexrelid is not null as has_key into home
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    left join pg_index as i on i.indrelid = c.oid and i.indisprimary
    where c.oid = relation;
    select coalesce(max(event_id), 0) into truncated
    from audit.logged_actions
    where schema_name = home.schema_name
      and table_name = home.table_name
      and row_key is null
      and action = 'T'
      and action_tstamp <= moment;

    perform audit.warn_of_gap(home.schema_name, home.table_name, null, moment);
    if truncated = 0 then
        perform audit.require_whole(relation, home.schema_name, home.table_name, home.has_key, moment);
    end if;
    if not home.has_key then
        -- Rows without a key are told apart by nothing but their looks: what came less what went is what is there.
        return query
            select populated.*
            from (
                select (array_agg(image))[1] as image, sum(change) as copies
                from (
                    select case action when 'U' then coalesce(old_row, '{}') || new_row else new_row end as image, 1 as change
                    from audit.logged_actions
                    where schema_name = home.schema_name and table_name = home.table_name
                      and event_id > truncated and action_tstamp <= moment
                      and action in ('I', 'U', 'S') and new_row is not null
                    union all
                    select old_row, -1
                    from audit.logged_actions
                    where schema_name = home.schema_name and table_name = home.table_name
                      and event_id > truncated and action_tstamp <= moment
                      and action in ('U', 'D', 'S') and old_row is not null
                ) as event
                group by to_jsonb(jsonb_populate_record(base, image))::text
                having sum(change) > 0
            ) as known
            cross join generate_series(1, known.copies)
            cross join lateral jsonb_populate_record(base, known.image) as populated;
        return;
    end if;

    return query
        select populated.*
        from audit.row_images_at(home.schema_name, home.table_name, moment) as known
        cross join lateral jsonb_populate_record(base, known.image) as populated;
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
    wanted_key constant text := audit.row_key_of(audited, key);
    home record;
begin
    select n.nspname as schema_name, c.relname as table_name into home
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = audited;
    perform audit.warn_of_gap(home.schema_name, home.table_name, wanted_key, 'infinity');
    return query
        select version.began, version.ended, version.event_id, version.transaction_id, version.actor, version.context, version.image
        from (
            select
                last_of.event_id,
                last_of.transaction_id,
                coalesce(nullif(last_of.context ->> 'actor', ''), last_of.session_user_name) as actor,
                last_of.context,
                last_of.action_tstamp as began,
                lead(last_of.action_tstamp) over (order by last_of.event_id) as ended,
                audit.row_image_at(home.schema_name, home.table_name, wanted_key, last_of.action_tstamp) as image
            from (
                select distinct on (event.transaction_id) event.*
                from (
                    select * from audit.logged_actions as e
                    where e.schema_name = home.schema_name and e.table_name = home.table_name and e.row_key = wanted_key
                    union all
                    select * from audit.logged_actions as e
                    where e.schema_name = home.schema_name and e.table_name = home.table_name and e.old_row_key = wanted_key
                    union all
                    select * from audit.logged_actions as e
                    where e.schema_name = home.schema_name and e.table_name = home.table_name
                      and e.row_key is null and e.action = 'T'
                ) as event
                order by event.transaction_id, event.event_id desc
            ) as last_of
        ) as version
        where version.image is not null
        order by version.event_id;
end
$body$;

revoke all on function audit.history(regclass, text) from public;

comment on function audit.revoke_all(regclass) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.refuse_change() is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.guard_relation(regclass) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.leaves() is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.make_leaf(text) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.leaf_digest(regclass) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.ensure_partitions(integer) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.mask(jsonb, text, text) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.pick(jsonb, text[]) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.stand_in(bytea) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.hand_over(regprocedure) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.record_gap(regclass, text, text) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.audited_table(regtype) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.row_key_of(regclass, text) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.row_known_since(text, text, text) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.require_reach(text, text, text, timestamptz) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.require_known(regclass, text) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.require_whole(regclass, text, text, boolean, timestamptz) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.warn_of_gap(text, text, text, timestamptz) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.row_image_at(text, text, text, timestamptz) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.row_images_at(text, text, timestamptz) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.row_at(anyelement, text, timestamptz) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.table_at(anyelement, timestamptz) is '{"tool": "audit-toolkit", "version": "0.2.0"}';

comment on function audit.history(regclass, text) is '{"tool": "audit-toolkit", "version": "0.2.0"}';


-- The key of keyed masks.
create table if not exists audit.mask_key (
    inner_pad bytea not null,
    outer_pad bytea not null
);

select audit.revoke_all('audit.mask_key'::regclass);

comment on table audit.mask_key is '{"tool": "audit-toolkit", "version": "0.2.0"}';

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

comment on table audit.partition_lifecycle is '{"tool": "audit-toolkit", "version": "0.2.0"}';

create table if not exists audit.maintenance (
    command text collate "C" primary key,
    last_run_at timestamptz not null,
    last_success_at timestamptz,
    summary jsonb not null
);

select audit.revoke_all('audit.maintenance'::regclass);

comment on table audit.maintenance is '{"tool": "audit-toolkit", "version": "0.2.0"}';


-- Append-only, with no grants but those of before, and with leaves well ahead of the server's clock.
select audit.guard_relation('audit.logged_actions'::regclass);

select audit.revoke_all('audit.logged_actions_event_id_seq'::regclass);

-- From the leaf before the present one to well ahead of it, and the tail.
select audit.ensure_partitions();

do $granted$
begin
    if current_setting('audit.granted_before', true) <> '' then
        execute current_setting('audit.granted_before');
    end if;
end
$granted$;

commit;
