-- What a server needs to have for a consumer of a publication, and slots of
-- this database that may be older than it.
select
    current_setting('wal_level') as wal_level,
    current_setting('max_replication_slots')::int as max_slots,
    (select count(*) from pg_catalog.pg_replication_slots)::int as slots,
    current_setting('max_wal_senders')::int as max_senders,
    current_setting('max_slot_wal_keep_size') = '-1' as keeps_all_wal,
    has_database_privilege(current_database(), 'create') as may_create,
    exists (select from pg_catalog.pg_publication as p where p.pubname = %(name)s) as is_there,
    array(
        select s.slot_name::text from pg_catalog.pg_replication_slots as s
        where s.plugin = 'pgoutput' and s.database = current_database()
        order by s.slot_name
    ) as older_slots
