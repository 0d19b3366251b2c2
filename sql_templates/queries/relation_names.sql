-- Every name that is taken in these schemas: an index shares its names with tables, views and sequences.
select n.nspname as schema_name, c.relname as name
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = any (%(schemas)s::text[])
