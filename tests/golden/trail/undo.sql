do $refuse$
declare
    pending text;
begin
    select inhrelid::regclass::text into pending
    from pg_catalog.pg_inherits
    where inhparent = to_regclass('audit.logged_actions') and inhdetachpending;

    if found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'audit: a partition of audit.logged_actions has a pending DETACH CONCURRENTLY: '
                || pending,
            hint = 'finish it first: alter table audit.logged_actions detach partition '
                || pending || ' finalize';
    end if;
end
$refuse$;

do $drop$
declare
    object text;
    has_events boolean;
begin
    -- Marks our own statements for the guard: see guard_ddl.
    perform pg_catalog.set_config('audit.guard', 'open', true);
    if to_regclass('audit.logged_actions') is null then
        return;
    end if;

    lock table audit.logged_actions in access exclusive mode;
    select exists (select from audit.logged_actions) into has_events;
    if has_events or exists (
        select from audit.partition_lifecycle
        where state in ('detaching', 'detached') or hold_reason is not null
    ) or exists (
        -- A detached or half-detached partition may have events that the trail does not show.
        select from pg_catalog.pg_depend as d
        join pg_catalog.pg_attrdef as a on d.classid = 'pg_catalog.pg_attrdef'::regclass and d.objid = a.oid
        left join pg_catalog.pg_inherits as i on i.inhrelid = a.adrelid and not i.inhdetachpending
        where d.refobjid = 'audit.logged_actions_event_id_seq'::regclass
          and a.adrelid <> 'audit.logged_actions'::regclass
          and i.inhrelid is null
    ) or exists (
        select from pg_catalog.pg_proc
        where pronamespace = 'audit'::regnamespace and proname like 'capture\_%'
    ) then
        raise warning using
            message = 'audit: audit.logged_actions has events or is in use, and was kept',
            hint = 'upgrading again adopts it; to remove it for good, drop the schema by hand';
        return;
    end if;

    drop table audit.logged_actions;
    drop table audit.captured_tables;
    drop table audit.capture_progress;
    drop table audit.truncated_rows;
    drop table audit.home;
    drop table audit.dead_letters;
    drop table audit.consumers;
    drop table audit.mask_key;
    drop table audit.partition_lifecycle;
    drop table audit.maintenance;
    drop table audit.seal_tiles;
    drop table audit.seal_checkpoints;
    drop table audit.seal_keys;
    drop table audit.seal_partitions;
    drop table audit.seal_seeds;
    drop table audit.redacted_slots;
    drop table audit.redaction_notes;
    drop table audit.redactions;
    for object in
        select oid::regprocedure::text from pg_catalog.pg_proc
        where pronamespace = 'audit'::regnamespace
          and pg_catalog.obj_description(oid, 'pg_proc') like '%"tool": "audit-toolkit"%'
    loop
        execute 'drop function ' || object;
    end loop;

    if not exists (
        select from pg_catalog.pg_class where relnamespace = 'audit'::regnamespace
    )
        and not exists (
            select from pg_catalog.pg_proc where pronamespace = 'audit'::regnamespace
        )
    then
        drop schema audit;
    end if;
end
$drop$;
