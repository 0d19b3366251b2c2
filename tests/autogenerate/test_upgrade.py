"""`audit upgrade`: what it writes, says and refuses. What becomes of old releases: test_releases.py."""

from __future__ import annotations

import json

import pytest

from audit_toolkit.templates import render
from audit_toolkit.version import __version__
from tests.autogenerate.conftest import MODELS, Declared
from tests.plugins.catalogue import catalogue
from tests.plugins.database import Database
from tests.plugins.project import Shop

pytestmark = pytest.mark.thorough

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
    slug = __version__.replace(".", "_")
    shop.audit("install", "--table", "orders", "--exclude", "note")
    shop.upgrade()
    fresh = shop.database.execute(BODIES)
    make_older(shop.database)
    older = shop.database.execute(BODIES)
    assert older != fresh
    assert shop.audit("check").code == 3

    answer = shop.audit("upgrade")
    assert answer.code == 0, answer.err
    assert answer.err.endswith("\nnext:\n  alembic upgrade head\n  audit check\n")
    assert shop.revisions()[-1].name.endswith(f"_audit_upgrade_to_{slug}.py")
    shop.upgrade()
    assert shop.database.execute(BODIES) == fresh
    assert shop.audit("check").code == 0
    assert "already up to date" in shop.audit("upgrade").err

    # The capture of before is that of its revision; here only the trail's is the database's.
    shop.downgrade("-1")
    assert body("refuse_change", shop.database.execute(BODIES)) == body("refuse_change", older)


def body(name: str, functions: list[tuple[str, ...]]) -> str:
    return next(text for function, text, _ in functions if function == name)


def test_dry_run_tells_and_writes_nothing(shop: Shop) -> None:
    shop.audit("install", "--table", "orders")
    shop.upgrade()
    make_older(shop.database)
    before = shop.files()
    answer = shop.audit("upgrade", "--dry-run")
    assert f"audit: upgrade to {__version__}" in answer.out
    assert "Reinstalls the capture of public.orders" in answer.out or "Repairs" in answer.out
    assert "[lock: SHARE ROW EXCLUSIVE on the trail]" in answer.out
    assert shop.files() == before


def test_without_a_trail_it_says_what_to_do(shop: Shop) -> None:
    answer = shop.audit("upgrade")
    assert answer.code == 2
    assert "there is no audit trail audit.logged_actions to upgrade" in answer.err


@pytest.fixture
def older(shop: Shop) -> Shop:
    """A project whose database was left by an older release."""
    shop.audit("install", "--table", "orders")
    shop.upgrade()
    make_older(shop.database)
    return shop


def test_it_is_the_remedy_of_what_is_outdated(older: Shop) -> None:
    found = json.loads(older.audit("check", "--format", "json").out)["findings"]
    assert {finding["kind"]: finding["remedy"] for finding in found} == {
        "schema_outdated": "audit upgrade --upgrade",
        "capture_outdated": "audit upgrade --upgrade",
    }
    assert older.audit("upgrade", "--upgrade").code == 0
    assert older.audit("check").code == 0


def test_it_applies_what_it_wrote_under_a_message(older: Shop) -> None:
    answer = older.audit("upgrade", "--upgrade", "-m", "OPS-7: newer audit")
    assert answer.code == 0, answer.err
    assert answer.err.endswith("\napplied; next:\n  audit check\n")
    assert older.revisions()[-1].name.endswith("_ops_7_newer_audit.py")
    assert older.audit("check").code == 0
    assert older.audit("upgrade", "--upgrade").err == NOTHING


NOTHING = "already up to date\n"


def test_what_is_written_is_applied_before_more_is_written(older: Shop) -> None:
    env = older.directory / "migrations" / "env.py"
    text = env.read_text()
    env.write_text(text.replace("=target_metadata", "=target_metadata, version_table='history'"))
    older.database.execute("alter table alembic_version rename to history")
    assert older.audit("upgrade").code == 0
    before, newest = older.files(), older.revisions()[-1].name.split("_")[0]
    again = older.audit("upgrade")
    assert again.code == 2
    assert f"error: the project is at {newest}, but the database is at " in again.err
    assert again.err.endswith("hint: upgrade the database first: alembic upgrade head\n")
    assert older.files() == before
    older.upgrade()
    assert older.audit("upgrade").err == NOTHING


