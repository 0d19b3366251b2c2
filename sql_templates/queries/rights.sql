-- How this role may maintain the trail of a schema: by a lock on its table `maintenance`, by the functions
-- for maintainers, and by those for archivers. Without a trail, and on a standby, by none of them.
select
    coalesce(bool_or(not f.is_owner and f.lock_function and f.has_usage), false) as by_function,
    coalesce(bool_or(not f.is_owner and f.archive_function and f.has_usage), false) as archives_by_function,
    coalesce(bool_or(f.may_update and f.has_usage), false) as may_lock
from (
    select
        pg_catalog.pg_has_role(c.relowner, 'usage') as is_owner,
        pg_catalog.has_schema_privilege(n.oid, 'usage') as has_usage,
        pg_catalog.has_table_privilege(c.oid, 'update') as may_update,
        exists (
            select from pg_catalog.pg_proc as p
            where p.pronamespace = n.oid
              and p.proname = 'maintain_lock'
              and pg_catalog.has_function_privilege(p.oid, 'execute')
        ) as lock_function,
        exists (
            select from pg_catalog.pg_proc as p
            where p.pronamespace = n.oid
              and p.proname = 'archive_begin'
              and pg_catalog.has_function_privilege(p.oid, 'execute')
        ) as archive_function
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = %(schema)s
      and c.relname = 'maintenance'
      and c.relkind = 'r'
      and not pg_catalog.pg_is_in_recovery()
) as f
