"""Whatever the project's own revisions do to audited tables, the whole history goes down and up again."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from alembic.util import rev_id

from tests.plugins.database import Database, MakeDatabase
from tests.plugins.project import MakeShop, Shop
from tests.plugins.seeds import seeds, some_quick

SEQUENCES = int(os.environ.get("DOWN_AND_UP_SEQUENCES", "3"))

REVISION = """\
from alembic import op

revision = {revision!r}
down_revision = {parent!r}


def upgrade():
    op.execute({up!r})


def downgrade():
    op.execute({down!r})
"""


@dataclass
class History:
    """A project to which revisions are added, its own and those of `audit`, each applied at once."""

    shop: Shop
    told: list[str] = field(default_factory=list)
    """What was done, for whoever reads a failure."""

    def migrate(self, up: str, down: str) -> None:
        """A revision of the project itself."""
        revision = rev_id()
        (parent,) = self.shop.database.execute("select version_num from alembic_version")[0]
        text = REVISION.format(revision=revision, parent=parent, up=up, down=down)
        (self.shop.versions / f"{revision}_own.py").write_text(text)
        self.shop.upgrade()
        self.told.append(up)

    def audit(self, *arguments: str) -> None:
        """A revision of ours."""
        answer = self.shop.audit(*arguments)
        assert answer.code == 0, (self.told, answer.err)
        self.shop.upgrade()
        self.told.append(" ".join(arguments))

    def by_hand(self, statement: str) -> None:
        """What somebody does to the database, and no revision knows of."""
        self.shop.database.execute(statement)
        self.told.append(f"by hand: {statement}")

    def from_base(self, database: Database) -> None:
        """Another database, which the revisions alone make, gets the same capture; and down to the base again."""
        ini = self.shop.directory / "alembic.ini"
        address, other = (d.dsn.partition("://")[2] for d in (self.shop.database, database))
        text = ini.read_text("utf-8")
        assert address in text
        ini.write_text(text.replace(address, other), "utf-8")
        self.shop.upgrade()
        there = Shop(self.shop.directory, database)
        assert captured(there) == captured(self.shop), self.told
        self.shop.downgrade("base")
        assert captured(there) == []
        ini.write_text(text, "utf-8")

    def walk(self, *, whole: bool = False) -> None:
        """Down one by one, each step taken twice, and up again; capture is in the end as it was before.

        Down to the trail, whose revision is the same in all histories, or the `whole` of it.
        """
        before = captured(self.shop)
        newest_first = ScriptDirectory.from_config(self.shop.config()).walk_revisions()
        names = [Path(revision.path).stem for revision in newest_first]
        (trail,) = (place for place, name in enumerate(names) if name.endswith("create_the_trail"))
        steps = len(names) - 3 if whole else trail
        for _ in range(steps):
            self.shop.downgrade("-1")
            self.shop.upgrade("+1")
            self.shop.downgrade("-1")
        self.shop.upgrade()
        assert captured(self.shop) == before, self.told


def captured(shop: Shop) -> list[tuple[object, ...]]:
    """The triggers of ours on tables, with the functions that they call."""
    return list(
        shop.database.execute(
            "select tgrelid::regclass::text, tgname, tgfoid::regproc::text, tgenabled from pg_trigger"
            " where tgname like '00\\_audit%' and tgrelid::regclass::text not like 'audit.%' order by 1, 2"
        )
    )


@pytest.fixture
def history(shop: Shop) -> History:
    return History(shop)


CREATE = "create table {0} (id int primary key, note text)"


def test_uninstall_after_the_table_was_dropped(history: History) -> None:
    history.migrate(CREATE.format("parts"), "drop table parts")
    history.audit("install", "--table", "parts")
    history.migrate("drop table parts", CREATE.format("parts"))
    history.audit("uninstall", "--table", "parts")
    history.walk()


def test_the_table_became_a_view(history: History) -> None:
    history.migrate(CREATE.format("parts"), "drop table parts")
    history.audit("install", "--table", "parts")
    history.migrate(
        "drop table parts; create view parts as select 1 as id",
        f"drop view parts; {CREATE.format('parts')}",
    )
    history.audit("uninstall", "--table", "parts")
    history.walk()


def test_uninstall_after_a_rename_and_a_drop(history: History) -> None:
    history.migrate(CREATE.format("parts"), "drop table parts")
    history.audit("install", "--table", "parts")
    history.migrate("alter table parts rename to pieces", "alter table pieces rename to parts")
    history.migrate("drop table pieces", CREATE.format("pieces"))
    history.audit("uninstall", "--table", "pieces")
    history.walk()


@pytest.mark.parametrize("named", some_quick(["parts", "pieces"], ["parts"]))
def test_uninstall_after_a_rename_comes_back_on_the_table_as_it_was_called(
    named: str, history: History
) -> None:
    history.migrate(CREATE.format("parts"), "drop table parts")
    history.audit("install", "--table", "parts")
    history.migrate("alter table parts rename to pieces", "alter table pieces rename to parts")
    before = captured(history.shop)
    history.audit("uninstall", "--table", named)
    assert captured(history.shop) == []
    history.shop.downgrade("-1")
    assert captured(history.shop) == before
    history.shop.upgrade()
    history.walk()


def test_reinstall_after_a_rename(history: History) -> None:
    history.migrate(CREATE.format("parts"), "drop table parts")
    history.audit("install", "--table", "parts")
    history.migrate("alter table parts rename to pieces", "alter table pieces rename to parts")
    before = captured(history.shop)
    history.audit("install", "--table", "pieces", "--exclude", "note")
    history.shop.downgrade("-1")
    assert captured(history.shop) == before
    history.shop.upgrade()
    history.walk()


def test_what_is_put_back_means_the_columns_that_it_meant(history: History) -> None:
    run = history.shop.database.execute
    history.migrate("create table people (id int primary key, name text, pin text)", "select 1")
    history.audit("install", "--table", "people", "--only", "name")
    run(
        "alter table people rename id to nr; alter table people rename name to nick;"
        " alter table people rename pin to name"
    )
    history.audit("install", "--table", "people", "--only", "nick")
    history.shop.downgrade("-1")
    run("insert into people values (1, 'Ann', 'hunter2')")
    events = "select row_key, new_row from audit.logged_actions where action = 'I'"
    assert run(events) == [("1", {"nr": 1, "nick": "Ann"})]
    history.shop.upgrade()
    run("delete from people")
    assert run("select row_key, old_row from audit.logged_actions where action = 'D'") == run(
        events
    )


@pytest.mark.thorough
def test_a_schema_that_was_renamed_or_dropped(history: History) -> None:
    history.migrate("create schema sales", "drop schema sales cascade")
    history.migrate(CREATE.format("sales.leads"), "drop table sales.leads")
    history.audit("install", "--table", "sales.leads")
    history.migrate("alter schema sales rename to crm", "alter schema crm rename to sales")
    history.audit("install", "--table", "crm.leads", "--exclude", "note")
    history.migrate("drop schema crm cascade", f"create schema crm; {CREATE.format('crm.leads')}")
    history.audit("uninstall", "--table", "crm.leads")
    history.walk()


@pytest.mark.parametrize(
    ("by_hand", "now"),
    [
        pytest.param("alter table parts rename to pieces", "pieces", marks=pytest.mark.thorough),
        (
            'create schema crm; alter table parts set schema crm; alter table crm.parts rename to "Pieces"',
            'crm."Pieces"',
        ),
    ],
)
def test_a_rename_by_hand_gets_a_revision_of_its_own(
    by_hand: str, now: str, history: History, make_database: MakeDatabase
) -> None:
    history.migrate(CREATE.format("parts"), "drop table parts")
    history.audit("install", "--table", "parts")
    history.by_hand(by_hand)
    history.by_hand(
        CREATE.format("parts")
    )  # another table with the name that the revision captures
    assert "recorded_not_audited" not in history.shop.audit("check").out
    history.by_hand("drop table parts")
    answer = history.shop.audit("install", "--table", now, "--exclude", "note")
    assert f"to {now if '.' in now else f'public.{now}'} unless that is done" in answer.err
    assert "audit_follow_the_rename_of_parts.py" in answer.err
    history.shop.upgrade()
    assert captured(history.shop)[0][0] == now
    again = history.shop.audit("install", "--table", now, "--mask", "note", "--dry-run")
    assert "nobody has" not in again.out
    history.from_base(make_database())
    history.walk()
    (renames,) = history.shop.versions.glob("*_follow_the_rename_*.py")
    assert "'00_" not in renames.read_text("utf-8")


@pytest.mark.thorough
def test_a_rename_by_hand_after_one_by_a_migration(
    history: History, make_database: MakeDatabase
) -> None:
    history.migrate(CREATE.format("parts"), "drop table parts")
    history.audit("install", "--table", "parts")
    history.migrate("alter table parts rename to pieces", "alter table pieces rename to parts")
    history.by_hand("alter table pieces rename to bits")
    history.audit("install", "--table", "bits")
    history.from_base(make_database())
    history.walk()


def test_a_rename_by_hand_that_a_migration_makes_up_for(
    history: History, make_database: MakeDatabase
) -> None:
    history.migrate(CREATE.format("parts"), "drop table parts")
    history.audit("install", "--table", "parts")
    history.by_hand("alter table parts rename to pieces")
    history.migrate(
        "alter table if exists parts rename to pieces",
        "alter table if exists pieces rename to parts",
    )
    history.audit("install", "--table", "pieces", "--exclude", "note")
    assert not list(history.shop.versions.glob("*_follow_*.py"))
    history.from_base(make_database())


def test_uninstall_after_a_rename_by_hand(history: History, make_database: MakeDatabase) -> None:
    history.migrate(CREATE.format("parts"), "drop table parts")
    history.audit("install", "--table", "parts")
    history.by_hand("alter table parts rename to pieces")
    history.audit("uninstall", "--table", "pieces")
    history.from_base(make_database())


@pytest.mark.thorough
def test_tables_dropped_or_made_anew_by_hand(history: History, make_database: MakeDatabase) -> None:
    for name in ("parts", "spares"):
        history.migrate(CREATE.format(name), f"drop table if exists {name}")
        history.audit("install", "--table", name)
    history.by_hand("drop table parts; drop table spares; " + CREATE.format("spares"))
    history.audit("uninstall", "--table", "parts")
    history.audit("install", "--table", "spares", "--exclude", "note")
    history.from_base(make_database())


RULES = ((), ("--exclude", "note"), ("--mask", "note"), ("--capture", "statement"))


def wander(history: History, chance: random.Random, steps: int) -> None:
    """Revisions at random: tables come, go and are renamed; capture comes, changes and goes."""
    tables: dict[str, bool] = {}
    fresh = iter(range(1000))
    for _ in range(steps):
        table = chance.choice(sorted(tables)) if tables else None
        match chance.choice(
            ("create", "install", "install", "uninstall", "rename", "rename by hand", "drop")
        ):
            case "install" if table:
                history.audit("install", "--table", table, *chance.choice(RULES))
                tables[table] = True
            case "uninstall" if table and tables[table]:
                history.audit("uninstall", "--table", table)
                tables[table] = False
            case "rename" if table:
                new = f"t{next(fresh)}"
                tables[new] = tables.pop(table)
                history.migrate(
                    f"alter table {table} rename to {new}", f"alter table {new} rename to {table}"
                )
            case "rename by hand" if table:
                new = f"t{next(fresh)}"
                history.by_hand(f"alter table {table} rename to {new}")
                if tables.pop(table):
                    history.audit("install", "--table", new, *chance.choice(RULES))
                    tables[new] = True
                else:
                    history.migrate(
                        f"alter table if exists {table} rename to {new}",
                        f"alter table if exists {new} rename to {table}",
                    )
                    tables[new] = False
            case "drop" if table:
                history.migrate(f"drop table {table}", CREATE.format(table))
                if tables.pop(table) and chance.random() < 0.7:
                    history.audit("uninstall", "--table", table)
            case _:
                new = f"t{next(fresh)}"
                tables[new] = False
                history.migrate(CREATE.format(new), f"drop table {new}")


@pytest.mark.parametrize("seed", seeds(SEQUENCES, quick=0))
def test_random_histories(seed: int, make_shop: MakeShop, make_database: MakeDatabase) -> None:
    history = History(make_shop())
    wander(history, random.Random(seed), 8 if SEQUENCES <= 3 else 16)
    history.from_base(make_database())
    history.walk(whole=True)
