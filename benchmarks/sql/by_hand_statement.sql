insert into audit.logged_actions
    (schema_name, table_name, action, row_key, {images})
select
    'public', 'orders', {action}, image ->> 'id', {values}
from (select to_jsonb(written) as image from orders as written offset 0) as captured
