-- For how many days at least the server has counted index scans without a reset. A crash resets the counters
-- and records it; a database without a recorded reset is judged from the server's last start.
select
    extract(epoch from pg_catalog.clock_timestamp() - coalesce(
        d.stats_reset, pg_catalog.pg_postmaster_start_time()
    ))::float8 / 86400 as days
from pg_catalog.pg_stat_database d
where d.datname = pg_catalog.current_database()
