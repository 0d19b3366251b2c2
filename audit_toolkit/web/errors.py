"""What the page itself refuses; every viewer may read these."""

from __future__ import annotations

from audit_toolkit.errors import AuditError, UsageError


class NotFoundError(AuditError):
    """What is asked for is not there, or not for this viewer: the answer is the same."""


class AskedError(UsageError):
    """The question cannot be answered as it was asked."""


class RefusedError(AuditError):
    """This viewer may not do that."""
