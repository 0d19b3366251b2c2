"""Names and values as PostgreSQL reads them: quoting, the 63-byte rule, the names of what we make."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from audit_toolkit.errors import RuleError, UsageError

MAX_NAME_BYTES = 63
"""Longer identifiers are cut by PostgreSQL (NAMEDATALEN - 1), so that two of them may become one."""

# Words that PostgreSQL 14 to 18 or PL/pgSQL do not take as a plain name everywhere
# (pg_get_keywords() without category U, and the reserved words of pl_reserved_kwlist.h).
_KEYWORDS = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization begin between bigint binary bit
    boolean both by case cast char character check coalesce collate collation column concurrently
    constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user dec decimal declare default deferrable desc distinct do else end
    except execute exists extract false fetch float for foreach foreign freeze from full grant greatest
    group grouping having if ilike in initially inner inout int integer intersect interval into is
    isnull join json json_array json_arrayagg json_exists json_object json_objectagg json_query
    json_scalar json_serialize json_table json_value lateral leading least left like limit localtime
    localtimestamp loop merge_action national natural nchar none normalize not notnull null nullif
    numeric offset on only or order out outer overlaps overlay placing position precision primary real
    references returning right row select session_user setof similar smallint some strict substring
    symmetric system_user table tablesample then time timestamp to trailing treat trim true union
    unique user using values varchar variadic verbose when where while window with xmlattributes
    xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
    """.split()  # noqa: SIM905 - a list literal would fill the page
)
_PLAIN_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*")
# What would be invisible, or would change the reading order of a migration (CVE-2021-42574).
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]",
)


class Sql(str):
    """Text that is SQL already: quoted, or written by us. Templates print nothing else."""

    __slots__ = ()


@lru_cache(4096)  # a hundred times each, where hundreds of tables are rendered
def quote_identifier(name: str) -> Sql:
    """`name` as an identifier, quoted only where it has to be; control characters become visible escapes."""
    _refuse_unstorable(name)
    if not name:
        raise UsageError("an identifier cannot be empty")
    if _PLAIN_IDENTIFIER.fullmatch(name) and name not in _KEYWORDS:
        return Sql(name)
    doubled = name.replace('"', '""')
    if _UNPRINTABLE.search(name):
        escaped = _UNPRINTABLE.sub(lambda c: f"\\{ord(c[0]):04X}", doubled.replace("\\", "\\\\"))
        return Sql(f'U&"{escaped}"')
    return Sql(f'"{doubled}"')


def quote_plainly(name: str) -> Sql:
    """`name` as an identifier within a literal (`'…'::regclass`), where `U&"…"` would not be understood."""
    quoted = quote_identifier(name)
    if not quoted.startswith("U&"):
        return quoted
    doubled = name.replace('"', '""')
    return Sql(f'"{doubled}"')


@lru_cache(4096)
def quote_literal(value: str) -> Sql:
    """`value` as a text literal that means the same whatever `standard_conforming_strings` is."""
    _refuse_unstorable(value)
    doubled = value.replace("'", "''")
    if "\\" not in value and not _UNPRINTABLE.search(value):
        return Sql(f"'{doubled}'")
    escaped = _UNPRINTABLE.sub(lambda c: f"\\u{ord(c[0]):04X}", doubled.replace("\\", "\\\\"))
    return Sql(f"E'{escaped}'")


def comment_text(value: str) -> Sql:
    """`value` made safe for the rest of a `--` line: control characters are escaped."""
    return Sql(_UNPRINTABLE.sub(lambda c: f"\\u{ord(c[0]):04X}", value))


def dollar_quote(body: str, tag: str = "body") -> Sql:
    """`body` between dollar quotes whose tag does not occur in it."""
    number, delimiter = 1, f"${tag}$"
    while (body + delimiter).index(delimiter) < len(body):
        number += 1
        delimiter = f"${tag}{number}$"
    line_break = "\n" if "\n" in body else ""
    return Sql(f"{delimiter}{line_break}{body.strip(line_break)}{line_break}{delimiter}")


def _refuse_unstorable(value: str) -> None:
    if "\x00" in value:
        raise UsageError(
            "PostgreSQL cannot store a NUL character", hint="remove the character U+0000"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"not valid Unicode: {value!a}", hint="remove the lone surrogate"
        ) from error


