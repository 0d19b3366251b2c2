-- Which tables refer to which by foreign keys; partitions by their own names.
select
    n.nspname as schema_name,
    c.relname as table_name,
    parent_n.nspname as parent_schema,
    parent.relname as parent_name,
    f.condeferrable as deferrable,
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
