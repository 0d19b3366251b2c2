-- The month before the oldest leaf, with events of a million rows in random order; to attach it builds its indexes.
do $fill$
declare
    upper_bound constant timestamptz := (select min(lower_bound) from audit.leaves());
    lower_bound constant timestamptz := date_trunc('month', upper_bound, 'UTC') - interval '1 month';
    past constant regclass := (select l.leaf from audit.leaves() as l where l.lower_bound is null);
    leaf constant regclass := audit.make_leaf('logged_actions_' || to_char(lower_bound, 'YYYY_MM'));
    of_leaf record;
begin
    set local maintenance_work_mem = '1GB';
    for of_leaf in select indexrelid::regclass as index, indisprimary from pg_index where indrelid = leaf loop
        if of_leaf.indisprimary then
            execute format('alter table %s drop constraint %s', leaf, (select quote_ident(conname) from pg_constraint where conindid = of_leaf.index));
        else
            execute format('drop index %s', of_leaf.index);
        end if;
    end loop;
    execute format(
        $insert$
            insert into %s
                (action_tstamp, schema_name, table_name, action, row_key, old_row, new_row, context)
            select
                %L::timestamptz + number * interval '28 days' / {events},
                'public', 'orders', 'U', key::text,
                jsonb_build_object('id', key, 'status', 'new', 'total', 19.99),
                jsonb_build_object('id', key, 'status', 'paid', 'total', 19.99),
                null
            from (select number, (random() * 1000000)::bigint + 1 as key from generate_series(0, {events} - 1) as number offset 0) as random_keys
        $insert$,
        leaf, lower_bound);
    -- What takes events of before makes room, and is behind it again.
    execute format('alter table audit.logged_actions detach partition %s', past);
    execute format(
        'alter table audit.logged_actions attach partition %s for values from (%L) to (%L)', leaf, lower_bound, upper_bound);
    execute format('drop table %s', past);
    perform audit.ensure_past();
end
$fill$
