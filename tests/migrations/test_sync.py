"""`audit sync`: a database that `create_all` and `stamp` made gets the capture that the project records."""

from __future__ import annotations

import pytest

from tests.plugins.project import MakeShop, Shop
from tests.plugins.seeds import some_quick

TABLES = [f"t{number}" for number in range(10)]
CREATE_ALL = "".join(
    f"create table {table} (id int primary key, note text, remark text);" for table in TABLES
)
CAPTURE = """
    select tgrelid::regclass::text, tgname::text, tgenabled::text, p.proname::text, md5(p.prosrc),
        obj_description(p.oid, 'pg_proc')
    from pg_trigger join pg_proc as p on p.oid = tgfoid
    where tgname like '00\\_audit%' order by 1, 2
"""


def made_anew(shop: Shop, *, keep_trail: bool = False) -> None:
    """Drop everything, and make the tables without migrations, at the head of the project all the same."""
    versions = shop.database.execute("select version_num from alembic_version")
    shop.database.execute(
        "drop schema if exists crm cascade; drop schema public cascade; create schema public"
    )
    if not keep_trail:
        shop.database.execute("drop schema if exists audit cascade")
    shop.database.execute(CREATE_ALL)
    shop.database.execute("""
        create table customers (id int primary key, email text not null);
        create table orders (id int primary key, customer_id int references customers, status text,
            total numeric(12, 2), note text);
        create table alembic_version (version_num varchar(32) primary key);
    """)
    for (version,) in versions:
        shop.database.execute("insert into alembic_version values (%s)", [version])


def record(shop: Shop, *tables: str) -> Shop:
    """Have the project record capture of these tables and two more, and apply it."""
    shop.database.execute(CREATE_ALL)
    for words in (
        [word for table in tables for word in ("--table", table)],
        ["--table", "t9", "--mask", "remark", "--exclude", "note"],
        ["--table", "customers", "--capture", "statement"],
    ):
        answer = shop.audit("install", *words)
        assert answer.code == 0, answer.err
    shop.upgrade()
    return shop


@pytest.fixture
def recorded(shop: Shop) -> Shop:
    """A project that records capture of four tables, applied."""
    return record(shop, "t1", "t2")


@pytest.mark.parametrize(
    "trail",
    some_quick(["no trail", "a trail that is left", "half of it"], ["half of it"]),
)
def test_check_names_it_and_sync_makes_it(shop: Shop, trail: str) -> None:
    tables = (*TABLES[:9], "orders") if trail == "no trail" else ("t1", "t2")
    record(shop, *tables)
    wanted = shop.database.execute(CAPTURE)
    made_anew(shop, keep_trail=trail != "no trail")
    missing = len(tables) + 2
    if trail == "half of it":
        missing -= 1
        script = shop.audit("install", "--table", "t1", "--sql").out
        assert shop.database.psql(script).returncode == 0
    checked = shop.audit("check")
    assert checked.code == 3
    assert checked.out.count("recorded_not_audited; remedy: audit sync --apply\n") == missing
    assert ("trail_missing; remedy: audit sync --apply" in checked.out) == (trail == "no trail")
    assert "audit install" not in checked.out

    said = shop.audit("sync")
    assert said.code == 0
    assert said.out.count("Starts auditing") == missing
    assert shop.database.execute(CAPTURE) != wanted  # it said so, and did nothing

    done = shop.audit("sync", "--apply")
    assert done.code == 0, done.err
    assert shop.audit("check").out.startswith("OK: everything installed")
    assert shop.database.execute(CAPTURE) == wanted
    oids = shop.database.execute("select oid from pg_trigger order by 1")
    again = shop.audit("sync", "--apply")
    assert (again.code, again.out) == (0, NOTHING)
    assert shop.audit("sync", "--sql").out == ""
    assert shop.database.execute("select oid from pg_trigger order by 1") == oids

    shop.database.execute("insert into t9 values (1, 'n', 's'); insert into t1 values (7)")
    written = "select table_name, new_row from audit.logged_actions where action = 'I' order by 1"
    assert shop.database.execute(written) == [
        ("t1", {"id": 7, "note": None, "remark": None}),
        ("t9", {"id": 1, "remark": "[redacted]"}),
    ]
    # What the project writes next fits the database.
    assert shop.audit("install", "-t", "t1", "--exclude", "note").code == 0
    shop.upgrade()
    shop.downgrade("-1")
    assert shop.database.execute(CAPTURE) == wanted


