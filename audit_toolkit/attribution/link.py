"""One connection: what its transaction carries already, and what is due before a statement."""

from __future__ import annotations

from dataclasses import dataclass

from audit_toolkit.attribution.current import current_document
from audit_toolkit.attribution.statements import Kind, is_script, kind_of
from audit_toolkit.errors import ContextError

SET_CONTEXT = "select set_config('audit.context', %s, true)"
"""Local to the transaction, so that a pooled connection never hands it to another client."""


@dataclass(slots=True)
class Link:
    """What we know of one connection. The rule: a write carries what is claimed at that moment, or
    nothing.
    """

    sees_all: bool = False
    """Whether every transaction and savepoint begins and ends in our sight. Where it does not, what
    was said before may be gone, and is said again with every write."""
    said: str | None = ""
    """What the transaction carries; None when that is unknown."""

    def due(self, statement: str, *, new_transaction: bool) -> str | None:
        """What to say before this statement: a document, an empty string to take one back, None for
        nothing.
        """
        if new_transaction:
            self.said = ""
        kind = kind_of(statement)
        if kind is Kind.OTHER:
            self.said = None
        if kind is Kind.OTHER or kind is Kind.READ:
            return None
        document = current_document()
        if document == self.said and (self.sees_all or not document):
            return None
        self.said = document
        return document

    def forget(self) -> None:
        """What the transaction carries has changed behind our back."""
        self.said = None


def fits_pipeline(statement: str, *, autocommit: bool) -> bool:
    """Whether a write can go to the server in one batch with the context before it.

    Not several statements at once. And in autocommit, where the batch is the transaction, nothing
    that may commit by itself: PostgreSQL before 17 would forget the context, later ones refuse the
    commit.
    """
    return not (autocommit and kind_of(statement) is Kind.BLOCK) and not is_script(statement)


def refuse_autocommit(statement: str) -> ContextError:
    """The error for a write that cannot carry the context because it is its own transaction."""
    verb = (statement.split() or [""])[0].lower()
    return ContextError(
        f"in autocommit this {verb} cannot carry the context, which lasts for one transaction",
        hint="open a transaction around it, as in: with connection.transaction(): …",
    )
