begin;
set local lock_timeout = '3s';

-- The function that captures public.orders; only triggers can run it.
-- Writers wait until this transaction ends. If capture was off for a while, the trail records the gap.
select audit.begin_capture('public.orders'::regclass, 'capture_public__orders');

-- Records changes to public.orders in the audit trail, row by row.
create or replace function audit.capture_public__orders()
    returns trigger
    language plpgsql
    security definer  -- writers of the table need no rights on the trail
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set plan_cache_mode = force_generic_plan  -- plans are the same for all keys, and not cheap to make
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
        when tg_relid = audit.captured_relation('capture_public__orders')
            then audit.is_as_installed(
                'capture_public__orders',
                array[]::text[],
                array[]::text[],
                true, array[]::text[]
            )
            and audit.names_now(
                audit.captured_relation('capture_public__orders'), 'capture_public__orders',
                array['id']
            ) = array['id']
            and audit.noted_as('capture_public__orders', 'public', 'orders')
                = array['public', 'orders']
    end;
    if (
        case
            when tg_relid = audit.captured_relation('capture_public__orders')
                then audit.is_noted('capture_public__orders', 'public', 'orders')
                and audit.names_now(
                    audit.captured_relation('capture_public__orders'), 'capture_public__orders',
                    array['id']
                ) = array['id']
        end
    ) is not true then
        -- What became of the table when this was planned may have been
        -- noted by a transaction that rolled back.
        noted_by := case
            when tg_relid = audit.captured_relation('capture_public__orders')
                then audit.noted_by('capture_public__orders')
        end;
        if noted_by = '0' or pg_xact_status(nullif(noted_by, '0')) = 'aborted' then
            perform audit.note_again('capture_public__orders');
        end if;
        -- Renamed, which is recorded once; a partition of a table that
        -- records it; or not the table of this function.
        captured_as := coalesce(
            case
                when tg_relid = audit.captured_relation('capture_public__orders')
                    then audit.noted_as('capture_public__orders', 'public', 'orders')
            end,
            audit.captured_as(tg_relid, 'capture_public__orders', tg_op)
        );
        if captured_as is null then
            return null;
        end if;
        event_schema := captured_as[1];
        event_table := captured_as[2];
        key_names := case
            when tg_relid = audit.captured_relation('capture_public__orders')
                then audit.names_now(
                    audit.captured_relation('capture_public__orders'), 'capture_public__orders',
                    array['id']
                )
        end;
        key_name_1 := coalesce(key_names[1], key_name_1);
    end if;
    if tg_op = 'INSERT' then
        if is_as_installed then
            row_after := to_jsonb(new);
        else
            row_after := coalesce(
                audit.image_by(
                    new,
                    case
                        when tg_relid = audit.captured_relation('capture_public__orders')
                            then audit.image_expression('capture_public__orders', false)
                    end
                ),
                audit.image_of(new, false)
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, new_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'orders'), 'I',
             row_after ->> key_name_1,
             row_after, context);

    elsif tg_op = 'UPDATE' then
        -- Compared byte by byte: works for types without equality, and 1.0 differs from 1.00.
        if new *= old then
            return null;
        end if;
        -- What the update leaves as it was is not stored again, if the event before it has it: in the same
        -- partition, and by the transaction that wrote the row as it was (xmin),
        -- and no other event of the row is by that one.
        captured_at := clock_timestamp();
        if is_as_installed then
            is_delta := captured_at >= audit.present_period('audit.logged_actions'::regclass, false)
                and captured_at < audit.present_period('audit.logged_actions'::regclass, true)
                -- reading the trail could make other writes fail
                and current_setting('transaction_isolation') <> 'serializable';
        end if;
        if is_delta then
            row_before := case
                when 'public.orders'::regclass is not null
                    then jsonb_build_object('id', old.id)
            end;
            key_before := row_before ->> key_name_1;
            row_after := case
                when 'public.orders'::regclass is not null
                    then jsonb_build_object('id', new.id)
            end;
            key_after := row_after ->> key_name_1;
            is_delta := key_before = key_after;
        end if;
        if is_delta then
            select e.event_id, e.action, e.transaction_id, e.transaction_tstamp, e.xmin as written_by
            into newest
            from audit.logged_actions as e
            where e.schema_name = 'public' and e.table_name = 'orders'
              and e.row_key = key_after and e.action <> 'E'
              and e.action_tstamp >= audit.present_period('audit.logged_actions'::regclass, false)
              and e.action_tstamp < audit.present_period('audit.logged_actions'::regclass, true)
              and e.event_id > audit.deltas_after(
                  'public.orders'::regclass, 'capture_public__orders',
                  array['customer_id', 'id', 'placed_at', 'status', 'total']
              )
            order by e.event_id desc
            limit 1;
            is_delta := newest.written_by = old.xmin and newest.action in ('I', 'U')
                and newest.transaction_id <> pg_current_xact_id()
                and newest.written_by <> all (
                    audit.altered_by('public.orders'::regclass)
                )
                and newest.transaction_tstamp >= audit.present_period('audit.logged_actions'::regclass, false)
                and hashint8(newest.event_id) % 32 <> 0;
        end if;
        if is_delta then
            select e.transaction_id into written_before
            from audit.logged_actions as e
            where e.schema_name = 'public' and e.table_name = 'orders'
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
            if 'public.orders'::regclass is not null and not record_image_eq(
                row(old.customer_id, old.placed_at, old.status, old.total),
                row(new.customer_id, new.placed_at, new.status, new.total))
            then
                if 'public.orders'::regclass is not null
                    and not record_image_eq(
                        row(old.customer_id), row(new.customer_id)
                    )
                then
                    value_before := case
                        when 'public.orders'::regclass is not null
                            then jsonb_build_object('customer_id', old.customer_id)
                    end;
                    value_after := case
                        when 'public.orders'::regclass is not null
                            then jsonb_build_object('customer_id', new.customer_id)
                    end;
                    if value_before::text <> value_after::text then
                        row_before := row_before || value_before;
                        row_after := row_after || value_after;
                    end if;
                end if;
                if 'public.orders'::regclass is not null
                    and not record_image_eq(
                        row(old.placed_at), row(new.placed_at)
                    )
                then
                    value_before := case
                        when 'public.orders'::regclass is not null
                            then jsonb_build_object('placed_at', old.placed_at)
                    end;
                    value_after := case
                        when 'public.orders'::regclass is not null
                            then jsonb_build_object('placed_at', new.placed_at)
                    end;
                    if value_before::text <> value_after::text then
                        row_before := row_before || value_before;
                        row_after := row_after || value_after;
                    end if;
                end if;
                if 'public.orders'::regclass is not null
                    and not record_image_eq(
                        row(old.status), row(new.status)
                    )
                then
                    value_before := case
                        when 'public.orders'::regclass is not null
                            then jsonb_build_object('status', old.status)
                    end;
                    value_after := case
                        when 'public.orders'::regclass is not null
                            then jsonb_build_object('status', new.status)
                    end;
                    if value_before::text <> value_after::text then
                        row_before := row_before || value_before;
                        row_after := row_after || value_after;
                    end if;
                end if;
                if 'public.orders'::regclass is not null
                    and not record_image_eq(
                        row(old.total), row(new.total)
                    )
                then
                    value_before := case
                        when 'public.orders'::regclass is not null
                            then jsonb_build_object('total', old.total)
                    end;
                    value_after := case
                        when 'public.orders'::regclass is not null
                            then jsonb_build_object('total', new.total)
                    end;
                    if value_before::text <> value_after::text then
                        row_before := row_before || value_before;
                        row_after := row_after || value_after;
                    end if;
                end if;
            end if;
        else
        if is_as_installed then
            row_before := to_jsonb(old);
            row_after := to_jsonb(new);
        else
            row_before := coalesce(
                audit.image_by(
                    old,
                    case
                        when tg_relid = audit.captured_relation('capture_public__orders')
                            then audit.image_expression('capture_public__orders', false)
                    end
                ),
                audit.image_of(old, false)
            );
            row_after := coalesce(
                audit.image_by(
                    new,
                    case
                        when tg_relid = audit.captured_relation('capture_public__orders')
                            then audit.image_expression('capture_public__orders', false)
                    end
                ),
                audit.image_of(new, false)
            );
        end if;
        end if;
        if is_delta is not true then
            key_before := row_before ->> key_name_1;
            key_after := row_after ->> key_name_1;
        end if;
        insert into audit.logged_actions
            (action_tstamp, schema_name, table_name, action, row_key, old_row_key, old_row, new_row, context)
        values
            (captured_at, coalesce(event_schema, 'public'), coalesce(event_table, 'orders'), 'U',
             key_after, nullif(key_before, key_after), row_before, row_after, context);

    elsif tg_op = 'DELETE' then
        if is_as_installed then
            row_before := to_jsonb(old);
        else
            row_before := coalesce(
                audit.image_by(
                    old,
                    case
                        when tg_relid = audit.captured_relation('capture_public__orders')
                            then audit.image_expression('capture_public__orders', false)
                    end
                ),
                audit.image_of(old, false)
            );
        end if;
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row, context)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'orders'), 'D',
             row_before ->> key_name_1,
             row_before, context);

    else
        insert into audit.logged_actions
            (schema_name, table_name, action)
        values
            (coalesce(event_schema, 'public'), coalesce(event_table, 'orders'), 'T');
    end if;
    return null;
end
$capture$;

revoke all on function audit.capture_public__orders() from public;

select audit.hand_over('audit.capture_public__orders()'::regprocedure);

comment on function audit.capture_public__orders() is '{"tool": "audit-toolkit", "version": "0.3.0", "table": ["public", "orders"], "key": ["id"], "options": {"store": "delta"}, "numbers": {}, "hash": "248967472f0e407d5e17cf4435e556491dcd05c4216da33e4435511cef43fa6b"}';


-- Its triggers on public.orders.
create or replace trigger "00_audit_row"
    after insert or update or delete on public.orders
    for each row
    execute function audit.capture_public__orders();

alter table public.orders enable always trigger "00_audit_row";

create or replace trigger "00_audit_truncate"
    after truncate on public.orders
    for each statement
    execute function audit.capture_public__orders();

alter table public.orders enable always trigger "00_audit_truncate";

-- The trail now recognizes the table even if it is renamed.
select audit.note_capture('public.orders'::regclass, 'capture_public__orders');

commit;
