select pg_catalog.pg_create_logical_replication_slot(%(slot)s::text, 'pgoutput')
