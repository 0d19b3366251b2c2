-- Sessions that hold an advisory lock. What others run is hidden without pg_read_all_stats, who they are is not.
select
    l.pid,
    coalesce(a.usename::text, 'unknown') as role,
    coalesce(nullif(a.application_name, ''), 'no application_name') as application,
    coalesce(a.backend_start::timestamptz(0)::text, 'unknown') as since
from pg_catalog.pg_locks l
left join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory'
  and l.granted
  and l.objsubid = 1
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and (l.classid::bigint << 32 | l.objid::bigint) = %(key)s
order by a.backend_start
