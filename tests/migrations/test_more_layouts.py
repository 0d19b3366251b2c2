"""More ways in which projects are laid out: each gets its revisions where it reads them, up and down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migrations.layouts import edit, ini
from tests.plugins.project import Shop

pytestmark = pytest.mark.thorough

CAPTURED = "select tgrelid::regclass::text from pg_trigger where tgname = '00_audit_row' order by 1"
EMPTY = """\
revision = {0!r}
down_revision = {1!r}
branch_labels = {2!r}
depends_on = {3!r}


def upgrade(): pass


def downgrade(): pass
"""


def up_and_down(shop: Shop, *options: str, target: str = "head") -> list[Path]:
    """Install, look, go down and up, uninstall; where the revisions are."""
    before = shop.files()
    answer = shop.audit("install", "--table", "orders", *options)
    assert answer.code == 0, answer.err
    written = sorted(path for path in shop.files() - before if path.suffix == ".py")
    assert len(written) == 2
    shop.upgrade(target)
    assert shop.database.execute(CAPTURED) == [("orders",)]
    assert shop.audit("install", "-t", "orders", "--dry-run", *options).out == "nothing to write\n"
    assert shop.audit("check").code == 0
    shop.database.execute("drop schema audit cascade")
    assert shop.audit("sync", "--apply").code == 0
    assert shop.audit("check").code == 0
    return written


def test_version_locations_with_here(shop: Shop) -> None:
    ini(shop, "version_locations = %(here)s/migrations/versions")
    assert {path.parent for path in up_and_down(shop)} == {Path("migrations/versions")}


def test_a_script_location_within_a_package(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    package = shop.directory / "pkg_of_layouts"
    package.mkdir()
    (package / "__init__.py").touch()
    (shop.directory / "migrations").rename(package / "migrations")
    edit(
        shop.directory / "alembic.ini",
        "script_location = %(here)s/migrations",
        "script_location = pkg_of_layouts:migrations",
    )
    monkeypatch.syspath_prepend(shop.directory)
    written = up_and_down(shop)
    assert {path.parent for path in written} == {Path("pkg_of_layouts/migrations/versions")}


def test_labels_and_dependencies(shop: Shop) -> None:
    (shop.versions / "b.py").write_text(EMPTY.format("b1", None, ("billing",), "000000000003"))
    up_and_down(shop, "--head", "billing@head", target="heads")
    assert shop.audit("install", "-t", "customers", "--head", "000000000003").code == 0
    shop.upgrade("heads")
    assert shop.audit("check").code == 0
    shop.downgrade("billing@base")
    assert shop.audit("sync").out.startswith("nothing to do")


def test_squashed_history(shop: Shop) -> None:
    up_and_down(shop)
    for file in shop.versions.glob("*.py"):
        if "AUDIT_RECORD" not in file.read_text("utf-8"):
            file.unlink()
    (first,) = [f for f in shop.versions.glob("*.py") if "000000000003" in f.read_text("utf-8")]
    (shop.versions / "squashed.py").write_text(EMPTY.format("squashed", None, None, None))
    first.write_text(first.read_text("utf-8").replace("000000000003", "squashed"))
    assert shop.audit("install", "-t", "orders", "--dry-run").out == "nothing to write\n"
    assert shop.audit("install", "-t", "customers", "--mask", "email").code == 0
    shop.upgrade()
    assert shop.audit("check").code == 0


def test_a_version_table_of_another_name(shop: Shop) -> None:
    table = "public.schema_history"
    shop.database.execute(f"create table {table} as select * from alembic_version")
    shop.database.execute("drop table alembic_version")
    edit(
        shop.directory / "migrations" / "env.py",
        "connection=connection,",
        "connection=connection, version_table='schema_history',",
    )
    up_and_down(shop)
