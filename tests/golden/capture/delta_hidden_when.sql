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
    set plan_cache_mode = force_generic_plan  -- plans are the same for all keys, and not cheap to make
as $capture$
#variable_conflict use_column
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
    is_delta boolean := false;
    key_before text;
    key_after text;
    captured_at timestamptz;
    newest record;
    written_before xid8;
    value_before jsonb;
    value_after jsonb;
begin
    -- Of the table of this function, PostgreSQL works out the rest when it plans, again after each
    -- ALTER TABLE.
    is_as_installed := case
        when tg_relid = audit.captured_relation('capture_public__people')
            then audit.is_as_installed(
                'capture_public__people',
                array['card', 'name', 'note']::text[],
                array['plain', 'text', 'any']::text[],
                true, array['card', 'note']::text[]
            )
            and audit.names_now(
                audit.captured_relation('capture_public__people'), 'capture_public__people',
                array['id']
            ) = array['id']
            and audit.noted_as('capture_public__people', 'public', 'people')
                = array['public', 'people']
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
            if (select (name <> 'test'
            ) from (select new.name as name) as "00_audit_condition"
            where 'public.people'::regclass is not null) is not true then
                return null;
            end if;
            row_after := to_jsonb(new) - array['note'];
        else
            row_after := audit.known_part(
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
                array['card', 'note'],
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.names_now(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card', 'email', 'id', 'name']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card', 'email', 'id', 'name']::text[])
                end,
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.disguised(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card', 'note']::text[])
                    else audit.disguised(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card', 'note']::text[])
                end
            ) - array['note'];
        end if;
        row_after := audit.mask(row_after, 'card', 'redact');
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'I',
             row_after ->> key_name_1,
             row_after, context);

    elsif tg_op = 'UPDATE' then
        -- What the update leaves as it was is not stored again, if the event before it has it: in the same
        -- partition, and by the transaction that wrote the row as it was (xmin),
        -- and no other event of the row is by that one.
        captured_at := clock_timestamp();
        if is_as_installed then
            is_delta := captured_at >= audit.present_period('audit.logged_actions'::regclass, false)
                and captured_at < audit.present_period('audit.logged_actions'::regclass, true)
                and (select (name <> 'test'
            ) from (select old.name as name) as "00_audit_condition"
            where 'public.people'::regclass is not null)
                -- reading the trail could make other writes fail
                and current_setting('transaction_isolation') <> 'serializable';
        end if;
        if is_delta then
            row_before := case
                when 'public.people'::regclass is not null
                    then jsonb_build_object('id', old.id)
            end;
            key_before := row_before ->> key_name_1;
            row_after := case
                when 'public.people'::regclass is not null
                    then jsonb_build_object('id', new.id)
            end;
            key_after := row_after ->> key_name_1;
            is_delta := key_before = key_after;
        end if;
        if is_delta then
            select e.event_id, e.action, e.transaction_id, e.transaction_tstamp, e.xmin as written_by
            into newest
            from audit.logged_actions as e
            where e.schema_name = 'public' and e.table_name = 'people'
              and e.row_key = key_after and e.action <> 'E'
              and e.action_tstamp >= audit.present_period('audit.logged_actions'::regclass, false)
              and e.action_tstamp < audit.present_period('audit.logged_actions'::regclass, true)
              and e.event_id > audit.deltas_after(
                  'public.people'::regclass, 'capture_public__people',
                  array['card', 'email', 'id', 'name', 'note']
              )
            order by e.event_id desc
            limit 1;
            is_delta := newest.written_by = old.xmin and newest.action in ('I', 'U')
                and newest.transaction_id <> pg_current_xact_id()
                and newest.written_by <> all (
                    audit.altered_by('public.people'::regclass)
                )
                and newest.transaction_tstamp >= audit.present_period('audit.logged_actions'::regclass, false)
                and hashint8(newest.event_id) % 32 <> 0;
        end if;
        if is_delta then
            select e.transaction_id into written_before
            from audit.logged_actions as e
            where e.schema_name = 'public' and e.table_name = 'people'
              and e.row_key = key_after and e.action <> 'E'
              and e.action_tstamp >= audit.present_period('audit.logged_actions'::regclass, false)
              and e.action_tstamp < audit.present_period('audit.logged_actions'::regclass, true)
              and e.event_id < newest.event_id
            order by e.event_id desc
            limit 1;
            is_delta := written_before is distinct from newest.transaction_id;
        end if;
        if is_delta then
            row_before := '{}';
            row_after := '{}';
            if 'public.people'::regclass is not null and not record_image_eq(
                row(old.card, old.email, old.name),
                row(new.card, new.email, new.name))
            then
                if 'public.people'::regclass is not null
                    and not record_image_eq(
                        row(old.card), row(new.card)
                    )
                then
                    value_before := case
                        when 'public.people'::regclass is not null
                            then jsonb_build_object('card', old.card)
                    end;
                    value_after := case
                        when 'public.people'::regclass is not null
                            then jsonb_build_object('card', new.card)
                    end;
                    if value_before::text <> value_after::text then
                        row_before := row_before || value_before;
                        row_after := row_after || value_after;
                    end if;
                end if;
                if 'public.people'::regclass is not null
                    and not record_image_eq(
                        row(old.email), row(new.email)
                    )
                then
                    value_before := case
                        when 'public.people'::regclass is not null
                            then jsonb_build_object('email', old.email)
                    end;
                    value_after := case
                        when 'public.people'::regclass is not null
                            then jsonb_build_object('email', new.email)
                    end;
                    if value_before::text <> value_after::text then
                        row_before := row_before || value_before;
                        row_after := row_after || value_after;
                    end if;
                end if;
                if 'public.people'::regclass is not null
                    and not record_image_eq(
                        row(old.name), row(new.name)
                    )
                then
                    value_before := case
                        when 'public.people'::regclass is not null
                            then jsonb_build_object('name', old.name)
                    end;
                    value_after := case
                        when 'public.people'::regclass is not null
                            then jsonb_build_object('name', new.name)
                    end;
                    if value_before::text <> value_after::text then
                        row_before := row_before || value_before;
                        row_after := row_after || value_after;
                    end if;
                end if;
            end if;
        else
        if is_as_installed then
            if (select (name <> 'test'
            ) from (select new.name as name) as "00_audit_condition"
            where 'public.people'::regclass is not null) is not true
                and (select (name <> 'test'
            ) from (select old.name as name) as "00_audit_condition"
            where 'public.people'::regclass is not null) is not true then
                return null;
            end if;
            row_before := to_jsonb(old) - array['note'];
            row_after := to_jsonb(new) - array['note'];
        else
            row_before := audit.known_part(
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
                array['card', 'note'],
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.names_now(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card', 'email', 'id', 'name']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card', 'email', 'id', 'name']::text[])
                end,
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.disguised(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card', 'note']::text[])
                    else audit.disguised(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card', 'note']::text[])
                end
            ) - array['note'];
            row_after := audit.known_part(
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
                array['card', 'note'],
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.names_now(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card', 'email', 'id', 'name']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card', 'email', 'id', 'name']::text[])
                end,
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.disguised(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card', 'note']::text[])
                    else audit.disguised(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card', 'note']::text[])
                end
            ) - array['note'];
        end if;
        end if;
        -- A change of only unrecorded columns is ignored. Compared as text, because to jsonb 1.0 equals 1.00.
        if row_before = row_after and row_before::text = row_after::text then
            return null;
        end if;
        row_before := audit.mask(row_before, 'card', 'redact');
        row_after := audit.mask(row_after, 'card', 'redact');
        if is_delta is not true then
            key_before := row_before ->> key_name_1;
            key_after := row_after ->> key_name_1;
        else
            -- Neither what is the same, nor what stands for it.
            select coalesce(jsonb_object_agg(key, row_before -> key), '{}'),
                coalesce(jsonb_object_agg(key, value), '{}')
            into row_before, row_after
            from jsonb_each(row_after)
            where value::text is distinct from (row_before -> key)::text;
        end if;
        insert into audit.logged_actions
            (action_tstamp, schema_name, table_name, action, row_key, old_row_key, old_row, new_row, context)
        values
            (captured_at, coalesce(event_schema, 'public'), coalesce(event_table, 'people'), 'U',
             key_after, nullif(key_before, key_after), row_before, row_after, context);

    elsif tg_op = 'DELETE' then
        if is_as_installed then
            if (select (name <> 'test'
            ) from (select old.name as name) as "00_audit_condition"
            where 'public.people'::regclass is not null) is not true then
                return null;
            end if;
            row_before := to_jsonb(old) - array['note'];
        else
            row_before := audit.known_part(
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
                array['card', 'note'],
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.names_now(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card', 'email', 'id', 'name']::text[])
                    else audit.names_now(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card', 'email', 'id', 'name']::text[])
                end,
                case
                    when tg_relid = audit.captured_relation('capture_public__people')
                        then audit.disguised(
                            audit.captured_relation('capture_public__people'), 'capture_public__people',
                            array['card', 'note']::text[])
                    else audit.disguised(
                        coalesce(pg_partition_root(tg_relid), tg_relid), 'capture_public__people',
                        array['card', 'note']::text[])
                end
            ) - array['note'];
        end if;
        row_before := audit.mask(row_before, 'card', 'redact');
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

comment on function audit.capture_public__people() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "people"], "key": ["id"], "options": {"exclude": ["note"], "mask": {"card": "redact"}, "store": "delta", "when": "name <> ''test''"}, "numbers": {"card": 4, "note": 5}, "hash": "ebd6ad2fad53c8d8ac758a2fd0ca3ed4382227699a42f3353043415a53e3dcb4"}';


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
