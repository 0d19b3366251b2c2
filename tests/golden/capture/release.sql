begin;
set local lock_timeout = '3s';

-- Capture of public.orders ends; its events stay.
-- What changes from here on is not known: if the trail has events of the table, it says so.
select audit.end_capture('capture_public__orders');

-- Cascade: its triggers go with it, on the table and on every partition, whatever they are called by now.
drop function if exists audit.capture_public__orders() cascade;

commit;
