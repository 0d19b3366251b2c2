"""Columns that look as if their values should not stand in a trail in clear, by name and type."""

from __future__ import annotations

import re

from audit_toolkit.capture.render import Target, with_dependants
from audit_toolkit.catalog import Column

_IN_CLEAR = re.compile(r"audit: in clear, (?P<reason>.*\S)", re.DOTALL)
"""What the comment of a column says when somebody has looked and decided."""
_LONG = re.compile(
    r"passw(or)?d|passphrase|passcode|passhash|passport|pwhash|secret(?!ar)|credential"
    r"|(?:access|api|auth|decryption|encryption|hmac|master|private|session|signing|ssh)key"
    r"|(?:access|auth|refresh)token|(?:backup|recovery)code"
    r"|socialsec|cardnum|creditcard|taxid"
)
"""What is secret wherever it stands in a name, written without separators."""
_WORDS = frozenset([
    "bearer", "cookie", "cvc", "cvv", "iban", "jwt", "otp", "pan", "pass", "passwd", "pin", "pw", "pwd",
    "salt", "ssn", "token", "totp",
])  # fmt: skip
"""What is secret as a word of its own."""
_NUMBERS = frozenset([
    "backupcode", "cardnum", "creditcard", "cvc", "cvv", "otp", "pan", "passport", "pin", "recoverycode",
    "socialsec", "ssn", "taxid",
])  # fmt: skip
"""What may be a number and still be secret; a number of tokens is not."""
_ABOUT = frozenset([
    "attempts", "changed", "count", "enabled", "expires", "expiry", "hint", "length", "limit",
    "max", "min", "policy", "type", "url",
])  # fmt: skip
"""What a name ends with that is about a secret, and is none."""
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

_NUMERIC = ("smallint", "integer", "bigint", "numeric", "real", "double precision", "money")
_NEVER = ("boolean", "date", "time", "timestamp", "interval", "point")


def secrets_in_clear(target: Target) -> list[Column]:
    """Columns that look like secrets and are recorded in plain text, also those that somebody accepted."""
    rule = target.rule
    hidden = {*rule.exclude, *(mask.column for mask in with_dependants(target).rule.mask)}
    return [
        column
        for column in target.table.columns
        if (not rule.only or column.name in rule.only)
        and column.name not in hidden
        and looks_secret(column)
    ]


def accepted_because(column: Column) -> str | None:
    """Why somebody accepted that the column is recorded in plain text; None if nobody did."""
    found = _IN_CLEAR.search(column.comment or "")
    return found["reason"] if found else None


def looks_secret(column: Column) -> bool:
    """Whether a column is named like a secret, and of a type that can hold one."""
    kind = column.type_name.partition("(")[0].partition(" with")[0].removesuffix("[]")
    if kind in _NEVER:
        return False
    found = _secret_parts(column.name)
    return bool(found & _NUMBERS if kind in _NUMERIC else found)


def _secret_parts(name: str) -> set[str]:
    words = [word.lower() for word in _PART.findall(name)]
    if words and words[-1] in _ABOUT:
        return set()
    spelled = {match[0] for match in _LONG.finditer("".join(words))}
    return spelled | (_WORDS & {form for word in words for form in (word, word.removesuffix("s"))})
