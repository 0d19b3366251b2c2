begin;
set local lock_timeout = '3s';

-- The function that captures public.order_lines; only triggers can run it.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.order_lines'::regclass, 'capture_public__order_lines');

-- Records changes to public.order_lines in the audit trail, statement by statement.
create or replace function audit.capture_public__order_lines()
    returns trigger
    language plpgsql
    security definer  -- writers of the table need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set datestyle = 'ISO, YMD'
    set extra_float_digits = '1'
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
    key_name_1 text := 'order_id';
    key_name_2 text := 'line';
    key_names text[];
    names text[];
    types oid[];
begin
    -- Of the table of this function, PostgreSQL works out the rest when it plans, again after each
    -- ALTER TABLE.
    is_as_installed := case
        when tg_relid = audit.captured_relation('capture_public__order_lines')
            then audit.is_as_installed(
                'capture_public__order_lines',
                array[]::text[],
                array[]::text[],
                true, array[]::text[]
            )
    end;
    if (
        case
            when tg_relid = audit.captured_relation('capture_public__order_lines')
                then audit.is_noted('capture_public__order_lines', 'public', 'order_lines')
                and audit.names_now(
                    audit.captured_relation('capture_public__order_lines'), 'capture_public__order_lines',
                    array['order_id', 'line']
                ) = array['order_id', 'line']
        end
    ) is not true then
        -- What became of the table when this was planned may have been
        -- noted by a transaction that rolled back.
        noted_by := case
            when tg_relid = audit.captured_relation('capture_public__order_lines')
                then audit.noted_by('capture_public__order_lines')
        end;
        if noted_by = '0' or pg_xact_status(nullif(noted_by, '0')) = 'aborted' then
            perform audit.note_again('capture_public__order_lines');
        end if;
        -- Renamed, which is recorded once; a partition of a table that
        -- records it; or not the table of this function.
        captured_as := coalesce(
            case
                when tg_relid = audit.captured_relation('capture_public__order_lines')
                    then audit.noted_as('capture_public__order_lines', 'public', 'order_lines')
            end,
            audit.captured_as(tg_relid, 'capture_public__order_lines', tg_op)
        );
        if captured_as is null then
            return null;
        end if;
        event_schema := captured_as[1];
        event_table := captured_as[2];
        key_names := case
            when tg_relid = audit.captured_relation('capture_public__order_lines')
                then audit.names_now(
                    audit.captured_relation('capture_public__order_lines'), 'capture_public__order_lines',
                    array['order_id', 'line']
                )
        end;
        key_name_1 := coalesce(key_names[1], key_name_1);
        key_name_2 := coalesce(key_names[2], key_name_2);
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
            jsonb_build_array(row_after -> coalesce(($9)[1], 'order_id'), row_after -> coalesce(($9)[2], 'line'))::text,
            row_after,
            context, session_user_name, role_name, application_name, client_addr
        from (
            select "00_audit_image" as row_after
            from new_rows as "00_audit_row"
            offset 0  -- each image is made once
        ) as captured cross join (select $2, $3, $4, $5, $6, $7, $8) as who (event_schema, event_table, context, session_user_name, role_name, application_name, client_addr)
$changes$,
                '"00_audit_image"', audit.image_sql(names, types, '"00_audit_row"', false))
            using tg_relid, coalesce(event_schema, 'public'), coalesce(event_table, 'order_lines'),
            context, session_user_name, role_name, application_name, client_addr, key_names;
        elsif tg_op = 'DELETE' then
            execute replace($changes$
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key,
             old_row,
             context, session_user_name, role_name, application_name, client_addr)
        select
event_schema, event_table, 'D',
            jsonb_build_array(row_before -> coalesce(($9)[1], 'order_id'), row_before -> coalesce(($9)[2], 'line'))::text,
            row_before,
            context, session_user_name, role_name, application_name, client_addr
        from (
            select "00_audit_image" as row_before
            from old_rows as "00_audit_row"
            offset 0  -- each image is made once
        ) as captured cross join (select $2, $3, $4, $5, $6, $7, $8) as who (event_schema, event_table, context, session_user_name, role_name, application_name, client_addr)
$changes$,
                '"00_audit_image"', audit.image_sql(names, types, '"00_audit_row"', false))
            using tg_relid, coalesce(event_schema, 'public'), coalesce(event_table, 'order_lines'),
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
                    jsonb_build_array(row_before -> coalesce(($9)[1], 'order_id'), row_before -> coalesce(($9)[2], 'line'))::text
                        as key_before,
                    jsonb_build_array(row_after -> coalesce(($9)[1], 'order_id'), row_after -> coalesce(($9)[2], 'line'))::text
                        as key_after,
                    row_before
                        as row_before,
                    row_after
                        as row_after
                from (
                    select
                        before.made as row_before,
                        after.made as row_after
                    from (
                        select
                            row_number() over () as number,
                            "00_audit_row" as image, "00_audit_image" as made
                        from old_rows as "00_audit_row"
                    ) as before
                    full join (
                        select
                            row_number() over () as number,
                            "00_audit_row" as image, "00_audit_image" as made
                        from new_rows as "00_audit_row"
                    ) as after
                        using (number)
                    where (after.image *<> before.image) is not false  -- "is not false" keeps the join full

                    order by number
                    offset 0  -- each image is made once
                ) as paired
                offset 0
            ) as captured cross join (select $2, $3, $4, $5, $6, $7, $8) as who (event_schema, event_table, context, session_user_name, role_name, application_name, client_addr)
