"""Who could be in the way of a step that did not obtain its lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def name_blockers(connection: Connection, schema: str) -> str:
    """The oldest transactions with a lock on the trail, prepared ones too, in words; empty where there are none.

    A lock that was waited for in vain shows no more who had it, and one on a row never shows for long: so it may be
    another one of them.
    """
    return "; ".join(
        f"{who['who']} ({who['role']}, {who['application']}) has {who['mode']} on "
        f"{schema}.{who['relation']} since {who['since']}"
        for who in fetch(connection, render("queries/locks_on_trail"), {"schema": schema})
    )
