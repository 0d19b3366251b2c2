-- The trail of one schema: what its table says of itself, and whether this role owns it.
select
    pg_catalog.obj_description(c.oid, 'pg_class') as comment,
    pg_catalog.pg_get_userbyid(c.relowner)::text as owner,
    pg_catalog.pg_has_role(c.relowner, 'usage') as owned
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = %(schema)s and c.relname = 'logged_actions'
