begin;
set local lock_timeout = '3s';

-- The function that captures public.people; only triggers can run it.
-- Records changes to public.people in the audit trail, row by row.
create or replace function audit.capture_public__people()
    returns trigger
    language plpgsql
    security definer  -- writers of the table need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $capture$
declare
    is_as_installed boolean := false;
    row_before jsonb;
    row_after jsonb;
begin
    if tg_table_name = 'people' and tg_table_schema = 'public'
        and (audit.may_name('public') or has_schema_privilege('public', 'usage'))
    then
        -- If the trail recorded another name in between, captured_as records this one.
        is_as_installed := (audit.is_noted('public.people'::regclass, 'capture_public__people', 'public', 'people') or audit.captured_as(tg_relid, 'capture_public__people', tg_op) is not null)
            and pg_partition_root('public.people'::regclass) is null and audit.has_columns('public.people'::regclass, array[]::text[], array[]::text[], true);
    end if;
    if not is_as_installed and (tg_table_name <> 'people' or tg_table_schema <> 'public' or pg_partition_root(tg_relid) is not null) then
        -- Renamed, which is recorded once; attached to a table that records it; or not the table of this function.
        if audit.captured_as(tg_relid, 'capture_public__people', tg_op) is null then
            return null;
        end if;
    end if;
    if tg_op = 'INSERT' then
        if is_as_installed then
            row_after := audit.pick(to_jsonb(new), array['id', 'name']);
        else
            row_after := audit.pick(audit.image_of(new), array['id', 'name']);
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row)
        values
            (tg_table_schema, tg_table_name, 'I', row_after ->> 'id', row_after);

    elsif tg_op = 'UPDATE' then
        if is_as_installed then
            row_before := audit.pick(to_jsonb(old), array['id', 'name']);
            row_after := audit.pick(to_jsonb(new), array['id', 'name']);
        else
            row_before := audit.pick(audit.image_of(old), array['id', 'name']);
            row_after := audit.pick(audit.image_of(new), array['id', 'name']);
        end if;
        -- A change of only unrecorded columns is ignored. Compared as text, because to jsonb 1.0 equals 1.00.
        if row_before = row_after and row_before::text = row_after::text then
            return null;
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row_key, old_row, new_row)
        values
            (tg_table_schema, tg_table_name, 'U', row_after ->> 'id',
             nullif(row_before ->> 'id', row_after ->> 'id'), row_before, row_after);

    elsif tg_op = 'DELETE' then
        if is_as_installed then
            row_before := audit.pick(to_jsonb(old), array['id', 'name']);
        else
            row_before := audit.pick(audit.image_of(old), array['id', 'name']);
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

revoke all on function audit.capture_public__people() from public;

select audit.hand_over('audit.capture_public__people()'::regprocedure);

comment on function audit.capture_public__people() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "people"], "key": ["id"], "options": {"only": ["name"]}, "numbers": {"name": 2}, "hash": "44be8cf297716468822cc1b140e1a0c2b2f719ba1a67f9b104585017793c7cea"}';


-- Its triggers on public.people.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.people'::regclass, 'capture_public__people');

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

-- The trail now recognizes the table even if it is renamed.
select audit.note_capture('public.people'::regclass, 'capture_public__people');

commit;
