begin;
set local lock_timeout = '3s';

-- The function that captures public.people; only triggers can run it.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.people'::regclass, 'capture_public__people');

-- Records changes to public.people in the audit trail, row by row.
create or replace function audit.capture_public__people()
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
begin
    -- Of the table of this function, PostgreSQL works out the rest when it plans, again after each
    -- ALTER TABLE.
    is_as_installed := case
        when tg_relid = audit.captured_relation('capture_public__people')
            then audit.is_as_installed(
                'capture_public__people',
                array[]::text[],
                array[]::text[],
                true, array[]::text[]
            )
            and audit.names_now(
                audit.captured_relation('capture_public__people'), 'capture_public__people',
                array['id', 'name']
            ) = array['id', 'name']
    end;
    if (
        case
            when tg_relid = audit.captured_relation('capture_public__people')
                then audit.is_noted('capture_public__people', 'public', 'people')
                and audit.names_now(
                    audit.captured_relation('capture_public__people'), 'capture_public__people',
                    array['id']
                ) = array['id']
        end
    ) is not true then
        -- What became of the table when this was planned may have been
        -- noted by a transaction that rolled back.
        noted_by := case
            when tg_relid = audit.captured_relation('capture_public__people')
                then audit.noted_by('capture_public__people')
        end;
        if noted_by = '0' or pg_xact_status(nullif(noted_by, '0')) = 'aborted' then
            perform audit.note_again('capture_public__people');
        end if;
        -- Renamed, which is recorded once; a partition of a table that
        -- records it; or not the table of this function.
        captured_as := coalesce(
            case
                when tg_relid = audit.captured_relation('capture_public__people')
                    then audit.noted_as('capture_public__people', 'public', 'people')
            end,
            audit.captured_as(tg_relid, 'capture_public__people', tg_op)
        );
        if captured_as is null then
            return null;
        end if;
        event_schema := captured_as[1];
        event_table := captured_as[2];
        key_names := case
            when tg_relid = audit.captured_relation('capture_public__people')
                then audit.names_now(
                    audit.captured_relation('capture_public__people'), 'capture_public__people',
                    array['id']
                )
        end;
        key_name_1 := coalesce(key_names[1], key_name_1);
    end if;
    if tg_op = 'INSERT' then
        if is_as_installed then
            row_after := audit.pick(to_jsonb(new), array['id', 'name']);
        else
            row_after := audit.pick(
                coalesce(
                    audit.image_by(
                        new,
                        case
                            when tg_relid = audit.captured_relation('capture_public__people')
                                then audit.image_expression('capture_public__people', false)
                        end
                    ),
                    audit.image_of(new, false)
                ),
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.names_now(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['id', 'name']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['id', 'name']::text[])
                end
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'I',
             row_after ->> key_name_1,
             row_after, context);

    elsif tg_op = 'UPDATE' then
        if is_as_installed then
            row_before := audit.pick(to_jsonb(old), array['id', 'name']);
            row_after := audit.pick(to_jsonb(new), array['id', 'name']);
        else
            row_before := audit.pick(
                coalesce(
                    audit.image_by(
                        old,
                        case
                            when tg_relid = audit.captured_relation('capture_public__people')
                                then audit.image_expression('capture_public__people', false)
                        end
                    ),
                    audit.image_of(old, false)
                ),
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.names_now(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['id', 'name']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['id', 'name']::text[])
                end
            );
            row_after := audit.pick(
                coalesce(
                    audit.image_by(
                        new,
                        case
                            when tg_relid = audit.captured_relation('capture_public__people')
                                then audit.image_expression('capture_public__people', false)
                        end
                    ),
                    audit.image_of(new, false)
                ),
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.names_now(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['id', 'name']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['id', 'name']::text[])
                end
            );
        end if;
        -- A change of only unrecorded columns is ignored. Compared as text, because to jsonb 1.0 equals 1.00.
        if row_before = row_after and row_before::text = row_after::text then
            return null;
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row_key, old_row, new_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'U',
             row_after ->> key_name_1,
             nullif(row_before ->> key_name_1, row_after ->> key_name_1),
             row_before,
             row_after,
             context);

    elsif tg_op = 'DELETE' then
        if is_as_installed then
            row_before := audit.pick(to_jsonb(old), array['id', 'name']);
        else
            row_before := audit.pick(
                coalesce(
                    audit.image_by(
                        old,
                        case
                            when tg_relid = audit.captured_relation('capture_public__people')
                                then audit.image_expression('capture_public__people', false)
                        end
                    ),
                    audit.image_of(old, false)
                ),
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.names_now(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['id', 'name']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['id', 'name']::text[])
                end
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'D',
             row_before ->> key_name_1,
             row_before, context);

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__people() from public;

select audit.hand_over('audit.capture_public__people()'::regprocedure);

comment on function audit.capture_public__people() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "people"], "key": ["id"], "options": {"only": ["name"]}, "numbers": {"name": 2}, "hash": "c028254a2df3d38e481a066daac044c0add210d0642bb181880172e634063956"}';


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

-- The trail now recognizes the table even if it is renamed.
select audit.note_capture('public.people'::regclass, 'capture_public__people');

commit;
