-- Events of a million rows in random order, as years of updates leave them.
insert into audit.logged_actions
    (schema_name, table_name, action, row_key, old_row, new_row, context)
select
    'public', 'orders', 'U', key::text,
    jsonb_build_object('id', key, 'status', 'new', 'total', 19.99),
    jsonb_build_object('id', key, 'status', 'paid', 'total', 19.99),
    null
from (select (random() * 1000000)::bigint + 1 as key from generate_series(1, {events}) offset 0) as random_keys
