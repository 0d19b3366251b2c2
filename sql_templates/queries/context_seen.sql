-- What the server sees of this connection: the claimed context, and what it knows by itself.
select
    nullif(current_setting('audit.context', true), '') as context,
    session_user::text as session_user_name,
    nullif(current_setting('role'), 'none') as role_name,
    nullif(current_setting('application_name'), '') as application_name,
    host(inet_client_addr()) as client_addr
