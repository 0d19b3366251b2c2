"""What each step of `alembic upgrade` does besides: it says who and why, and has the trail note what changed.

Alembic calls back after a step only, and the context has to be there before it. So the steps are wrapped, in
every run of migrations of this process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext, RevisionStep

from audit_toolkit.attribution.console import operating_system_user
from audit_toolkit.attribution.current import current_context, nested
from audit_toolkit.declaration import find_declarations
from audit_toolkit.errors import AuditError
from audit_toolkit.names import quote_literal
from audit_toolkit.templates import render_statements

if TYPE_CHECKING:
    from audit_toolkit.attribution.values import Json

REASON_LENGTH = 500
"""Characters of the message of a revision that its changes carry."""


def register() -> None:
    """Wrap the steps of every run of migrations from here on; once, however often env.py imports us."""
    run = MigrationContext.run_migrations
    if hasattr(run, "__wrapped__"):
        return

    @wraps(run)
    def run_migrations(self: MigrationContext, **options: Any) -> None:
        steps = self._migrations_fn
        if steps is not None and self.dialect.name == "postgresql":
            self._migrations_fn = lambda heads, context: _wrapped(steps(heads, context), self)
        run(self, **options)

    MigrationContext.run_migrations = run_migrations  # type: ignore[method-assign]


def _wrapped(steps: Iterable[Any], context: MigrationContext) -> Iterator[Any]:
    said = cache(lambda: _said_before(context))
    for step in steps:
        if isinstance(step, RevisionStep):
            step.migration_fn = _with_context(step, context, said)
        yield step


def _with_context(
    step: RevisionStep, context: MigrationContext, said: Callable[[], dict[str, Json]]
) -> Callable[..., None]:
    run = step.migration_fn
    claims = {**_claims(step), **current_context()}
    if context.as_sql:
        del claims["actor"]  # a script may be run by somebody else

    def migrate(**options: Any) -> None:
        with nested(claims):
            document = _literal({**claims, **said()})
            _execute(context, f"select set_config('audit.context', {document}, true)")
            run(**options)
            for statement in render_statements("migrations/note_changes", schema=_schema()):
                _execute(context, statement)

    return migrate


def _claims(step: RevisionStep) -> dict[str, Json]:
    script = step.revision
    return {
        "actor": f"os:{operating_system_user()}",
        "reason": " ".join((script.doc or "").split())[:REASON_LENGTH],
        "source": "alembic",
        "revision": script.revision,
        "direction": "upgrade" if step.is_upgrade else "downgrade",
    }


def _said_before(context: MigrationContext) -> dict[str, Json]:
    """What whoever opened the connection said: it is not taken back."""
    if context.as_sql or context.connection is None:
        return {}
    query = sa.text("select current_setting('audit.context', true)")
    try:
        said = json.loads(context.connection.scalar(query) or "{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _execute(context: MigrationContext, statement: str) -> None:
    if context.as_sql:
        context.impl.static_output(f"{statement};")
    elif context.connection is not None:
        context.connection.execute(sa.text(statement.replace(":", r"\:")))


def _literal(claims: dict[str, Json]) -> str:
    return quote_literal(json.dumps(claims, ensure_ascii=False, separators=(",", ":")))


def _schema() -> str:
    try:
        file = find_declarations()
    except AuditError:
        return "audit"  # autogenerate says what is wrong with the file
    return file.audit_schema if file else "audit"
