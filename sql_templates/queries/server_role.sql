-- Whether the server only replays what another one writes.
select pg_is_in_recovery() as is_standby
