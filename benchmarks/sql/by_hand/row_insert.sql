row_after := to_jsonb(changed);
insert into audit.logged_actions
    (schema_name, table_name, action, row_key, new_row)
values
    ('public', 'orders', 'I', row_after ->> 'id', row_after)
