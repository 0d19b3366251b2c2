-- Tables of which the WAL is read: published, and their triggers are off.
select n.nspname as schema_name, c.relname as table_name
from pg_catalog.pg_publication_rel as r
join pg_catalog.pg_publication as p on p.oid = r.prpubid
join pg_catalog.pg_class as c on c.oid = r.prrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where p.pubname = %(publication)s
  and exists (
    select from pg_catalog.pg_trigger as t
    join pg_catalog.pg_proc as f on f.oid = t.tgfoid
    join pg_catalog.pg_namespace as fn on fn.oid = f.pronamespace
    where t.tgrelid = c.oid and fn.nspname = %(schema)s and f.proname like 'capture\_%%'
    -- Those on TRUNCATE (32) may be on.
    having bool_and(t.tgenabled = 'D') filter (where t.tgtype & 28 <> 0)
  )