def test_it_brings_back_what_the_trail_of_this_version_lost(shop: Shop) -> None:
    assert shop.audit("install", "--table", "orders", "--upgrade").code == 0
    shop.database.execute("alter function audit.history(regclass, text) volatile")
    assert shop.audit("check").code == 3
    assert shop.audit("upgrade", "--upgrade").err != NOTHING
    assert shop.audit("check").code == 0


def test_a_rule_follows_its_columns_and_not_what_took_their_names(shop: Shop) -> None:
    assert shop.audit("install", "--table", "orders", "--only", "note", "--upgrade").code == 0
    shop.database.execute(
        "alter table orders rename note to remark; alter table orders add note text"
    )
    assert shop.audit("install", "--table", "orders", "--upgrade").code == 0
    shop.database.execute(
        "insert into customers (id, email) values (1, 'a');"
        " insert into orders (id, customer_id, status, total, remark, note) values (1, 1, '', 1, 'r', 'n')"
    )
    ((row,),) = shop.database.execute("select new_row from audit.logged_actions where action = 'I'")
    assert row == {"id": 1, "remark": "r"}


def test_several_heads(older: Shop) -> None:
    ours = older.revisions()[-1].name.split("_")[0]
    for name in ("left", "right"):
        (older.versions / f"{name}.py").write_text(
            f"revision = '{name}1'\ndown_revision = '{ours}'\n"
            "def upgrade(): pass\n\n\ndef downgrade(): pass\n"
        )
    answer = older.audit("upgrade")
    assert answer.code == 2
    assert answer.err == (
        "error: the project has 2 heads: left1, right1\n"
        "hint: choose one with --head REVISION, or merge them: alembic merge heads\n"
    )
    older.upgrade("left1")
    answer = older.audit("upgrade", "--head", "right1")
    assert answer.err.endswith("hint: upgrade the database first: alembic upgrade right1\n")
    answer = older.audit("upgrade", "--head", "left1")
    newest = older.revisions()[-1].name.split("_")[0]
    assert answer.err.endswith(f"\nnext:\n  alembic upgrade {newest}\n  audit check\n")
    older.upgrade(newest)
    assert older.audit("check").code == 0


def test_what_a_release_has_no_longer_goes_and_comes_back(older: Shop) -> None:
    older.database.execute("create function audit.old_helper(a text) returns text return a")
    marker = json.dumps({"tool": "audit-toolkit", "version": "0.0.1"})
    older.database.execute(f"comment on function audit.old_helper(text) is '{marker}'")
    older.database.execute("revoke all on function audit.old_helper(text) from public")
    older.database.execute("create function audit.of_a_user() returns int return 1")
    older.database.execute("drop function audit.history(regclass, text)")
    before = set(catalogue(older.database))
    assert older.audit("upgrade", "--upgrade").code == 0
    there = {name for name, *_ in older.database.execute(BODIES)}
    assert there >= {"history", "of_a_user"}
    assert "old_helper" not in there
    older.downgrade("-1")
    lost = before - set(catalogue(older.database))
    assert not any("old_helper" in " ".join(entry) for entry in lost)


def test_what_an_operator_decided_stays(older: Shop) -> None:
    database = older.database
    database.execute("create role audit_upgrade_owner")
    try:
        database.execute("grant create on schema audit to audit_upgrade_owner")
        database.execute(render("schema/owner", schema="audit", owner="audit_upgrade_owner"))
        database.execute("drop function audit.history(regclass, text)")
        # As a database that this project is deployed to may have it, unlike that of its developers.
        revision = older.audit("upgrade")
        assert revision.code == 0, revision.err
        recorded = "obj_description('audit.logged_actions'::regclass)::json"
        database.execute(
            "do $$ begin execute format('comment on table audit.logged_actions is %L',"
            f" replace({recorded}::text, 'month', 'day')); end $$"
        )
        older.upgrade()
        assert database.execute(f"select {recorded} ->> 'interval'") == [("day",)]
        owners = database.execute(
            "select distinct proowner::regrole::text from pg_proc"
            " where proname in ('history', 'make_leaf', 'capture_public__orders')"
        )
        assert owners == [("audit_upgrade_owner",)]
    finally:
        database.execute("reassign owned by audit_upgrade_owner to current_user")
        database.execute("drop owned by audit_upgrade_owner; drop role audit_upgrade_owner")


