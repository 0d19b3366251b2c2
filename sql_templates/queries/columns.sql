-- The columns of tables. What a type is made of is worked out once for each type, as hundreds of tables have
-- few. type_parts are the base types that a value of the column is built of, followed through domains,
-- arrays, composites and ranges ('range:' marks what is printed inside a range); plain_type is the type of
-- PostgreSQL's own that it stands for, through domains and arrays of them, else NULL.
with recursive used (type_oid) as (
    select distinct a.atttypid
    from pg_catalog.pg_attribute a
    where a.attrelid = any(%(tables)s::oid[]) and a.attnum > 0 and not a.attisdropped
),
part (root, type_oid, in_range) as (
    select used.type_oid, used.type_oid, false from used
    union
    select part.root, inner_type.oid, part.in_range or inner_type.in_range
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
bare (root, type_oid, brackets) as (
    select used.type_oid, used.type_oid, '' from used
    union all
    select
        bare.root,
        case t.typtype when 'd' then t.typbasetype else t.typelem end,
        case t.typtype when 'd' then bare.brackets else bare.brackets || '[]' end
    from bare
    join pg_catalog.pg_type t on t.oid = bare.type_oid
    where t.oid >= 16384
      and (
          t.typtype = 'd'
          or t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc and bare.brackets = ''
      )
),
parts (root, names) as (
    select
        part.root,
        array_agg(distinct
            case when part.in_range then 'range:' else '' end
            || case when t.typnamespace = 'pg_catalog'::regnamespace then t.typname else 'foreign' end
        )
    from part
    join pg_catalog.pg_type t on t.oid = part.type_oid
    where t.typtype = 'b' and not (t.typcategory = 'A' and t.typelem <> 0)
    group by part.root
),
plain (root, name) as (
    select bare.root, pg_catalog.format_type(bare.type_oid, null) || bare.brackets
    from bare
    join pg_catalog.pg_type t on t.oid = bare.type_oid
    where bare.type_oid < 16384
      -- An array of arrays (by a domain) would look in JSON like an array of more dimensions.
      and (bare.brackets = '' or t.typsubscript <> 'pg_catalog.array_subscript_handler'::regproc)
)
select
    a.attrelid as table_oid,
    a.attname as name,
    a.attnum::integer as number,
    pg_catalog.col_description(a.attrelid, a.attnum) as comment,
    array(
        select distinct base.attname::text
        from pg_catalog.pg_depend as d
        join pg_catalog.pg_attribute as base on base.attrelid = a.attrelid and base.attnum = d.refobjsubid
        left join pg_catalog.pg_attrdef as f
            on d.classid = 'pg_catalog.pg_attrdef'::regclass and f.oid = d.objid and f.adrelid = a.attrelid
        where a.attgenerated <> ''
          and d.refclassid = 'pg_catalog.pg_class'::regclass
          and d.refobjid = a.attrelid
          and d.refobjsubid <> a.attnum
          and (
              f.adnum = a.attnum
              or d.classid = 'pg_catalog.pg_class'::regclass
              and d.objid = a.attrelid
              and d.objsubid = a.attnum
          )
    ) as computed_from,
    pg_catalog.format_type(a.atttypid, a.atttypmod) as type_name,
    a.attnotnull as not_null,
    a.attgenerated::text as generated,
    a.attidentity::text as identity,
    k.position as key_position,
    parts.names as type_parts,
    plain.name as plain_type
from pg_catalog.pg_attribute a
left join pg_catalog.pg_index i on i.indrelid = a.attrelid and i.indisprimary
left join lateral (
    select array_position(i.indkey::smallint[], a.attnum) as position
) k on k.position < i.indnkeyatts -- behind the key, its index may INCLUDE others
left join parts on parts.root = a.atttypid
left join plain on plain.root = a.atttypid
where a.attrelid = any(%(tables)s::oid[]) and a.attnum > 0 and not a.attisdropped
order by a.attrelid, a.attnum
