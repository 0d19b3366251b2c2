-- What values of types look like as JSON: by the type that is behind domains.
with recursive behind as (
    select t.oid as wanted, t.oid, t.typtype, t.typbasetype, t.typcategory
    from pg_catalog.pg_type as t
    where t.oid = any (%(oids)s::oid[])
    union all
    select b.wanted, t.oid, t.typtype, t.typbasetype, t.typcategory
    from behind as b
    join pg_catalog.pg_type as t on t.oid = b.typbasetype
    where b.typtype = 'd'
)
select
    b.wanted::bigint as oid, b.oid::bigint as base,
    b.typtype::text as type, b.typcategory::text as category,
    pg_catalog.format_type(b.wanted, null) as name
from behind as b
where b.typtype <> 'd'
