-- The rows before the update, which a trigger is given for nothing.
drop table if exists kept;

create temporary table kept as table orders
