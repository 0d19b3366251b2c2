begin;
set local lock_timeout = '3s';

-- Capture of public.orders ends; its events stay.
-- Changes from here on are not recorded: if the trail has events of the table, it says so.
select audit.end_capture('capture_public__orders');

-- Cascade: drops its triggers too, on the table and its partitions, whatever their names are now.
drop function if exists audit.capture_public__orders() cascade;

commit;
