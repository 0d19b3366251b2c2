\set ON_ERROR_STOP on

-- Add a column.
-- Lock: ACCESS EXCLUSIVE on things.
begin;
set local lock_timeout = '2s';
set local idle_in_transaction_session_timeout = '2s';
alter table things add column note text;
comment on column things.note is 'n';
commit;

-- Build the index. Then: queries by n are fast.
-- Lock: SHARE UPDATE EXCLUSIVE on things.
set lock_timeout = '0';
set statement_timeout = '1h';
create unique index concurrently things_n on things (n);
reset lock_timeout;
reset statement_timeout;
