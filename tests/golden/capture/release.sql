begin;
set local lock_timeout = '3s';

-- Capture of public.orders ends; its events stay.
drop trigger if exists "00_audit_row" on public.orders;

drop trigger if exists "00_audit_truncate" on public.orders;

-- Cascade: its triggers go with it, on the table and on every leaf.
drop function if exists audit.capture_public__orders() cascade;

commit;
