for changed in select * from orders loop
    insert into audit.logged_actions
        (schema_name, table_name, action, row_key, {images})
    values
        ('public', 'orders', {action}, to_jsonb(changed) ->> 'id', {values});
end loop
