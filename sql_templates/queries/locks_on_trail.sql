-- Other transactions that have a lock on a table of the trail, the oldest first,
-- each with the strongest of its locks.
with held as (
    select
        coalesce(l.pid::text, l.virtualtransaction) as holder,
        l.pid,
        l.mode,
        l.virtualtransaction,
        c.relname,
        pg_catalog.array_position(
            array[
                'AccessShareLock', 'RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock',
                'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'
            ],
            l.mode
        ) as strength
    from pg_catalog.pg_locks l
    join pg_catalog.pg_class c on c.oid = l.relation
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where l.locktype = 'relation'
      and l.granted
      and n.nspname = %(schema)s
      and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
      and l.pid is distinct from pg_catalog.pg_backend_pid()
),
strongest as (
    select distinct on (holder) *
    from held
    order by holder, strength desc, relname
)
select
    coalesce('pid ' || s.pid, 'the prepared transaction ' || p.gid, 'a prepared transaction') as who,
    coalesce(a.usename::text, p.owner::text, 'unknown') as role,
    coalesce(nullif(a.application_name, ''), 'no application_name') as application,
    pg_catalog.upper(
        pg_catalog.regexp_replace(
            pg_catalog.regexp_replace(s.mode, 'Lock$', ''), '([a-z])([A-Z])', '\1 \2', 'g'
        )
    ) as mode,
    s.relname as relation,
    coalesce(a.xact_start, p.prepared)::timestamptz(0)::text as since
from strongest s
left join pg_catalog.pg_stat_activity a on a.pid = s.pid
-- A prepared transaction has no session; one of its locks is on its own number.
left join pg_catalog.pg_locks t
    on s.pid is null
    and t.pid is null
    and t.locktype = 'transactionid'
    and t.virtualtransaction = s.virtualtransaction
left join pg_catalog.pg_prepared_xacts p on p.transaction = t.transactionid
where coalesce(a.application_name, '') <> 'audit-toolkit/lock'
order by coalesce(a.xact_start, p.prepared)
limit 3
