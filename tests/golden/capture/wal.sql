begin;
set local lock_timeout = '3s';

-- The function that captures public.people; only triggers can run it.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.people'::regclass, 'capture_public__people');

-- Records changes to public.people in the audit trail, row by row.
create or replace function audit.capture_public__people()
    returns trigger
    language plpgsql
    security definer  -- writers of the table need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $capture$
#variable_conflict use_column
declare
    is_as_installed boolean;
    -- Set where the table has another name.
    captured_as text[];
    noted_by xid8;
    event_schema text;
    event_table text;
    -- What the columns of the key are called.
    key_name_1 text := 'id';
    key_names text[];
    context constant jsonb := case
        when octet_length(current_setting('audit.context', true)) > 65536
            then jsonb_build_object(
                'audit:oversize',
                jsonb_build_object('bytes', octet_length(current_setting('audit.context', true)))
            )
        else nullif(current_setting('audit.context', true), '')::jsonb
    end;
    row_before jsonb;
    row_after jsonb;
    is_read constant boolean := exists (
        select from audit.captured_tables as c
        where c.function_name = 'capture_public__people' and c.wal_since is not null
    );
begin
    -- Until the worker reads the WAL, this records changes. Then its trigger is
    -- disabled, and if somebody enables it, no change is recorded a second time.
    if is_read then
        return null;
    end if;

    -- Of the table of this function, PostgreSQL works out the rest when it plans, again after each
    -- ALTER TABLE.
    is_as_installed := case
        when tg_relid = audit.captured_relation('capture_public__people')
            then audit.is_as_installed(
                'capture_public__people',
                array['card', 'name']::text[],
                array['plain', 'text']::text[],
                true, array['card']::text[]
            )
            and audit.noted_as('capture_public__people', 'public', 'people')
                = array['public', 'people']
    end;
    if (
        case
            when tg_relid = audit.captured_relation('capture_public__people')
                then audit.is_noted('capture_public__people', 'public', 'people')
                and audit.names_now(
                    audit.captured_relation('capture_public__people'), 'capture_public__people',
                    array['id']
                ) = array['id']
        end
    ) is not true then
        -- What became of the table when this was planned may have been
        -- noted by a transaction that rolled back.
        noted_by := case
            when tg_relid = audit.captured_relation('capture_public__people')
                then audit.noted_by('capture_public__people')
        end;
        if noted_by = '0' or pg_xact_status(nullif(noted_by, '0')) = 'aborted' then
            perform audit.note_again('capture_public__people');
        end if;
        -- Renamed, which is recorded once; a partition of a table that
        -- records it; or not the table of this function.
        captured_as := coalesce(
            case
                when tg_relid = audit.captured_relation('capture_public__people')
                    then audit.noted_as('capture_public__people', 'public', 'people')
            end,
            audit.captured_as(tg_relid, 'capture_public__people', tg_op)
        );
        if captured_as is null then
            return null;
        end if;
        event_schema := captured_as[1];
        event_table := captured_as[2];
        key_names := case
            when tg_relid = audit.captured_relation('capture_public__people')
                then audit.names_now(
                    audit.captured_relation('capture_public__people'), 'capture_public__people',
                    array['id']
                )
        end;
        key_name_1 := coalesce(key_names[1], key_name_1);
    end if;
    if tg_op = 'INSERT' then
        if is_as_installed then
            if (select (name <> 'nobody'
            ) from (select new.name as name) as "00_audit_condition"
            where 'public.people'::regclass is not null) is not true then
                return null;
            end if;
            row_after := to_jsonb(new);
        else
            row_after := audit.known_part(
                coalesce(
                    audit.image_by(
                        new,
                        case
                            when tg_relid = audit.captured_relation('capture_public__people')
                                then audit.image_expression('capture_public__people', false)
                        end
                    ),
                    audit.image_of(new, false)
                ),
                array['card'],
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.names_now(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card', 'email', 'id', 'name', 'note']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card', 'email', 'id', 'name', 'note']::text[])
                end,
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.disguised(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card']::text[])
                    else audit.disguised(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card']::text[])
                end
            );
        end if;
        row_after := audit.mask(row_after, 'card', 'redact');
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'I',
             row_after ->> key_name_1,
             row_after, context);

    elsif tg_op = 'UPDATE' then
        -- Compared byte by byte: works for types without equality, and 1.0 differs from 1.00.
        if new *= old then
            return null;
        end if;
        if is_as_installed then
            if (select (name <> 'nobody'
            ) from (select new.name as name) as "00_audit_condition"
            where 'public.people'::regclass is not null) is not true
                and (select (name <> 'nobody'
            ) from (select old.name as name) as "00_audit_condition"
            where 'public.people'::regclass is not null) is not true then
                return null;
            end if;
            row_before := to_jsonb(old);
            row_after := to_jsonb(new);
        else
            row_before := audit.known_part(
                coalesce(
                    audit.image_by(
                        old,
                        case
                            when tg_relid = audit.captured_relation('capture_public__people')
                                then audit.image_expression('capture_public__people', false)
                        end
                    ),
                    audit.image_of(old, false)
                ),
                array['card'],
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.names_now(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card', 'email', 'id', 'name', 'note']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card', 'email', 'id', 'name', 'note']::text[])
                end,
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.disguised(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card']::text[])
                    else audit.disguised(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card']::text[])
                end
            );
            row_after := audit.known_part(
                coalesce(
                    audit.image_by(
                        new,
                        case
                            when tg_relid = audit.captured_relation('capture_public__people')
                                then audit.image_expression('capture_public__people', false)
                        end
                    ),
                    audit.image_of(new, false)
                ),
                array['card'],
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.names_now(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card', 'email', 'id', 'name', 'note']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card', 'email', 'id', 'name', 'note']::text[])
                end,
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.disguised(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card']::text[])
                    else audit.disguised(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card']::text[])
                end
            );
        end if;
        row_before := audit.mask(row_before, 'card', 'redact');
        row_after := audit.mask(row_after, 'card', 'redact');
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row_key, old_row, new_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'U',
             row_after ->> key_name_1,
             nullif(row_before ->> key_name_1, row_after ->> key_name_1),
             row_before,
             (
                select coalesce(jsonb_object_agg(key, value), '{}')
                from jsonb_each(row_after)
                where value::text is distinct from (row_before -> key)::text
            ),
             context);

    elsif tg_op = 'DELETE' then
        if is_as_installed then
            if (select (name <> 'nobody'
            ) from (select old.name as name) as "00_audit_condition"
            where 'public.people'::regclass is not null) is not true then
                return null;
            end if;
            row_before := to_jsonb(old);
        else
            row_before := audit.known_part(
                coalesce(
                    audit.image_by(
                        old,
                        case
                            when tg_relid = audit.captured_relation('capture_public__people')
                                then audit.image_expression('capture_public__people', false)
                        end
                    ),
                    audit.image_of(old, false)
                ),
                array['card'],
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.names_now(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card', 'email', 'id', 'name', 'note']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card', 'email', 'id', 'name', 'note']::text[])
                end,
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.disguised(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card']::text[])
                    else audit.disguised(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card']::text[])
                end
            );
        end if;
        row_before := audit.mask(row_before, 'card', 'redact');
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'D',
             row_before ->> key_name_1,
             row_before, context);

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__people() from public;

select audit.hand_over('audit.capture_public__people()'::regprocedure);

comment on function audit.capture_public__people() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "people"], "key": ["id"], "options": {"capture": "wal", "mask": {"card": "redact"}, "store": "changes", "when": "name <> ''nobody''"}, "numbers": {"card": 4}, "hash": "a173dc2a00c01270230e2a7b8c47ef27fab53a83cd25abac6cd0393b7aac7f50"}';


