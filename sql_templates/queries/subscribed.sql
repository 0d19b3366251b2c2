-- Tables that arrive by logical replication, with the subscription that brings each.
select n.nspname as schema_name, c.relname as table_name, s.subname::text as subscription,
    s.subpublications as publications
from pg_catalog.pg_subscription_rel as r
join pg_catalog.pg_subscription as s on s.oid = r.srsubid
join pg_catalog.pg_class as c on c.oid = r.srrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
order by n.nspname, c.relname, s.subname