def test_outputs_that_contradict_each_other(shop: Shop) -> None:
    answer = shop.audit("upgrade", "--sql", "--dry-run")
    assert answer.code == 2
    assert "--sql and --dry-run cannot be combined" in answer.err


def test_what_a_newer_release_made_stays(shop: Shop) -> None:
    shop.audit("install", "--table", "orders")
    shop.upgrade()
    as_made_by("77.0.0", shop.database)
    answer = shop.audit("upgrade")
    assert answer.code == 2
    assert answer.err == (
        f"error: the trail was created by audit-toolkit 77.0.0; this is {__version__}\n"
        "hint: upgrade the package: pip install --upgrade audit-toolkit\n"
    )
    remedies = shop.audit("check").out
    assert "schema_outdated; remedy: pip install --upgrade audit-toolkit\n" in remedies


def test_a_pause_is_not_ended_by_the_way(older: Shop) -> None:
    older.database.execute('alter table orders disable trigger "00_audit_row"')
    answer = older.audit("upgrade")
    assert answer.code == 2
    assert answer.err == (
        "error: capture of public.orders is paused; reinstalling it would resume it\n"
        "hint: run first: audit resume --table public.orders --reason REASON\n"
    )
    older.audit("resume", "--table", "public.orders", "--reason", "upgrade")
    assert older.audit("upgrade").code == 0


def test_a_database_that_the_project_was_never_applied_to(older: Shop) -> None:
    older.database.execute("drop table alembic_version")
    answer = older.audit("upgrade")
    assert answer.code == 2
    assert "but the database is at no revision of it\n" in answer.err


def as_made_by(version: str, database: Database) -> None:
    """Let the trail say that this release made it, which recorded no hash."""
    comment = json.dumps({"tool": "audit-toolkit", "version": version, "interval": "month"})
    database.execute(f"comment on table audit.logged_actions is '{comment}'")


def test_capture_of_this_version_waits_for_its_trail(older: Shop) -> None:
    as_made_by("0.0.1", older.database)
    for output in ((), ("--sql",)):
        answer = older.audit("install", "--table", "customers", *output)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err == (
            "error: audit.logged_actions was created by audit-toolkit 0.0.1, and may lack what capture of "
            f"{__version__} needs\nhint: run first: audit upgrade --upgrade\n"
        )
    assert older.audit("upgrade", "--upgrade").code == 0
    assert older.audit("install", "--table", "customers").code == 0


def test_autogenerate_waits_for_it_too(declared: Declared) -> None:
    declared.shop.audit("install", "--table", "orders")
    declared.shop.upgrade()
    as_made_by("0.0.1", declared.database)
    declared.check_clean()
    declared.models(MODELS.replace("Audit()", "Audit(exclude=['note'])"))
    answer = declared.check()
    assert answer.code != 0
    assert "needs; run first: audit upgrade --upgrade" in answer.text
    assert declared.shop.audit("upgrade", "--upgrade").code == 0
    declared.apply()


def test_a_schema_with_a_name_of_its_own(shop: Shop) -> None:
    schema = ("--audit-schema", 'The "trail" of 100%')
    assert shop.audit("install", "--table", "orders", *schema).code == 0
    shop.upgrade()
    shop.database.execute('drop function "The ""trail"" of 100%".history(regclass, text)')
    fresh = shop.audit("check", *schema)
    assert "it is missing" in fresh.out
    answer = shop.audit("upgrade", "--upgrade")  # the revisions of the project say which schema
    assert answer.code == 0, answer.err
    assert answer.err.endswith("\n  audit check --audit-schema 'The \"trail\" of 100%'\n")
    assert shop.audit("check", *schema).code == 0
    shop.downgrade("-1")
    assert shop.audit("check", *schema).code == 0
