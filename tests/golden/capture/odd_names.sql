begin;
set local lock_timeout = '3s';

-- The function that captures "Wei""rd.Schema".U&"O'Brien's $$ 100% :x {{ tab }}\000Ale"; only triggers can run it.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture(E'"Wei""rd.Schema"."O''Brien''s $$ 100% :x {{ tab }}\u000Ale"'::regclass, 'capture__o_brien_s_100_x_tab_le__810a4a8be4');

-- Records changes to "Wei""rd.Schema".U&"O'Brien's $$ 100% :x {{ tab }}\000Ale" in the audit trail, row by row.
create or replace function audit.capture__o_brien_s_100_x_tab_le__810a4a8be4()
    returns trigger
    language plpgsql
    security definer  -- writers of the table need no rights on the trail
    set search_path = pg_catalog, pg_temp
as $capture$
declare
    is_as_installed boolean;
    -- Set where the table has another name.
    captured_as text[];
    noted_by xid8;
    event_schema text;
    event_table text;
    -- What the columns of the key are called.
    key_name_1 text := 'Key "1';
    key_name_2 text := 'select';
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
    key_before text;
    key_after text;
begin
    -- Of the table of this function, PostgreSQL works out the rest when it plans, again after each
    -- ALTER TABLE.
    is_as_installed := case
        when tg_relid = audit.captured_relation('capture__o_brien_s_100_x_tab_le__810a4a8be4')
            then audit.is_as_installed(
                'capture__o_brien_s_100_x_tab_le__810a4a8be4',
                array[]::text[],
                array[]::text[],
                true, array[]::text[]
            )
    end;
    if (
        case
            when tg_relid = audit.captured_relation('capture__o_brien_s_100_x_tab_le__810a4a8be4')
                then audit.is_noted('capture__o_brien_s_100_x_tab_le__810a4a8be4', 'Wei"rd.Schema', E'O''Brien''s $$ 100% :x {{ tab }}\u000Ale')
                and audit.names_now(
                    audit.captured_relation('capture__o_brien_s_100_x_tab_le__810a4a8be4'), 'capture__o_brien_s_100_x_tab_le__810a4a8be4',
                    array['Key "1', 'select']
                ) = array['Key "1', 'select']
        end
    ) is not true then
        -- What became of the table when this was planned may have been
        -- noted by a transaction that rolled back.
        noted_by := case
            when tg_relid = audit.captured_relation('capture__o_brien_s_100_x_tab_le__810a4a8be4')
                then audit.noted_by('capture__o_brien_s_100_x_tab_le__810a4a8be4')
        end;
        if noted_by = '0' or pg_xact_status(nullif(noted_by, '0')) = 'aborted' then
            perform audit.note_again('capture__o_brien_s_100_x_tab_le__810a4a8be4');
        end if;
        -- Renamed, which is recorded once; a partition of a table that
        -- records it; or not the table of this function.
        captured_as := coalesce(
            case
                when tg_relid = audit.captured_relation('capture__o_brien_s_100_x_tab_le__810a4a8be4')
                    then audit.noted_as('capture__o_brien_s_100_x_tab_le__810a4a8be4', 'Wei"rd.Schema', E'O''Brien''s $$ 100% :x {{ tab }}\u000Ale')
            end,
            audit.captured_as(tg_relid, 'capture__o_brien_s_100_x_tab_le__810a4a8be4', tg_op)
        );
        if captured_as is null then
            return null;
        end if;
        event_schema := captured_as[1];
        event_table := captured_as[2];
        key_names := case
            when tg_relid = audit.captured_relation('capture__o_brien_s_100_x_tab_le__810a4a8be4')
                then audit.names_now(
                    audit.captured_relation('capture__o_brien_s_100_x_tab_le__810a4a8be4'), 'capture__o_brien_s_100_x_tab_le__810a4a8be4',
                    array['Key "1', 'select']
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
                        when tg_relid = audit.captured_relation('capture__o_brien_s_100_x_tab_le__810a4a8be4')
                            then audit.image_expression('capture__o_brien_s_100_x_tab_le__810a4a8be4', false)
                    end
                ),
                audit.image_of(new, false)
            );
        end if;
        key_after := jsonb_build_array(row_after -> key_name_1, row_after -> key_name_2)::text;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row, context)
        values
            (coalesce(event_schema, 'Wei"rd.Schema'), coalesce(event_table, E'O''Brien''s $$ 100% :x {{ tab }}\u000Ale'), 'I',
             case
                 when octet_length(key_after) > 2500 then
                     'audit:sha256:' || encode(sha256(convert_to(key_after, 'UTF8')), 'hex')
                 else key_after
             end,
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
                        when tg_relid = audit.captured_relation('capture__o_brien_s_100_x_tab_le__810a4a8be4')
                            then audit.image_expression('capture__o_brien_s_100_x_tab_le__810a4a8be4', false)
                    end
                ),
                audit.image_of(old, false)
            );
            row_after := coalesce(
                audit.image_by(
                    new,
                    case
                        when tg_relid = audit.captured_relation('capture__o_brien_s_100_x_tab_le__810a4a8be4')
                            then audit.image_expression('capture__o_brien_s_100_x_tab_le__810a4a8be4', false)
                    end
                ),
                audit.image_of(new, false)
            );
        end if;
        key_before := jsonb_build_array(row_before -> key_name_1, row_before -> key_name_2)::text;
        key_after := jsonb_build_array(row_after -> key_name_1, row_after -> key_name_2)::text;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row_key, old_row, new_row, context)
        values
            (coalesce(event_schema, 'Wei"rd.Schema'), coalesce(event_table, E'O''Brien''s $$ 100% :x {{ tab }}\u000Ale'), 'U',
             case
                 when octet_length(key_after) > 2500 then
                     'audit:sha256:' || encode(sha256(convert_to(key_after, 'UTF8')), 'hex')
                 else key_after
             end,
             case
                 when octet_length(nullif(key_before, key_after)) > 2500 then
                     'audit:sha256:' || encode(sha256(convert_to(nullif(key_before, key_after), 'UTF8')), 'hex')
                 else nullif(key_before, key_after)
             end,
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
                        when tg_relid = audit.captured_relation('capture__o_brien_s_100_x_tab_le__810a4a8be4')
                            then audit.image_expression('capture__o_brien_s_100_x_tab_le__810a4a8be4', false)
                    end
                ),
                audit.image_of(old, false)
            );
        end if;
        key_before := jsonb_build_array(row_before -> key_name_1, row_before -> key_name_2)::text;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row, context)
        values
            (coalesce(event_schema, 'Wei"rd.Schema'), coalesce(event_table, E'O''Brien''s $$ 100% :x {{ tab }}\u000Ale'), 'D',
             case
                 when octet_length(key_before) > 2500 then
                     'audit:sha256:' || encode(sha256(convert_to(key_before, 'UTF8')), 'hex')
                 else key_before
             end,
             row_before, context);

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            (coalesce(event_schema, 'Wei"rd.Schema'), coalesce(event_table, E'O''Brien''s $$ 100% :x {{ tab }}\u000Ale'), 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture__o_brien_s_100_x_tab_le__810a4a8be4() from public;

select audit.hand_over('audit.capture__o_brien_s_100_x_tab_le__810a4a8be4()'::regprocedure);

comment on function audit.capture__o_brien_s_100_x_tab_le__810a4a8be4() is E'{"tool": "audit-toolkit", "version": "0.3.0", "table": ["Wei\\"rd.Schema", "O''Brien''s $$ 100% :x {{ tab }}\\nle"], "key": ["Key \\"1", "select"], "options": {}, "numbers": {}, "hash": "7e444f6cb2c429f14f1792215e1d092b5ef14d6e7458b86d448b98018888ef1a"}';


-- Its triggers on "Wei""rd.Schema".U&"O'Brien's $$ 100% :x {{ tab }}\000Ale".
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
