-- About how many rows a table has, all its leaves together; NULL where nothing was counted yet.
select sum(reltuples)::bigint as rows
from pg_catalog.pg_class
where reltuples >= 0
  and relkind = 'r'
  and (oid = %(table)s or oid in (select relid from pg_catalog.pg_partition_tree(%(table)s::oid::regclass)))
