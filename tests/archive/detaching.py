"""Partitions with events of every kind, detached and archived."""

from __future__ import annotations

from datetime import timedelta

from audit_toolkit.archive import Manifest, Store, archive_leaf
from audit_toolkit.partitions import Entry, Policy
from audit_toolkit.partitions.planning import is_archivable
from tests.plugins.rotating import START, Rotating, months
from tests.plugins.trail import SCHEMA

HARD_EVENTS = """
    insert into audit.logged_actions (
        action_tstamp, schema_name, table_name, action, row_key, old_row_key, old_row, new_row,
        context, role_name, application_name, client_addr, query
    )
    select
        at, case mod(number, 3) when 0 then 'public' else 'Wei"rd.ß' end, 'ord/ers=%%' || mod(number, 2),
        'U', number::text, nullif(mod(number, 2), 1)::text,
        jsonb_build_object('n', 1.50, 'big', 123456789012345678901234567890.10, 'text', E'ä\\u2028\\n"€', 'no', null),
        case when mod(number, 4) = 0 then null else '[]'::jsonb end,
        case when mod(number, 5) = 0 then '"plain"'::jsonb end,
        nullif('role' || mod(number, 2), 'role1'), '', '10.0.0.1/8', E'a\\tb\\\\N'
    from generate_series(%s::timestamptz, %s::timestamptz, '7 hours 0.000001 seconds') with ordinality as g (at, number)
"""


def detached(rotating: Rotating) -> list[Entry]:
    """Leaves with events of every kind, detached by retention."""
    oldest = rotating.read().bounded[0].lower
    rotating.execute(HARD_EVENTS, [oldest, START + timedelta(days=60)])
    rotating.run(START + timedelta(days=120), retention=months(2), drop=False)
    entries = unarchived(rotating)
    assert len(entries) >= 2
    return entries


def unarchived(rotating: Rotating) -> list[Entry]:
    """What the next run would archive."""
    return [e for e in rotating.read().entries if is_archivable(e, Policy())]


def archive(rotating: Rotating, store: Store, entry: Entry) -> Manifest:
    """Archive one leaf."""
    return archive_leaf(rotating.connection, store, SCHEMA, entry, now=rotating.now)
