"""Frozen SQL in a revision of autogenerate: it needs neither this package nor a connection to run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.autogenerate.render import renderers
from alembic.operations import MigrateOperation
from alembic.util import CommandError

from audit_toolkit.migrations.project import shown
from audit_toolkit.migrations.revision.shared_text import share
from audit_toolkit.migrations.revision.text import Revision, render

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext


class RunSql(MigrateOperation):
    """Runs the SQL of one part of a revision, up or down."""

    def __init__(self, part: Revision, whole: Revision, *, up: bool = True) -> None:
        self.part, self.whole, self.up = part, whole, up

    def reverse(self) -> RunSql:
        """The same part, the other way."""
        return RunSql(self.part, self.whole, up=not self.up)

    def to_diff_tuple(self) -> tuple[str, str]:
        """What `alembic check` prints."""
        return ("audit", " ".join(self.part.summary))


@renderers.dispatch_for(RunSql)
def _render_sql(context: AutogenContext, operation: RunSql) -> list[str]:
    _require_places(context)
    context.imports.add(_Last("\n" + render(share(operation.whole)).imports.strip("\n") + "\n"))
    body = render(share(operation.part))
    # Alembic indents each line by itself; a template would leave that to us.
    lines = (body.upgrades if operation.up else body.downgrades).splitlines()
    return [line.removeprefix("    ") for line in lines]


def _require_places(context: AutogenContext) -> None:
    """Raise `CommandError` where the template of the project would drop some of the SQL."""
    environment = context.migration_context.environment_context
    if environment is None:
        return  # code that calls Alembic from Python renders the revision by itself
    template = Path(environment.script.dir, "script.py.mako")
    text = template.read_text("utf-8", "replace") if template.is_file() else ""
    for place, pattern in _PLACES.items():
        if text and not re.search(pattern, text, re.MULTILINE):
            raise CommandError(
                f"audit: {shown(template)} does not print ${{{place}}}, where SQL of capture goes; "
                "print it as Alembic's own template does"
            )


_PLACES = {"imports": r"^\$\{ *imports\b", "upgrades": "upgrades", "downgrades": "downgrades"}


class _Last(str):
    """Text that sorts behind all other: Alembic prints what revisions import in order."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __lt__(self, other: str) -> bool:
        return isinstance(other, _Last) and str.__lt__(self, other)

    def __gt__(self, other: str) -> bool:
        return not isinstance(other, _Last) or str.__gt__(self, other)
