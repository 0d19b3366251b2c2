-- The partitions of every partitioned table, one level at a time. Foreign tables cannot carry an index.
select
    h.inhparent as parent_oid,
    parent_schema.nspname as parent_schema,
    parent.relname as parent_name,
    p.oid,
    pn.nspname as schema_name,
    p.relname as table_name,
    p.relkind = 'p' as partitioned,
    h.inhdetachpending as detach_pending
from pg_catalog.pg_inherits h
join pg_catalog.pg_class parent on parent.oid = h.inhparent and parent.relkind = 'p'
join pg_catalog.pg_namespace parent_schema on parent_schema.oid = parent.relnamespace
join pg_catalog.pg_class p on p.oid = h.inhrelid and p.relkind in ('r', 'p')
join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
order by pn.nspname, p.relname
