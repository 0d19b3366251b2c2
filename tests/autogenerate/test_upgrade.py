"""`audit upgrade`: what an older toolkit left becomes what this one would install."""

from __future__ import annotations

import json

from tests.plugins.database import Database
from tests.plugins.project import Shop

BODIES = """
    select p.proname, p.prosrc, obj_description(p.oid, 'pg_proc')
    from pg_proc p where p.pronamespace = 'audit'::regnamespace order by 1
"""


def make_older(database: Database) -> None:
    """Make trail and capture those of a release that rendered both a little differently."""
    definition = "select pg_get_functiondef(%s::regproc)"
    for name in ("audit.refuse_change", "audit.capture_public__orders"):
        ((text,),) = database.execute(definition, [name])
        database.execute(text.replace("\nbegin\n", "\nbegin\n    -- as it was once\n", 1))
    ((comment,),) = database.execute(
        "select obj_description('audit.capture_public__orders'::regproc, 'pg_proc')"
    )
    older = json.dumps(json.loads(comment) | {"version": "0.0.1", "hash": "0" * 64})
    database.execute(f"comment on function audit.capture_public__orders() is '{older}'")


def test_it_ends_where_a_fresh_install_is_and_a_downgrade_where_it_began(shop: Shop) -> None:
    shop.audit("install", "--table", "orders", "--exclude", "note")
    shop.upgrade()
    fresh = shop.database.execute(BODIES)
    make_older(shop.database)
    older = shop.database.execute(BODIES)
    assert older != fresh
    assert shop.audit("check").code == 3

    answer = shop.audit("upgrade")
    assert answer.code == 0, answer.err
    assert "audit_upgrade_the_trail" in answer.err
    shop.upgrade()
    assert shop.database.execute(BODIES) == fresh
    assert shop.audit("check").code == 0
    assert "nothing to upgrade" in shop.audit("upgrade").err

    # The capture of before is that of its revision; here only the trail's is the database's.
    shop.downgrade("-2")
    assert body("refuse_change", shop.database.execute(BODIES)) == body("refuse_change", older)


def body(name: str, functions: list[tuple[str, ...]]) -> str:
    return next(text for function, text, _ in functions if function == name)


def test_dry_run_tells_and_writes_nothing(shop: Shop) -> None:
    shop.audit("install", "--table", "orders")
    shop.upgrade()
    make_older(shop.database)
    before = shop.files()
    answer = shop.audit("upgrade", "--dry-run")
    assert "audit: upgrade the trail" in answer.out
    assert "Renews what captures public.orders" in answer.out or "Repairs" in answer.out
    assert shop.files() == before


def test_without_a_trail_it_says_what_to_do(shop: Shop) -> None:
    answer = shop.audit("upgrade")
    assert answer.code == 2
    assert "there is no audit trail audit.logged_actions to upgrade" in answer.err
