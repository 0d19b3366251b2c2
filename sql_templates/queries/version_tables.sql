-- Where Alembic keeps the revisions that the database is at, whatever env.py calls the table.
select n.nspname as schema_name, c.relname as table_name
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.relkind = 'r'
  and array['version_num'] = (
      select array_agg(a.attname::text)
      from pg_catalog.pg_attribute as a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  )
order by n.nspname, c.relname
