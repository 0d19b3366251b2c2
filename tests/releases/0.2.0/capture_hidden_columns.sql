begin;
set local lock_timeout = '3s';

-- The function that captures public.people, which only triggers can run.
-- Writes what happens to public.people into the audit trail, row by row.
create or replace function audit.capture_public__people()
    returns trigger
    language plpgsql
    security definer  -- the trail belongs to its owner: who may change the table need not reach the trail
    set search_path = pg_catalog, pg_temp
as $capture$
declare
    row_before jsonb;
    row_after jsonb;
begin
    if tg_op = 'INSERT' then
        row_after := to_jsonb(new) - array['note'];
        row_after := audit.mask(audit.mask(row_after, 'card', 'redact'), 'email', 'sha256');
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row)
        values
            ('public', 'people', 'I', row_after ->> 'id', row_after);

    elsif tg_op = 'UPDATE' then
        row_before := to_jsonb(old) - array['note'];
        row_after := to_jsonb(new) - array['note'];
        -- A change of columns that stay out of the trail is none. Text decides: to jsonb, 1.0 equals 1.00.
        if row_before = row_after and row_before::text = row_after::text then
            return null;
        end if;
        row_before := audit.mask(audit.mask(row_before, 'card', 'redact'), 'email', 'sha256');
        row_after := audit.mask(audit.mask(row_after, 'card', 'redact'), 'email', 'sha256');
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row_key, old_row, new_row)
        values
            ('public', 'people', 'U', row_after ->> 'id',
             nullif(row_before ->> 'id', row_after ->> 'id'), row_before, row_after);

    elsif tg_op = 'DELETE' then
        row_before := to_jsonb(old) - array['note'];
        row_before := audit.mask(audit.mask(row_before, 'card', 'redact'), 'email', 'sha256');
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row)
        values
            ('public', 'people', 'D', row_before ->> 'id', row_before);

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            ('public', 'people', 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__people() from public;

select audit.hand_over('audit.capture_public__people()'::regprocedure);

comment on function audit.capture_public__people() is '{"tool": "audit-toolkit", "version": "0.2.0", "table": ["public", "people"], "key": ["id"], "options": {"exclude": ["note"], "mask": {"card": "redact", "email": "sha256"}}, "hash": "06b862ba574ebdc75744670bf16fb92af0775a7906c51370f8ffefa1f9d51514"}';


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

commit;
