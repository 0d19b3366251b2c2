\set ON_ERROR_STOP on

-- Drop public.people_name_email_idx_ccnew: left by an interrupted REINDEX of public.people_name_email_idx, which itself is unchanged. Then: nothing is left of it.
-- Lock: SHARE UPDATE EXCLUSIVE on public.people: reads and writes go on.
set lock_timeout = '0';
set statement_timeout = '1h';
drop index concurrently if exists public.people_name_email_idx_ccnew;
reset lock_timeout;
reset statement_timeout;

-- Build public.events_tail_actor_idx. Then: public.events_tail has the index.
-- Lock: SHARE UPDATE EXCLUSIVE on public.events_tail: reads and writes go on.
set lock_timeout = '0';
set statement_timeout = '1h';
create index concurrently events_tail_actor_idx
    on public.events_tail using btree (actor);
reset lock_timeout;
reset statement_timeout;

-- Attach public.events_tail_actor_idx to public.events_actor_idx. Then: public.events_actor_idx becomes valid once it has all its partitions.
-- Lock: ACCESS EXCLUSIVE on public.events_tail_actor_idx only, for milliseconds.
begin;
set local lock_timeout = '3s';
set local idle_in_transaction_session_timeout = '2s';
alter index public.events_actor_idx attach partition public.events_tail_actor_idx;
commit;

-- Build public.events_2026_actor_idx. Then: public.events_2026 has the index.
-- Lock: SHARE UPDATE EXCLUSIVE on public.events_2026: reads and writes go on.
set lock_timeout = '0';
set statement_timeout = '1h';
create index concurrently events_2026_actor_idx
    on public.events_2026 using btree (actor);
reset lock_timeout;
reset statement_timeout;

-- Attach public.events_2026_actor_idx to public.events_actor_idx. Then: public.events_actor_idx becomes valid once it has all its partitions.
-- Lock: ACCESS EXCLUSIVE on public.events_2026_actor_idx only, for milliseconds.
begin;
set local lock_timeout = '3s';
set local idle_in_transaction_session_timeout = '2s';
alter index public.events_actor_idx attach partition public.events_2026_actor_idx;
commit;

-- Build public.events_2025_actor_idx. Then: public.events_2025 has the index.
-- Lock: SHARE UPDATE EXCLUSIVE on public.events_2025: reads and writes go on.
set lock_timeout = '0';
set statement_timeout = '1h';
create index concurrently events_2025_actor_idx
    on public.events_2025 using btree (actor);
reset lock_timeout;
reset statement_timeout;

-- Attach public.events_2025_actor_idx to public.events_actor_idx. Then: public.events_actor_idx becomes valid once it has all its partitions.
-- Lock: ACCESS EXCLUSIVE on public.events_2025_actor_idx only, for milliseconds.
begin;
set local lock_timeout = '3s';
set local idle_in_transaction_session_timeout = '2s';
alter index public.events_actor_idx attach partition public.events_2025_actor_idx;
commit;
