"""The command line on a test's database."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import pytest
from typer.testing import Result

if TYPE_CHECKING:  # plugins are imported by the root's conftest, which comes later than this one
    from tests.plugins.trail import Trail


class Audit(Protocol):
    """Runs the command; fails unless it ends with that code."""

    def __call__(self, *arguments: str, code: int = 0) -> Result: ...


SILENCED = """
    do $$ declare one record; begin
        for one in
            select distinct t.tgrelid::regclass as relation, t.tgname as name
            from pg_trigger as t where t.tgname like '00\\_audit\\_%%' and t.tgparentid = 0
        loop
            execute format('alter table %%s %s trigger %%I', one.relation, one.name);
        end loop;
    end $$
"""


def tamper(trail: Trail, statement: str) -> None:
    """What a superuser can do behind capture and guard, so that nothing is recorded of it."""
    trail.execute(SILENCED % "disable")
    trail.execute(statement)
    trail.execute(SILENCED % "enable always")


@pytest.fixture
def audit(audit: Audit) -> Audit:
    """The command line, which has to succeed where no other `code` is expected."""
    return partial(audit, code=0)
