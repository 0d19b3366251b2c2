-- Transactions that have used the trail and are open for long: DETACH CONCURRENTLY would wait for their end,
-- and its partition would be hidden meanwhile. Of other roles' sessions the
-- start is hidden without pg_read_all_stats.
select
    a.pid,
    coalesce(nullif(a.application_name, ''), a.backend_type, 'unknown') as application,
    coalesce(extract(epoch from clock_timestamp() - a.xact_start), 0)::int as seconds
from pg_catalog.pg_stat_activity a
where a.pid <> pg_catalog.pg_backend_pid()
  and a.xact_start < clock_timestamp() - make_interval(secs => %(patience)s)
  and exists (
    select from pg_catalog.pg_locks l
    where l.pid = a.pid
      and l.granted
      and l.locktype = 'relation'
      and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
      and l.relation = %(trail)s::oid
  )
order by a.xact_start
