"""What is claimed now, in this thread or task.

The variable holds an object that `set_actor` changes in place: a value that is set anew in a copied
context, as in FastAPI's sync dependencies, would be lost when the copy ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from audit_toolkit.attribution.values import Json, as_document
from audit_toolkit.errors import ContextError

Late = Callable[[], Mapping[str, Json]]
"""Gives what is only known when something is written: a route, a trace. Checked by who makes it."""


class Claims:
    """What is claimed inside one `with` block."""

    __slots__ = ("_document", "_late", "_values")

    def __init__(self, values: Mapping[str, Json], late: Late | None = None) -> None:
        self._late = late
        self._values: dict[str, Json] = {}
        self._document = ""
        self.update(values)

    def update(self, values: Mapping[str, Json]) -> None:
        """Claim these too; None leaves what was there. Raises `ContextError`, changing nothing."""
        said = {key: value for key, value in values.items() if value is not None}
        self._document = as_document({**self._values, **said})
        self._values = json.loads(self._document or "{}")  # a copy, which the caller cannot change

    def extended(self, values: Mapping[str, Json], late: Late | None = None) -> Claims:
        """A copy that claims these too."""
        copy = Claims(self._values, late or self._late)
        copy.update(values)
        return copy

    @property
    def document(self) -> str:
        """The JSON text for the server, an empty string where nothing is claimed."""
        if self._late is None:
            return self._document
        return json.dumps(
            {**self._late(), **self._values}, ensure_ascii=False, separators=(",", ":")
        )


_current: ContextVar[Claims | None] = ContextVar("audit_toolkit.context", default=None)


@dataclass(slots=True)
class Block:
    """A `with` block, or several in turn, in which these claims are the current ones."""

    claims: Claims
    _outer: Claims | None = None
    _entered: bool = False

    def __enter__(self) -> None:
        if self._entered:
            raise ContextError(
                "this context is already in use, perhaps by another thread or task",
                hint="call audit_toolkit.context(…) for each with statement",
            )
        self._outer, self._entered = _current.get(), True
        _current.set(self.claims)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # No token: a generator may finish in another context than it started in.
        _current.set(self._outer)
        self._entered = False


def context(*, actor: Json = None, reason: Json = None, **values: Json) -> Block:
    """Claim who and why for the writes in a block.

        with context(actor="user:42", reason="refund #17"):
            …

    Blocks nest: an inner one adds to and overrides what it finds, and None leaves it as it is. A
    thread that is started inside begins without one; a task begins with the one that it was started
    in. Raises `ContextError` for values that are no JSON, larger than 8 KiB in all, or named like
    secrets. Costs nothing on the server by itself: see `attach`.
    """
    return nested({"actor": actor, "reason": reason, **values})


def set_actor(actor: Json, /, **values: Json) -> None:
    """Claim who, and more, from the next write on to the end of the innermost block.

    Raises `ContextError` outside of any block, and for values that `context` refuses.
    """
    claims = _current.get()
    if claims is None:
        raise ContextError(
            "there is no context to set the actor in",
            hint="open one first: with audit_toolkit.context(): …, or add ContextMiddleware",
        )
    claims.update({"actor": actor, **values})


def current_context() -> dict[str, Any]:
    """What the next write would carry, as a new dict."""
    values: dict[str, Any] = json.loads(current_document() or "{}")
    return values


def current_document() -> str:
    """What the next write would carry, as JSON text for the server; an empty string for nothing."""
    claims = _current.get()
    return "" if claims is None else claims.document


def nested(values: Mapping[str, Json], late: Late | None = None) -> Block:
    """A block that adds these values, and what `late` gives, to the current ones."""
    outer = _current.get()
    return Block(Claims(values, late) if outer is None else outer.extended(values, late))
