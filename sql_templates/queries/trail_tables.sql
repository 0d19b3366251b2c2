-- The tables of the audit schema, with their owner and everybody else who was granted something.
select
    c.relname as name,
    c.relkind::text as kind,
    c.relispartition as is_leaf,
    pg_catalog.pg_get_userbyid(c.relowner)::text as owner,
    (select rolsuper from pg_catalog.pg_roles where oid = c.relowner) as owner_is_superuser,
    pg_catalog.obj_description(c.oid, 'pg_class') as comment,
    array(
        select case when acl.grantee = 0 then 'public' else pg_catalog.pg_get_userbyid(acl.grantee)::text end
               || ' ' || lower(acl.privilege_type)
        from pg_catalog.aclexplode(c.relacl) as acl
        where acl.grantee <> c.relowner
        order by 1
    ) as granted,
    exists (
        select from pg_catalog.pg_trigger as t
        where t.tgrelid = c.oid and t.tgname = '00_audit_append_only' and t.tgenabled = 'A'
    ) as guarded
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = %(schema)s and c.relkind in ('r', 'p')
order by c.relname
