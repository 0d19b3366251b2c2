-- What decides how rows are put back into a table: the types of its columns, as they are written under any
-- search_path (the session's is pg_catalog here), what is unique in it, its row security and its triggers.
select
    (
        select jsonb_object_agg(a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod))
        from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    ) as types,
    -- Values of these types are in the trail as their text: neither they nor
    -- what they are built on is PostgreSQL's own.
    array(
        with recursive part (attname, type_oid) as (
            select a.attname, a.atttypid from pg_catalog.pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            union all
            select part.attname, case t.typtype when 'd' then t.typbasetype else t.typelem end
            from part
            join pg_catalog.pg_type t on t.oid = part.type_oid
            where part.type_oid >= 16384
              and (t.typtype = 'd' or t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc)
        )
        select part.attname
        from part
        join pg_catalog.pg_type t on t.oid = part.type_oid
        where part.type_oid >= 16384
          and t.typtype <> 'd'
          and t.typsubscript <> 'pg_catalog.array_subscript_handler'::regproc
    ) as foreign_columns,
    array(
        select a.attname
        from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attidentity = 'a' and not a.attisdropped
    ) as always,
    array(
        with recursive base (attname, type_oid) as (
            select a.attname, a.atttypid from pg_catalog.pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attnotnull
            union all
            select base.attname, t.typbasetype
            from base
            join pg_catalog.pg_type t on t.oid = base.type_oid and t.typtype = 'd'
        )
        select base.attname from base where base.type_oid in ('json'::regtype, 'jsonb'::regtype)
    ) as never_null,
    -- Of what collations of other languages and no case call equal.
    array(
        select a.attname
        from pg_catalog.pg_attribute a
        join pg_catalog.pg_collation l on l.oid = a.attcollation
        where a.attrelid = c.oid and not l.collisdeterministic and not a.attisdropped
    ) as loose,
    -- Where the order of changes decides whether each is allowed: columns of unique and of exclusion
    -- constraints that are checked at once, in expressions and predicates, too,
    -- and both sides of foreign keys of periods.
    array(
        select a.attname
        from pg_catalog.pg_constraint f
        join pg_catalog.pg_attribute a
          on a.attrelid = c.oid
         and (
             f.conrelid = c.oid and a.attnum = any (f.conkey)
             or f.confrelid = c.oid and a.attnum = any (f.confkey)
         )
        where f.contype = 'f' and (to_jsonb(f) ->> 'conperiod')::boolean
        union
        select distinct a.attname
        from pg_catalog.pg_index i
        join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum > 0
        where i.indrelid = c.oid
          and (i.indisunique or i.indisexclusion)
          and i.indimmediate
          and not i.indisprimary
          and (
              a.attnum = any (i.indkey::smallint[])
              or exists (
                  select from pg_catalog.pg_depend d
                  where d.classid = 'pg_catalog.pg_class'::regclass
                    and d.objid = i.indexrelid
                    and d.refclassid = 'pg_catalog.pg_class'::regclass
                    and d.refobjid = i.indrelid
                    and d.refobjsubid = a.attnum
              )
          )
    ) as ordered,
    exists (
        select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary and not i.indimmediate
    ) as key_deferrable,
    pg_catalog.row_security_active(c.oid) as row_security,
    -- Triggers of others that may change a row again after a statement has
    -- (AFTER), or as it is inserted (BEFORE).
    exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = c.oid
          and not t.tgisinternal
          and t.tgenabled <> 'D'
          and t.tgname not like '00\_audit\_%%'
          and (t.tgtype & 2 = 0 or t.tgtype & 4 <> 0)
    ) as has_triggers,
    exists (
        select from pg_catalog.pg_trigger t
        join pg_catalog.pg_proc p on p.oid = t.tgfoid
        where t.tgrelid = c.oid
          and p.pronamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident(%(schema)s))
          and p.proname like 'capture\_%%'
          and t.tgtype & 28 <> 0
          and (t.tgenabled in ('A', 'O') or exists (
            -- Read from the WAL.
            select from pg_catalog.pg_publication_rel r
            join pg_catalog.pg_publication pub on pub.oid = r.prpubid
            where r.prrelid = c.oid and pub.pubname = %(schema)s || '_capture' and c.relreplident = 'f'
          ))
    ) as captured
from pg_catalog.pg_class c
where c.oid = %(table)s
