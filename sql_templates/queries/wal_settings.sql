-- What the output functions of types look at, for the rest of the transaction.
select
    set_config('client_encoding', 'UTF8', true),
    set_config('search_path', 'pg_catalog, pg_temp', true),
    set_config('timezone', 'UTC', true),
    set_config('datestyle', 'ISO, YMD', true),
    set_config('intervalstyle', 'postgres', true),
    set_config('bytea_output', 'hex', true),
    set_config('extra_float_digits', '1', true),
    set_config('lc_monetary', 'C', true),
    set_config('quote_all_identifiers', 'off', true)
