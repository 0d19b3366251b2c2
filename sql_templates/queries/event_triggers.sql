-- Event triggers that fire, and whether whoever owns their function may
-- do as much as the trail's owner anyway.
select
    e.evtname as name,
    p.oid::regprocedure::text as function,
    r.rolname::text as owner,
    coalesce(r.rolsuper or r.oid = (
        select c.relowner
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = %(schema)s and c.relname = 'logged_actions'
    ), false) as owner_is_trusted
from pg_catalog.pg_event_trigger as e
join pg_catalog.pg_proc as p on p.oid = e.evtfoid
join pg_catalog.pg_roles as r on r.oid = p.proowner
where e.evtenabled <> 'D'
order by e.evtname
