-- For a whole session of the worker.
select
    -- Short queries, of which PostgreSQL expects too much to compile them.
    set_config('jit', 'off', false),
    -- What the slot is advanced over must not be lost by a crash.
    set_config('synchronous_commit', 'on', false)
