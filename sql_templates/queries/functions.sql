-- The functions of the audit schema, and its capture functions that were moved out of it, with what decides
-- whether they can be trusted.
with refused as materialized (
    -- Owners of partitioned tables that a function captures, to whom PostgreSQL would refuse
    -- to make a partition.
    select t.tgfoid, array_agg(distinct pg_catalog.pg_get_userbyid(c.relowner)::text) as owners
    from pg_catalog.pg_class as c
    join pg_catalog.pg_trigger as t on t.tgrelid = c.oid
    join pg_catalog.pg_proc as p on p.oid = t.tgfoid
    where c.relkind = 'p'
      and not pg_catalog.has_function_privilege(c.relowner, p.oid, 'execute')
    group by t.tgfoid
)
select
    p.oid,
    n.nspname as schema,
    p.proname as name,
    pg_catalog.pg_get_function_identity_arguments(p.oid) as arguments,
    p.prosrc as body,
    p.prosecdef as security_definer,
    coalesce(p.proconfig, '{}') as settings,
    pg_catalog.pg_get_userbyid(p.proowner)::text as owner,
    pg_catalog.obj_description(p.oid, 'pg_proc') as comment,
    -- The name that a capture function of this trail was made under,
    -- whatever it is called now: its text has it.
    case when strpos(p.prosrc, pg_catalog.quote_ident(%(schema)s) || '.captured_as(tg_relid, ') > 0
        then replace(substring(p.prosrc from 'captured_as\(tg_relid, ''((?:[^'']|'''')+)'''), '''''', '''')
    end as made_as,
    array(
        select case when acl.grantee = 0 then 'public' else pg_catalog.pg_get_userbyid(acl.grantee)::text end
        from pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) as acl
        where acl.grantee <> p.proowner
        order by 1
    ) as granted_to,
    coalesce(refused.owners, '{}') as refused_to
from pg_catalog.pg_proc as p
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
left join refused on refused.tgfoid = p.oid
where n.nspname = %(schema)s
   or (
    strpos(p.prosrc, pg_catalog.quote_ident(%(schema)s) || '.captured_as(tg_relid, ') > 0
    and exists (select from pg_catalog.pg_trigger as t where t.tgfoid = p.oid)
  )
order by p.proname, n.nspname
