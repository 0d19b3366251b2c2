begin;
set local lock_timeout = '3s';

-- The function that captures public.orders; only triggers can run it.
-- Records changes to public.orders in the audit trail, row by row.
create or replace function audit.capture_public__orders()
    returns trigger
    language plpgsql
    security definer  -- writers of the table need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $capture$
declare
    is_as_installed boolean := false;
    row_before jsonb;
    row_after jsonb;
begin
    if tg_table_name = 'orders' and tg_table_schema = 'public'
        and (audit.may_name('public') or has_schema_privilege('public', 'usage'))
    then
        -- If the trail recorded another name in between, captured_as records this one.
        is_as_installed := (audit.is_noted('public.orders'::regclass, 'capture_public__orders', 'public', 'orders') or audit.captured_as(tg_relid, 'capture_public__orders', tg_op) is not null)
            and pg_partition_root('public.orders'::regclass) is null and audit.has_columns('public.orders'::regclass, array[]::text[], array[]::text[], true);
    end if;
    if not is_as_installed and (tg_table_name <> 'orders' or tg_table_schema <> 'public' or pg_partition_root(tg_relid) is not null) then
        -- Renamed, which is recorded once; attached to a table that records it; or not the table of this function.
        if audit.captured_as(tg_relid, 'capture_public__orders', tg_op) is null then
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
            (tg_table_schema, tg_table_name, 'I', row_after ->> 'id', row_after);

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
            (tg_table_schema, tg_table_name, 'U', row_after ->> 'id',
             nullif(row_before ->> 'id', row_after ->> 'id'), row_before, row_after);

    elsif tg_op = 'DELETE' then
        if is_as_installed then
            row_before := to_jsonb(old);
        else
            row_before := audit.image_of(old);
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row)
        values
            (tg_table_schema, tg_table_name, 'D', row_before ->> 'id', row_before);

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            (tg_table_schema, tg_table_name, 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__orders() from public;

select audit.hand_over('audit.capture_public__orders()'::regprocedure);

comment on function audit.capture_public__orders() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "orders"], "key": ["id"], "options": {}, "numbers": {}, "hash": "a2693e03a4226be415ed3f5d01251f92c436dcc201c80b941c08f340ac9d495a"}';


-- Its triggers on public.orders.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.orders'::regclass, 'capture_public__orders');

create or replace trigger "00_audit_row"
    after insert or update or delete on public.orders
    for each row
    execute function audit.capture_public__orders();

alter table public.orders enable always trigger "00_audit_row";

create or replace trigger "00_audit_truncate"
    after truncate on public.orders
    for each statement
    execute function audit.capture_public__orders();

alter table public.orders enable always trigger "00_audit_truncate";

-- The trail now recognizes the table even if it is renamed.
select audit.note_capture('public.orders'::regclass, 'capture_public__orders');

commit;
