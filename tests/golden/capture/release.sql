begin;
set local lock_timeout = '3s';

-- Capture of public.orders ends; its events stay.
-- Changes are no longer recorded. If the trail has events of the table, it records the end of capture.
select audit.end_capture('capture_public__orders');

-- CASCADE also drops its triggers on the table and its partitions, whatever their names are now.
drop function if exists audit.capture_public__orders() cascade;

commit;
