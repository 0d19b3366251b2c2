"""What a migration writes says which revision it was, and who ran it; the trail notes what it did to tables."""

from __future__ import annotations

import json
import os
import pwd
from typing import Any

import pytest

from tests.autogenerate.conftest import Declared, MakeDeclared

pytestmark = pytest.mark.thorough

DATA = """\
from alembic import op

revision = "{name}"
down_revision = "{parent}"


def upgrade():
    \"\"\"{name}\"\"\"
    op.execute("{up}")


def downgrade():
    op.execute("delete from orders")
"""
ADD = "insert into customers values (1, 'a@b.c'); insert into orders values (1, 1, 'new', 1)"


def migrate(declared: Declared, name: str, up: str) -> None:
    """A revision of the project with this SQL, applied."""
    (parent,) = declared.database.execute("select version_num from alembic_version")[0]
    text = f'"""fill {name}: it\'s ä :x"""\n\n' + DATA.format(name=name, parent=parent, up=up)
    (declared.shop.versions / f"{name}.py").write_text(text)
    declared.shop.alembic("upgrade", "head")


def contexts(declared: Declared) -> list[dict[str, Any]]:
    rows = declared.database.execute(
        "select context from audit.logged_actions where action in ('I', 'D') order by event_id"
    )
    return [context for (context,) in rows]


ME = f"os:{pwd.getpwuid(os.getuid()).pw_name}"


@pytest.mark.parametrize("template", ["generic", "async"])
def test_a_data_migration_says_who_and_why(template: str, make_declared: MakeDeclared) -> None:
    declared = make_declared(template)
    declared.apply()
    migrate(declared, "abc", ADD if template == "generic" else ADD.partition("; ")[0])
    if template == "async":
        migrate(declared, "abc2", ADD.partition("; ")[2])
    said = contexts(declared)[0]
    assert said == {
        "actor": ME,
        "reason": f"fill {said['revision']}: it's ä :x",
        "source": "alembic",
        "revision": "abc2" if template == "async" else "abc",
        "direction": "upgrade",
    }
    declared.shop.alembic("downgrade", "-1")
    assert contexts(declared)[-1]["direction"] == "downgrade"
    context = "select current_setting('audit.context', true)"
    assert declared.database.connect().execute(context).fetchone() in [(None,), ("",)]


def test_what_the_connection_says_already_is_kept(declared: Declared) -> None:
    declared.apply()
    name = declared.database.name
    value = json.dumps({"actor": "ci", "run": 7})
    declared.database.execute(f"alter database {name} set audit.context = '{value}'")
    migrate(declared, "abc", ADD)
    said = contexts(declared)[0]
    assert (said["actor"], said["run"], said["revision"]) == ("ci", 7, "abc")


def test_a_script_for_psql_names_the_revision_but_not_who_printed_it(declared: Declared) -> None:
    declared.apply()
    migrate(declared, "abc", ADD)
    script = declared.shop.alembic("upgrade", "--sql", "000000000003:head").out
    assert '"revision":"abc"' in script
    assert ME not in script


def test_a_rename_is_noted_right_after_its_step(declared: Declared) -> None:
    declared.apply()
    migrate(declared, "abc", ADD)
    declared.shop.audit("install", "--table", "orders")
    migrate(declared, "def", "alter table orders rename to purchases")
    noted = declared.database.execute(
        "select table_name, new_row ->> 'change', context ->> 'revision' from audit.logged_actions"
        " where action = 'M'"
    )
    assert noted == [("purchases", "renamed", "def")]
