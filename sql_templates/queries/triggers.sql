-- Triggers that call a function of the audit schema or one that was moved out of it, or
-- are named like ours; clones on leaves left out.
select
    n.nspname as schema_name,
    c.relname as table_name,
    t.tgname as name,
    t.tgenabled::text as state,
    t.tgtype::integer as type,
    c.relispartition as on_partition,
    p.proname as function_name,
    fn.nspname as function_schema,
    pg_catalog.pg_get_userbyid(p.proowner)::text as function_owner,
    pg_catalog.obj_description(p.oid, 'pg_proc') as function_comment,
    -- The name that a capture function of this trail was made under,
    -- whatever it is called now: its text has it.
    case when strpos(p.prosrc, pg_catalog.quote_ident(%(schema)s) || '.captured_as(tg_relid, ') > 0
        then replace(substring(p.prosrc from 'captured_as\(tg_relid, ''((?:[^'']|'''')+)'''), '''''', '''')
    end as made_as,
    coalesce(t.tgoldtable is not null, false) as has_old_table,
    coalesce(t.tgnewtable is not null, false) as has_new_table,
    t.tgqual is not null or cardinality(t.tgattr::smallint[]) > 0 as is_conditional
from pg_catalog.pg_trigger as t
join pg_catalog.pg_class as c on c.oid = t.tgrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_proc as p on p.oid = t.tgfoid
join pg_catalog.pg_namespace as fn on fn.oid = p.pronamespace
where not t.tgisinternal
  and t.tgparentid = 0
  and (
    fn.nspname = %(schema)s or t.tgname like '00\_audit\_%%'
    or strpos(p.prosrc, pg_catalog.quote_ident(%(schema)s) || '.captured_as(tg_relid, ') > 0
  )
order by n.nspname, c.relname, t.tgname
