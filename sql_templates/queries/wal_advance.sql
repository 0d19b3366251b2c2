select pg_catalog.pg_replication_slot_advance(%(slot)s::text, %(end_lsn)s::pg_lsn)
