-- Whether all transactions up to this one are over, and up to where the WAL has them.
select
    pg_snapshot_xmin(pg_current_snapshot()) > %(transaction_id)s::xid8 as settled,
    pg_current_wal_insert_lsn()::text as written
