-- Which server this is, and its timeline. Right after a promotion pg_control_checkpoint() still has the
-- former timeline; the name of the file that is written to has the present one. A standby writes to none.
select
    (select system_identifier::text from pg_control_system()) as system_identifier,
    case
        when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())
        else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer
    end as timeline
