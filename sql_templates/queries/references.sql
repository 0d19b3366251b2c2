-- Which tables refer to which by foreign keys; partitions by their own names.
select
    n.nspname as schema_name,
    c.relname as table_name,
    parent_n.nspname as parent_schema,
    parent.relname as parent_name,
    f.condeferrable as deferrable,
    f.confdeltype::text in ('c', 'n', 'd') as acts_on_delete,
    f.confupdtype::text in ('c', 'n', 'd') as acts_on_update,
    -- A foreign key of periods, from PostgreSQL 18 on.
    coalesce((to_jsonb(f) ->> 'conperiod')::boolean, false) as temporal,
    array(
        select a.attname
        from unnest(f.conkey) with ordinality as k (attnum, place)
        join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.attnum
        order by k.place
    ) as columns,
    array(
        select a.attname
        from unnest(f.confkey) with ordinality as k (attnum, place)
        join pg_catalog.pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.attnum
        order by k.place
    ) as parent_columns,
    array(
        select a.attname
        from pg_catalog.pg_attribute a
        where a.attrelid = f.conrelid and a.attnum = any (f.conkey) and not a.attnotnull
        order by a.attnum
    ) as nullable
from pg_catalog.pg_constraint f
join pg_catalog.pg_class c on c.oid = f.conrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_class parent on parent.oid = f.confrelid
join pg_catalog.pg_namespace parent_n on parent_n.oid = parent.relnamespace
where f.contype = 'f' and f.conparentid = 0
order by f.oid
