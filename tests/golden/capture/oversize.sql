begin;
set local lock_timeout = '3s';

-- The function that captures public.files; only triggers can run it.
-- Records changes to public.files in the audit trail, row by row.
create or replace function audit.capture_public__files()
    returns trigger
    language plpgsql
    security definer  -- writers of the table need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set bytea_output = 'hex'
as $capture$
declare
    is_as_installed boolean := false;
    row_before jsonb;
    row_after jsonb;
    kept record;
    stand_ins jsonb;
begin
    if tg_table_name = 'files' and tg_table_schema = 'public'
        and (audit.may_name('public') or has_schema_privilege('public', 'usage'))
    then
        -- If the trail recorded another name in between, captured_as records this one.
        is_as_installed := (audit.is_noted('public.files'::regclass, 'capture_public__files', 'public', 'files') or audit.captured_as(tg_relid, 'capture_public__files', tg_op) is not null)
            and pg_partition_root('public.files'::regclass) is null and audit.has_columns('public.files'::regclass, array['body', 'meta', 'name', 'raw']::text[], array['exactly text', 'exactly json', 'exactly text', 'exactly bytea']::text[], true);
        is_as_installed := is_as_installed and audit.disguised('public.files'::regclass, 'capture_public__files', array['name']) = '{}';
    end if;
    if not is_as_installed and (tg_table_name <> 'files' or tg_table_schema <> 'public' or pg_partition_root(tg_relid) is not null) then
        -- Renamed, which is recorded once; attached to a table that records it; or not the table of this function.
        if audit.captured_as(tg_relid, 'capture_public__files', tg_op) is null then
            return null;
        end if;
    end if;
    if tg_op = 'INSERT' then
        if is_as_installed then
            kept := new;
            stand_ins := '{}';
            kept.name := null;  -- not recorded
            if octet_length(kept.body) > 16777216 then
                stand_ins := stand_ins || jsonb_build_object('body', audit.stand_in(convert_to(kept.body, 'UTF8')));
                kept.body := null;
            end if;
            if octet_length(kept.raw) > 16777216 then
                stand_ins := stand_ins || jsonb_build_object('raw', audit.stand_in(kept.raw));
                kept.raw := null;
            end if;
            if octet_length(kept.meta::text) > 16777216 or kept.meta::text ~ $re$(^|[^\\])(\\\\)*\\u0000$re$ then
                stand_ins := stand_ins || jsonb_build_object('meta', audit.stand_in(convert_to(kept.meta::text, 'UTF8')));
                kept.meta := null;
            end if;
            row_after := to_jsonb(kept) - array['name'] || stand_ins;
        else
            row_after := audit.known_part(audit.image_of(new, true), array['name'], array['body', 'id', 'meta', 'raw']::text[], audit.disguised(coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__files', array['name'])) - array['name'];
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row)
        values
            (tg_table_schema, tg_table_name, 'I', row_after ->> 'id', row_after);

    elsif tg_op = 'UPDATE' then
        if is_as_installed then
            kept := old;
            stand_ins := '{}';
            kept.name := null;  -- not recorded
            if octet_length(kept.body) > 16777216 then
                stand_ins := stand_ins || jsonb_build_object('body', audit.stand_in(convert_to(kept.body, 'UTF8')));
                kept.body := null;
            end if;
            if octet_length(kept.raw) > 16777216 then
                stand_ins := stand_ins || jsonb_build_object('raw', audit.stand_in(kept.raw));
                kept.raw := null;
            end if;
            if octet_length(kept.meta::text) > 16777216 or kept.meta::text ~ $re$(^|[^\\])(\\\\)*\\u0000$re$ then
                stand_ins := stand_ins || jsonb_build_object('meta', audit.stand_in(convert_to(kept.meta::text, 'UTF8')));
                kept.meta := null;
            end if;
            row_before := to_jsonb(kept) - array['name'] || stand_ins;
            kept := new;
            stand_ins := '{}';
            kept.name := null;  -- not recorded
            if octet_length(kept.body) > 16777216 then
                stand_ins := stand_ins || jsonb_build_object('body', audit.stand_in(convert_to(kept.body, 'UTF8')));
                kept.body := null;
            end if;
            if octet_length(kept.raw) > 16777216 then
                stand_ins := stand_ins || jsonb_build_object('raw', audit.stand_in(kept.raw));
                kept.raw := null;
            end if;
            if octet_length(kept.meta::text) > 16777216 or kept.meta::text ~ $re$(^|[^\\])(\\\\)*\\u0000$re$ then
                stand_ins := stand_ins || jsonb_build_object('meta', audit.stand_in(convert_to(kept.meta::text, 'UTF8')));
                kept.meta := null;
            end if;
            row_after := to_jsonb(kept) - array['name'] || stand_ins;
        else
            row_before := audit.known_part(audit.image_of(old, true), array['name'], array['body', 'id', 'meta', 'raw']::text[], audit.disguised(coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__files', array['name'])) - array['name'];
            row_after := audit.known_part(audit.image_of(new, true), array['name'], array['body', 'id', 'meta', 'raw']::text[], audit.disguised(coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__files', array['name'])) - array['name'];
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
            kept := old;
            stand_ins := '{}';
            kept.name := null;  -- not recorded
            if octet_length(kept.body) > 16777216 then
                stand_ins := stand_ins || jsonb_build_object('body', audit.stand_in(convert_to(kept.body, 'UTF8')));
                kept.body := null;
            end if;
            if octet_length(kept.raw) > 16777216 then
                stand_ins := stand_ins || jsonb_build_object('raw', audit.stand_in(kept.raw));
                kept.raw := null;
            end if;
            if octet_length(kept.meta::text) > 16777216 or kept.meta::text ~ $re$(^|[^\\])(\\\\)*\\u0000$re$ then
                stand_ins := stand_ins || jsonb_build_object('meta', audit.stand_in(convert_to(kept.meta::text, 'UTF8')));
                kept.meta := null;
            end if;
            row_before := to_jsonb(kept) - array['name'] || stand_ins;
        else
            row_before := audit.known_part(audit.image_of(old, true), array['name'], array['body', 'id', 'meta', 'raw']::text[], audit.disguised(coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__files', array['name'])) - array['name'];
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

revoke all on function audit.capture_public__files() from public;

select audit.hand_over('audit.capture_public__files()'::regprocedure);

comment on function audit.capture_public__files() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "files"], "key": ["id"], "options": {"exclude": ["name"], "on_oversize": "mark"}, "numbers": {"name": 2}, "hash": "4eed9daad59f284cc270a7f52dbd0518d9795d4076bcb67c77eab5669f31d0a4"}';


-- Its triggers on public.files.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.files'::regclass, 'capture_public__files');

create or replace trigger "00_audit_row"
    after insert or update or delete on public.files
    for each row
    execute function audit.capture_public__files();

alter table public.files enable always trigger "00_audit_row";

create or replace trigger "00_audit_truncate"
    after truncate on public.files
    for each statement
    execute function audit.capture_public__files();

alter table public.files enable always trigger "00_audit_truncate";

-- The trail now recognizes the table even if it is renamed.
select audit.note_capture('public.files'::regclass, 'capture_public__files');

commit;
