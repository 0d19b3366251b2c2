-- The generic trigger of the PostgreSQL wiki's first Audit trigger page, written anew: one function for all
-- tables, whole rows as text, EXCEPTION block, the three indexes.
create schema audit;

create table audit.logged_actions (
    schema_name text not null,
    table_name text not null,
    user_name text,
    action_tstamp timestamptz not null default current_timestamp,
    action text not null check (action in ('I', 'D', 'U')),
    original_data text,
    new_data text,
    query text
) with (fillfactor = 100);

create index on audit.logged_actions (((schema_name || '.' || table_name)::text));
create index on audit.logged_actions (action_tstamp);
create index on audit.logged_actions (action);

create function audit.if_modified() returns trigger
    language plpgsql security definer set search_path = pg_catalog, audit
as $classic$
begin
    if tg_op = 'UPDATE' then
        insert into audit.logged_actions (schema_name, table_name, user_name, action, original_data, new_data, query)
        values (tg_table_schema::text, tg_table_name::text, session_user::text, substring(tg_op, 1, 1),
                row(old.*)::text, row(new.*)::text, current_query());
        return new;
    elsif tg_op = 'DELETE' then
        insert into audit.logged_actions (schema_name, table_name, user_name, action, original_data, query)
        values (tg_table_schema::text, tg_table_name::text, session_user::text, substring(tg_op, 1, 1),
                row(old.*)::text, current_query());
        return old;
    else
        insert into audit.logged_actions (schema_name, table_name, user_name, action, new_data, query)
        values (tg_table_schema::text, tg_table_name::text, session_user::text, substring(tg_op, 1, 1),
                row(new.*)::text, current_query());
        return new;
    end if;
exception
    when data_exception or unique_violation then
        raise warning 'audit.if_modified: %', sqlerrm;
        return null;
    when others then
        raise warning 'audit.if_modified: %', sqlerrm;
        return null;
end
$classic$;

create trigger audit_classic
    after insert or update or delete on orders
    for each row execute function audit.if_modified();
