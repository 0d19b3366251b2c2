-- The columns of several tables in their order, and those of their primary
-- keys; nothing of tables that are gone.
select
    n.nspname as schema_name,
    c.relname as table_name,
    array(
        select a.attname::text
        from pg_catalog.pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        order by a.attnum
    ) as columns,
    array(
        select a.attname::text
        from pg_catalog.pg_index as i
        cross join lateral unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
        join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
        where i.indrelid = c.oid and i.indisprimary and k.place <= i.indnkeyatts
        order by k.place
    ) as key
from unnest(%(schemas)s::text[], %(names)s::text[]) as wanted (of_schema, of_table)
join pg_catalog.pg_namespace as n on n.nspname = wanted.of_schema
join pg_catalog.pg_class as c on c.relnamespace = n.oid
    and c.relname = wanted.of_table
    and c.relkind in ('r', 'p')
