-- The transaction that asks, as its events have it.
select pg_current_xact_id()::text::bigint as number, transaction_timestamp() as began
