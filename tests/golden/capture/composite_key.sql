begin;
set local lock_timeout = '3s';

-- The function that captures public.order_lines; only triggers can run it.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.order_lines'::regclass, 'capture_public__order_lines');

-- Records changes to public.order_lines in the audit trail, row by row.
create or replace function audit.capture_public__order_lines()
    returns trigger
    language plpgsql
    security definer  -- writers of the table need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set datestyle = 'ISO, YMD'
    set extra_float_digits = '1'
as $capture$
declare
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
    if tg_op = 'INSERT' then
        if is_as_installed then
            row_after := to_jsonb(new);
        else
            row_after := coalesce(
                audit.image_by(
                    new,
                    case
                        when tg_relid = audit.captured_relation('capture_public__order_lines')
                            then audit.image_expression('capture_public__order_lines', false)
                    end
                ),
                audit.image_of(new, false)
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'order_lines'), 'I',
             jsonb_build_array(row_after -> key_name_1, row_after -> key_name_2)::text,
             row_after, context);

    elsif tg_op = 'UPDATE' then
        -- Compared byte by byte: works for types without equality, and 1.0 differs from 1.00.
        if new *= old then
            return null;
        end if;
        if is_as_installed then
            row_before := to_jsonb(old);
            row_after := to_jsonb(new);
        else
            row_before := coalesce(
                audit.image_by(
                    old,
                    case
                        when tg_relid = audit.captured_relation('capture_public__order_lines')
                            then audit.image_expression('capture_public__order_lines', false)
                    end
                ),
                audit.image_of(old, false)
            );
            row_after := coalesce(
                audit.image_by(
                    new,
                    case
                        when tg_relid = audit.captured_relation('capture_public__order_lines')
                            then audit.image_expression('capture_public__order_lines', false)
                    end
                ),
                audit.image_of(new, false)
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row_key, old_row, new_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'order_lines'), 'U',
             jsonb_build_array(row_after -> key_name_1, row_after -> key_name_2)::text,
             nullif(jsonb_build_array(row_before -> key_name_1, row_before -> key_name_2)::text, jsonb_build_array(row_after -> key_name_1, row_after -> key_name_2)::text),
             row_before,
             row_after,
             context);

    elsif tg_op = 'DELETE' then
        if is_as_installed then
            row_before := to_jsonb(old);
        else
            row_before := coalesce(
                audit.image_by(
                    old,
                    case
                        when tg_relid = audit.captured_relation('capture_public__order_lines')
                            then audit.image_expression('capture_public__order_lines', false)
                    end
                ),
                audit.image_of(old, false)
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'order_lines'), 'D',
             jsonb_build_array(row_before -> key_name_1, row_before -> key_name_2)::text,
             row_before, context);

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

comment on function audit.capture_public__order_lines() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "order_lines"], "key": ["order_id", "line"], "options": {}, "numbers": {}, "hash": "cac591b9a545da7743f3fa15428a4b7098777bda1b9c7e7a8b99892fe857c6d7"}';


-- Its triggers on public.order_lines.
create or replace trigger "00_audit_row"
    after insert or update or delete on public.order_lines
    for each row
    execute function audit.capture_public__order_lines();

alter table public.order_lines enable always trigger "00_audit_row";

create or replace trigger "00_audit_truncate"
    after truncate on public.order_lines
    for each statement
    execute function audit.capture_public__order_lines();

alter table public.order_lines enable always trigger "00_audit_truncate";

-- The trail now recognizes the table even if it is renamed.
select audit.note_capture('public.order_lines'::regclass, 'capture_public__order_lines');

commit;
