begin;
set local lock_timeout = '3s';

-- Add a column.
alter table things add column note text;

comment on column things.note is 'n';


-- Add a column.
alter table things add column note text;

comment on column things.note is 'n';

commit;
