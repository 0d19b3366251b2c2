-- Whether this session may note the manifest of an archived partition: one row, or none.
select true as may_note
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_attribute as a on a.attrelid = c.oid
    and a.attname = 'archive_manifest'
    and not a.attisdropped
where n.nspname = %(schema)s
  and c.relname = 'partition_lifecycle'
  and pg_catalog.has_schema_privilege(n.oid, 'usage')
  and pg_catalog.has_table_privilege(c.oid, 'update')
  and pg_catalog.current_setting('transaction_read_only') = 'off'
