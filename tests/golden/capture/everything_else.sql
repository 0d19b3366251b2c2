begin;
set local lock_timeout = '3s';

-- The function that captures public.orders; only triggers can run it.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.orders'::regclass, 'capture_public__orders');

-- Records changes to public.orders in the audit trail, row by row.
create or replace function audit.capture_public__orders()
    returns trigger
    language plpgsql
    security definer  -- writers of the table need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $capture$
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
    row_gone jsonb;
begin
    -- Of the table of this function, PostgreSQL works out the rest when it plans, again after each
    -- ALTER TABLE.
    is_as_installed := case
        when tg_relid = audit.captured_relation('capture_public__orders')
            then audit.is_as_installed(
                'capture_public__orders',
                array[]::text[],
                array[]::text[],
                true, array[]::text[]
            )
    end;
    if (
        case
            when tg_relid = audit.captured_relation('capture_public__orders')
                then audit.is_noted('capture_public__orders', 'public', 'orders')
                and audit.names_now(
                    audit.captured_relation('capture_public__orders'), 'capture_public__orders',
                    array['id']
                ) = array['id']
        end
    ) is not true then
        -- What became of the table when this was planned may have been
        -- noted by a transaction that rolled back.
        noted_by := case
            when tg_relid = audit.captured_relation('capture_public__orders')
                then audit.noted_by('capture_public__orders')
        end;
        if noted_by = '0' or pg_xact_status(nullif(noted_by, '0')) = 'aborted' then
            perform audit.note_again('capture_public__orders');
        end if;
        -- Renamed, which is recorded once; a partition of a table that
        -- records it; or not the table of this function.
        captured_as := coalesce(
            case
                when tg_relid = audit.captured_relation('capture_public__orders')
                    then audit.noted_as('capture_public__orders', 'public', 'orders')
            end,
            audit.captured_as(tg_relid, 'capture_public__orders', tg_op)
        );
        if captured_as is null then
            return null;
        end if;
        event_schema := captured_as[1];
        event_table := captured_as[2];
        key_names := case
            when tg_relid = audit.captured_relation('capture_public__orders')
                then audit.names_now(
                    audit.captured_relation('capture_public__orders'), 'capture_public__orders',
                    array['id']
                )
        end;
        key_name_1 := coalesce(key_names[1], key_name_1);
    end if;
    if not jsonb_path_exists(
        coalesce(context -> 'actor', 'null'),
        $path$strict $.** ? (@.type() == "number" || @ like_regex "[^[:space:]\\u0001-\\u0020\\u007f-\\u00a0\\u00ad\\u034f\\u061c\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200f\\u2028-\\u202f\\u205f-\\u206f\\u2800\\u3000\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb\\U0001d173-\\U0001d17a\\U000e0000-\\U000e0fff]")$path$)
        and current_setting('session_replication_role') <> 'replica'  -- replicated changes are never refused
    then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'audit: a change to public.orders needs the key ''actor'' in its context',
            hint = 'run first, in the same transaction: select set_config(''audit.context'', ''{"actor": "..."}'', true)';
    end if;

    if tg_op = 'INSERT' then
        if is_as_installed then
            row_after := to_jsonb(new);
        else
            row_after := coalesce(
                audit.image_by(
                    new,
                    case
                        when tg_relid = audit.captured_relation('capture_public__orders')
                            then audit.image_expression('capture_public__orders', false)
                    end
                ),
                audit.image_of(new, false)
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row, context, query)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'orders'), 'I',
             row_after ->> key_name_1,
             row_after, context, left(current_query(), 10000));

    elsif tg_op = 'UPDATE' then
        if is_as_installed then
            row_before := to_jsonb(old);
            row_after := to_jsonb(new);
        else
            row_before := coalesce(
                audit.image_by(
                    old,
                    case
                        when tg_relid = audit.captured_relation('capture_public__orders')
                            then audit.image_expression('capture_public__orders', false)
                    end
                ),
                audit.image_of(old, false)
            );
            row_after := coalesce(
                audit.image_by(
                    new,
                    case
                        when tg_relid = audit.captured_relation('capture_public__orders')
                            then audit.image_expression('capture_public__orders', false)
                    end
                ),
                audit.image_of(new, false)
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row_key, old_row, new_row, context, query)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'orders'), 'U',
             row_after ->> key_name_1,
             nullif(row_before ->> key_name_1, row_after ->> key_name_1),
             row_before,
             row_after,
             context, left(current_query(), 10000));

    elsif tg_op = 'DELETE' then
        if is_as_installed then
            row_before := to_jsonb(old);
        else
            row_before := coalesce(
                audit.image_by(
                    old,
                    case
                        when tg_relid = audit.captured_relation('capture_public__orders')
                            then audit.image_expression('capture_public__orders', false)
                    end
                ),
                audit.image_of(old, false)
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row, context, query)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'orders'), 'D',
             row_before ->> key_name_1,
             row_before, context, left(current_query(), 10000));

    elsif tg_when = 'BEFORE' then
        -- TRUNCATE of the table: records its rows before they are removed.
        if not has_schema_privilege(tg_table_schema, 'usage')
            or not has_table_privilege(tg_relid, 'select')
            or row_security_active(tg_relid)
        then
            raise exception using
                errcode = 'insufficient_privilege',
                message = format(
                    'audit: TRUNCATE of %s is refused: %I, who owns the trail, cannot read all'
                        ' rows, which must be recorded',
                    tg_relid::regclass, current_user
                ),
                hint = format(
                    'use DELETE, or let %I read it: USAGE on the schema, SELECT on the table, no row'
                        ' security; or install with --truncate event',
                    current_user
                );
        end if;
        for row_gone in execute (
            select format(
                'select %s from only %s as "00_audit_row"',
                audit.image_sql(
                    present.names, present.types, '"00_audit_row"', false
                ),
                tg_relid::regclass)
            from audit.columns_now(tg_relid) as present
        ) loop
            row_gone := row_gone;
            insert into audit.logged_actions
                (schema_name, table_name, action, row_key, old_row, query)
            values
                (coalesce(event_schema, 'public'), coalesce(event_table, 'orders'), 'D',
                 row_gone ->> key_name_1,
                 row_gone, left(current_query(), 10000));
        end loop;

    else
        insert into audit.logged_actions
            (schema_name, table_name, action, query)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'orders'), 'T', left(current_query(), 10000));
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__orders() from public;

select audit.hand_over('audit.capture_public__orders()'::regprocedure);

comment on function audit.capture_public__orders() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "orders"], "key": ["id"], "options": {"truncate": "rows", "require_context": "actor", "capture_query": true, "log_unchanged": true}, "numbers": {}, "hash": "7f6f3a11b8ac4fda9493537f3bb4ef13c3fa2f02593b3e4c838e912fe9a6223e"}';


-- Its triggers on public.orders.
create or replace trigger "00_audit_row"
    after insert or update or delete on public.orders
    for each row
    execute function audit.capture_public__orders();

alter table public.orders enable always trigger "00_audit_row";

create or replace trigger "00_audit_truncate_rows"
    before truncate on public.orders
    for each statement
    execute function audit.capture_public__orders();

alter table public.orders enable always trigger "00_audit_truncate_rows";

create or replace trigger "00_audit_truncate"
    after truncate on public.orders
    for each statement
    execute function audit.capture_public__orders();

alter table public.orders enable always trigger "00_audit_truncate";

-- The trail now recognizes the table even if it is renamed.
select audit.note_capture('public.orders'::regclass, 'capture_public__orders');

commit;
