row_before := to_jsonb(changed);
insert into audit.logged_actions
    (schema_name, table_name, action, row_key, old_row)
values
    ('public', 'orders', 'D', row_before ->> 'id', row_before)
