-- Transactions that have, or wait for, the one lock that even a SELECT waits for; those of the trail first.
select
    coalesce('pid ' || l.pid, 'the prepared transaction ' || p.gid, 'a prepared transaction') as who,
    coalesce(a.usename::text, p.owner::text, 'unknown') as role,
    coalesce(nullif(a.application_name, ''), 'no application_name') as application,
    l.granted,
    coalesce(n.nspname || '.' || c.relname, 'a relation') as relation,
    coalesce(a.xact_start, a.query_start, p.prepared)::timestamptz(0)::text as since,
    coalesce(a.query, 'prepared') as query,
    coalesce(
        'select pg_terminate_backend(' || l.pid || ')',
        'rollback prepared ' || pg_catalog.quote_literal(p.gid)
    ) as remedy
from pg_catalog.pg_locks l
left join pg_catalog.pg_stat_activity a on a.pid = l.pid
-- A prepared transaction has no session; one of its locks is on its own number.
left join pg_catalog.pg_locks t
    on l.pid is null
    and t.pid is null
    and t.locktype = 'transactionid'
    and t.virtualtransaction = l.virtualtransaction
left join pg_catalog.pg_prepared_xacts p on p.transaction = t.transactionid
left join pg_catalog.pg_class c on c.oid = l.relation
left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where l.mode = 'AccessExclusiveLock'
  and l.locktype = 'relation'
  and l.pid is distinct from pg_catalog.pg_backend_pid()
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
order by n.nspname = %(schema)s desc, l.granted desc, coalesce(a.xact_start, p.prepared)
limit 1
