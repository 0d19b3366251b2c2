-- The capture functions of the tables that a role owns.
select distinct p.proname::text as name
from pg_catalog.pg_trigger as t
join pg_catalog.pg_proc as p on p.oid = t.tgfoid
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
join pg_catalog.pg_class as c on c.oid = t.tgrelid
join pg_catalog.pg_roles as r on r.oid = c.relowner
where n.nspname = %(schema)s and p.proname like 'capture\_%%' and r.rolname = %(role)s
order by 1
