insert into audit.logged_actions
    (schema_name, table_name, action, row_key, old_row_key, old_row, new_row,
     context, session_user_name, role_name, application_name, client_addr)
select
    'public', 'orders', 'U', image_after ->> 'id', nullif(image_before ->> 'id', image_after ->> 'id'), image_before, image_after,
    context, session_user_name, role_name, application_name, client_addr
from (
    select to_jsonb(before) as image_before, to_jsonb(after) as image_after
    from kept as before
    join orders as after using (id)
    order by id
    offset 0
) as captured
