row_before := to_jsonb(changed);  -- the new row again: its old image would cost the same
row_after := to_jsonb(changed);
insert into audit.logged_actions
    (schema_name, table_name, action, row_key, old_row_key, old_row, new_row)
values
    ('public', 'orders', 'U', row_after ->> 'id', nullif(row_before ->> 'id', row_after ->> 'id'), row_before, row_after)
