-- Whether there is a schema of that name.
select n.oid
from pg_catalog.pg_namespace n
where n.nspname = %(schema)s
