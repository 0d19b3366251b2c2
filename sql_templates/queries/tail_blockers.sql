-- Transactions that were open before this one and still are. pg_locks has the pid also where pg_stat_activity
-- keeps the transactions of others from this role.
select
    running.transaction_id::text as transaction_id,
    held.pid,
    prepared.gid as prepared_name,
    coalesce(activity.xact_start, prepared.prepared) at time zone 'UTC' as since,
    coalesce(activity.usename, prepared.owner)::text as role_name,
    nullif(activity.application_name, '') as application_name,
    coalesce(activity.datname, prepared.database)::text as database_name
from pg_snapshot_xip(pg_current_snapshot()) as running (transaction_id)
cross join lateral (
    select (running.transaction_id::text::numeric %% 4294967296)::text::xid as short_id
) as number
left join pg_locks as held
    on held.locktype = 'transactionid'
    and held.mode = 'ExclusiveLock'
    and held.granted
    and held.transactionid = number.short_id
left join pg_stat_activity as activity on activity.pid = held.pid
left join pg_prepared_xacts as prepared on prepared.transaction = number.short_id
where running.transaction_id < %(transaction_id)s::xid8
order by running.transaction_id
