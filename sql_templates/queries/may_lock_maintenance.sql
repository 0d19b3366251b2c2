-- Whether there is a trail in a schema whose table `maintenance` this role may lock; on a standby nobody can.
select not pg_catalog.pg_is_in_recovery() and exists (
    select from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = %(schema)s
      and c.relname = 'maintenance'
      and c.relkind = 'r'
      and pg_catalog.has_table_privilege(c.oid, 'update')
      and pg_catalog.has_schema_privilege(n.oid, 'usage')
) as may_lock
