-- Every trail of the database, and what this role may do with it.
select
    n.nspname as schema_name,
    current_user::text as role_name,
    pg_catalog.has_schema_privilege(n.oid, 'usage')
        and pg_catalog.has_table_privilege(c.oid, 'select') as readable
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relname = 'logged_actions'
  and c.relkind = 'p'
  and pg_catalog.obj_description(c.oid, 'pg_class') like '%"tool": "audit-toolkit"%'
order by n.nspname
