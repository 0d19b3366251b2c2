"""The words of a condition (`--when`), read as PostgreSQL reads them: enough to say what it names.

A condition is judged on one row at a time, so it names columns alone: `status <> 'draft'`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from audit_toolkit.errors import RuleError
from audit_toolkit.names import quote_identifier

_TOKEN = re.compile(
    r"""
      (?P<space> \s+ | --[^\n]* )
    | (?P<comment> /\* )
    | (?P<string> [eE]'(?:[^'\\]|''|\\.)*' | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*'
                | (?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag) )
    | (?P<quoted> "(?:[^"]|"")+" )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<number> (?:\d|\.\d)[\w.]* )
    | (?P<mark> :: | (?: (?!--|/\*) [-+*/<>=~!@\#%^&|`?] )+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_ROWS = ("new", "old")


@dataclass(frozen=True, slots=True)
class Token:
    """A part of a condition; `text` of a name is the name, folded where it was not quoted."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def is_name(self) -> bool:
        """Whether it can name a column or a function."""
        return self.kind in ("word", "quoted")


def tokens_of(condition: str) -> list[Token]:
    """Its tokens, without spaces and comments; raises `RuleError` where it cannot be one expression."""
    tokens = list(_tokens(condition))
    depth = 0
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "mark" else 0
        if depth < 0 or (token.kind == "mark" and token.text in ";'\"$"):
            raise _unreadable(condition, f"at {condition[token.start :][:20]!r}")
    if depth:
        raise _unreadable(condition, "a parenthesis is not closed")
    if not tokens:
        raise _unreadable(condition, "it is empty")
    return tokens


def _tokens(condition: str) -> Iterator[Token]:
    at = 0
    while at < len(condition):
        found = _TOKEN.match(condition, at)
        assert found is not None  # noqa: S101 - the last alternative takes any character
        kind, start, at = found.lastgroup or "mark", at, found.end()
        if found["comment"]:
            at = _end_of_comment(condition, start)
            continue
        if found["string"] is not None:
            kind = "string"
        if kind == "space":
            continue
        text = found[0]
        if kind == "quoted":
            text = text[1:-1].replace('""', '"')
        elif kind == "word":
            text = text.lower()
        yield Token(kind, text, start, at)


def _end_of_comment(condition: str, start: int) -> int:
    depth = 0
    for found in re.compile(r"/\*|\*/").finditer(condition, start):
        depth += 1 if found[0] == "/*" else -1
        if not depth:
            return found.end()
    raise _unreadable(condition, "a comment is not closed")


def _unreadable(condition: str, why: str) -> RuleError:
    return RuleError(
        f"--when: {condition!r} is not one expression: {why}",
        hint="use one condition on the columns of a row, such as: status <> 'draft'",
    )


def names_of(condition: str) -> frozenset[str]:
    """Every name in it, be it of a column, a function, a type or a word of SQL."""
    return frozenset(token.text for token in tokens_of(condition) if token.is_name)


def called_functions(condition: str) -> tuple[tuple[str | None, str], ...]:
    """What it calls, or might: each name before a parenthesis, with its schema where it has one."""
    tokens = tokens_of(condition)
    found: dict[tuple[str | None, str], None] = {}
    for place, (token, following) in enumerate(pairwise(tokens)):
        if token.is_name and following.text == "(" and following.kind == "mark":
            found[_schema_before(tokens, place), token.text] = None
    return tuple(found)


def qualified_names(condition: str) -> tuple[tuple[str, str], ...]:
    """Names with a schema that are not called: types, operators, collations."""
    tokens = tokens_of(condition)
    called = set(called_functions(condition))
    return tuple(
        (schema, token.text)
        for place, token in enumerate(tokens)
        for schema in [_schema_before(tokens, place)]
        if schema is not None and (schema, token.text) not in called
    )


def with_names(condition: str, names: Mapping[str, str]) -> str:
    """The condition with columns by their new names, each of which is told by its old one."""
    tokens = tokens_of(condition)
    for place, token in reversed(list(enumerate(tokens))):
        before = tokens[place - 1].text if place else ""
        after = tokens[place + 1].text if place + 1 < len(tokens) else ""
        if token.is_name and token.text in names and before not in (".", "::") and after != "(":
            new = quote_identifier(names[token.text])
            condition = condition[: token.start] + new + condition[token.end :]
    return condition


def _schema_before(tokens: Sequence[Token], place: int) -> str | None:
    if place < 2 or tokens[place - 1].text != "." or not tokens[place - 2].is_name:
        return None
    return tokens[place - 2].text


def on_one_row(condition: str) -> str:
    """The condition as it is said of one row: `new.` and `old.` of triggers left out, where that is the same.

    `new.status <> 'draft' or old.status <> 'draft'` means one row before or after, as any condition does.
    What compares the two rows stays as it is: `compares_rows` finds it.
    """
    try:
        tokens = tokens_of(condition)
    except RuleError:
        return condition
    if _rows_of(tokens) and not compares_rows(condition):
        for token, following in reversed(list(_row_names(tokens))):
            condition = condition[: token.start] + condition[following.end :]
    return condition


def compares_rows(condition: str) -> bool:
    """Whether it needs the row before and the row after at once, so that it cannot be judged on one."""
    tokens = tokens_of(condition)
    bare = [
        t
        for t, following in zip(tokens, [*tokens[1:], None], strict=True)
        if t.kind == "word" and t.text in _ROWS and (following is None or following.text != ".")
    ]
    if bare:
        return True
    if len(_rows_of(tokens)) < 2:
        return False
    has_case = any(token.kind == "word" and token.text == "case" for token in tokens)
    return has_case or any(len(_rows_of(part)) > 1 for part in _alternatives(tokens))


def _alternatives(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """What an OR outside of all parentheses stands between."""
    depth, start = 0, 0
    for place, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "mark" else 0
        if not depth and token.kind == "word" and token.text == "or":
            yield tokens[start:place]
            start = place + 1
    yield tokens[start:]


def _rows_of(tokens: Sequence[Token]) -> set[str]:
    return {token.text for token, _ in _row_names(tokens)}


def _row_names(tokens: Sequence[Token]) -> Iterator[tuple[Token, Token]]:
    """`new` and `old` before a dot, each with its dot."""
    for place, (token, following) in enumerate(pairwise(tokens)):
        after_dot = place > 0 and tokens[place - 1].text == "."
        if token.is_name and token.text in _ROWS and following.text == "." and not after_dot:
            yield token, following
