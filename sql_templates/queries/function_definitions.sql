-- The functions of the trail itself as SQL that makes them again.
select p.proname as name, pg_catalog.pg_get_functiondef(p.oid) as definition
from pg_catalog.pg_proc as p
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
where n.nspname = %(schema)s
  and p.prokind = 'f'
  and p.proname not like 'capture\_%%'
order by p.proname, p.oid
