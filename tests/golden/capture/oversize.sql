begin;
set local lock_timeout = '3s';

-- The function that captures public.files; only triggers can run it.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.files'::regclass, 'capture_public__files');

-- Records changes to public.files in the audit trail, row by row.
create or replace function audit.capture_public__files()
    returns trigger
    language plpgsql
    security definer  -- writers of the table need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set bytea_output = 'hex'
as $capture$
declare
    is_as_installed boolean;
    -- Set where the table has another name.
    captured_as text[];
    noted_by xid8;
    event_schema text;
    event_table text;
    -- What the columns of the key are called.
    key_name_1 text := 'id';
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
    kept record;
    stand_ins jsonb;
begin
    -- Of the table of this function, PostgreSQL works out the rest when it plans, again after each
    -- ALTER TABLE.
    is_as_installed := case
        when tg_relid = audit.captured_relation('capture_public__files')
            then audit.is_as_installed(
                'capture_public__files',
                array['body', 'meta', 'name', 'raw']::text[],
                array['exactly text', 'exactly json', 'exactly text', 'exactly bytea']::text[],
                true, array['name']::text[]
            )
    end;
    if (
        case
            when tg_relid = audit.captured_relation('capture_public__files')
                then audit.is_noted('capture_public__files', 'public', 'files')
                and audit.names_now(
                    audit.captured_relation('capture_public__files'), 'capture_public__files',
                    array['id']
                ) = array['id']
        end
    ) is not true then
        -- What became of the table when this was planned may have been
        -- noted by a transaction that rolled back.
        noted_by := case
            when tg_relid = audit.captured_relation('capture_public__files')
                then audit.noted_by('capture_public__files')
        end;
        if noted_by = '0' or pg_xact_status(nullif(noted_by, '0')) = 'aborted' then
            perform audit.note_again('capture_public__files');
        end if;
        -- Renamed, which is recorded once; a partition of a table that
        -- records it; or not the table of this function.
        captured_as := coalesce(
            case
                when tg_relid = audit.captured_relation('capture_public__files')
                    then audit.noted_as('capture_public__files', 'public', 'files')
            end,
            audit.captured_as(tg_relid, 'capture_public__files', tg_op)
        );
        if captured_as is null then
            return null;
        end if;
        event_schema := captured_as[1];
        event_table := captured_as[2];
        key_names := case
            when tg_relid = audit.captured_relation('capture_public__files')
                then audit.names_now(
                    audit.captured_relation('capture_public__files'), 'capture_public__files',
                    array['id']
                )
        end;
        key_name_1 := coalesce(key_names[1], key_name_1);
    end if;
    if tg_op = 'INSERT' then
        if is_as_installed then
            kept := new;
            stand_ins := '{}';
            kept.name := null;  -- not recorded
            if octet_length(kept.body)
                    > 16777216
            then
                stand_ins := stand_ins || jsonb_build_object(
                    'body',
                    audit.stand_in(
                        convert_to(kept.body, 'UTF8')
                    )
                );
                kept.body := null;
            end if;
            if octet_length(kept.raw)
                    > 16777216
            then
                stand_ins := stand_ins || jsonb_build_object(
                    'raw',
                    audit.stand_in(kept.raw)
                );
                kept.raw := null;
            end if;
            if octet_length(kept.meta::text)
                    > 16777216
                or kept.meta::text ~ $re$(^|[^\\])(\\\\)*\\u0000$re$
            then
                stand_ins := stand_ins || jsonb_build_object(
                    'meta',
                    audit.stand_in(
                        convert_to(kept.meta::text, 'UTF8')
                    )
                );
                kept.meta := null;
            end if;
            row_after := to_jsonb(kept) - array['name'] || stand_ins;
        else
            row_after := audit.known_part(
                coalesce(
                    audit.image_by(
                        new,
                        case
                            when tg_relid = audit.captured_relation('capture_public__files')
                                then audit.image_expression('capture_public__files', true)
                        end
                    ),
                    audit.image_of(new, true)
                ),
                array['name'],
                case
                    when tg_relid = audit.captured_relation('capture_public__files')
                        then audit.names_now(
                            audit.captured_relation('capture_public__files'), 'capture_public__files',
                            array['body', 'id', 'meta', 'raw']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__files',
                        array['body', 'id', 'meta', 'raw']::text[])
                end,
                case
                    when tg_relid = audit.captured_relation('capture_public__files')
                        then audit.disguised(
                            audit.captured_relation('capture_public__files'), 'capture_public__files',
                            array['name']::text[])
                    else audit.disguised(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__files',
                        array['name']::text[])
                end
            ) - array['name'];
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'files'), 'I',
             row_after ->> key_name_1,
             row_after, context);

    elsif tg_op = 'UPDATE' then
        if is_as_installed then
            kept := old;
            stand_ins := '{}';
            kept.name := null;  -- not recorded
            if octet_length(kept.body)
                    > 16777216
            then
                stand_ins := stand_ins || jsonb_build_object(
                    'body',
                    audit.stand_in(
                        convert_to(kept.body, 'UTF8')
                    )
                );
                kept.body := null;
            end if;
            if octet_length(kept.raw)
                    > 16777216
            then
                stand_ins := stand_ins || jsonb_build_object(
                    'raw',
                    audit.stand_in(kept.raw)
                );
                kept.raw := null;
            end if;
            if octet_length(kept.meta::text)
                    > 16777216
                or kept.meta::text ~ $re$(^|[^\\])(\\\\)*\\u0000$re$
            then
                stand_ins := stand_ins || jsonb_build_object(
                    'meta',
                    audit.stand_in(
                        convert_to(kept.meta::text, 'UTF8')
                    )
                );
                kept.meta := null;
            end if;
            row_before := to_jsonb(kept) - array['name'] || stand_ins;
            kept := new;
            stand_ins := '{}';
            kept.name := null;  -- not recorded
            if octet_length(kept.body)
                    > 16777216
            then
                stand_ins := stand_ins || jsonb_build_object(
                    'body',
                    audit.stand_in(
                        convert_to(kept.body, 'UTF8')
                    )
                );
                kept.body := null;
            end if;
            if octet_length(kept.raw)
                    > 16777216
            then
                stand_ins := stand_ins || jsonb_build_object(
                    'raw',
                    audit.stand_in(kept.raw)
                );
                kept.raw := null;
            end if;
            if octet_length(kept.meta::text)
                    > 16777216
                or kept.meta::text ~ $re$(^|[^\\])(\\\\)*\\u0000$re$
            then
                stand_ins := stand_ins || jsonb_build_object(
                    'meta',
                    audit.stand_in(
                        convert_to(kept.meta::text, 'UTF8')
                    )
                );
                kept.meta := null;
            end if;
            row_after := to_jsonb(kept) - array['name'] || stand_ins;
        else
            row_before := audit.known_part(
                coalesce(
                    audit.image_by(
                        old,
                        case
                            when tg_relid = audit.captured_relation('capture_public__files')
                                then audit.image_expression('capture_public__files', true)
                        end
                    ),
                    audit.image_of(old, true)
                ),
                array['name'],
                case
                    when tg_relid = audit.captured_relation('capture_public__files')
                        then audit.names_now(
                            audit.captured_relation('capture_public__files'), 'capture_public__files',
                            array['body', 'id', 'meta', 'raw']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__files',
                        array['body', 'id', 'meta', 'raw']::text[])
                end,
                case
                    when tg_relid = audit.captured_relation('capture_public__files')
                        then audit.disguised(
                            audit.captured_relation('capture_public__files'), 'capture_public__files',
                            array['name']::text[])
                    else audit.disguised(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__files',
                        array['name']::text[])
                end
            ) - array['name'];
            row_after := audit.known_part(
                coalesce(
                    audit.image_by(
                        new,
                        case
                            when tg_relid = audit.captured_relation('capture_public__files')
                                then audit.image_expression('capture_public__files', true)
                        end
                    ),
                    audit.image_of(new, true)
                ),
                array['name'],
                case
                    when tg_relid = audit.captured_relation('capture_public__files')
                        then audit.names_now(
                            audit.captured_relation('capture_public__files'), 'capture_public__files',
                            array['body', 'id', 'meta', 'raw']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__files',
                        array['body', 'id', 'meta', 'raw']::text[])
                end,
                case
                    when tg_relid = audit.captured_relation('capture_public__files')
                        then audit.disguised(
                            audit.captured_relation('capture_public__files'), 'capture_public__files',
                            array['name']::text[])
                    else audit.disguised(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__files',
                        array['name']::text[])
                end
            ) - array['name'];
        end if;
        -- A change of only unrecorded columns is ignored. Compared as text, because to jsonb 1.0 equals 1.00.
        if row_before = row_after and row_before::text = row_after::text then
            return null;
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row_key, old_row, new_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'files'), 'U',
             row_after ->> key_name_1,
             nullif(row_before ->> key_name_1, row_after ->> key_name_1),
             row_before,
             row_after,
             context);

    elsif tg_op = 'DELETE' then
        if is_as_installed then
            kept := old;
            stand_ins := '{}';
            kept.name := null;  -- not recorded
            if octet_length(kept.body)
                    > 16777216
            then
                stand_ins := stand_ins || jsonb_build_object(
                    'body',
                    audit.stand_in(
                        convert_to(kept.body, 'UTF8')
                    )
                );
                kept.body := null;
            end if;
            if octet_length(kept.raw)
                    > 16777216
            then
                stand_ins := stand_ins || jsonb_build_object(
                    'raw',
                    audit.stand_in(kept.raw)
                );
                kept.raw := null;
            end if;
            if octet_length(kept.meta::text)
                    > 16777216
                or kept.meta::text ~ $re$(^|[^\\])(\\\\)*\\u0000$re$
            then
                stand_ins := stand_ins || jsonb_build_object(
                    'meta',
                    audit.stand_in(
                        convert_to(kept.meta::text, 'UTF8')
                    )
                );
                kept.meta := null;
            end if;
            row_before := to_jsonb(kept) - array['name'] || stand_ins;
        else
            row_before := audit.known_part(
                coalesce(
                    audit.image_by(
                        old,
                        case
                            when tg_relid = audit.captured_relation('capture_public__files')
                                then audit.image_expression('capture_public__files', true)
                        end
                    ),
                    audit.image_of(old, true)
                ),
                array['name'],
                case
                    when tg_relid = audit.captured_relation('capture_public__files')
                        then audit.names_now(
                            audit.captured_relation('capture_public__files'), 'capture_public__files',
                            array['body', 'id', 'meta', 'raw']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__files',
                        array['body', 'id', 'meta', 'raw']::text[])
                end,
                case
                    when tg_relid = audit.captured_relation('capture_public__files')
                        then audit.disguised(
                            audit.captured_relation('capture_public__files'), 'capture_public__files',
                            array['name']::text[])
                    else audit.disguised(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__files',
                        array['name']::text[])
                end
            ) - array['name'];
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'files'), 'D',
             row_before ->> key_name_1,
             row_before, context);

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'files'), 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__files() from public;

select audit.hand_over('audit.capture_public__files()'::regprocedure);

comment on function audit.capture_public__files() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "files"], "key": ["id"], "options": {"exclude": ["name"], "on_oversize": "mark"}, "numbers": {"name": 2}, "hash": "2c13045cfbe333e13025f10bb1c8ff70be0802b23807f90058db2bdcdc53c2b3"}';


-- Its triggers on public.files.
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
