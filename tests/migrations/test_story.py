"""A real project, from `audit install` to events and back down: the whole way, as its users go it."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from tests.plugins.catalogue import catalogue
from tests.plugins.database import Database, MakeDatabase
from tests.plugins.project import TEMPLATES, MakeShop, Shop
from tests.plugins.seeds import some_quick


def story(database: Database) -> list[tuple[object, ...]]:
    query = "select action, row_key from audit.logged_actions order by event_id"
    return list(database.execute(query))


def change_rows(shop: Shop) -> None:
    """By ORM, Core, COPY and psql: the events are I1 U1, I2 U2, I3 I4, D4."""
    models = shop.models()
    engine = create_engine(shop.database.dsn.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as session, session.begin():
        session.add(models.Customer(id=1, email="ann@example.org"))
        session.flush()
        session.add(models.Order(id=1, customer_id=1, status="new", total=10))
        session.flush()
        session.scalars(select(models.Order)).one().status = "paid"
    with engine.begin() as connection:
        connection.execute(insert(models.Order).values(id=2, customer_id=1, status="new", total=20))
        connection.execute(update(models.Order).where(models.Order.id == 2).values(total=21))
    engine.dispose()
    with psycopg.connect(shop.database.dsn) as raw, raw.cursor() as cursor:
        columns = "(id, customer_id, status, total)"
        with cursor.copy(f"copy orders {columns} from stdin") as copy:
            copy.write_row((3, 1, "new", 30))
            copy.write_row((4, 1, "new", 40))
    assert shop.database.psql("delete from orders where id = 4;").returncode == 0


EVENTS = [("I", "1"), ("U", "1"), ("I", "2"), ("U", "2"), ("I", "3"), ("I", "4"), ("D", "4")]


@pytest.mark.parametrize("template", some_quick(TEMPLATES, ["generic"]))
def test_a_project_of_each_template(template: str, make_shop: MakeShop) -> None:
    shop = make_shop(template)
    assert shop.audit("install", "--table", "orders").code == 0
    assert [path.stem.split("_", 1)[1] for path in shop.revisions()] == [
        "audit_create_the_trail",
        "audit_capture_orders",
    ]
    shop.alembic("upgrade", "head")

    change_rows(shop)
    assert story(shop.database) == EVENTS

    before = catalogue(shop.database)
    kept = shop.alembic("downgrade", "000000000003")
    assert "the trail is in use or has events, and was kept" in kept.err
    shop.database.execute("update orders set status = 'sent' where id = 1")
    ended = ("G", None)
    assert story(shop.database) == [*EVENTS, ended]

    shop.alembic("upgrade", "head")
    assert catalogue(shop.database) == before
    shop.database.execute("update orders set status = 'lost' where id = 1")
    assert story(shop.database) == [*EVENTS, ended, ("G", None), ("U", "1")]


@pytest.mark.parametrize("template", some_quick(TEMPLATES, ["pyproject"]))
def test_offline_sql_makes_the_same_catalogue(
    template: str, make_shop: MakeShop, make_database: MakeDatabase
) -> None:
    shop, copy = make_shop(template), make_database()
    shop.audit("install", "--table", "orders", "--mask", "note=sha256", "--require-context", "a:b")
    shop.upgrade()
    script = shop.upgrade(sql=True).out
    answer = copy.psql(script)
    assert answer.returncode == 0, answer.stderr
    assert catalogue(copy) == catalogue(shop.database)


def test_offline_sql_is_right_without_the_paramstyle_of_the_stock_env(shop: Shop) -> None:
    # Without it SQLAlchemy doubles percent signs for psycopg; Flask-Migrate's env.py is like that.
    env = shop.directory / "migrations" / "env.py"
    env.write_text(env.read_text().replace('dialect_opts={"paramstyle": "named"},', ""))
    shop.audit("install", "--table", "orders")
    script = shop.upgrade(sql=True).out
    assert "format('alter table %s" in script
    assert "%%%%" not in script  # what is doubled for format() once is right


def test_a_downgrade_of_an_empty_trail_leaves_nothing(shop: Shop) -> None:
    shop.audit("install", "--table", "orders")
    shop.upgrade()
    assert "kept" not in shop.downgrade("000000000003").err
    assert shop.database.execute("select to_regnamespace('audit')") == [(None,)]


def test_a_downgrade_restores_what_was_there_before_a_change(shop: Shop) -> None:
    shop.audit("install", "--table", "orders", "--capture", "statement")
    shop.upgrade()
    before = catalogue(shop.database)

    assert shop.audit("install", "--table", "orders", "--exclude", "note").code == 0
    shop.upgrade()
    changed = catalogue(shop.database)
    assert changed != before

    shop.downgrade("-1")
    assert catalogue(shop.database) == before
    shop.upgrade()
    assert catalogue(shop.database) == changed


def test_a_downgrade_of_uninstall_puts_capture_back(shop: Shop) -> None:
    shop.audit("install", "--table", "orders", "--table", "customers")
    shop.upgrade()
    before = catalogue(shop.database)

    assert shop.audit("uninstall", "--table", "customers", "--table", "orders").code == 0
    shop.upgrade()
    functions = "select proname from pg_proc where proname like 'capture\\_%'"
    assert shop.database.execute(functions) == []

    shop.downgrade("-1")
    assert catalogue(shop.database) == before


def test_all_revisions_go_down_and_up_again_one_by_one(shop: Shop) -> None:
    shop.audit("install", "--table", "orders", "--when", "new.total > 10 -- :x '%' \\d")
    shop.audit("install", "--table", "orders", "--truncate", "forbid", "--table", "customers")
    shop.audit("uninstall", "--table", "orders")
    states = []
    shop.upgrade("+1")
    for _ in range(3):
        shop.upgrade("+1")
        states.append(catalogue(shop.database))
    for expected in reversed(states[:-1]):
        shop.downgrade("-1")
        assert catalogue(shop.database) == expected


WATCH = """
    drop event trigger if exists watch;
    drop table if exists seen;
    create table seen (tag text, lock_timeout text);
    create or replace function watch() returns event_trigger language plpgsql as $$
    begin
        insert into public.seen values (tg_tag, current_setting('lock_timeout'));
    end $$;
    create event trigger watch on ddl_command_end
        when tag in ('CREATE SCHEMA', 'CREATE FUNCTION') execute function watch();
