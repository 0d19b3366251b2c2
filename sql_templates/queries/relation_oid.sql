-- The table of this name, NULL where there is none.
select to_regclass(%(name)s)::oid as oid
