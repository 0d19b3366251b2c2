-- What the columns of one table are called, in their order.
select a.attname as name
from pg_catalog.pg_attribute a
where a.attrelid = %(table)s and a.attnum > 0 and not a.attisdropped
order by a.attnum
