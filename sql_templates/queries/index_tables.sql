-- The tables that carry indexes, by name, and the whole tree below a partitioned one.
select t.oid
from pg_catalog.pg_class t
where t.oid = %(table)s
union
select tree.relid
from pg_catalog.pg_partition_tree(%(table)s::oid::regclass) tree
