-- What works on indexes of this database right now, how far it is, and who it waits for. A role without
-- pg_read_all_stats sees of foreign sessions the pid and the locks, not the phase.
with builds as (
    select
        p.pid, p.relid, p.index_relid, p.command, p.phase, p.lockers_total, p.lockers_done,
        p.current_locker_pid, p.blocks_total, p.blocks_done, p.tuples_total, p.tuples_done
    from pg_catalog.pg_stat_progress_create_index p
    where p.datname = pg_catalog.current_database()
),
holders as (
    select l.pid, min(c.oid) as index_oid
    from pg_catalog.pg_locks l
    join pg_catalog.pg_database d on d.oid = l.database and d.datname = pg_catalog.current_database()
    join pg_catalog.pg_class c on c.oid = l.relation and c.relkind in ('i', 'I')
    where l.granted and l.mode = 'ShareUpdateExclusiveLock' and l.pid <> pg_catalog.pg_backend_pid()
    group by l.pid
),
tables as (
    select l.pid, min(c.oid) as table_oid
    from pg_catalog.pg_locks l
    join pg_catalog.pg_database d on d.oid = l.database and d.datname = pg_catalog.current_database()
    join pg_catalog.pg_class c on c.oid = l.relation and c.relkind in ('r', 'p', 'm', 't')
    where l.granted and l.mode in ('ShareUpdateExclusiveLock', 'ShareLock')
    group by l.pid
)
select
    a.pid,
    coalesce(b.command, case when b.pid is null then 'DROP INDEX CONCURRENTLY' end) as command,
    b.phase,
    tn.nspname as table_schema,
    t.relname as table_name,
    n.nspname as index_schema,
    c.relname as index_name,
    b.blocks_done,
    b.blocks_total,
    b.tuples_done,
    b.tuples_total,
    b.lockers_done,
    b.lockers_total,
    extract(epoch from pg_catalog.clock_timestamp() - a.query_start)::float8 as seconds,
    blocker.pid as blocker_pid,
    blocker.state as blocker_state,
    blocker.application_name as blocker_application,
    extract(epoch from pg_catalog.clock_timestamp() - blocker.xact_start)::float8 as blocker_seconds
from builds b
full join holders h using (pid)
left join tables lt using (pid)
left join pg_catalog.pg_index i on i.indexrelid = h.index_oid
left join pg_catalog.pg_class t on t.oid = coalesce(b.relid, lt.table_oid, i.indrelid)
left join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
left join pg_catalog.pg_class c on c.oid = coalesce(nullif(b.index_relid, 0), h.index_oid)
left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_stat_activity a using (pid)
left join lateral (
    select o.pid, o.state, o.application_name, o.xact_start
    from pg_catalog.pg_stat_activity o
    where o.pid = coalesce(
        nullif(b.current_locker_pid, 0), (pg_catalog.pg_blocking_pids(a.pid))[1]
    )
) blocker on true
where a.pid is not null
order by a.pid