-- What the worker needs to read changes of public.people from the WAL.
-- Records changes to public.people in the audit trail that the worker has read from the WAL.
create or replace function audit.replay_public__people()
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $replay$
#variable_conflict use_column
declare
    called_then constant jsonb := coalesce(nullif(current_setting('audit.called_then', true), ''), '{}');
    names text[];
    types oid[];
begin
    if audit.has_columns(
            'pg_temp.columns_public__people'::regclass,
            array['card', 'name']::text[],
            array['plain', 'text']::text[], true
        )
        and not exists (
            select
            from unnest(array['card']) as name
            where called_then -> name <> jsonb_build_array(name)
        ) then
        begin
            insert into audit.logged_actions
                (event_id, action_tstamp, transaction_id, schema_name, table_name, action,
                 row_key, old_row_key, old_row, new_row,
                 context, session_user_name, role_name, application_name, client_addr, transaction_tstamp)
            select
                event_id, action_tstamp, transaction_id, noted.schema_name, noted.table_name, action,
                case when action = 'D' then key_before else key_after end,
                case when action = 'U' then nullif(key_before, key_after) end,
                row_before,
                case when action = 'U' then (
                select coalesce(jsonb_object_agg(key, value), '{}')
                from jsonb_each(row_after)
                where value::text is distinct from (row_before -> key)::text
            ) else row_after end,
                context, session_user_name, role_name, application_name, client_addr, transaction_tstamp
            from (
                select
                    paired.*,
                    image_before ->> coalesce(called_then -> 'id' ->> 0, 'id')
                        as key_before,
                    image_after ->> coalesce(called_then -> 'id' ->> 0, 'id')
                        as key_after,
                    audit.mask(image_before, 'card', 'redact')
                        as row_before,
                    audit.mask(image_after, 'card', 'redact')
                        as row_after
                from (
                    select
                        change.*,
                        case when has_before then to_jsonb((change.before)) end as image_before,
                        case when has_after then to_jsonb((change.after)) end as image_after
                    from pg_temp.changes_public__people as change
                    where true
                      and (is_changed or not (has_before and has_after))
                      and (action = 'T'
                        or has_after and (select (name <> 'nobody'
            ) from (select (change.after).name as name) as "00_audit_condition")
                        or has_before and (select (name <> 'nobody'
            ) from (select (change.before).name as name) as "00_audit_condition")
                      )
                    offset 0  -- each image is made once
                ) as paired
                offset 0
            ) as captured
            cross join (
                select c.schema_name, c.table_name
                from audit.captured_tables as c
                where c.function_name = 'capture_public__people'
            ) as noted;
            return;
        exception when others then
            null;  -- again, with stand-ins for what cannot be recorded
        end;
    end if;
    select present.names, present.types into names, types
    from audit.columns_now(
        'pg_temp.columns_public__people'::regclass
    ) as present;
    execute replace(replace($changes$
            insert into audit.logged_actions
                (event_id, action_tstamp, transaction_id, schema_name, table_name, action,
                 row_key, old_row_key, old_row, new_row,
                 context, session_user_name, role_name, application_name, client_addr, transaction_tstamp)
            select
                event_id, action_tstamp, transaction_id, noted.schema_name, noted.table_name, action,
                case when action = 'D' then key_before else key_after end,
                case when action = 'U' then nullif(key_before, key_after) end,
                row_before,
                case when action = 'U' then (
                select coalesce(jsonb_object_agg(key, value), '{}')
                from jsonb_each(row_after)
                where value::text is distinct from (row_before -> key)::text
            ) else row_after end,
                context, session_user_name, role_name, application_name, client_addr, transaction_tstamp
            from (
                select
                    paired.*,
                    image_before ->> coalesce($1 -> 'id' ->> 0, 'id')
                        as key_before,
                    image_after ->> coalesce($1 -> 'id' ->> 0, 'id')
                        as key_after,
                    audit.mask(image_before, 'card', 'redact')
                        as row_before,
                    audit.mask(image_after, 'card', 'redact')
                        as row_after
                from (
                    select
                        change.*,
                        case when has_before then audit.known_part(
                "00_audit_before",
                array['card'],
                array(
                    select coalesce($1 -> name ->> 0, name)
                    from unnest(array['card', 'email', 'id', 'name', 'note']::text[]) as name
                ),
                array(
                    select other
                    from unnest(array['card']::text[]) as name
                    cross join jsonb_array_elements_text($1 -> name) as other
                    where other not in (name, '')
                )
            ) end as image_before,
                        case when has_after then audit.known_part(
                "00_audit_after",
                array['card'],
                array(
                    select coalesce($1 -> name ->> 0, name)
                    from unnest(array['card', 'email', 'id', 'name', 'note']::text[]) as name
                ),
                array(
                    select other
                    from unnest(array['card']::text[]) as name
                    cross join jsonb_array_elements_text($1 -> name) as other
                    where other not in (name, '')
                )
            ) end as image_after
                    from pg_temp.changes_public__people as change
                    where true
                      and (is_changed or not (has_before and has_after))
                    offset 0  -- each image is made once
                ) as paired
                offset 0
            ) as captured
            cross join (
                select c.schema_name, c.table_name
                from audit.captured_tables as c
                where c.function_name = 'capture_public__people'
            ) as noted
$changes$,
        '"00_audit_before"', audit.image_sql(names, types, '(change.before)', true)),
        '"00_audit_after"', audit.image_sql(names, types, '(change.after)', true))
    using called_then;
