do $$
begin
    -- A copy of a trail is in another place than its template; --store delta stores rows whole until that is settled.
    if to_regclass('audit.home') is not null then
        update audit.home set database_oid = d.oid, database_name = d.datname
        from pg_database as d
        where d.datname = current_database();
    end if;
end
$$
