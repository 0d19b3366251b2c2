"""One connection: what its transaction carries already, and what is due before a statement."""

from __future__ import annotations

from dataclasses import dataclass

from audit_toolkit.attribution.current import current_document
from audit_toolkit.attribution.statements import Kind, is_script, kind_of, verb_of
from audit_toolkit.errors import ContextError

SET_CONTEXT = "select set_config('audit.context', %s, true)"
"""Local to the transaction, so that a pooled connection never hands it to another client."""

SET_CONTEXT_AND_TELL = """\
with said as materialized (select set_config('audit.context', %s, true) as context)
select context, pg_logical_emit_message(true, 'audit.context', json_build_object(
    'context', context, 'session_user', session_user, 'role', nullif(current_setting('role'), 'none'),
    'application_name', current_setting('application_name'), 'client_addr', host(inet_client_addr()),
    'transaction_tstamp', transaction_timestamp())::text)
from said"""
"""The same, also into the WAL, for tables that are captured from it: with what a trigger would have seen."""


@dataclass(slots=True)
class Link:
    """What we know of one connection. A write carries what is claimed at that moment, or nothing."""

    sees_all: bool = False
    """Whether every transaction and savepoint begins and ends in our sight. Where it does not, what
    was said may have been taken back, and is said again with every write."""
    tells_wal: bool = False
    """Whether the WAL is told, too."""
    known: str | None = ""
    """What the transaction carries; None when that is unknown."""

    @property
    def statement(self) -> str:
        """What sends the context."""
        return SET_CONTEXT_AND_TELL if self.tells_wal else SET_CONTEXT

    def due(self, statement: str, *, new_transaction: bool) -> str | None:
        """What to say before this statement: a document, or an empty string to take one back.

        None if there is nothing to send. The caller calls `said` after sending it.
        """
        if new_transaction:
            self.known = ""
        kind = kind_of(statement)
        if kind is Kind.OTHER:
            self.known = None
        if kind is Kind.OTHER or kind is Kind.READ:
            return None
        document = current_document()
        if document == self.known:
            return None
        self.known = None
        return document

    def said(self, document: str) -> None:
        """The transaction carries this from now on, until we know better."""
        self.known = document if self.sees_all else None

    def forget(self) -> None:
        """What the transaction carries has changed behind our back."""
        self.known = None


def fits_pipeline(statement: str, *, autocommit: bool) -> bool:
    """Whether a write can go to the server in one batch with the context before it.

    Not several statements at once. And in autocommit, where the batch is the transaction, nothing
    that may commit by itself: PostgreSQL 15 forgets the context there, 18 refuses the commit.
    """
    return not (autocommit and kind_of(statement) is Kind.BLOCK) and not is_script(statement)


def refuse_autocommit(statement: str) -> ContextError:
    """The error for a write that cannot carry the context because it is its own transaction."""
    return ContextError(
        f"in autocommit this {verb_of(statement)} cannot carry the context, which lasts for "
        "one transaction",
        hint="run it in a transaction: with connection.transaction(): …",
    )
