-- The tables that hold the rows of a partitioned table.
select n.nspname as schema_name, c.relname as table_name
from pg_catalog.pg_partition_tree(%(table)s::oid::regclass) as tree
join pg_catalog.pg_class c on c.oid = tree.relid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where tree.isleaf and c.relkind = 'r'
order by n.nspname, c.relname
