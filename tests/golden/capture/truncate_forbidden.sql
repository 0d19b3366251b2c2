begin;
set local lock_timeout = '3s';

-- The function that captures public.orders, which only triggers can run.
-- Writes what happens to public.orders into the audit trail, row by row.
create or replace function audit.capture_public__orders()
    returns trigger
    language plpgsql
    security definer  -- the trail belongs to its owner: who may change the table need not reach the trail
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $capture$
declare
    is_as_installed boolean;
    row_before jsonb;
    row_after jsonb;
begin
    is_as_installed := tg_table_schema = 'public' and tg_table_name = 'orders' and has_schema_privilege('public', 'usage');
    if is_as_installed then
        is_as_installed := audit.has_columns('public.orders'::regclass, array[]::text[], array[]::text[], true);
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
            ('public', 'orders', 'I', row_after ->> 'id', row_after);

    elsif tg_op = 'UPDATE' then
        -- Compared byte by byte: types without equality are no trouble, and 1.0 is not 1.00.
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
            ('public', 'orders', 'U', row_after ->> 'id',
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
            ('public', 'orders', 'D', row_before ->> 'id', row_before);

    else
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'audit: public.orders is audited row by row, TRUNCATE is refused',
            hint = 'use DELETE';
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__orders() from public;

select audit.hand_over('audit.capture_public__orders()'::regprocedure);

comment on function audit.capture_public__orders() is '{"tool": "audit-toolkit", "version": "0.2.0", "table": ["public", "orders"], "key": ["id"], "options": {"truncate": "forbid"}, "hash": "3ea637900a7072c15c62d4416dfb16878c162f3606cab74d58a804d314e26f43"}';


-- Its triggers on public.orders.
create or replace trigger "00_audit_row"
    after insert or update or delete on public.orders
    for each row
    execute function audit.capture_public__orders();

alter table public.orders enable always trigger "00_audit_row";

create or replace trigger "00_audit_truncate"
    before truncate on public.orders
    for each statement
    execute function audit.capture_public__orders();

alter table public.orders enable always trigger "00_audit_truncate";

commit;
