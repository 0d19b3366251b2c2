"""`alembic.op` with the directives of this package, as type checkers see it."""

from typing import Literal, Unpack

from alembic.operations import Operations

from audit_toolkit.declaration import Options

class AuditOperations(Operations):
    """What `op` has."""

    def audit_table(
        self, table: str, *, audit_schema: str = "audit", **options: Unpack[Options]
    ) -> None:
        """Put capture on a table, or change its rule; the options are those of `Audit`."""

    def unaudit_table(self, table: str, *, audit_schema: str = "audit") -> None:
        """Take capture off a table; its events stay."""

    def create_audit_trail(
        self, *, audit_schema: str = "audit", interval: Literal["day", "week", "month"] = "month"
    ) -> None:
        """Make the trail; one that is there already is taken up."""

    def drop_audit_trail(
        self, *, audit_schema: str = "audit", interval: Literal["day", "week", "month"] = "month"
    ) -> None:
        """Remove the trail if it has no events and nothing uses it; otherwise it stays."""

    def create_partitioned_index(
        self, statement: str, *, lock_timeout: str = "3s", statement_timeout: str = "1h"
    ) -> None:
        """Create an index on a partitioned table and every partition, while writes go on."""

    def drop_partitioned_index(self, index: str, *, lock_timeout: str = "3s") -> None:
        """Drop an index of a partitioned table, with those of its partitions."""

op: AuditOperations

__all__ = ["op"]
