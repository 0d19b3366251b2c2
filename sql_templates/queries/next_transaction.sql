-- A transaction number that is higher than that of whoever began to write before.
select pg_current_xact_id()::text::bigint as transaction_id
