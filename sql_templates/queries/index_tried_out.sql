-- The temporary table on which an index is tried out.
select 'pg_temp.audit_index_try_out'::pg_catalog.regclass::oid as table_oid
