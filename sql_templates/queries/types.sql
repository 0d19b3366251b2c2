-- Types by the names that DDL has for them; type_parts and plain_type as in
-- columns.sql. A type that is not there has NULLs.
with recursive wanted as (
    select name, pg_catalog.to_regtype(name)::oid as type_oid
    from unnest(%(names)s::text[]) as name
),
part (name, type_oid, in_range) as (
    select name, type_oid, false
    from wanted
    union
    select part.name, inner_type.oid, part.in_range or inner_type.in_range
    from part
    join pg_catalog.pg_type t on t.oid = part.type_oid
    cross join lateral (
        select t.typbasetype, false where t.typtype = 'd'
        union all
        select t.typelem, part.in_range where t.typcategory = 'A' and t.typelem <> 0
        union all
        select r.rngsubtype, true from pg_catalog.pg_range r
        where t.oid in (r.rngtypid, r.rngmultitypid)
        union all
        select a.atttypid, part.in_range from pg_catalog.pg_attribute a
        where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    ) as inner_type (oid, in_range)
),
bare (name, type_oid, brackets) as (
    select name, type_oid, ''
    from wanted
    union all
    select
        bare.name,
        case t.typtype when 'd' then t.typbasetype else t.typelem end,
        case t.typtype when 'd' then bare.brackets else bare.brackets || '[]' end
    from bare
    join pg_catalog.pg_type t on t.oid = bare.type_oid
    where t.oid >= 16384
      and (
          t.typtype = 'd'
          or t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc and bare.brackets = ''
      )
)
select
    wanted.name,
    pg_catalog.format_type(wanted.type_oid, null) as type_name,
    (
        select array_agg(distinct
            case when part.in_range then 'range:' else '' end
            || case when t.typnamespace = 'pg_catalog'::regnamespace then t.typname else 'foreign' end
        )
        from part
        join pg_catalog.pg_type t on t.oid = part.type_oid
        where part.name = wanted.name
          and t.typtype = 'b'
          and not (t.typcategory = 'A' and t.typelem <> 0)
    ) as type_parts,
    (
        select pg_catalog.format_type(bare.type_oid, null) || bare.brackets
        from bare
        join pg_catalog.pg_type t on t.oid = bare.type_oid
        where bare.name = wanted.name
          and bare.type_oid < 16384
          -- An array of arrays (by a domain) would look in JSON like an array of more dimensions.
          and (bare.brackets = '' or t.typsubscript <> 'pg_catalog.array_subscript_handler'::regproc)
    ) as plain_type
from wanted
