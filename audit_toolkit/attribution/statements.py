"""Which SQL writes: told by its words, since it has to be known before the server sees it."""

from __future__ import annotations

import re
from enum import Enum, auto

_FIRST_WORD = re.compile(r"[\s(]*([A-Za-z]+)")
_CHANGES = re.compile(r"\b(?:insert|update|delete|merge)\b", re.IGNORECASE)
_COPY_OUT = re.compile(r"\bto\s+(?:stdout|program|stand)", re.IGNORECASE)
_SETS = re.compile(r"\bset_config\b", re.IGNORECASE)
# Comments and quoted text, whose words and semicolons mean nothing.
_UNSPOKEN = re.compile(
    r"""--[^\n]*
      | /\*.*?\*/
      | \b[eE]'(?:[^'\\]|''|\\.)*'
      | '[^']*'
      | "[^"]*"
      | (\$\w*\$).*?\1""",
    re.VERBOSE | re.DOTALL,
)
_WRITES = frozenset({"insert", "update", "delete", "merge", "truncate", "execute"})
_READS = frozenset({"select", "values", "table", "show", "fetch"})


class Kind(Enum):
    """What a statement means for the context."""

    WRITE = auto()
    BLOCK = auto()
    """A write that may end transactions by itself: CALL, DO."""
    READ = auto()
    OTHER = auto()
    """Anything else, such as ROLLBACK TO, after which the context may be another."""


def kind_of(statement: str) -> Kind:
    """What a statement is, comments and parentheses before it set aside.

    A SELECT is a read, also where a function that it calls writes.
    """
    verb = verb_of(statement)
    if verb in ("call", "do"):
        return Kind.BLOCK
    if verb in _WRITES:
        return Kind.WRITE
    if verb in _READS:
        return Kind.OTHER if _SETS.search(statement) else Kind.READ
    if verb in ("with", "explain"):
        return Kind.WRITE if _CHANGES.search(_spoken(statement)) else Kind.READ
    if verb == "copy":
        return Kind.READ if _COPY_OUT.search(_spoken(statement)) else Kind.WRITE
    return Kind.OTHER


def verb_of(statement: str) -> str:
    """The first word of a statement, in lower case."""
    found = _FIRST_WORD.match(statement) or _FIRST_WORD.match(_spoken(statement))
    return found[1].lower() if found else ""


def is_script(statement: str) -> bool:
    """Whether it is several statements, which a pipeline cannot take."""
    return ";" in statement and ";" in _spoken(statement).rstrip("; \t\r\n")


def _spoken(statement: str) -> str:
    return _UNSPOKEN.sub(" ", statement)
