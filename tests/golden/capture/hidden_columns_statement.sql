begin;
set local lock_timeout = '3s';

-- The function that captures public.people; only triggers can run it.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.people'::regclass, 'capture_public__people');

-- Records changes to public.people in the audit trail, statement by statement.
create or replace function audit.capture_public__people()
    returns trigger
    language plpgsql
    security definer  -- writers of the table need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $capture$
declare
    -- The same for all rows, so computed once, like the column defaults.
    context constant jsonb := case
        when octet_length(current_setting('audit.context', true)) > 65536
            then jsonb_build_object(
                'audit:oversize',
                jsonb_build_object('bytes', octet_length(current_setting('audit.context', true)))
            )
        else nullif(current_setting('audit.context', true), '')::jsonb
    end;
    session_user_name constant text := session_user;
    role_name constant text := nullif(current_setting('role'), 'none');
    application_name constant text := nullif(current_setting('application_name'), '');
    client_addr constant inet := inet_client_addr();
    is_as_installed boolean;
    -- Set where the table has another name.
    captured_as text[];
    noted_by xid8;
    event_schema text;
    event_table text;
    -- What the columns of the key are called.
    key_name_1 text := 'id';
    key_names text[];
    names text[];
    types oid[];
begin
    -- Of the table of this function, PostgreSQL works out the rest when it plans, again after each
    -- ALTER TABLE.
    is_as_installed := case
        when tg_relid = audit.captured_relation('capture_public__people')
            then audit.is_as_installed(
                'capture_public__people',
                array['card', 'note']::text[],
                array['plain', 'any']::text[],
                true, array['card', 'note']::text[]
            )
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
    -- "00_audit_row" is the alias of a whole row: a simpler name could be
    -- the name of a column, and would mean that.
    if tg_op in ('INSERT', 'UPDATE', 'DELETE') and is_as_installed is not true then
        if exists (select from pg_attribute where attrelid = tg_relid and attgenerated = 'v') then
            -- PostgreSQL 18 cannot reference a virtual column of a
            -- transition table; it stores nothing anyway.
            names := array(
                select attname from pg_attribute
                where attrelid = tg_relid and attnum > 0 and not attisdropped and attgenerated <> 'v'
                order by attnum);
        else
            execute format(
                'select array(select json_object_keys(row_to_json(no_values)))'
                ' from (select columns.* from (select) as one left join %I as columns on false) as no_values',
                case tg_op when 'DELETE' then 'old_rows' else 'new_rows' end)
            into names;
        end if;
        execute (
            select format('select array[%s]::oid[] from (select) as one left join %I as columns on false',
                string_agg(format('pg_typeof(columns.%I)', name), ', ' order by place),
                case tg_op when 'DELETE' then 'old_rows' else 'new_rows' end)
            from unnest(names) with ordinality as listed (name, place)
        )
        into types;
        if tg_op = 'INSERT' then
            execute replace($changes$
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key,
             new_row,
             context, session_user_name, role_name, application_name, client_addr)
        select
event_schema, event_table, 'I',
            row_after ->> coalesce(($9)[1], 'id'),
            audit.mask(row_after, 'card', 'redact'),
            context, session_user_name, role_name, application_name, client_addr
        from (
            select audit.known_part(
                "00_audit_image",
                array['card', 'note'],
                audit.names_now($1, 'capture_public__people', array['card', 'email', 'id', 'name']::text[]),
                audit.disguised($1, 'capture_public__people', array['card', 'note']::text[])
            ) - array['note'] as row_after
            from new_rows as "00_audit_row"
            offset 0  -- each image is made once
        ) as captured cross join (select $2, $3, $4, $5, $6, $7, $8) as who (event_schema, event_table, context, session_user_name, role_name, application_name, client_addr)
$changes$,
                '"00_audit_image"', audit.image_sql(names, types, '"00_audit_row"', false))
            using tg_relid, coalesce(event_schema, 'public'), coalesce(event_table, 'people'),
            context, session_user_name, role_name, application_name, client_addr, key_names;
        elsif tg_op = 'DELETE' then
            execute replace($changes$
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key,
             old_row,
             context, session_user_name, role_name, application_name, client_addr)
        select
