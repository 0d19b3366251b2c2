-- What Django has applied, oldest first; only where it has its table.
select app, name from django_migrations order by id
