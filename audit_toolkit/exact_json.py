"""JSON whose numbers stay what they were: 1.00 is not 1.0, and no digit is lost.

Python's own reader makes floats of them, and its writer cannot write a `Decimal`.
"""

from __future__ import annotations

import json
import re
import threading
from decimal import Decimal
from json.encoder import encode_basestring
from json.scanner import make_scanner
from typing import Any

Json = Any
"""None, bool, int, `Decimal`, str, list or dict of these."""

DEEPEST = 200
"""Values nested deeper than this stay text: Python's reader ends at its recursion limit."""

_LONGEST_INT = 600  # sys.set_int_max_str_digits() may go down to 640
_STAND_IN = re.compile(r'"\\u0000"')
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]|[,:]|[^][{},:"]+')


def loads(text: str) -> Json:
    """The value of a JSON text as PostgreSQL prints `jsonb`.

    Numbers come as int, or as `Decimal` where they have a fraction. What is nested deeper than
    `DEEPEST`, so that nobody can make an event unreadable, stays JSON text.
    Raises `ValueError` when it is no JSON.
    """
    if is_deep(text):
        return _loads_members(text)
    # PostgreSQL prints no surrounding blanks, and hardly ever an integer too long for Python.
    try:
        value, end = _QUICK(text, 0)
    except (ValueError, StopIteration):
        end = -1
    return value if end == len(text) else _DECODER.decode(text)


def is_deep(text: str) -> bool:
    """Whether some of its values stay text; of any other, `dumps` prints what PostgreSQL has printed."""
    return text.count("{") + text.count("[") > DEEPEST and _depth(text) > DEEPEST


def dumps(value: Json, *, ascii_only: bool = False) -> str:
    """A JSON text in one line, the same for two values only if they are so to the last zero."""
    numbers = _WRITER.numbers = []
    # The C encoder is ten times as fast as Python code. No PostgreSQL text contains NUL.
    text = (_WRITER.ascii if ascii_only else _WRITER.plain).encode(value)
    found = iter(numbers)
    return _STAND_IN.sub(lambda _: next(found), text) if numbers else text


def dumps_plain(value: Json) -> str:
    """Like `dumps`, quicker for what is mostly no object and no array."""
    if type(value) is str:
        return encode_basestring(value)
    if value is None:
        return "null"
    if type(value) is int:
        return int.__repr__(value)
    return format(value, "f") if type(value) is Decimal else dumps(value)


def around_members(text: str, members: int, before: str, after: str) -> str | None:
    """The text of an object of so many members, with something before and after each value.

    None where what is between members is also somewhere inside of them.
    """
    if text.count('": ') != members or text.count(', "') != members - 1:
        return None
    parted = text.replace(', "', f'{after}, "').replace('": ', f'": {before}')
    return f"{parted[:-1]}{after}}}"


class _Writer(threading.local):
    """What a thread writes with: the text of a `Decimal` waits in `numbers` for its place."""

    def __init__(self) -> None:
        self.numbers: list[str] = []
        self.plain, self.ascii = (
            json.JSONEncoder(ensure_ascii=ascii_only, allow_nan=False, default=self._stand_in)
            for ascii_only in (False, True)
        )

    def _stand_in(self, number: object) -> str:
        if not isinstance(number, Decimal):
            raise TypeError(f"{type(number).__name__} is not a JSON value")
        self.numbers.append(format(number, "f"))
        return "\x00"


_WRITER = _Writer()


def same(one: Json, other: Json) -> bool:
    """Whether two values are the same, the scale of numbers included."""
    if one != other:
        return False
    if type(one) is type(other) and isinstance(one, _ALIKE):
        return True
    return dumps(one) == dumps(other)


_ALIKE = (str, int, bool, type(None))
"""Of these, values that are equal are the same."""


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= _LONGEST_INT else Decimal(text)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON value")


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_int=_integer, parse_constant=_refuse)
_CONTEXT: Any = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse)
_QUICK: Any = make_scanner(_CONTEXT)
"""Reads in C alone: a function of Python for each number would take as long as all the rest."""


def _depth(text: str) -> int:
    deepest = depth = 0
    for token in _TOKEN.finditer(text):
        depth += (token[0] in "[{") - (token[0] in "]}")
        deepest = max(deepest, depth)
    return deepest


def _loads_members(text: str) -> Json:
    # Only an object of moderate values is taken apart, which is what the image of a row is.
    if not text.startswith("{"):
        return text
    return {
        json.loads(name): member if _depth(member) > DEEPEST else loads(member)
        for name, member in _split_members(text)
    }


def _split_members(text: str) -> list[tuple[str, str]]:
    members, depth, start, name = [], 0, 1, ""
    for token in _TOKEN.finditer(text):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if depth == 1 and token[0] == ":":
            name, start = text[start : token.start()].strip(), token.end()
        elif (depth == 1 and token[0] == ",") or depth == 0:
            members.append((name, text[start : token.start()].strip()))
            start = token.end()
    return members