NOTHING = "nothing to do: the database has the capture that the project records\n"


@pytest.mark.thorough
def test_as_sql(recorded: Shop) -> None:
    made_anew(recorded)
    script = recorded.audit("sync", "--sql")
    assert script.code == 0
    answer = recorded.database.psql(script.out)
    assert answer.returncode == 0, answer.stderr
    assert recorded.audit("sync").out == NOTHING
    assert recorded.audit("check").code == 0


def test_other_options_than_recorded(recorded: Shop) -> None:
    script = recorded.audit("install", "--table", "t9", "--exclude", "remark", "--sql").out
    assert recorded.database.psql(script).returncode == 0
    checked = recorded.audit("check")
    assert "it is captured with --exclude remark, but revision" in checked.out
    assert "says --exclude note --mask remark" in checked.out
    assert "recorded_otherwise; remedy: audit sync --apply" in checked.out
    assert recorded.audit("check", "-t", "t9").code == 3
    assert recorded.audit("check", "-t", "t1").code == 0
    assert recorded.audit("sync", "--apply").code == 0
    assert recorded.audit("check").code == 0


def test_what_is_paused_or_released_stays_so(recorded: Shop) -> None:
    recorded.audit("uninstall", "--table", "t2")
    recorded.upgrade()
    recorded.audit("pause", "--table", "t1", "--reason", "load")
    answer = recorded.audit("sync", "--apply")
    assert answer.out == NOTHING
    assert "capture_paused" in recorded.audit("check", "-t", "t1").out


@pytest.mark.thorough
def test_a_database_at_an_older_revision_gets_what_that_one_records(recorded: Shop) -> None:
    recorded.downgrade("-1")
    made_anew(recorded)
    assert recorded.audit("sync", "--apply").code == 0
    assert recorded.audit("check").code == 0
    (count,) = recorded.database.execute("select count(*) from audit.captured_tables")[0]
    assert count == 3
    recorded.upgrade()
    assert recorded.audit("check").code == 0


@pytest.mark.parametrize(
    ("up", "down", "now"),
    [
        pytest.param(
            'op.rename_table("t1", "parts")',
            'op.rename_table("parts", "t1")',
            "public.parts",
            marks=pytest.mark.thorough,
        ),
        (
            'op.execute("create schema crm; alter table public.t1 set schema crm")',
            'op.execute("alter table crm.t1 set schema public; drop schema crm")',
            "crm.t1",
        ),
    ],
)
@pytest.mark.thorough
def test_tables_that_a_migration_renamed(recorded: Shop, up: str, down: str, now: str) -> None:
    recorded.alembic("revision", "-m", "renamed")
    (file,) = recorded.versions.glob("*_renamed.py")
    text = file.read_text("utf-8").replace("pass", up, 1)
    file.write_text("pass".join([text.partition("pass")[0], down + text.partition("pass")[2]]))
    recorded.upgrade()
    assert recorded.audit("sync").out == NOTHING
    assert "recorded" not in recorded.audit("check").out
    made_anew(recorded)
    recorded.database.execute(
        up.split('"')[1] if "execute" in up else "alter table t1 rename to parts"
    )
    assert f"error: {now}: revision" in recorded.audit("check").out
    assert recorded.audit("sync", "--apply").code == 0
    assert recorded.audit("check").code == 0


def test_a_database_at_no_revision(recorded: Shop) -> None:
    made_anew(recorded)
    recorded.database.execute("delete from alembic_version")
    answer = recorded.audit("sync", "--apply")
    assert answer.code == 2
    assert "the database is at no revision of the project" in answer.err
    assert "alembic stamp head" in answer.err
    recorded.database.execute("insert into alembic_version values ('feedbeef')")
    assert "the database is at feedbeef" in recorded.audit("sync").err


