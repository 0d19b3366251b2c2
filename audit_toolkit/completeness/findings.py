"""What is not complete, how bad that is, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An error: something happened past the trail. A warning: the trail cannot show that nothing did."""

    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that the trail and the database do not agree on."""

    kind: str
    severity: Severity
    subject: str
    """The table, and the key of the row where it is about one: `public.orders 42`."""
    message: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        """The finding as JSON values."""
        return asdict(self)
