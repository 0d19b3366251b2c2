"""Projects whose revisions are not where the configuration says: found, or refused with what is seen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from audit_toolkit.errors import ProjectError
from audit_toolkit.migrations import find_project
from audit_toolkit.migrations.environment import add_import, import_advice
from tests.plugins.project import Shop


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")


def revision(name: str, parent: str | tuple[str, ...] | None, *more: str) -> str:
    lines = [f"revision = {name!r}", f"down_revision = {parent!r}", *more]
    return "\n".join([*lines, "def upgrade(): pass", "def downgrade(): pass", ""])


@pytest.fixture
def moved(shop: Shop) -> Shop:
    """Its env.py, and nothing else, says that revisions are in a folder of their own for PostgreSQL."""
    postgresql = shop.versions / "postgresql"
    postgresql.mkdir()
    for file in list(shop.versions.glob("*.py")):
        file.rename(postgresql / file.name)
    edit(
        shop.directory / "migrations" / "env.py",
        "config = context.config\n",
        "config = context.config\n"
        f"context.script.__dict__.pop('_version_locations', None)\n"
        f"context.script.version_locations = [{str(postgresql)!r}]\n",
    )
    return shop


def test_version_locations_that_env_py_sets(moved: Shop) -> None:
    answer = moved.audit("install", "--table", "orders")
    assert answer.code == 0, answer.err
    written = {path.parent.name for path in moved.versions.rglob("*_audit_*.py")}
    assert written == {"postgresql"}
    assert moved.audit("install", "--table", "orders", "--dry-run").out == "nothing to write\n"


def test_without_env_py_they_are_refused_until_somebody_says_where(moved: Shop) -> None:
    answer = moved.audit("install", "--table", "orders", "--no-env")
    assert answer.code == 2
    assert "the database is at 000000000003, which is not a revision of the project" in answer.err
    assert "revisions are read from migrations/versions: 0 of them, heads: none" in answer.err
    assert "--version-path DIRECTORY" in answer.err
    path = "migrations/versions/postgresql"
    assert (
        moved.audit("install", "-t", "orders", "--no-env", "--version-path", path, "--dry-run").code
        == 0
    )
    (moved.directory / "audit.toml").write_text(f'version_path = "{path}"\n')
    answer = moved.audit("install", "--table", "orders", "--no-env")
    assert answer.code == 0, answer.err
    assert {file.parent.name for file in moved.versions.rglob("*_audit_*.py")} == {"postgresql"}


def test_a_branch_that_only_the_program_reads(shop: Shop) -> None:
    expand = shop.versions / "2026.1" / "expand"
    expand.mkdir(parents=True)
    (expand / "e1.py").write_text(revision("e1", "000000000003"))
    contract = shop.versions / "2026.1" / "contract"
    contract.mkdir()
    (contract / "c1.py").write_text(revision("c1", "000000000003"))
    answer = shop.audit("install", "--table", "orders")
    assert answer.code == 2
    assert "has revisions that Alembic does not read with this configuration" in answer.err
    assert "migrations/versions/2026.1/contract/c1.py" in answer.err
    path = ("--version-path", "migrations/versions/2026.1/expand", "--head", "e1")
    answer = shop.audit("install", "--table", "orders", *path)
    assert answer.code == 0, answer.err
    assert len(list(expand.glob("*_audit_*.py"))) == 2
    again = shop.audit("install", "-t", "customers", *path[:2], "--dry-run")
    assert "would write into migrations/versions/2026.1/expand, following" in again.out


def test_revisions_of_an_archive_are_nobody_s(shop: Shop) -> None:
    old = shop.versions / "old"
    old.mkdir()
    (old / "x.py").write_text(revision("x2", "x1"))
    assert shop.audit("install", "--table", "orders").code == 0


def test_a_database_at_a_revision_that_the_project_does_not_have(shop: Shop) -> None:
    shop.database.execute("update alembic_version set version_num = 'feedbeef'")
    answer = shop.audit("install", "--table", "orders")
    assert answer.code == 2
    assert "the database is at feedbeef, which is not a revision" in answer.err
    assert "heads: 000000000003" in answer.err
    assert shop.revisions() == []
    assert shop.audit("install", "--table", "orders", "--head", "000000000003").code == 0


def test_the_version_table_of_another_project_is_not_ours(shop: Shop) -> None:
    shop.database.execute(
        "create table other_version (version_num text); insert into other_version values ('x')"
    )
    assert shop.audit("install", "--table", "orders").code == 0


REPORTS = "\n[reports]\nscript_location = reports\n"


def test_several_sections_in_one_ini(shop: Shop) -> None:
    edit(shop.directory / "alembic.ini", "[alembic]", "[main]")
    with (shop.directory / "alembic.ini").open("a") as ini:
        ini.write(REPORTS)
    answer = shop.audit("install", "--table", "orders")
    assert answer.code == 2
    assert "no script_location in [alembic]; it has one in [main], [reports]" in answer.err
    assert "--name NAME, or alembic_name in [tool.audit_toolkit]" in answer.err
    answer = shop.audit("install", "--table", "orders", "-n", "main", "--upgrade")
    assert answer.code == 0, answer.text
    answer = shop.audit("install", "--table", "customers", "-n", "main")
    assert "  alembic -n main upgrade head\n" in answer.err
    (shop.directory / "audit.toml").write_text('alembic_name = "main"\n')
    assert shop.audit("install", "--table", "customers").code == 0
    assert shop.audit("history", "orders").code == 0
    (shop.directory / "alembic.ini").rename("other.ini")
    (shop.directory / "audit.toml").write_text(
        'alembic_name = "main"\nalembic_config = "other.ini"\n'
    )
    answer = shop.audit("install", "--table", "customers", "--mask", "email")
    assert "  alembic -c other.ini -n main upgrade head\n" in answer.err


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("path_separator = os", "path_separator = ,", "path_separator in alembic.ini", "= os"),
        ("script_location = ", "# ", "alembic.ini has no script_location in [alembic]", "env.py"),
        (
            "script_location = %(here)s/migrations",
            "script_location = gone",
            "script_location in alembic.ini is gone: the directory does not exist",
            "the directory with env.py",
        ),
        (
            "script_location = %(here)s/migrations",
            "script_location = no_such_package:migrations",
            "script_location in alembic.ini is no_such_package:migrations",
            "the directory with env.py",
        ),
    ],
)
def test_a_configuration_with_a_mistake_says_which_line(
    old: str, new: str, message: str, hint: str, shop: Shop
) -> None:
    edit(shop.directory / "alembic.ini", old, new)
    if "path_separator" in new:
        edit(
            shop.directory / "alembic.ini",
            "[alembic]\n",
            "[alembic]\nversion_locations = migrations/versions\n",
        )
    with pytest.raises(ProjectError) as error:
        find_project()
    assert message in error.value.message
    assert hint in str(error.value.hint)
    assert "audit init" not in str(error.value.hint)


def test_no_env_reads_revisions_that_import_what_is_not_installed(shop: Shop) -> None:
    (shop.versions / "app.py").write_text(
        "from superset.utils import core\nimport sqlalchemy_of_another_age\n\n"
        + revision("app", "000000000003", "x = core.x()")
    )
    (shop.directory / "migrations" / "env.py").write_text("import superset\n")
    answer = shop.audit("install", "--table", "orders")
    assert answer.code == 2
    assert "No module named 'superset'" in answer.err
    assert "--no-env" in answer.err
    answer = shop.audit(
        "install", "-t", "orders", "--no-env", "--dsn", shop.database.dsn, "--exclude", "note"
    )
    assert answer.code == 0, answer.err
    again = shop.audit("install", "-t", "orders", "--no-env", "--dsn", shop.database.dsn)
    assert "already audited, with --exclude note" in again.err


def test_what_env_py_lacks_is_said_and_added(shop: Shop) -> None:
    env = shop.directory / "migrations" / "env.py"
    first = shop.audit("install", "--table", "orders")
    assert "migrations/env.py does not import audit_toolkit.alembic" in first.err
    assert "import audit_toolkit.alembic  # noqa: F401" in first.err
    again = shop.audit("install", "--table", "customers")
    assert "audit_toolkit.alembic" not in again.err
    edited = shop.audit("install", "-t", "orders", "--mask", "note", "--edit-env")
    assert "edited migrations/env.py" in edited.err
    assert import_advice(env) is None
    assert not add_import(env)
    shop.alembic("upgrade", "head")


def test_a_schema_for_each_tenant(shop: Shop) -> None:
    for tenant in ("tenant_1", "tenant_2"):
        shop.database.execute(
            f"create schema {tenant}; create table {tenant}.leads (id int primary key)"
        )
        shop.database.execute(f"create table {tenant}.logs (id int)")
    every = ("install", "--all-tables", "--schema", "tenant_*", "--except", "logs")
    assert shop.audit(*every).code == 0
    shop.upgrade()
    triggers = (
        "select tgrelid::regclass::text from pg_trigger where tgname = '00_audit_row' order by 1"
    )
    assert shop.database.execute(triggers) == [("tenant_1.leads",), ("tenant_2.leads",)]

    shop.database.execute("drop schema tenant_2 cascade")
    shop.database.execute(
        "create schema tenant_3; create table tenant_3.leads (id int primary key)"
    )
    answer = shop.audit(*every)
    assert "Starts auditing tenant_3.leads" in answer.err
    shop.upgrade()
    shop.downgrade("-2")
    assert shop.database.execute(triggers) == []


def test_many_tables_are_a_line_each(shop: Shop) -> None:
    for number in range(6):
        shop.database.execute(f"create table t{number} (id int primary key, note text)")
    answer = shop.audit("install", "--all-tables", "--exclude", "note")
    assert "Starts auditing 7 tables: every insert" in answer.err
    assert answer.err.count("Starts auditing") == 2
    text = shop.revisions()[-1].read_text("utf-8")
    lines = [line for line in text.partition("\nCAPTURE")[0].splitlines() if '"t5"' in line]
    (line,) = lines
    assert line.startswith(
        '        {"table": ["public", "t5"], "options": {"exclude": ["note"]}, "hash"'
    )
    assert "sha256" not in text
    again = shop.audit("install", "--all-tables", "--dry-run")
    assert again.out == "nothing to write\n"
    shop.upgrade()
    assert shop.audit("check").code == 0


def test_an_import_below_the_call_is_noticed(tmp_path: Path) -> None:
    env = tmp_path / "env.py"
    body = "def go():\n    context.run_migrations()\n\n\nif context.is_offline_mode():\n    go()\n"
    env.write_text(
        f'"""Doc."""\nfrom __future__ import annotations\n{body}import audit_toolkit.alembic\n'
    )
    assert "in line 9, after the migrations have run in line 8; move it" in str(import_advice(env))
    assert add_import(env)
    assert env.read_text().splitlines()[2] == "import audit_toolkit.alembic  # noqa: F401"
    assert import_advice(env) is None


def test_without_the_toolkit_in_env_py_an_option_leaves_the_trail_alone(shop: Shop) -> None:
    answer = shop.audit("install", "-t", "orders", "--no-env", "--dsn", shop.database.dsn)
    (option,) = re.findall(r"include_name=.*", answer.err)
    edit(
        shop.directory / "migrations" / "env.py",
        "connection=connection,",
        f"connection=connection, include_schemas=True, {option},",
    )
    shop.upgrade()
    shop.alembic("revision", "--autogenerate", "-m", "nothing")
    (written,) = shop.versions.glob("*_nothing.py")
    assert "audit" not in written.read_text("utf-8")
    assert "include_name" not in shop.audit("install", "-t", "customers").err


def test_a_revision_that_would_drop_the_trail_is_refused_whole(shop: Shop) -> None:
    shop.audit("install", "--table", "orders", "--upgrade")
    edit(
        shop.directory / "migrations" / "env.py",
        "connection=connection,",
        "connection=connection, include_schemas=True,",
    )
    shop.alembic("revision", "--autogenerate", "-m", "oops")
    shop.database.execute(
        "insert into customers values (1, 'x'); insert into orders values (1, 1, 'a', 1)"
    )
    answer = shop.run("alembic", "upgrade", "head")
    # By which of its statements depends on the order in which autogenerate wrote them.
    assert answer.code != 0
    assert "psycopg.errors" in answer.err
    assert shop.database.execute("select count(*) from audit.logged_actions") == [(1,)]
    assert shop.audit("check").code == 0


@pytest.mark.thorough
def test_branches_that_disagree_are_settled_by_one_revision(shop: Shop) -> None:
    shop.audit("install", "--table", "orders", "--table", "customers", "--upgrade")
    (head,) = shop.database.execute("select version_num from alembic_version")[0]
    for side, option in (("left", "--exclude"), ("right", "--mask")):
        (shop.versions / f"{side}.py").write_text(revision(side, head))
        answer = shop.audit("install", "-t", "orders", option, "note", "--head", side)
        assert answer.code == 0, answer.err
    left, right = find_project().scripts.get_heads()
    (shop.versions / "merge.py").write_text(revision("merge", (left, right)))
    shop.upgrade()

    answer = shop.audit("install", "--table", "orders")
    assert answer.code == 2
    assert "branches of the project disagree on the capture of public.orders" in answer.err
    assert "--exclude note" in answer.err
    assert "--mask note" in answer.err
    assert shop.audit("install", "--table", "customers", "--dry-run").out == "nothing to write\n"
    checked = shop.audit("check")
    assert checked.code == 3
    assert "branches of the project capture it differently" in checked.out
    answer = shop.audit("install", "--table", "orders", "--mask", "note")
    assert "Settles the capture of public.orders" in answer.err
    shop.upgrade()
    assert shop.audit("install", "-t", "orders", "--dry-run").out == "nothing to write\n"
    assert shop.audit("check").code == 0
    shop.downgrade("-1")
    shop.upgrade()
