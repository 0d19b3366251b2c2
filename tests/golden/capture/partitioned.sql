begin;
set local lock_timeout = '3s';

-- The function that captures public.visits; only triggers can run it.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.visits'::regclass, 'capture_public__visits');

-- Records changes to public.visits in the audit trail, row by row.
create or replace function audit.capture_public__visits()
    returns trigger
    language plpgsql
    security definer  -- writers of the table need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $capture$
declare
    is_as_installed boolean;
    root constant oid := pg_partition_root(tg_relid);
    -- Set where the table has another name.
    captured_as text[];
    noted_by xid8;
    event_schema text;
    event_table text;
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
    row_gone jsonb;
begin
    -- Of the table of this function, PostgreSQL works out the rest when it plans, again after each
    -- ALTER TABLE.
    is_as_installed := case
        when root = audit.captured_relation('capture_public__visits')
            then audit.is_as_installed(
                'capture_public__visits',
                array[]::text[],
                array[]::text[],
                true, array[]::text[]
            )
    end;
    if (
        case
            when root = audit.captured_relation('capture_public__visits')
                then audit.is_noted('capture_public__visits', 'public', 'visits')
        end
    ) is not true then
        -- What became of the table when this was planned may have been
        -- noted by a transaction that rolled back.
        noted_by := case
            when root = audit.captured_relation('capture_public__visits')
                then audit.noted_by('capture_public__visits')
        end;
        if noted_by = '0' or pg_xact_status(nullif(noted_by, '0')) = 'aborted' then
            perform audit.note_again('capture_public__visits');
        end if;
        -- Renamed, which is recorded once; a partition of a table that
        -- records it; or not the table of this function.
        captured_as := coalesce(
            case
                when root = audit.captured_relation('capture_public__visits')
                    then audit.noted_as('capture_public__visits', 'public', 'visits')
            end,
            audit.captured_as(tg_relid, 'capture_public__visits', tg_op)
        );
        if captured_as is null then
            return null;
        end if;
        event_schema := captured_as[1];
        event_table := captured_as[2];
    end if;
    -- The owner of a partitioned table may execute this, which PostgreSQL asks
    -- for, and so could make more triggers of it.
    if tg_name <> all (array['00_audit_rows', '00_audit_truncate', '00_audit_truncate_rows'])
        and audit.is_second_trigger(
            'capture_public__visits', array['00_audit_rows', '00_audit_truncate', '00_audit_truncate_rows'], tg_relid, tg_op, tg_when,
            tg_level
        )
    then
        return null;
    end if;
    if tg_op = 'INSERT' then
        if is_as_installed then
            row_after := to_jsonb(new);
        else
            row_after := coalesce(
                audit.image_by(
                    new,
                    case
                        when root = audit.captured_relation('capture_public__visits')
                            then audit.image_expression('capture_public__visits', false)
                    end
                ),
                audit.image_of(new, false)
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, new_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'visits'), 'I',
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
                        when root = audit.captured_relation('capture_public__visits')
                            then audit.image_expression('capture_public__visits', false)
                    end
                ),
                audit.image_of(old, false)
            );
            row_after := coalesce(
                audit.image_by(
                    new,
                    case
                        when root = audit.captured_relation('capture_public__visits')
                            then audit.image_expression('capture_public__visits', false)
                    end
                ),
                audit.image_of(new, false)
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, old_row, new_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'visits'), 'U',
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
                        when root = audit.captured_relation('capture_public__visits')
                            then audit.image_expression('capture_public__visits', false)
                    end
                ),
                audit.image_of(old, false)
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, old_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'visits'), 'D',
             row_before, context);

    elsif tg_when = 'BEFORE' then
        -- TRUNCATE of a partition: records its rows before they are removed.
        if not has_schema_privilege(tg_table_schema, 'usage')
            or not has_table_privilege(tg_relid, 'select')
            or row_security_active(tg_relid)
        then
            raise exception using
                errcode = 'insufficient_privilege',
                message = format(
                    'audit: TRUNCATE of %s is refused: %I, who owns the trail, cannot read all'
                        ' rows, which must be recorded',
                    tg_relid::regclass, current_user
                ),
                hint = format(
                    'use DELETE, or let %I read it: USAGE on the schema, SELECT on the table, no row'
                        ' security',
                    current_user
                );
        end if;
        for row_gone in execute (
            select format(
                'select %s from only %s as "00_audit_row"',
                audit.image_sql(
                    present.names, present.types, '"00_audit_row"', false
                ),
                tg_relid::regclass)
            from audit.columns_now(tg_relid) as present
        ) loop
            row_gone := row_gone;
            insert into audit.logged_actions
                (schema_name, table_name, action, old_row)
            values
                (coalesce(event_schema, 'public'), coalesce(event_table, 'visits'), 'D',
                 row_gone);
        end loop;

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'visits'), 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__visits() from public;

select audit.hand_over('audit.capture_public__visits()'::regprocedure);

comment on function audit.capture_public__visits() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "visits"], "key": [], "options": {}, "numbers": {}, "hash": "8df7b57eac37df41855f4b449063b035c5af2510f88a8d28dcf09d71e20a4914"}';


-- Its triggers on public.visits.
create or replace trigger "00_audit_rows"
    after insert or update or delete on public.visits
    for each row
    execute function audit.capture_public__visits();

alter table public.visits enable always trigger "00_audit_rows";

create or replace trigger "00_audit_truncate"
    after truncate on public.visits
    for each statement
    execute function audit.capture_public__visits();

alter table public.visits enable always trigger "00_audit_truncate";

do $leaves$
declare
    leaf regclass;
begin
    for leaf in
        select tree.relid
        from pg_catalog.pg_partition_tree('public.visits') as tree
        join pg_catalog.pg_class as c on c.oid = tree.relid
        where tree.isleaf and c.relkind = 'r'
    loop
        execute format('drop trigger if exists %I on %s', '00_audit_truncate', leaf);
        execute format(
            'create or replace trigger %I before truncate on %s'
            ' for each statement execute function %I.%I()',
            '00_audit_truncate_rows', leaf, 'audit', 'capture_public__visits');
        execute format('alter table %s enable always trigger %I', leaf, '00_audit_truncate_rows');
    end loop;
end
$leaves$;

-- The trail now recognizes the table even if it is renamed.
select audit.note_capture('public.visits'::regclass, 'capture_public__visits');

commit;
