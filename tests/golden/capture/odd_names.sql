begin;
set local lock_timeout = '3s';

-- The function that captures "Wei""rd.Schema".U&"O'Brien's $$ 100% :x {{ tab }}\000Ale"; only triggers can run it.
-- Records changes to "Wei""rd.Schema".U&"O'Brien's $$ 100% :x {{ tab }}\000Ale" in the audit trail, row by row.
create or replace function audit.capture__o_brien_s_100_x_tab_le__810a4a8be4()
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
    if tg_table_name = E'O''Brien''s $$ 100% :x {{ tab }}\u000Ale' and tg_table_schema = 'Wei"rd.Schema'
        and (audit.may_name('Wei"rd.Schema') or has_schema_privilege('Wei"rd.Schema', 'usage'))
    then
        -- If the trail recorded another name in between, captured_as records this one.
        is_as_installed := (audit.is_noted(E'"Wei""rd.Schema"."O''Brien''s $$ 100% :x {{ tab }}\u000Ale"'::regclass, 'capture__o_brien_s_100_x_tab_le__810a4a8be4', 'Wei"rd.Schema', E'O''Brien''s $$ 100% :x {{ tab }}\u000Ale') or audit.captured_as(tg_relid, 'capture__o_brien_s_100_x_tab_le__810a4a8be4', tg_op) is not null)
            and pg_partition_root(E'"Wei""rd.Schema"."O''Brien''s $$ 100% :x {{ tab }}\u000Ale"'::regclass) is null and audit.has_columns(E'"Wei""rd.Schema"."O''Brien''s $$ 100% :x {{ tab }}\u000Ale"'::regclass, array[]::text[], array[]::text[], true);
    end if;
    if not is_as_installed and (tg_table_name <> E'O''Brien''s $$ 100% :x {{ tab }}\u000Ale' or tg_table_schema <> 'Wei"rd.Schema' or pg_partition_root(tg_relid) is not null) then
        -- Renamed, which is recorded once; attached to a table that records it; or not the table of this function.
        if audit.captured_as(tg_relid, 'capture__o_brien_s_100_x_tab_le__810a4a8be4', tg_op) is null then
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
            (tg_table_schema, tg_table_name, 'I', jsonb_build_array(row_after -> 'Key "1', row_after -> 'select')::text, row_after);

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
            (tg_table_schema, tg_table_name, 'U', jsonb_build_array(row_after -> 'Key "1', row_after -> 'select')::text,
             nullif(jsonb_build_array(row_before -> 'Key "1', row_before -> 'select')::text, jsonb_build_array(row_after -> 'Key "1', row_after -> 'select')::text), row_before, row_after);

    elsif tg_op = 'DELETE' then
        if is_as_installed then
            row_before := to_jsonb(old);
        else
            row_before := audit.image_of(old);
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row)
        values
            (tg_table_schema, tg_table_name, 'D', jsonb_build_array(row_before -> 'Key "1', row_before -> 'select')::text, row_before);

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            (tg_table_schema, tg_table_name, 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture__o_brien_s_100_x_tab_le__810a4a8be4() from public;

select audit.hand_over('audit.capture__o_brien_s_100_x_tab_le__810a4a8be4()'::regprocedure);

comment on function audit.capture__o_brien_s_100_x_tab_le__810a4a8be4() is E'{"tool": "audit-toolkit", "version": "0.3.0", "table": ["Wei\\"rd.Schema", "O''Brien''s $$ 100% :x {{ tab }}\\nle"], "key": ["Key \\"1", "select"], "options": {}, "numbers": {}, "hash": "7e339ed5bf5e1a1fc58c1a3dc5b0c161303ff42c0f8ffbc83146142458110379"}';


-- Its triggers on "Wei""rd.Schema".U&"O'Brien's $$ 100% :x {{ tab }}\000Ale".
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture(E'"Wei""rd.Schema"."O''Brien''s $$ 100% :x {{ tab }}\u000Ale"'::regclass, 'capture__o_brien_s_100_x_tab_le__810a4a8be4');

create or replace trigger "00_audit_row"
    after insert or update or delete on "Wei""rd.Schema".U&"O'Brien's $$ 100% :x {{ tab }}\000Ale"
    for each row
    execute function audit.capture__o_brien_s_100_x_tab_le__810a4a8be4();

alter table "Wei""rd.Schema".U&"O'Brien's $$ 100% :x {{ tab }}\000Ale" enable always trigger "00_audit_row";

create or replace trigger "00_audit_truncate"
    after truncate on "Wei""rd.Schema".U&"O'Brien's $$ 100% :x {{ tab }}\000Ale"
    for each statement
    execute function audit.capture__o_brien_s_100_x_tab_le__810a4a8be4();

alter table "Wei""rd.Schema".U&"O'Brien's $$ 100% :x {{ tab }}\000Ale" enable always trigger "00_audit_truncate";

-- The trail now recognizes the table even if it is renamed.
select audit.note_capture(E'"Wei""rd.Schema"."O''Brien''s $$ 100% :x {{ tab }}\u000Ale"'::regclass, 'capture__o_brien_s_100_x_tab_le__810a4a8be4');

commit;
