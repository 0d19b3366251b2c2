"""Who may do what with the trail, as SQL to be read and run by its owner."""

from __future__ import annotations

from audit_toolkit.install.trail import READER_FUNCTIONS
from audit_toolkit.templates import render_statements


def render_grants(
    schema: str,
    owner: str,
    *,
    reader: str | None = None,
    maintainer: str | None = None,
    installer: str | None = None,
) -> list[str]:
    """The statements that let these roles read the trail, maintain it, or install capture.

    Nothing is ever granted on leaves: a grant there would go past row security of the parent.
    """
    roles = {"reader": reader, "maintainer": maintainer, "installer": installer}
    return [
        statement
        for part, role in roles.items()
        if role is not None
        for statement in render_statements(
            f"grants/{part}", schema=schema, owner=owner, role=role, functions=READER_FUNCTIONS
        )
    ]
