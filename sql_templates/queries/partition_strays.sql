-- Tables made as partitions of the trail that are attached to nothing.
select c.oid, n.nspname as schema_name, c.relname as name
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = %(schema)s
  and c.relkind = 'r'
  and not c.relispartition
  and pg_catalog.obj_description(c.oid, 'pg_class') like '%%"tool": "audit-toolkit"%%'
  and (
    select count(*) from pg_catalog.pg_attribute a
    where a.attrelid = c.oid and a.attname in ('event_id', 'action_tstamp') and not a.attisdropped
  ) = 2
order by c.relname