end
$replay$;

revoke all on function audit.replay_public__people() from public;

comment on function audit.replay_public__people() is '{"tool": "audit-toolkit", "replays": "capture_public__people"}';

select audit.hand_over(
    'audit.replay_public__people()'::regprocedure
);

do $publish$
declare
    relation constant regclass := 'public.people'::regclass;
    part record;
begin
    if exists (
        select from pg_catalog.pg_attribute
        where attrelid = relation and attnum > 0 and not attisdropped
          and (
              attgenerated = 'v'
              or attgenerated = 's' and current_setting('server_version_num')::integer < 180000
          )
    ) then
        -- PostgreSQL 18 would refuse every UPDATE of it, and older releases would leave the columns out.
        raise exception using
            errcode = 'feature_not_supported',
            message = 'audit: public.people has generated columns that the WAL cannot tell',
            hint = 'use --capture row';
    end if;
    for part in
        select c.oid::regclass as name, c.relreplident,
            c.relkind in ('r', 'p') and c.relpersistence = 'p' as is_in_wal
        from pg_catalog.pg_class as c
        where c.oid = relation or c.oid in (select relid from pg_catalog.pg_partition_tree(relation))
        order by c.oid
    loop
        if not part.is_in_wal then
            raise exception using
                errcode = 'feature_not_supported',
                message = format(
                    'audit: changes of %s are not in the WAL, as it is unlogged or a foreign table', part.name
                ),
                hint = 'use --capture row';
        end if;
        if part.relreplident <> 'f' then
            execute format('alter table %s replica identity full', part.name);
        end if;
    end loop;
    if not exists (select from pg_catalog.pg_publication where pubname = 'audit_capture') then
        -- Before PostgreSQL 18, generated columns are never published.
        execute 'create publication ' || quote_ident('audit_capture')
            || case
                when current_setting('server_version_num')::integer >= 180000
                    then ' with (publish_generated_columns = stored)'
                else ''
            end;
    end if;
    for part in
        select wanted.name
        from unnest(
            array[relation, 'audit.truncated_rows'::regclass]
        ) as wanted (name)
        where not exists (
            select from pg_catalog.pg_publication_rel as r
            join pg_catalog.pg_publication as p on p.oid = r.prpubid
            where p.pubname = 'audit_capture' and r.prrelid = wanted.name
        )
    loop
        execute format('alter publication %I add table only %s', 'audit_capture', part.name);
    end loop;
end
$publish$;


-- Its triggers on public.people.
create or replace trigger "00_audit_row"
    after insert or update or delete on public.people
    for each row
    execute function audit.capture_public__people();

alter table public.people enable always trigger "00_audit_row";

create or replace trigger "00_audit_truncate"
    after truncate on public.people
    for each statement
    execute function audit.capture_public__people();

alter table public.people enable always trigger "00_audit_truncate";

-- The trail now recognizes the table even if it is renamed.
select audit.note_capture('public.people'::regclass, 'capture_public__people');

commit;
