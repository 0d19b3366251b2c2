"""Who wrote, by the message that `attach` writes to the WAL: a claim, all of it, as anybody can write one. No I/O."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from audit_toolkit.config import CONTEXT_LIMIT

Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface

MESSAGE_LIMIT = 8 * CONTEXT_LIMIT
"""Of a longer one the size is recorded: anybody may write one of a gigabyte."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_JSONB = re.compile(r"\\u0000|[eE][+-]?\d{4,}")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def _refuse(name: str) -> None:
    raise ValueError(name)


_STRICT = json.JSONDecoder(parse_constant=_refuse)
"""Of JSON as PostgreSQL takes it: without NaN and Infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """What the application said of a change."""

    context: str | None = None
    session_user_name: str | None = None
    role_name: str | None = None
    application_name: str | None = None
    client_addr: Address | None = None
    transaction_moment: int | None = None
    """When the transaction began, in microseconds since 2000, as PostgreSQL has it."""


NOBODY = Who()


def who_of(message: bytes | None) -> Who:
    """Who wrote, by the message of `attach`; what is not as it writes it counts as not said."""
    if message is None:
        return NOBODY
    if len(message) > MESSAGE_LIMIT:
        return Who(context=_oversize(len(message)))
    return _read(message)


@lru_cache(maxsize=64)
def _read(message: bytes) -> Who:
    try:
        said = json.loads(message)
    except (ValueError, RecursionError):
        return NOBODY
    if not isinstance(said, dict):
        return NOBODY
    return Who(
        context=_context(_text(said, "context")),
        session_user_name=_text(said, "session_user"),
        role_name=_text(said, "role"),
        application_name=_text(said, "application_name"),
        client_addr=_address(_text(said, "client_addr")),
        transaction_moment=_moment(_text(said, "transaction_tstamp")),
    )


def _text(said: dict[str, Any], name: str) -> str | None:
    value = said.get(name)
    if not isinstance(value, str) or not value or "\0" in value or _has_surrogate(value):
        return None
    return value


def _has_surrogate(text: str) -> bool:
    return _SURROGATE.search(text) is not None


def _context(text: str | None) -> str | None:
    """The context as JSON that PostgreSQL takes; of one beyond the limit its size, as in triggers."""
    if text is None:
        return None
    length = len(text.encode())
    if length > CONTEXT_LIMIT:
        return _oversize(length)
    try:
        told = _STRICT.decode(text)
        # The text itself has no surrogate, so that only an escape can be one.
        is_jsonb = not _NOT_JSONB.search(text) and not (
            "\\u" in text and any(map(_has_surrogate, _strings(told)))
        )
    except (ValueError, RecursionError):  # or nested deeper than Python goes
        return None
    return text if is_jsonb else None


def _oversize(length: int) -> str:
    return json.dumps({"audit:oversize": {"bytes": length}})


def _strings(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _address(text: str | None) -> Address | None:
    try:
        return ipaddress.ip_interface(text) if text else None
    except ValueError:
        return None


def _moment(text: str | None) -> int | None:
    try:
        said = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if said is None or not 1 < said.year < 9999:
        return None  # not that of any transaction, and beyond what Python reads in other time zones
    return ((said if said.tzinfo else said.replace(tzinfo=UTC)) - _EPOCH) // timedelta(
        microseconds=1
    )
