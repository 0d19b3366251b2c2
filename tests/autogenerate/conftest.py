"""A project whose models declare what is audited."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.plugins.database import Database
from tests.plugins.project import Answer, MakeShop, Shop

HEAD = """\
import sqlalchemy as sa
from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql

from audit_toolkit import Audit


class Base:
    metadata = sa.MetaData()


"""
CUSTOMERS = """
Table(
    "customers",
    Base.metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("email", sa.Text, nullable=False),
)
"""
ORDERS = """
Table(
    "orders",
    Base.metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("customer_id", sa.Integer, sa.ForeignKey("customers.id"), nullable=False),
    Column("status", sa.Text, nullable=False),
    Column("total", sa.Numeric(12, 2), nullable=False),
    Column("note", sa.Text),
    info={"audit": Audit()},
)
"""
MODELS = CUSTOMERS + ORDERS


@dataclass(frozen=True, slots=True)
class Declared:
    """A project, and short words for what people do with it."""

    shop: Shop

    @property
    def database(self) -> Database:
        """Its database."""
        return self.shop.database

    def models(self, text: str) -> None:
        """Let models.py say this."""
        (self.shop.directory / "models.py").write_text(HEAD + text)

    def file(self, text: str, name: str = "audit.toml") -> None:
        """Let a file of declarations say this."""
        (self.shop.directory / name).write_text(textwrap.dedent(text))

    def configure(self, *options: str) -> None:
        """Let env.py pass these to context.configure."""
        env = self.shop.directory / "migrations" / "env.py"
        changed = env.read_text().replace(
            "target_metadata=target_metadata",
            ", ".join(["target_metadata=target_metadata", *options]),
        )
        env.write_text(changed)

    def revise(self) -> str:
        """Run `alembic revision --autogenerate`; the text of what it wrote."""
        before = set(self.shop.versions.glob("*.py"))
        self.shop.alembic("revision", "--autogenerate", "-m", "declared")
        (written,) = set(self.shop.versions.glob("*.py")) - before
        return written.read_text()

    def apply(self) -> str:
        """Write a revision, apply it, and see that `alembic check` has nothing to add."""
        text = self.revise()
        self.shop.alembic("upgrade", "head")
        self.check_clean()
        return text

    def undo(self) -> None:
        """Downgrade by one revision, and forget that it ever was."""
        newest = self.shop.revisions()[-1]
        self.shop.alembic("downgrade", "-1")
        newest.unlink()

    def check(self) -> Answer:
        """Run `alembic check`."""
        return self.shop.run("alembic", "check")

    def check_clean(self) -> None:
        """See that nothing is left to be generated."""
        answer = self.check()
        assert answer.code == 0, answer.text
        assert "No new upgrade operations detected." in answer.text

    def captured(self) -> list[str]:
        """The tables with a row trigger of ours."""
        return [
            table
            for (table,) in self.database.execute(
                "select tgrelid::regclass::text from pg_trigger"
                " where tgparentid = 0 and tgname in ('00_audit_row', '00_audit_rows', '00_audit_insert') order by 1"
            )
        ]

    def events(self) -> list[tuple[str, str, str | None]]:
        """What the trail has."""
        rows = self.database.execute(
            "select table_name, action, row_key from audit.logged_actions order by event_id"
        )
        return [(table, action, key) for table, action, key in rows]


MakeDeclared = Callable[..., Declared]


@pytest.fixture
def make_declared(make_shop: MakeShop) -> MakeDeclared:
    """Call it with the name of a template for a project that imports us in its env.py."""

    def make(template: str = "generic") -> Declared:
        shop = make_shop(template)
        env: Path = shop.directory / "migrations" / "env.py"
        env.write_text("import audit_toolkit.alembic\n" + env.read_text())
        declared = Declared(shop)
        declared.models(MODELS)
        return declared

    return make


@pytest.fixture
def declared(make_declared: MakeDeclared) -> Declared:
    """A project of the generic template whose model of `orders` says that it is audited."""
    return make_declared()
