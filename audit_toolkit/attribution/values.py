"""What may be claimed: small JSON that PostgreSQL can store exactly, without secrets.

Checked when it is set, so that no write ever fails because of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from audit_toolkit.errors import ContextError

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"

MAX_BYTES = 8192
"""Of the whole document in UTF-8: it is copied into every event."""
MAX_DEPTH = 8

_SECRETS = (
    "access_key|api_?key|authori[sz]ation|bearer|cookies?|credentials?|jwts?|otp|totp|pass|passcode|passphrase"
    "|passwd|passwords?|private_key|pwd|secrets?|tokens?"
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def as_document(values: Mapping[str, Json]) -> str:
    """The values as the JSON text that the server is sent; an empty string for none.

    Raises `ContextError` where PostgreSQL could not store them exactly, where they are larger than
    `MAX_BYTES`, or where a key is named like a secret. Values never appear in its message.
    """
    if not values:
        return ""
    _check(values, "context", depth=0)
    try:
        text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:  # an integer of more digits than Python prints
        raise ContextError(f"the context is not valid JSON: {error}") from error
    if len(text.encode()) > MAX_BYTES:
        raise ContextError(
            f"the context is {len(text.encode())} bytes long; at most {MAX_BYTES} are allowed",
            hint="every event stores a copy of it: set an id, and keep the details in a table",
        )
    return text


def _check(value: Json, where: str, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ContextError(f"{where} is nested more than {MAX_DEPTH} levels deep")
    match value:
        case None | bool() | int():
            pass
        case str():
            _check_text(value, where)
        case float():
            if not math.isfinite(value):
                raise ContextError(f"{where} is {value}, which is not valid JSON")
        case Mapping():
            for key, inner in value.items():
                _check(inner, _checked_key(key, where), depth=depth + 1)
        case list() | tuple():
            for place, inner in enumerate(value):
                _check(inner, f"{where}[{place}]", depth=depth + 1)
        case _:
            raise ContextError(
                f"{where} is a {type(value).__name__}, which is not valid JSON",
                hint="pass text: str(value)",
            )


def _checked_key(key: object, where: str) -> str:
    if not isinstance(key, str) or not key:
        raise ContextError(f"{where} has the key {key!a}, which is not a valid name")
    _check_text(key, f"a key of {where}")
    words = "_".join(word.lower() for word in _WORD.findall(key))
    if re.search(rf"(?:^|_)(?:{_SECRETS})(?:_|$)", words):
        raise ContextError(
            f"{where} has the key {key!r}, which is the name of a secret",
            hint="events are kept for years and read by many: set an id instead, or rename the key",
        )
    return f"{where}.{key}"


def _check_text(text: str, where: str) -> None:
    if "\x00" in text:
        raise ContextError(f"{where} holds a NUL character, which PostgreSQL cannot store")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ContextError(f"{where} holds a lone surrogate, which is not valid Unicode") from error
