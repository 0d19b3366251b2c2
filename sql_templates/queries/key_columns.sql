-- The columns of a table's primary key, with their types as declared and without length or precision,
-- and their collations.
select
    a.attname as name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) as type_name,
    pg_catalog.format_type(a.atttypid, -1) as unlimited_type_name,
    nullif(a.attcollation, 0)::pg_catalog.regcollation::text as collation
from pg_catalog.pg_index i
cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
where i.indrelid = %(table)s
  and i.indisprimary
  and k.place <= i.indnkeyatts -- behind the key, its index may INCLUDE others
order by k.place
