"""For env.py: `import audit_toolkit.alembic` makes autogenerate see what is to be audited.

It registers a comparator and the directives (`op.audit_table`, `op.unaudit_table`, `op.create_audit_trail`,
`op.drop_audit_trail`, `op.create_partitioned_index`, `op.drop_partitioned_index`) with every Alembic that this package
supports; env.py needs no more than the import. What a migration writes carries its revision and message, and the user
who runs it; after each step the trail notes what became of audited tables.

`op` is `alembic.op`, and type checkers know the directives on it: `from audit_toolkit.alembic import op`.
"""

from __future__ import annotations

from alembic import op

from audit_toolkit.migrations import autogenerate, hooks
from audit_toolkit.migrations import concurrently as _concurrently  # noqa: F401 - adds its directives

__all__ = ["op"]

autogenerate.register()
hooks.register()
