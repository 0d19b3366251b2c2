"""For env.py: `import audit_toolkit.alembic` makes autogenerate see what is to be audited.

It registers a comparator, and `op.audit_table`, `op.unaudit_table`, `op.create_audit_trail` and
`op.drop_audit_trail`, with every Alembic that this package supports; env.py needs no more than the import.
What a migration writes carries its revision and message, and the user who runs it; after each step the trail
notes what became of audited tables.
"""

from __future__ import annotations

from audit_toolkit.migrations import autogenerate, hooks

autogenerate.register()
hooks.register()
