-- All that the schema of a trail holds, one fact a row. What is said of a partition does not name it, so
-- that all leaves can be held against one; any role may read this.
with home as (
    select oid, nspname::text as name, nspowner, nspacl
    from pg_catalog.pg_namespace
    where nspname = %(schema)s
), leaf as (
    -- Attached, wherever it is; or on its way out, which its comment shows.
    select i.inhrelid as oid
    from pg_catalog.pg_inherits as i
    join pg_catalog.pg_class as parent on parent.oid = i.inhparent
    join home on home.oid = parent.relnamespace
    where parent.relname = 'logged_actions'
    union
    select c.oid
    from pg_catalog.pg_class as c
    join home on home.oid = c.relnamespace
    where c.relkind = 'r'
      and c.relname like 'logged\_actions\_%%'
      and pg_catalog.obj_description(c.oid, 'pg_class') = '{"tool": "audit-toolkit"}'
), relation as (
    select
        c.*,
        leaf.oid is not null as is_leaf,
        c.relnamespace <> home.oid as is_elsewhere,
        format('%%I.%%I', n.nspname, c.relname) as shown
    from pg_catalog.pg_class as c
    cross join home
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    left join leaf on leaf.oid = c.oid
    where c.relkind not in ('i', 'I', 't')
      and (leaf.oid is not null or c.relnamespace = home.oid)
), privilege as (
    select 'schema ' || quote_ident(home.name) as object, 'schema' as kind, null::text as relation,
        false as is_leaf,
        null::text as of_column, acl.*
    from home
    cross join lateral pg_catalog.aclexplode(nspacl) as acl
    where acl.grantee <> nspowner
    union all
    select case relkind when 'S' then 'sequence ' else 'table ' end || shown, 'relation', relname, is_leaf,
        null, acl.*
    from relation
    cross join lateral pg_catalog.aclexplode(relacl) as acl
    where acl.grantee <> relowner
    union all
    select 'table ' || shown, 'relation', relname, is_leaf, a.attname, acl.*
    from relation as c
    join pg_catalog.pg_attribute as a on a.attrelid = c.oid
    cross join lateral pg_catalog.aclexplode(a.attacl) as acl
    where acl.grantee <> c.relowner
    union all
    select 'function ' || p.oid::regprocedure, 'function', p.proname, false, null, acl.*
    from pg_catalog.pg_proc as p
    join home on home.oid = p.pronamespace
    cross join lateral pg_catalog.aclexplode(
        coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
    ) as acl
    where acl.grantee <> p.proowner
      -- PostgreSQL asks it of the owner of a captured table, when a partition is
      -- made; the function refuses other tables.
      and not exists (
        select from pg_catalog.pg_trigger as t
        join pg_catalog.pg_class as c on c.oid = t.tgrelid
        where t.tgfoid = p.oid and c.relowner = acl.grantee
    )
), fact (kind, relation, is_leaf, object, name, definition) as (
    select 'owner', null::text, false, 'schema ' || quote_ident(name), name,
        pg_catalog.pg_get_userbyid(nspowner)::text
    from home
    union all
    select 'owner', relname, is_leaf,
        case relkind when 'S' then 'sequence ' when 'v' then 'view ' else 'table ' end || shown,
        relname, pg_catalog.pg_get_userbyid(relowner)
    from relation
    union all
    select 'owner', p.proname, false, 'function ' || p.oid::regprocedure, p.proname,
        pg_catalog.pg_get_userbyid(proowner)
    from pg_catalog.pg_proc as p
    join home on home.oid = p.pronamespace
    union all
    select 'relation', relname, is_leaf, shown, case when not is_leaf then relname end,
        concat_ws(', ',
            case relkind
                when 'r' then 'table'
                when 'p' then 'partitioned table'
                when 'S' then 'sequence'
                when 'v' then 'view'
                when 'm' then 'materialized view'
                when 'f' then 'foreign table'
                else relkind::text
            end,
            case relpersistence when 'u' then 'unlogged' when 't' then 'temporary' end,
            case when is_elsewhere then 'in another schema' end,
            case when relforcerowsecurity then 'row security forced' end,
            -- It hides all rows from whoever is not the owner. A partition has no policies of its own.
            case
                when relrowsecurity and not is_leaf
                    and not exists (select from pg_catalog.pg_policy as p where p.polrelid = c.oid)
                    then 'row security without a policy'
            end)
    from (select * from relation) as c
    union all
    select 'column', relname, is_leaf, shown || '.' || quote_ident(attname), attname,
        concat_ws(' ',
            pg_catalog.format_type(atttypid, atttypmod),
            case
                when attcollation <> 0 and attcollation <> t.typcollation
                    then 'collate ' || attcollation::regcollation
            end,
            case when attnotnull then 'not null' end,
            case when attgenerated <> '' then 'generated' end,
            case when attidentity <> '' then 'identity' end,
            'default ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid))
    from relation as c
    join pg_catalog.pg_attribute as a on a.attrelid = c.oid and attnum > 0 and not attisdropped
    join pg_catalog.pg_type as t on t.oid = atttypid
    left join pg_catalog.pg_attrdef as d on d.adrelid = attrelid and d.adnum = attnum
    where relkind in ('r', 'p', 'f')
    union all
    -- NOT NULL has constraints of its own from PostgreSQL 18 on; its column says it everywhere.
    select 'constraint', relname, is_leaf, quote_ident(conname) || ' on ' || shown,
        case when not is_leaf then conname end,
        pg_catalog.pg_get_constraintdef(s.oid)
    from relation as c
    join pg_catalog.pg_constraint as s on s.conrelid = c.oid
    where contype not in ('n', 't') and conparentid = 0 and conislocal
    union all
    select 'foreign key', relname, is_leaf, quote_ident(conname) || ' on ' || conrelid::regclass, conname,
        'references ' || shown
    from relation as c
    join pg_catalog.pg_constraint as s on s.confrelid = c.oid
    where conparentid = 0
    union all
    select 'trigger', relname, is_leaf, quote_ident(tgname) || ' on ' || shown, tgname,
        replace(pg_catalog.pg_get_triggerdef(t.oid), ' ON ' || shown || ' ', ' ON relation ')
            || case tgenabled
                when 'A' then ' always'
                when 'D' then ' disabled'
                when 'R' then ' replica'
                else ''
            end
    from relation as c
    join pg_catalog.pg_trigger as t on t.tgrelid = c.oid
    where not tgisinternal and tgparentid = 0
    union all
    select 'rule', relname, is_leaf, quote_ident(rulename) || ' on ' || shown, rulename,
        pg_catalog.pg_get_ruledef(r.oid)
    from relation as c
    join pg_catalog.pg_rewrite as r on r.ev_class = c.oid
    where relkind <> 'v' and relkind <> 'm'
    union all
    select 'policy', relname, is_leaf, quote_ident(polname) || ' on ' || shown, polname, 'policy'
    from relation as c
    join pg_catalog.pg_policy as p on p.polrelid = c.oid
    union all
    select 'index', c.relname, is_leaf, format('%%I.%%I', n.nspname, i.relname),
        case when not is_leaf then i.relname end,
        regexp_replace(
            case
                when is_leaf then regexp_replace(
                    pg_catalog.pg_get_indexdef(indexrelid), ' INDEX .* ON .* USING ', ' INDEX ON leaf USING ')
                else pg_catalog.pg_get_indexdef(indexrelid)
            end,
            ' WITH \(.*?\)', '')
            || case when exists (
                select from pg_catalog.pg_depend as d
                join pg_catalog.pg_proc as p on p.oid = d.refobjid
                where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = x.indexrelid
                  and d.refclassid = 'pg_catalog.pg_proc'::regclass
            ) then ' by functions of others' else '' end
    from relation as c
    join pg_catalog.pg_index as x on x.indrelid = c.oid
    join pg_catalog.pg_class as i on i.oid = x.indexrelid
    join pg_catalog.pg_namespace as n on n.oid = i.relnamespace
    union all
    select 'sequence', relname, false, shown, relname,
        format('%%s start %%s increment %%s min %%s max %%s cache %%s%%s',
            seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax, seqcache,
            case when seqcycle then ' cycle' else '' end)
    from relation as c
    join pg_catalog.pg_sequence as s on s.seqrelid = c.oid
    union all
    select 'child', c.relname, is_leaf, i.inhrelid::regclass::text, i.inhrelid::regclass::text,
        'inherits ' || shown
    from relation as c
    join pg_catalog.pg_inherits as i on i.inhparent = c.oid
    where c.relname <> 'logged_actions' or is_leaf
    union all
    select 'function', p.proname, false, p.oid::regprocedure::text,
        p.proname || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')',
        concat_ws(' ',
            case prokind when 'f' then 'function' when 'p' then 'procedure' else 'aggregate' end,
            l.lanname, 'returns ' || pg_catalog.pg_get_function_result(p.oid),
            case provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
            case when proisstrict then 'strict' end,
            case when proleakproof then 'leakproof' end,
            case when proparallel <> 'u' then 'parallel ' || proparallel::text end,
            case when prosecdef then 'security definer' end,
            case when prosupport <> 0 then 'support ' || prosupport::text end,
            array_to_string(array(select unnest(proconfig) order by 1), '; '))
    from pg_catalog.pg_proc as p
    join home on home.oid = p.pronamespace
    join pg_catalog.pg_language as l on l.oid = p.prolang
    union all
    -- Types, operators, collations and whatever else can be in a schema.
    select 'object', null, false, shown.type || ' ' || shown.identity, shown.identity, shown.type
    from home
    join pg_catalog.pg_depend as d on d.refclassid = 'pg_catalog.pg_namespace'::regclass
        and d.refobjid = home.oid
    left join pg_catalog.pg_type as t on d.classid = 'pg_catalog.pg_type'::regclass and t.oid = d.objid
    cross join lateral pg_catalog.pg_identify_object(d.classid, d.objid, 0) as shown
    where d.deptype = 'n'
      and d.classid not in (
          'pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass,
          'pg_catalog.pg_default_acl'::regclass
      )
    union all
    select 'default privileges', null, false,
        format('default privileges of %%I in schema %%I', pg_catalog.pg_get_userbyid(defaclrole), home.name),
        concat_ws(' ', pg_catalog.pg_get_userbyid(defaclrole), defaclobjtype::text), defaclacl::text
    from home
    join pg_catalog.pg_default_acl as d on d.defaclnamespace = home.oid
    union all
    select 'grant', case when kind <> 'schema' then relation end, is_leaf, object,
        concat_ws(' ', lower(privilege_type), '(' || quote_ident(of_column) || ')'),
        case when grantee = 0 then 'public' else quote_ident(pg_catalog.pg_get_userbyid(grantee)) end
    from privilege
)
select kind, relation, is_leaf, object, name, definition
from fact
order by kind, relation nulls first, is_leaf, object, name, definition
