-- Who and context once for all rows.
declare
    context constant jsonb := nullif(current_setting('audit.context', true), '')::jsonb;
    session_user_name constant text := session_user;
    role_name constant text := nullif(current_setting('role'), 'none');
    application_name constant text := nullif(current_setting('application_name'), '');
    client_addr constant inet := inet_client_addr();
begin
    {events};
end