$changes$,
                '"00_audit_image"', audit.image_sql(names, types, '"00_audit_row"', false))
            using tg_relid, coalesce(event_schema, 'public'), coalesce(event_table, 'order_lines'),
            context, session_user_name, role_name, application_name, client_addr, key_names;
        end if;
    elsif tg_op = 'INSERT' then
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key,
             new_row,
             context, session_user_name, role_name, application_name, client_addr)
        select
coalesce(event_schema, 'public'), coalesce(event_table, 'order_lines'), 'I',
            jsonb_build_array(row_after -> key_name_1, row_after -> key_name_2)::text,
            row_after,
            context, session_user_name, role_name, application_name, client_addr
        from (
            select to_jsonb("00_audit_row") as row_after
            from new_rows as "00_audit_row"
            offset 0  -- each image is made once
        ) as captured;

    elsif tg_op = 'DELETE' then
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key,
             old_row,
             context, session_user_name, role_name, application_name, client_addr)
        select
coalesce(event_schema, 'public'), coalesce(event_table, 'order_lines'), 'D',
            jsonb_build_array(row_before -> key_name_1, row_before -> key_name_2)::text,
            row_before,
            context, session_user_name, role_name, application_name, client_addr
        from (
            select to_jsonb("00_audit_row") as row_before
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
coalesce(event_schema, 'public'), coalesce(event_table, 'order_lines'), 'U',
                key_after,
                nullif(key_before, key_after),
                row_before,
                row_after,
                context, session_user_name, role_name, application_name, client_addr
            from (
                select
                    jsonb_build_array(row_before -> key_name_1, row_before -> key_name_2)::text
                        as key_before,
                    jsonb_build_array(row_after -> key_name_1, row_after -> key_name_2)::text
                        as key_after,
                    row_before
                        as row_before,
                    row_after
                        as row_after
                from (
                    select
                        to_jsonb(before.image)
                            as row_before,
                        to_jsonb(after.image)
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
                    where (after.image *<> before.image) is not false  -- "is not false" keeps the join full

                    order by number
                    offset 0  -- each image is made once
                ) as paired
                offset 0
            ) as captured;
        else
            -- At most one row: no need to number, hash or sort.
            insert into audit.logged_actions
                (schema_name, table_name, action, row_key, old_row_key, old_row, new_row,
                 context, session_user_name, role_name, application_name, client_addr)
            select
coalesce(event_schema, 'public'), coalesce(event_table, 'order_lines'), 'U',
                key_after,
                nullif(key_before, key_after),
                row_before,
                row_after,
                context, session_user_name, role_name, application_name, client_addr
            from (
                select
                    jsonb_build_array(row_before -> key_name_1, row_before -> key_name_2)::text
                        as key_before,
                    jsonb_build_array(row_after -> key_name_1, row_after -> key_name_2)::text
                        as key_after,
                    row_before
                        as row_before,
                    row_after
                        as row_after
                from (
                    select
                        to_jsonb(before.image)
                            as row_before,
                        to_jsonb(after.image)
                            as row_after
                    from (
                        select "00_audit_row" as image
                        from old_rows as "00_audit_row"
                    ) as before
                    cross join (
                        select "00_audit_row" as image
                        from new_rows as "00_audit_row"
                    ) as after
                    where (after.image *<> before.image) is not false

                    offset 0  -- each image is made once
                ) as paired
                offset 0
            ) as captured;
        end if;

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'order_lines'), 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__order_lines() from public;

select audit.hand_over('audit.capture_public__order_lines()'::regprocedure);

comment on function audit.capture_public__order_lines() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "order_lines"], "key": ["order_id", "line"], "options": {"capture": "statement"}, "numbers": {}, "hash": "389ae5f0f41c0d84717907b5593cd17c128902b7d0464999805404c4e60e6038"}';


-- Its triggers on public.order_lines.
create or replace trigger "00_audit_insert"
    after insert on public.order_lines
    referencing new table as new_rows
    for each statement
    execute function audit.capture_public__order_lines();

alter table public.order_lines enable always trigger "00_audit_insert";

create or replace trigger "00_audit_update"
    after update on public.order_lines
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function audit.capture_public__order_lines();

alter table public.order_lines enable always trigger "00_audit_update";

create or replace trigger "00_audit_delete"
    after delete on public.order_lines
    referencing old table as old_rows
    for each statement
    execute function audit.capture_public__order_lines();

alter table public.order_lines enable always trigger "00_audit_delete";

create or replace trigger "00_audit_truncate"
    after truncate on public.order_lines
    for each statement
    execute function audit.capture_public__order_lines();

alter table public.order_lines enable always trigger "00_audit_truncate";

-- The trail now recognizes the table even if it is renamed.
select audit.note_capture('public.order_lines'::regclass, 'capture_public__order_lines');

commit;
