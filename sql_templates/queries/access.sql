-- Who can read, write, alter or silence the trail of a schema, and by which way; one way a row.
with trail as (
    select c.oid, c.relowner, c.relrowsecurity, n.oid as home, n.nspowner
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = %(schema)s and c.relname = 'logged_actions'
), person as (
    select * from pg_catalog.pg_roles where rolname !~ '^pg_'
), relation as (
    select c.oid, c.relowner, c.relacl, c.oid = trail.oid or i.inhrelid is not null as is_trail,
        c.oid::regclass::text as shown
    from pg_catalog.pg_class as c
    cross join trail
    left join pg_catalog.pg_inherits as i on i.inhrelid = c.oid and i.inhparent = trail.oid
    where c.relkind in ('r', 'p')
      and (
          c.relnamespace = trail.home and c.relname = 'mask_key'
          or c.oid = trail.oid
          or i.inhrelid is not null
      )
), reading as (
    -- Views and the like that show the trail with the rights of their owner.
    select distinct v.oid, v.relowner, v.relacl, v.oid::regclass::text as shown
    from pg_catalog.pg_depend as d
    join pg_catalog.pg_rewrite as r on r.oid = d.objid and d.classid = 'pg_catalog.pg_rewrite'::regclass
    join pg_catalog.pg_class as v on v.oid = r.ev_class
    join relation on relation.oid = d.refobjid and d.refclassid = 'pg_catalog.pg_class'::regclass
    where v.relkind in ('v', 'm')
), granted as (
    select acl.grantee, acl.privilege_type, shown, null as of_column, is_trail
    from relation
    cross join lateral pg_catalog.aclexplode(relacl) as acl
    where acl.grantee <> relowner
    union all
    select acl.grantee, acl.privilege_type, shown, a.attname, is_trail
    from relation
    join pg_catalog.pg_attribute as a on a.attrelid = relation.oid
    cross join lateral pg_catalog.aclexplode(a.attacl) as acl
    where acl.grantee <> relowner
      -- A maintainer sees when events happened; that is not reading them.
      and not (acl.privilege_type = 'SELECT' and is_trail and a.attname in ('event_id', 'action_tstamp'))
    union all
    select acl.grantee, acl.privilege_type, shown, null, true
    from reading
    cross join lateral pg_catalog.aclexplode(relacl) as acl
    where acl.grantee <> relowner and acl.privilege_type = 'SELECT'
), by_function (function, power, meaning) as (
    values
        ('maintain_drop', 'alter', 'maintainer: detaches and drops partitions that are due'),
        ('maintain_create', 'alter', 'maintainer: makes partitions'),
        ('archive_begin', 'read', 'archiver: reads detached partitions'),
        ('archive_note', 'alter', 'archiver: says what is archived'),
        ('archive_note_export', 'alter', 'archiver: says what is exported'),
        ('note_capture', 'write', 'installer: writes of tables that it owns when capture was off')
), predefined (role, power, meaning) as (
    values
        ('pg_read_all_data', 'read', 'reads every table'),
        ('pg_write_all_data', 'write', 'may insert events by hand'),
        ('pg_read_server_files', 'read', 'reads the files of the server'),
        ('pg_write_server_files', 'alter', 'writes the files of the server'),
        ('pg_execute_server_program', 'alter', 'runs programs as the server')
), way (oid, power, way) as (
    select oid, power, 'superuser'
    from person
    cross join unnest(array['read', 'write', 'alter', 'silence']) as power
    where rolsuper
    union all
    select p.oid, power,
        case
            when p.oid = t.relowner then 'owner of the trail'
            else 'member of ' || pg_catalog.pg_get_userbyid(t.relowner) || ', which owns the trail'
        end
    from person as p
    join trail as t on pg_catalog.pg_has_role(p.oid, t.relowner, 'member')
    cross join unnest(array['read', 'write', 'alter', 'silence']) as power
    where not rolsuper
    union all
    select p.oid, 'alter', 'owner of the schema, or a member of it: may drop the trail'
    from person as p
    join trail as t on pg_catalog.pg_has_role(p.oid, t.nspowner, 'member') and t.nspowner <> t.relowner
    where not rolsuper
    union all
    select p.oid, 'alter', 'owner of the database, or a member of it: may drop it'
    from person as p
    join pg_catalog.pg_database as d on d.datname = current_database()
        and pg_catalog.pg_has_role(p.oid, d.datdba, 'member')
    where not rolsuper and d.datdba <> (select relowner from trail)
    union all
    select p.oid,
        case
            when privilege_type = 'SELECT' then 'read'
            when privilege_type in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE') then 'write'
            else 'alter'
        end,
        lower(privilege_type) || coalesce(' of column ' || quote_ident(of_column), '') || ' on ' || shown
            || ' is granted'
            || case
                when grantee = 0 then ' to everybody'
                when grantee <> p.oid
                    then ' to ' || pg_catalog.pg_get_userbyid(grantee) || ', of which it is a member'
                else ''
            end
    from person as p
    join granted as g on g.grantee = 0 or pg_catalog.pg_has_role(p.oid, g.grantee, 'member')
    where not rolsuper
    union all
    select p.oid, b.power, b.meaning || ' (execute on ' || f.oid::regprocedure || ' is granted'
        || case
            when acl.grantee = 0 then ' to everybody'
            when acl.grantee <> p.oid
                then ' to ' || pg_catalog.pg_get_userbyid(acl.grantee) || ', of which it is a member'
            else ''
        end
        || ')'
    from by_function as b
    join pg_catalog.pg_proc as f on f.proname = b.function
    join trail on trail.home = f.pronamespace
    cross join lateral pg_catalog.aclexplode(f.proacl) as acl
    join person as p on acl.grantee = 0 or pg_catalog.pg_has_role(p.oid, acl.grantee, 'member')
    where not p.rolsuper and acl.grantee <> f.proowner
    union all
    select p.oid, power, 'member of ' || role || ': ' || meaning
    from person as p
    cross join predefined
    join pg_catalog.pg_roles as r on r.rolname = predefined.role
    where not p.rolsuper and pg_catalog.pg_has_role(p.oid, r.oid, 'member')
    union all
    select oid, 'read', 'REPLICATION: may copy the whole cluster'
    from person
    where rolreplication and not rolsuper
    union all
    select oid, 'read', 'BYPASSRLS: no policy of the trail holds for it'
    from person
    where rolbypassrls and not rolsuper and exists (select from trail where relrowsecurity)
    union all
    select oid, 'alter', 'CREATEROLE: may make itself a member of the owner of the trail'
    from person
    where rolcreaterole and not rolsuper and current_setting('server_version_num')::integer < 160000
      and exists (
          select from trail as t join pg_catalog.pg_roles as r on r.oid = t.relowner where not r.rolsuper
      )
    union all
    select p.oid, 'silence',
        'owner of ' || c.oid::regclass || ', or a member of it: may switch its capture off'
    from person as p
    join (
        select distinct c.oid, c.relowner
        from pg_catalog.pg_trigger as t
        join pg_catalog.pg_proc as f on f.oid = t.tgfoid
        join trail on trail.home = f.pronamespace
        join pg_catalog.pg_class as c on c.oid = t.tgrelid
        where c.relnamespace <> trail.home and not c.relispartition
    ) as c on pg_catalog.pg_has_role(p.oid, c.relowner, 'member')
    where not rolsuper
    union all
    select s.subowner, 'read', 'publication ' || quote_ident(pubname) || ' sends the trail on'
    from (
        select p.pubname, p.pubowner as subowner
        from pg_catalog.pg_publication as p
        where p.puballtables or exists (
            select from pg_catalog.pg_publication_rel as r
            join relation on relation.oid = r.prrelid
            where r.prpubid = p.oid)
    ) as s
)
select distinct p.rolname::text as role, p.rolcanlogin as may_log_in, way.power, way.way
from way
join person as p on p.oid = way.oid
order by 1, 3, 4
