-- How large a trail is: an estimate of its events, from statistics, and its size on disk with indexes.
select
    coalesce(sum(greatest(c.reltuples, pg_catalog.pg_relation_size(c.oid) / 500)), 0)::bigint as events,
    coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::bigint as bytes,
    count(*) as partitions
from pg_catalog.pg_inherits as i
join pg_catalog.pg_class as c on c.oid = i.inhrelid
join pg_catalog.pg_class as p on p.oid = i.inhparent
join pg_catalog.pg_namespace as n on n.oid = p.relnamespace
where n.nspname = %(schema)s and p.relname = 'logged_actions'
