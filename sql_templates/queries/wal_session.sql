-- As wal_settings, for a whole session: what images of rows are made under.
select
    set_config('search_path', 'pg_catalog, pg_temp', false),
    set_config('timezone', 'UTC', false),
    set_config('datestyle', 'ISO, YMD', false),
    set_config('intervalstyle', 'postgres', false),
    set_config('bytea_output', 'hex', false),
    set_config('extra_float_digits', '1', false),
    set_config('lc_monetary', 'C', false),
    set_config('quote_all_identifiers', 'off', false),
    -- Short queries, of which PostgreSQL expects too much to compile them.
    set_config('jit', 'off', false),
    -- What the slot is advanced over must not be lost by a crash.
    set_config('synchronous_commit', 'on', false)
