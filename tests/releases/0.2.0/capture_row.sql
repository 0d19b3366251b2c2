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
    row_before jsonb;
    row_after jsonb;
begin
    if tg_op = 'INSERT' then
        row_after := to_jsonb(new);
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row)
        values
            ('public', 'orders', 'I', row_after ->> 'id', row_after);

    elsif tg_op = 'UPDATE' then
        -- Compared byte by byte: types without equality are no trouble, and 1.0 is not 1.00.
        if new *= old then
            return null;
        end if;
        row_before := to_jsonb(old);
        row_after := to_jsonb(new);
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row_key, old_row, new_row)
        values
            ('public', 'orders', 'U', row_after ->> 'id',
             nullif(row_before ->> 'id', row_after ->> 'id'), row_before, row_after);

    elsif tg_op = 'DELETE' then
        row_before := to_jsonb(old);
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row)
        values
            ('public', 'orders', 'D', row_before ->> 'id', row_before);

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            ('public', 'orders', 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__orders() from public;

select audit.hand_over('audit.capture_public__orders()'::regprocedure);

comment on function audit.capture_public__orders() is '{"tool": "audit-toolkit", "version": "0.2.0", "table": ["public", "orders"], "key": ["id"], "options": {}, "hash": "f1964d7cb0339bd95ed786bb7a2b2ef610c6e1201bb6b2d07cb28baff40af9b3"}';


-- Its triggers on public.orders.
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

commit;
