begin;
set local lock_timeout = '3s';

-- The function that captures public.order_lines; only triggers can run it.
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
    is_as_installed boolean := false;
    row_before jsonb;
    row_after jsonb;
begin
    if tg_table_name = 'order_lines' and tg_table_schema = 'public'
        and (audit.may_name('public') or has_schema_privilege('public', 'usage'))
    then
        -- If the trail recorded another name in between, captured_as records this one.
        is_as_installed := (audit.is_noted('public.order_lines'::regclass, 'capture_public__order_lines', 'public', 'order_lines') or audit.captured_as(tg_relid, 'capture_public__order_lines', tg_op) is not null)
            and pg_partition_root('public.order_lines'::regclass) is null and audit.has_columns('public.order_lines'::regclass, array[]::text[], array[]::text[], true);
    end if;
    if not is_as_installed and (tg_table_name <> 'order_lines' or tg_table_schema <> 'public' or pg_partition_root(tg_relid) is not null) then
        -- Renamed, which is recorded once; attached to a table that records it; or not the table of this function.
        if audit.captured_as(tg_relid, 'capture_public__order_lines', tg_op) is null then
            return null;
        end if;
    end if;
    if tg_op = 'INSERT' then
        if is_as_installed then
            row_after := to_jsonb(new);
        else
            row_after := audit.image_of(new);
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row)
        values
            (tg_table_schema, tg_table_name, 'I', jsonb_build_array(row_after -> 'order_id', row_after -> 'line')::text, row_after);

    elsif tg_op = 'UPDATE' then
        -- Compared byte by byte: works for types without equality, and 1.0 differs from 1.00.
        if new *= old then
            return null;
        end if;
        if is_as_installed then
            row_before := to_jsonb(old);
            row_after := to_jsonb(new);
        else
            row_before := audit.image_of(old);
            row_after := audit.image_of(new);
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row_key, old_row, new_row)
        values
            (tg_table_schema, tg_table_name, 'U', jsonb_build_array(row_after -> 'order_id', row_after -> 'line')::text,
             nullif(jsonb_build_array(row_before -> 'order_id', row_before -> 'line')::text, jsonb_build_array(row_after -> 'order_id', row_after -> 'line')::text), row_before, row_after);

    elsif tg_op = 'DELETE' then
        if is_as_installed then
            row_before := to_jsonb(old);
        else
            row_before := audit.image_of(old);
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row)
        values
            (tg_table_schema, tg_table_name, 'D', jsonb_build_array(row_before -> 'order_id', row_before -> 'line')::text, row_before);

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            (tg_table_schema, tg_table_name, 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__order_lines() from public;

select audit.hand_over('audit.capture_public__order_lines()'::regprocedure);

comment on function audit.capture_public__order_lines() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "order_lines"], "key": ["order_id", "line"], "options": {}, "numbers": {}, "hash": "fdc57143de2af51711a4f272b5369f75b4e7a4b63ca5d30735b7608903f14040"}';


-- Its triggers on public.order_lines.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.order_lines'::regclass, 'capture_public__order_lines');

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
