-- Everything that could be meant by the name of a table, with what decides whether it can be audited; with
-- names, only what has one of them.
select
    c.oid,
    n.nspname as schema_name,
    c.relname as table_name,
    c.relkind::text as kind,
    c.relpersistence::text as persistence,
    c.relispartition as is_partition,
    exists (
        select from pg_catalog.pg_inherits i
        where i.inhrelid = c.oid and not c.relispartition
    ) as inherits,
    exists (
        select from pg_catalog.pg_inherits i
        where i.inhparent = c.oid and c.relkind = 'r'
    ) as has_children,
    pg_catalog.pg_has_role(c.relowner, 'usage') as owned,
    pg_catalog.has_table_privilege(c.oid, 'trigger') as may_trigger,
    n.nspname = any (pg_catalog.current_schemas(false)) as on_search_path,
    coalesce(array_position(pg_catalog.current_schemas(false), n.nspname), 0) as search_position,
    n.nspname in ('pg_catalog', 'information_schema', 'pg_toast') as is_system,
    root.nspname as root_schema,
    root.relname as root_name
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join lateral (
    select rn.nspname, r.relname
    from pg_catalog.pg_class r
    join pg_catalog.pg_namespace rn on rn.oid = r.relnamespace
    where c.relispartition and r.oid = pg_catalog.pg_partition_root(c.oid)
) root on true
where c.relkind in ('r', 'p', 'v', 'm', 'f')
  and (%(names)s::text[] is null or c.relname = any (%(names)s::text[]))
order by n.nspname, c.relname
