-- Sessions that have, or wait for, the one lock that even a SELECT waits for; those of the trail first.
select
    l.pid,
    coalesce(a.usename::text, 'unknown') as role,
    coalesce(nullif(a.application_name, ''), 'no application_name') as application,
    l.granted,
    coalesce(n.nspname || '.' || c.relname, 'a relation') as relation,
    coalesce(a.xact_start, a.query_start)::timestamptz(0)::text as since,
    a.query
from pg_catalog.pg_locks l
left join pg_catalog.pg_stat_activity a on a.pid = l.pid
left join pg_catalog.pg_class c on c.oid = l.relation
left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where l.mode = 'AccessExclusiveLock'
  and l.locktype = 'relation'
  and l.pid <> pg_catalog.pg_backend_pid()
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
order by n.nspname = %(schema)s desc, l.granted desc, a.xact_start
limit 1
