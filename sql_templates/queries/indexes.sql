-- Every index of the tables asked for, with what is running on it right now.
-- A build shows in the progress view, for roles without pg_read_all_stats with its pid only; the locks that a
-- REINDEX or DROP INDEX CONCURRENTLY holds on the index itself are visible to everybody.
with builds as (
    select p.pid, p.index_relid
    from pg_catalog.pg_stat_progress_create_index p
    where p.datname = pg_catalog.current_database()
),
held as (
    select l.relation, l.pid
    from pg_catalog.pg_locks l
    join pg_catalog.pg_database d on d.oid = l.database and d.datname = pg_catalog.current_database()
    where l.locktype = 'relation' and l.granted and l.mode = 'ShareUpdateExclusiveLock'
        and l.pid <> pg_catalog.pg_backend_pid()
),
scope as (
    -- A TOAST table is named after the table whose values it holds; a partition belongs to its root's schema.
    select t.oid, t.relkind = 't' as toast, o.relname, n.nspname
    from pg_catalog.pg_class t
    left join pg_catalog.pg_class toasted on t.relkind = 't' and toasted.reltoastrelid = t.oid
    join pg_catalog.pg_class o on o.oid = coalesce(toasted.oid, t.oid)
    join pg_catalog.pg_namespace n on n.oid = o.relnamespace
    left join pg_catalog.pg_class root on root.oid = pg_catalog.pg_partition_root(o.oid)
    left join pg_catalog.pg_namespace rn on rn.oid = root.relnamespace
    where t.relkind in ('r', 'p', 'm', 't')
        and (
            o.oid = any (%(tables)s::oid[])
            or t.oid = any (%(tables)s::oid[])
            or (o.relpersistence <> 't' and %(schema)s::text in (n.nspname, rn.nspname))
            or (
                o.relpersistence <> 't' and %(everything)s
                and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
            )
        )
)
select
    c.oid,
    n.nspname as schema_name,
    c.relname as index_name,
    t.oid as table_oid,
    t.nspname as table_schema,
    t.relname as table_name,
    c.relkind = 'I' as partitioned,
    t.toast,
    i.indisvalid as valid,
    i.indisready as ready,
    i.indislive as live,
    i.indisunique as is_unique,
    i.indisprimary as is_primary,
    i.indisexclusion as exclusion,
    i.indisreplident as replica_identity,
    k.conname as constraint_name,
    k.contype::text as constraint_type,
    k.condeferrable as deferrable,
    k.condeferred as deferred,
    h.inhparent as parent_oid,
    pg_catalog.pg_get_indexdef(c.oid) as definition,
    coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), '') as predicate,
    c.reloptions is not null as has_options,
    coalesce(ts.spcname, '') as tablespace,
    (
        select array_agg(
            concat_ws(
                ' ', pg_catalog.pg_get_indexdef(c.oid, g + 1, false), i.indclass[g], i.indcollation[g],
                i.indoption[g]
            ) order by g
        )
        from generate_series(0, i.indnkeyatts - 1) g
    ) as keys,
    (
        select array_agg(pg_catalog.pg_get_indexdef(c.oid, g + 1, false) order by g)
        from generate_series(i.indnkeyatts, i.indnatts - 1) g
    ) as included,
    am.amname as access_method,
    case when c.relkind = 'I' then 0 else pg_catalog.pg_relation_size(c.oid) end as bytes,
    coalesce(s.idx_scan, 0) as scans,
    coalesce(
        (select b.pid from builds b where b.index_relid = c.oid limit 1),
        (select l.pid from held l where l.relation = c.oid limit 1),
        (
            select l.pid
            from held l
            join builds b using (pid)
            where l.relation = t.oid and b.index_relid is null
            limit 1
        )
    ) as busy_pid
from scope t
join pg_catalog.pg_index i on i.indrelid = t.oid
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_am am on am.oid = c.relam
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_tablespace ts on ts.oid = c.reltablespace
left join pg_catalog.pg_constraint k on k.conindid = c.oid
    and k.conrelid = t.oid
    and k.contype in ('p', 'u', 'x')
left join pg_catalog.pg_inherits h on h.inhrelid = c.oid
left join pg_catalog.pg_stat_all_indexes s on s.indexrelid = c.oid
order by t.nspname, t.relname, c.relname
