-- What inherits from a table, at any depth; partitions do not count.
with recursive heirs (oid) as (
    select inhrelid from pg_catalog.pg_inherits where inhparent = %(table)s
    union
    select i.inhrelid
    from heirs as h
    join pg_catalog.pg_inherits as i on i.inhparent = h.oid
)
select c.oid, c.relname as name
from heirs as h
join pg_catalog.pg_class as c on c.oid = h.oid
where not c.relispartition
order by c.relname
