-- Every name that a new partition cannot have (tables, indexes and sequences share one space).
select c.relname as name
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = %(schema)s
