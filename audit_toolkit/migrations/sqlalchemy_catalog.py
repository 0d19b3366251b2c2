"""The catalogues read through a connection of SQLAlchemy, whatever driver env.py chose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Self, cast

import sqlalchemy as sa

if TYPE_CHECKING:
    import psycopg


class _Reader:
    """As much of a psycopg connection as `connection.fetch` uses; itself its only cursor."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def cursor(self, **_: object) -> AbstractContextManager[Self]:
        return nullcontext(self)

    def execute(self, query: str, parameters: Mapping[str, object] | None = None) -> Self:
        text = query.replace(":", r"\:")
        if parameters is not None:
            text = re.sub(r"%\((\w+)\)s", r":\1", text).replace("%%", "%")
        self._result = self._connection.execute(sa.text(text), dict(parameters or {}))
        return self

    def fetchall(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self._result.mappings()]


def reader(connection: sa.Connection) -> psycopg.Connection[Any]:
    """`connection` for the functions of `catalog`, which only read."""
    return cast("psycopg.Connection[Any]", _Reader(connection))