@dataclass(frozen=True, slots=True, order=True)
class QualifiedName:
    """A schema and a name in it, as the catalogue has them (unquoted, case kept)."""

    schema: str
    name: str

    def __str__(self) -> str:
        return self.sql

    @property
    def sql(self) -> Sql:
        """The name as SQL: `public.orders`, `"Wei""rd"."Tab.le"`."""
        return Sql(f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}")

    @property
    def plain(self) -> Sql:
        """The name as `sql`, for use within a literal."""
        return Sql(f"{quote_plainly(self.schema)}.{quote_plainly(self.name)}")


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A table as somebody typed it: `orders`, `public.orders` or `"Wei.rd"."Table"`."""

    schema: str | None
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Split at the dot outside double quotes.

        Raises `UsageError` when the text is no name or has more than two parts.
        """
        parts = [
            _unquote(part)
            for part in re.findall(r'(?:"(?:[^"]|"")*"|[^".])+|(?<=\.)$|^(?=\.)', text)
        ]
        if text.count('"') % 2 or not 1 <= len(parts) <= 2 or not all(parts):
            raise UsageError(
                f"{text!r} is not the name of a table",
                hint='write table, schema.table, or quote parts that contain dots: \'"my.schema"."my.table"\'',
            )
        return cls(*parts) if len(parts) == 2 else cls(None, parts[0])

    def __str__(self) -> str:
        return (
            QualifiedName(self.schema, self.name).sql
            if self.schema
            else quote_identifier(self.name)
        )

    def matches(self, name: QualifiedName, *, fold: bool) -> bool:
        """Whether `name` is meant; with `fold`, upper case was typed for a lower-case name."""

        def same(typed: str, real: str) -> bool:
            return (typed.lower() if fold else typed) == real

        return same(self.name, name.name) and (
            self.schema is None or same(self.schema, name.schema)
        )


def _unquote(part: str) -> str:
    if part.startswith('"') and part.endswith('"') and len(part) > 1:
        return part[1:-1].replace('""', '"')
    return part


_NAME_PART = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")


def capture_function(table: QualifiedName, number: int = 1) -> str:
    """The name of the function that captures `table`: `capture_public__orders`.

    The second table of a name has another `number`: a function keeps its name when its table is renamed.
    Two tables never share one. Where schema and table are plain words the name is made of both, parted by
    the only double underscore; all else gets the form `capture__<readable part>__<hash>`.
    """
    plain = f"capture_{table.schema}__{table.name}"
    if (
        _NAME_PART.fullmatch(table.schema)
        and _NAME_PART.fullmatch(table.name)
        and len(plain) <= MAX_NAME_BYTES
        and number == 1
    ):
        return plain
    readable = "_".join(re.findall(r"[a-z0-9]+", table.name.lower()))[:40].strip("_") or "table"
    named = f"{len(table.schema)}.{table.schema}.{table.name}"
    if number > 1:
        named += f".{number}"
    return f"capture__{readable}__{_digest(named)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def replay_function(function: str) -> str:
    """The name of the function that makes events of what is read from the WAL, beside a capture function."""
    return _beside(function, "replay")


def wal_tables(function: str) -> tuple[str, str, str]:
    """What a worker makes for its session: tables of columns and of rows as text, a view of these as changes."""
    return _beside(function, "columns"), _beside(function, "rows"), _beside(function, "changes")


def _beside(function: str, word: str) -> str:
    return word + function.removeprefix("capture")


def wal_publication(schema: str) -> str:
    """The publication of the tables of a trail that are captured from the WAL."""
    return f"{schema}_capture" if len(schema.encode()) < 55 else f"{_digest(schema)}_capture"


def check_schema_name(schema: str) -> str:
    """`schema` if the toolkit can live in it; raises `RuleError` when PostgreSQL would cut or refuse it."""
    if not schema or len(schema.encode()) > MAX_NAME_BYTES or schema.startswith("pg_"):
        raise RuleError(
            f"{schema!r} cannot be the schema of the audit trail",
            hint="use a name of 1 to 63 bytes that does not begin with pg_",
        )
    return schema