def test_a_trail_of_another_name_owner_and_interval(shop: Shop) -> None:
    shop.database.execute("create role trail_owner_of_sync")
    try:
        shop.database.execute("grant create on schema public to trail_owner_of_sync")
        words = (
            "--audit-schema",
            "history",
            "--interval",
            "week",
            "--owner",
            "trail_owner_of_sync",
        )
        assert shop.audit("install", "-t", "orders", *words).code == 0
        shop.upgrade()
        shop.database.execute("drop schema history cascade")
        checked = shop.audit("check", "--audit-schema", "history")
        assert "remedy: audit sync --apply --audit-schema history" in checked.out
        answer = shop.audit("sync", "--apply")
        assert answer.code == 0, answer.err
        assert shop.audit("check", "--audit-schema", "history").code == 0
        owner = "select relowner::regrole::text from pg_class where oid = 'history.logged_actions'::regclass"
        assert shop.database.execute(owner) == [("trail_owner_of_sync",)]
    finally:
        shop.database.execute(
            "drop owned by trail_owner_of_sync cascade; drop role trail_owner_of_sync"
        )


def test_declarations_without_any_revision(shop: Shop) -> None:
    (shop.directory / "audit.toml").write_text("[tables.orders]\nexclude = ['note']\n")
    answer = shop.audit("sync", "--apply")
    assert answer.code == 0, answer.err
    assert "public.orders (audit.toml): Starts auditing public.orders" in answer.out
    assert shop.audit("check").code == 0
    (shop.directory / "alembic.ini").unlink()
    answer = shop.audit("sync", "--dsn", shop.database.dsn)
    assert (answer.code, answer.out) == (0, NOTHING)


def test_declarations_that_no_revision_has_yet(recorded: Shop) -> None:
    recorded.database.execute("create table more (id int primary key)")
    (recorded.directory / "audit.toml").write_text("[tables.more]\n[tables.t1]\n")
    answer = recorded.audit("sync", "--apply")
    assert answer.out == NOTHING
    assert "public.more is left as it is: audit.toml declares it" in answer.err
    assert "alembic revision --autogenerate" in answer.err


def test_no_project_and_no_declarations(shop: Shop) -> None:
    (shop.directory / "alembic.ini").unlink()
    (shop.directory / "pyproject.toml").unlink(missing_ok=True)
    answer = shop.audit("sync", "--dsn", shop.database.dsn)
    assert answer.code == 2


@pytest.mark.thorough
def test_two_heads(make_shop: MakeShop) -> None:
    shop = make_shop()
    assert shop.audit("install", "--table", "orders").code == 0
    shop.upgrade()
    (head,) = shop.database.execute("select version_num from alembic_version")[0]
    text = (
        'revision = "{0}"\ndown_revision = {1!r}\n\ndef upgrade(): pass\n\ndef downgrade(): pass\n'
    )
    (shop.versions / "side.py").write_text(text.format("side", "000000000003"))
    assert shop.audit("install", "-t", "customers", "--head", "side").code == 0
    shop.upgrade("heads")
    assert head != "side"
    made_anew(shop)
    assert shop.audit("sync", "--apply").code == 0
    assert shop.audit("check").code == 0
    (count,) = shop.database.execute("select count(*) from audit.captured_tables")[0]
    assert count == 2


def test_what_was_taken_out_of_the_registry_is_put_back_by_its_remedy(recorded: Shop) -> None:
    """Its triggers are as they should be, and yet there is something to install."""
    recorded.database.execute("delete from audit.captured_tables where table_name = 't1'")
    lines = recorded.audit("check").out.splitlines()
    [remedy] = [line for line in lines if line.startswith("  capture_unregistered; ")]
    assert recorded.audit(*remedy.partition("remedy: audit ")[2].split()).code == 0
    assert "captured_tables" not in recorded.audit("check").out
