-- Which tables refer to which by foreign keys; partitions by their own names.
select distinct
    n.nspname as schema_name,
    c.relname as table_name,
    parent_n.nspname as parent_schema,
    parent.relname as parent_name
from pg_catalog.pg_constraint f
join pg_catalog.pg_class c on c.oid = f.conrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_class parent on parent.oid = f.confrelid
join pg_catalog.pg_namespace parent_n on parent_n.oid = parent.relnamespace
where f.contype = 'f' and f.conparentid = 0
