begin;
set local lock_timeout = '3s';

-- The function that captures public.readings, which only triggers can run.
-- Writes what happens to public.readings into the audit trail, row by row.
create or replace function audit.capture_public__readings()
    returns trigger
    language plpgsql
    security definer  -- the trail belongs to its owner: who may change the table need not reach the trail
    set search_path = pg_catalog, pg_temp
    set extra_float_digits = '1'
as $capture$
declare
    row_before jsonb;
    row_after jsonb;
begin
    if tg_op = 'INSERT' then
        row_after := to_jsonb(new);
        insert into audit.logged_actions
            (schema_name, table_name, action, new_row)
        values
            ('public', 'readings', 'I', row_after);

    elsif tg_op = 'UPDATE' then
        -- Compared byte by byte: types without equality are no trouble, and 1.0 is not 1.00.
        if new *= old then
            return null;
        end if;
        row_before := to_jsonb(old);
        row_after := to_jsonb(new);
        insert into audit.logged_actions
            (schema_name, table_name, action, old_row, new_row)
        values
            ('public', 'readings', 'U', row_before, row_after);

    elsif tg_op = 'DELETE' then
        row_before := to_jsonb(old);
        insert into audit.logged_actions
            (schema_name, table_name, action, old_row)
        values
            ('public', 'readings', 'D', row_before);

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            ('public', 'readings', 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__readings() from public;

select audit.hand_over('audit.capture_public__readings()'::regprocedure);

comment on function audit.capture_public__readings() is '{"tool": "audit-toolkit", "version": "0.2.0", "table": ["public", "readings"], "key": [], "options": {}, "hash": "fa0640a6b62b0ff0c49e4f09cecf1cdce72124b536bfeea7570da6bc14da81c6"}';


-- Its triggers on public.readings.
create or replace trigger "00_audit_row"
    after insert or update or delete on public.readings
    for each row
    execute function audit.capture_public__readings();

alter table public.readings enable always trigger "00_audit_row";

create or replace trigger "00_audit_truncate"
    after truncate on public.readings
    for each statement
    execute function audit.capture_public__readings();

alter table public.readings enable always trigger "00_audit_truncate";

commit;
