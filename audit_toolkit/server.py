"""The server's version as named features."""

from __future__ import annotations

from dataclasses import dataclass

from audit_toolkit.errors import ServerVersionError

OLDEST_MAJOR = 14


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL server: its version number as `server_version_num` gives it (150018)."""

    version_num: int

    @property
    def major(self) -> int:
        """14 for every 14.x."""
        return self.version_num // 10000

    def require_supported(self) -> None:
        """Raise `ServerVersionError` below PostgreSQL 14."""
        if self.major < OLDEST_MAJOR:
            raise ServerVersionError(
                f"PostgreSQL {self.major} is too old: the audit trail needs {OLDEST_MAJOR} or newer",
                hint=f"upgrade the server; {OLDEST_MAJOR} to 18 are supported",
            )
