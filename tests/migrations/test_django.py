"""A Django project: the same frozen SQL as a migration of an app, written without loading the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migrations.django_site import manage
from tests.plugins.database import Database
from tests.plugins.project import Shop


def events(database: Database) -> list[tuple[object, ...]]:
    query = (
        "select table_name, action from audit.logged_actions where action <> 'G' order by event_id"
    )
    return list(database.execute(query))


INSERT = "insert into shop_order (status) values ('new')"


def test_install_up_down_and_up_again(site: Shop) -> None:
    answer = site.audit("install", "--django", "shop", "--table", "shop_order", "--exclude", "note")
    assert answer.code == 0, answer.err
    assert answer.err.endswith(
        "\nnext:\n  python manage.py migrate shop\n  audit history shop_order\n"
    )
    names = sorted(path.name for path in Path("shop/migrations").glob("0*.py"))
    assert names == [
        "0001_initial.py",
        "0002_audit_create_the_trail.py",
        "0003_audit_capture_shop_order.py",
    ]
    manage("migrate", "shop")
    assert manage("makemigrations", "--check", "--dry-run").startswith("No changes detected")
    assert "create or replace trigger" in manage("sqlmigrate", "shop", "0003")
    site.database.execute(INSERT)
    assert events(site.database) == [("shop_order", "I")]

    again = site.audit("install", "--django", "shop", "--table", "shop_order")
    assert "shop_order is already audited, with --exclude note" in again.err
    change = site.audit("install", "--django", "shop", "--table", "shop_order", "--mask", "note")
    assert "from --exclude note to --mask note" in change.err
    release = site.audit("uninstall", "--django", "shop", "--table", "shop_order")
    assert release.code == 0, release.err
    manage("migrate", "shop")
    site.database.execute(INSERT)
    assert len(events(site.database)) == 1
    manage("migrate", "shop", "0003")
    site.database.execute(INSERT)
    assert len(events(site.database)) == 2
    manage("migrate", "shop", "0001")
    manage("migrate", "shop")
    assert site.audit("upgrade", "--django", "shop").code == 0


@pytest.mark.thorough
def test_a_table_of_another_app_is_depended_on(site: Shop) -> None:
    answer = site.audit("install", "--django", "shop", "-t", "auth_user", "--upgrade")
    assert answer.code == 0, answer.text
    text = Path("shop/migrations/0003_audit_capture_auth_user.py").read_text("utf-8")
    assert '("shop", "0002_audit_create_the_trail"),\n        ("auth", "0012_' in text
    assert "tgname" not in manage("makemigrations", "--check", "--dry-run")
    triggers = (
        "select tgname from pg_trigger where tgrelid = 'auth_user'::regclass and not tgisinternal"
    )
    assert ("00_audit_row",) in site.database.execute(triggers)


def test_what_is_no_app(site: Shop, tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        answer = site.audit("install", "-t", "shop_order", *arguments)
        assert answer.code == 2
        return answer.err

    assert "there is no single Django app store here: there is none" in refused("--django", "store")
    assert "--django cannot be combined with Alembic's options" in refused(
        "--django", "shop", "--head", "x"
    )
    (tmp_path / "shop" / "migrations" / "0002_left.py").write_text(BRANCH)
    (tmp_path / "shop" / "migrations" / "0002_right.py").write_text(BRANCH)
    several = refused("--django", "shop")
    assert "has 2 migrations that nothing follows: 0002_left, 0002_right" in several
    assert "makemigrations --merge" in several


BRANCH = """\
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = []
"""
