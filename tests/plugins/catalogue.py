"""Everything that a migration can change, as the catalogues have it: two databases compare as sets."""

from __future__ import annotations

from tests.plugins.database import Database

Entry = tuple[str, ...]
"""A kind, a name, and what is said of it."""

_CATALOGUE = """
    with here as (
        select oid, nspname, nspowner, nspacl from pg_namespace
        where nspname !~ '^pg_' and nspname <> 'information_schema'
    ), relation as (
        select c.* from pg_class c join here on here.oid = c.relnamespace
        where relname not like 'alembic\\_version%'
    )
    select 'schema', nspname, nspowner::regrole::text, nspacl::text,
        obj_description(oid, 'pg_namespace')
    from here
    union all
    select 'function', p.oid::regprocedure::text, proowner::regrole::text, proacl::text,
        pg_get_functiondef(p.oid)
    from pg_proc p join here on here.oid = pronamespace
    union all
    select 'relation', c.oid::regclass::text, relkind::text || relpersistence::text, relowner::regrole::text,
        concat_ws(' ', relacl::text, reloptions::text, relrowsecurity, pg_get_expr(relpartbound, c.oid),
            pg_get_partkeydef(c.oid))
    from relation c
    where relkind not in ('i', 'I')
    union all
    select 'column', a.attrelid::regclass || ' ' || attname,
        concat_ws(' ', attnum, format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation),
        pg_get_expr(adbin, adrelid), concat_ws(' ', attidentity, attgenerated, attstorage, attoptions::text)
    from pg_attribute a
    join relation c on c.oid = attrelid
    left join pg_attrdef d on adrelid = attrelid and adnum = attnum
    where attnum > 0 and relkind in ('r', 'p', 'v')
    union all
    select 'constraint', conrelid::regclass || ' ' || conname, pg_get_constraintdef(s.oid),
        convalidated::text, conislocal::text
    from pg_constraint s join relation c on c.oid = conrelid
    union all
    select 'index', case when c.relispartition then indrelid else indexrelid end::regclass::text,
        -- Indexes of leaves have names by which of two ways they were made.
        case when c.relispartition then replace(pg_get_indexdef(indexrelid), quote_ident(i.relname), '*')
            else pg_get_indexdef(indexrelid) end,
        indisvalid::text,
        (select inhparent::regclass::text from pg_inherits where inhrelid = indexrelid)
    from pg_index
    join relation c on c.oid = indrelid
    join pg_class i on i.oid = indexrelid
    union all
    select 'sequence', seqrelid::regclass::text, seqtypid::regtype::text, seqcache::text,
        (select refobjid::regclass || '.' || refobjsubid from pg_depend
            where objid = seqrelid and deptype = 'a')
    from pg_sequence join relation c on c.oid = seqrelid
    union all
    select 'trigger', tgrelid::regclass || ' ' || tgname, pg_get_triggerdef(t.oid), tgenabled::text,
        (tgparentid <> 0)::text
    from pg_trigger t join relation c on c.oid = tgrelid
    where not tgisinternal
    union all
    select 'comment', (pg_identify_object(classoid, objoid, objsubid)).identity, description, null, null
    from pg_description
    where objoid in (
        select oid from relation union all select p.oid from pg_proc p join here on here.oid = pronamespace)
"""


def catalogue(database: Database) -> list[Entry]:
    """All of it, but what Alembic itself keeps."""
    return sorted(tuple(str(value) for value in row) for row in database.execute(_CATALOGUE))