event_schema, event_table, 'D',
            row_before ->> coalesce(($9)[1], 'id'),
            audit.mask(row_before, 'card', 'redact'),
            context, session_user_name, role_name, application_name, client_addr
        from (
            select audit.known_part(
                "00_audit_image",
                array['card', 'note'],
                audit.names_now($1, 'capture_public__people', array['card', 'email', 'id', 'name']::text[]),
                audit.disguised($1, 'capture_public__people', array['card', 'note']::text[])
            ) - array['note'] as row_before
            from old_rows as "00_audit_row"
            offset 0  -- each image is made once
        ) as captured cross join (select $2, $3, $4, $5, $6, $7, $8) as who (event_schema, event_table, context, session_user_name, role_name, application_name, client_addr)
$changes$,
                '"00_audit_image"', audit.image_sql(names, types, '"00_audit_row"', false))
            using tg_relid, coalesce(event_schema, 'public'), coalesce(event_table, 'people'),
            context, session_user_name, role_name, application_name, client_addr, key_names;
        else
            execute replace($changes$
            insert into audit.logged_actions
                (schema_name, table_name, action, row_key, old_row_key, old_row, new_row,
                 context, session_user_name, role_name, application_name, client_addr)
            select
event_schema, event_table, 'U',
                key_after,
                nullif(key_before, key_after),
                row_before,
                row_after,
                context, session_user_name, role_name, application_name, client_addr
            from (
                select
                    row_before ->> coalesce(($9)[1], 'id')
                        as key_before,
                    row_after ->> coalesce(($9)[1], 'id')
                        as key_after,
                    audit.mask(row_before, 'card', 'redact')
                        as row_before,
                    audit.mask(row_after, 'card', 'redact')
                        as row_after
                from (
                    select
                        before.made as row_before,
                        after.made as row_after
                    from (
                        select
                            row_number() over () as number,
                            "00_audit_row" as image, audit.known_part(
                "00_audit_image",
                array['card', 'note'],
                audit.names_now($1, 'capture_public__people', array['card', 'email', 'id', 'name']::text[]),
                audit.disguised($1, 'capture_public__people', array['card', 'note']::text[])
            ) - array['note'] as made
                        from old_rows as "00_audit_row"
                    ) as before
                    full join (
                        select
                            row_number() over () as number,
                            "00_audit_row" as image, audit.known_part(
                "00_audit_image",
                array['card', 'note'],
                audit.names_now($1, 'capture_public__people', array['card', 'email', 'id', 'name']::text[]),
                audit.disguised($1, 'capture_public__people', array['card', 'note']::text[])
            ) - array['note'] as made
                        from new_rows as "00_audit_row"
                    ) as after
                        using (number)
                    order by number
                    offset 0  -- each image is made once
                ) as paired
                where row_before <> row_after or row_before::text <> row_after::text
                offset 0
            ) as captured cross join (select $2, $3, $4, $5, $6, $7, $8) as who (event_schema, event_table, context, session_user_name, role_name, application_name, client_addr)
$changes$,
                '"00_audit_image"', audit.image_sql(names, types, '"00_audit_row"', false))
            using tg_relid, coalesce(event_schema, 'public'), coalesce(event_table, 'people'),
            context, session_user_name, role_name, application_name, client_addr, key_names;
        end if;
    elsif tg_op = 'INSERT' then
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key,
             new_row,
             context, session_user_name, role_name, application_name, client_addr)
        select
coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'I',
            row_after ->> key_name_1,
            audit.mask(row_after, 'card', 'redact'),
            context, session_user_name, role_name, application_name, client_addr
        from (
            select to_jsonb("00_audit_row") - array['note'] as row_after
            from new_rows as "00_audit_row"
            offset 0  -- each image is made once
        ) as captured;

    elsif tg_op = 'DELETE' then
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key,
             old_row,
             context, session_user_name, role_name, application_name, client_addr)
        select
coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'D',
            row_before ->> key_name_1,
            audit.mask(row_before, 'card', 'redact'),
            context, session_user_name, role_name, application_name, client_addr
        from (
            select to_jsonb("00_audit_row") - array['note'] as row_before
            from old_rows as "00_audit_row"
            offset 0  -- each image is made once
        ) as captured;

    elsif tg_op = 'UPDATE' then
        if exists (select from new_rows offset 1) then
            -- Both tables have the rows in the order in which they were changed, so row numbers pair
            -- them, even if the key changed. A full join has no nested loop plan, which could be cached
            -- for a statement with few rows and reused for thousands.
            insert into audit.logged_actions
                (schema_name, table_name, action, row_key, old_row_key, old_row, new_row,
                 context, session_user_name, role_name, application_name, client_addr)
            select
coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'U',
                key_after,
                nullif(key_before, key_after),
                row_before,
                row_after,
                context, session_user_name, role_name, application_name, client_addr
            from (
                select
                    row_before ->> key_name_1
                        as key_before,
                    row_after ->> key_name_1
                        as key_after,
                    audit.mask(row_before, 'card', 'redact')
                        as row_before,
                    audit.mask(row_after, 'card', 'redact')
                        as row_after
                from (
                    select
                        to_jsonb(before.image) - array['note']
                            as row_before,
                        to_jsonb(after.image) - array['note']
                            as row_after
                    from (
                        select
                            row_number() over () as number,
                            "00_audit_row" as image
                        from old_rows as "00_audit_row"
                    ) as before
                    full join (
                        select
                            row_number() over () as number,
                            "00_audit_row" as image
                        from new_rows as "00_audit_row"
                    ) as after
                        using (number)
                    order by number
                    offset 0  -- each image is made once
                ) as paired
                where row_before <> row_after or row_before::text <> row_after::text
                offset 0
            ) as captured;
        else
            -- At most one row: no need to number, hash or sort.
            insert into audit.logged_actions
                (schema_name, table_name, action, row_key, old_row_key, old_row, new_row,
                 context, session_user_name, role_name, application_name, client_addr)
            select
coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'U',
                key_after,
                nullif(key_before, key_after),
                row_before,
                row_after,
                context, session_user_name, role_name, application_name, client_addr
            from (
                select
                    row_before ->> key_name_1
                        as key_before,
                    row_after ->> key_name_1
                        as key_after,
                    audit.mask(row_before, 'card', 'redact')
                        as row_before,
                    audit.mask(row_after, 'card', 'redact')
                        as row_after
                from (
                    select
                        to_jsonb(before.image) - array['note']
                            as row_before,
                        to_jsonb(after.image) - array['note']
                            as row_after
                    from (
                        select "00_audit_row" as image
                        from old_rows as "00_audit_row"
                    ) as before
                    cross join (
                        select "00_audit_row" as image
                        from new_rows as "00_audit_row"
                    ) as after
                    offset 0  -- each image is made once
                ) as paired
                where row_before <> row_after or row_before::text <> row_after::text
                offset 0
            ) as captured;
        end if;

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

comment on function audit.capture_public__people() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "people"], "key": ["id"], "options": {"capture": "statement", "exclude": ["note"], "mask": {"card": "redact"}}, "numbers": {"card": 4, "note": 5}, "hash": "ffb0b1b0249df8ce1cf9a9837b50a6398622a157bcf5376a0bdc15cec31c9e22"}';


-- Its triggers on public.people.
create or replace trigger "00_audit_insert"
    after insert on public.people
    referencing new table as new_rows
    for each statement
    execute function audit.capture_public__people();

alter table public.people enable always trigger "00_audit_insert";

create or replace trigger "00_audit_update"
    after update on public.people
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function audit.capture_public__people();

alter table public.people enable always trigger "00_audit_update";

create or replace trigger "00_audit_delete"
    after delete on public.people
    referencing old table as old_rows
    for each statement
    execute function audit.capture_public__people();

alter table public.people enable always trigger "00_audit_delete";

create or replace trigger "00_audit_truncate"
    after truncate on public.people
    for each statement
    execute function audit.capture_public__people();

alter table public.people enable always trigger "00_audit_truncate";

-- The trail now recognizes the table even if it is renamed.
select audit.note_capture('public.people'::regclass, 'capture_public__people');

commit;
