-- The columns of a table's primary key, with their types as declared and without length or precision,
-- and their collations, and whether two values of the type are equal only where their texts are the same.
select
    a.attname as name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) as type_name,
    pg_catalog.format_type(a.atttypid, -1) as unlimited_type_name,
    nullif(a.attcollation, 0)::pg_catalog.regcollation::text as collation,
    exists (
        with recursive base as (
            select t.oid, t.typname, t.typtype, t.typbasetype, t.typnamespace
            from pg_catalog.pg_type t
            where t.oid = a.atttypid
            union all
            select t.oid, t.typname, t.typtype, t.typbasetype, t.typnamespace
            from base
            join pg_catalog.pg_type t on t.oid = base.typbasetype
            where base.typtype = 'd'
        )
        select
        from base
        where base.typtype = 'e'
           or base.typtype = 'b'
           and base.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
           and (
               base.typname = 'numeric' and a.atttypmod <> -1
               or base.typname in (
                   'int2', 'int4', 'int8', 'oid', 'uuid', 'bool', 'date', 'time', 'timestamp', 'timestamptz',
                   'bytea', 'name', 'inet', 'cidr', 'macaddr', 'text', 'varchar', 'bpchar', 'char'
               )
               and not exists (
                   select from pg_catalog.pg_collation c where c.oid = a.attcollation and not c.collisdeterministic
               )
           )
    ) as is_exact
from pg_catalog.pg_index i
cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
where i.indrelid = %(table)s
  and i.indisprimary
  and k.place <= i.indnkeyatts -- behind the key, its index may INCLUDE others
order by k.place
