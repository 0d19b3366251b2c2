-- The functions of the trail itself as SQL that makes them again.
select
    pg_catalog.btrim(pg_catalog.pg_get_functiondef(p.oid), E'\n') as definition,
    pg_catalog.format(
        '%%I.%%I(%%s)', n.nspname, p.proname,
        pg_catalog.pg_get_function_identity_arguments(p.oid)) as signature,
    pg_catalog.obj_description(p.oid, 'pg_proc') as comment
from pg_catalog.pg_proc as p
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
where n.nspname = %(schema)s
  and p.prokind = 'f'
  and p.proname not like 'capture\_%%' and p.proname not like 'replay\_%%'
  and pg_catalog.obj_description(p.oid, 'pg_proc') like '%%"tool": "audit-toolkit"%%'
order by p.proname, p.oid