"""
AFTER = """
from alembic import op

revision = "after"
down_revision = "{head}"


def upgrade():
    op.execute("insert into seen values ('after', current_setting('lock_timeout'))")


def downgrade():
    pass
"""


PARTS = "create table parts (id int, at date, primary key (id, at)) partition by range (at)"


def part(year: int) -> str:
    bounds = f"('{year}-01-01') to ('{year + 1}-01-01')"
    return f"create table parts_{year} partition of parts for values from {bounds}"


def test_databases_of_a_project_may_have_different_leaves(
    shop: Shop, make_database: MakeDatabase, shop_template: str
) -> None:
    other = make_database(template=shop_template)
    shop.database.execute(f"{PARTS}; {part(2025)}")
    shop.audit("install", "--table", "parts")
    other.execute(f"{PARTS}; {part(2026)}")
    script = shop.upgrade("000000000003:head", sql=True).out
    assert other.psql(script).returncode == 0
    other.execute("insert into parts values (1, '2026-05-05'); truncate parts_2026")
    assert story(other) == [("I", '[1, "2026-05-05"]'), ("D", '[1, "2026-05-05"]')]

    shop.upgrade()
    shop.database.execute(part(2027))
    again = shop.audit("install", "--table", "parts")
    assert "Repairs the capture of public.parts" in again.err
    shop.upgrade()
    shop.database.execute("insert into parts values (1, '2027-05-05'); truncate parts_2027")
    assert len(story(shop.database)) == 2


@pytest.mark.parametrize(("setting", "meanwhile"), [("0", "3s"), ("7s", "7s")])
def test_a_migration_waits_3_seconds_for_a_lock_unless_told_otherwise(
    setting: str, meanwhile: str, shop: Shop
) -> None:
    shop.audit("install", "--table", "orders")
    head = shop.revisions()[-1].name.split("_")[0]
    (shop.versions / "after.py").write_text(AFTER.format(head=head))
    database = shop.database.execute("select quote_ident(current_database())")[0][0]
    shop.database.execute(f"alter database {database} set lock_timeout = '{setting}'")
    shop.database.execute(WATCH)
    shop.upgrade()
    seen = shop.database.execute("select tag, lock_timeout from seen group by 1, 2 order by 1, 2")
    assert seen == [
        ("CREATE FUNCTION", meanwhile),
        ("CREATE SCHEMA", meanwhile),
        ("after", setting),
    ]


def test_the_trail_is_not_altered_while_a_leaf_is_half_detached(shop: Shop) -> None:
    shop.audit("install", "--table", "orders")
    shop.upgrade()
    leaf = shop.database.execute(
        "select leaf::text from audit.leaves() where not is_tail order by 1 desc limit 1"
    )[0][0]
    leave_half_detached(shop.database, leaf)

    with pytest.raises(DBAPIError) as refused:
        shop.downgrade("000000000003")
    assert f"has a pending DETACH CONCURRENTLY: {leaf}" in str(refused.value)
    assert f"detach partition {leaf} finalize" in str(refused.value)

    shop.database.execute(f"alter table audit.logged_actions detach partition {leaf} finalize")
    assert "was kept" in shop.downgrade("000000000003").err


def leave_half_detached(database: Database, leaf: str) -> None:
    """A detach whose wait for older transactions was cut short."""
    reader = database.connect(autocommit=False)
    reader.execute("select count(*) from audit.logged_actions")
    database.execute("set statement_timeout = '500ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        database.execute(f"alter table audit.logged_actions detach partition {leaf} concurrently")
    database.execute("reset statement_timeout")
    reader.rollback()
