-- Whether the WAL up to there survives a crash.
select pg_current_wal_flush_lsn() >= %(written)s::pg_lsn as flushed
