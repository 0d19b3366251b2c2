insert into audit.logged_actions
    (schema_name, table_name, action, row_key, new_row,
     context, session_user_name, role_name, application_name, client_addr)
select
    'public', 'orders', 'I', image ->> 'id', image,
    context, session_user_name, role_name, application_name, client_addr
from (select to_jsonb(written) as image from orders as written offset 0) as captured
