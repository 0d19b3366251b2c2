-- What the toolkit has put on tables: its functions, and the triggers that call them.
select
    p.oid as function_oid,
    p.proname as function_name,
    pg_catalog.obj_description(p.oid, 'pg_proc') as comment,
    pg_catalog.pg_get_functiondef(p.oid) as function_definition,
    p.prosrc as function_body,
    t.tgname as trigger_name,
    t.tgenabled::text as trigger_state,
    n.nspname as schema_name,
    c.relname as table_name,
    c.relispartition as on_partition,
    t.tgtype & 28 <> 0 as captures_rows,
    pg_catalog.pg_get_triggerdef(t.oid) as trigger_definition
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace fn on fn.oid = p.pronamespace
left join pg_catalog.pg_trigger t on t.tgfoid = p.oid and t.tgparentid = 0
left join pg_catalog.pg_class c on c.oid = t.tgrelid
left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where fn.nspname = %(schema)s
  and p.proname like 'capture\_%%'
order by p.proname, n.nspname, c.relname, t.tgname
