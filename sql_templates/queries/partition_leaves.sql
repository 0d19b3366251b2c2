-- The partitions of the trail with their bounds, from the catalogue alone: names mean nothing.
-- Bounds are printed in the session's time zone, which our connections set to UTC; without naming the table,
-- as pg_get_expr would lock it.
select
    c.oid,
    n.nspname as schema_name,
    c.relname as name,
    nullif(
        nullif((regexp_match(bound, 'FROM \(''([^'']+)''\)'))[1], '-infinity'), 'infinity'
    )::timestamptz as lower,
    nullif((regexp_match(bound, 'TO \(''([^'']+)''\)'))[1], 'infinity')::timestamptz as upper,
    bound = 'DEFAULT' as is_default,
    c.relkind = 'r' as plain,
    i.inhdetachpending as detach_pending,
    exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = c.oid and t.tgname = '00_audit_append_only' and t.tgenabled = 'A'
    ) as guarded,
    exists (
        select from pg_catalog.pg_constraint k
        where k.conrelid = c.oid and k.conname = 'audit_relabel_cap'
    ) as capped,
    -- While a detach is completed, a look at the size would wait for its end.
    case
        when c.relkind = 'r' and not i.inhdetachpending then pg_catalog.pg_total_relation_size(c.oid)
        else 0
    end as bytes,
    case
        when c.relkind = 'r' and not i.inhdetachpending then pg_catalog.pg_relation_size(c.oid) > 0
        else false
    end as filled
from pg_catalog.pg_inherits i
join pg_catalog.pg_class c on c.oid = i.inhrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_class p on p.oid = i.inhparent
join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
cross join lateral pg_catalog.pg_get_expr(c.relpartbound, 0) as bound
where pn.nspname = %(schema)s and p.relname = 'logged_actions'
order by lower nulls first, upper nulls last
