-- Ten events a row, of which each follows the one before it: an insert, then nine updates, the rows in another order
-- each time, ten events a transaction, spread evenly over the time up to now.
insert into audit.logged_actions
    (action_tstamp, transaction_id, schema_name, table_name, action, row_key, old_row, new_row, context)
select
    %(begin)s::timestamptz + number::float8 / %(events)s * (%(end)s::timestamptz - %(begin)s::timestamptz),
    (1000000 + number / 10)::text::xid8,
    'public', 'orders', case version when 0 then 'I' else 'U' end, id::text,
    case when version > 0 then
        jsonb_build_object('id', id, 'status', 's' || version - 1, 'total', version + 9.50, 'note', 'please ring twice')
    end,
    jsonb_build_object('id', id, 'status', 's' || version, 'total', version + 10.50, 'note', 'please ring twice'),
    jsonb_build_object('actor', 'user:' || mod(number, 997))
from (
    select
        number,
        number / %(rows)s as version,
        1 + mod(mod(number, %(rows)s) * 7919 + number / %(rows)s * 104729, %(rows)s) as id
    from generate_series(%(first)s::bigint, %(last)s::bigint) as number
    offset 0
) as numbered
