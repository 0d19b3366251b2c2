-- Sessions that hold the lock of a run: the one on the table
-- `maintenance`, or without a trail the advisory one.
select
    l.pid,
    coalesce(a.usename::text, 'unknown') as role,
    coalesce(nullif(a.application_name, ''), 'no application_name') as application,
    coalesce(a.backend_start::timestamptz(0)::text, 'unknown') as since
from pg_catalog.pg_locks l
left join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.granted
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and l.pid <> pg_backend_pid()
  and (
    l.locktype = 'advisory' and l.objsubid = 1 and (l.classid::bigint << 32 | l.objid::bigint) = %(key)s
    or l.locktype = 'relation' and l.mode in (
        'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
        'AccessExclusiveLock')
        and l.relation = (
            select c.oid from pg_catalog.pg_class as c
            join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
            where n.nspname = %(schema)s and c.relname = 'maintenance')
  )
order by a.backend_start
