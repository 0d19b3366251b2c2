"""SQL templates: `.sql.j2` is DDL, rendered; `.sql` is a query with parameters, sent as it stands.

A template can print only what went through a quoting filter: `finalize` refuses plain strings, and
`StrictUndefined` refuses names that nobody passed. Rendered text is deterministic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from pickle import PickleError
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.bccache import Bucket
from jinja2.visitor import NodeTransformer

from audit_toolkit import names
from audit_toolkit.errors import TemplateError
from audit_toolkit.names import QualifiedName, Sql
from audit_toolkit.version import __version__

_STATEMENT_PARTS = re.compile(
    r"""
      (?P<skip> --[^\n]*
        | /\*.*?\*/
        | [eE]'(?:[^'\\]|''|\\.)*'
        | '(?:[^']|'')*'
        | "(?:[^"]|"")*"
        | (?<![\w$])(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag) )
      | (?P<end> ; )
      | [^-/'"$;eE]+ | .
    """,
    re.VERBOSE | re.DOTALL,
)
_INCLUDE = re.compile(r'\{%[-+]?\s*include\s*"([^"]+)"')
_COMMENT_BEHIND = re.compile(r"[ \t]*(--[^\n]*)")


def render(template: str, /, **values: Any) -> str:
    """The text of `sql_templates/<template>.sql.j2` with these values.

    Raises `TemplateError` when the template prints a value that is not quoted or was not passed.
    """
    try:
        return _environment().get_template(f"{template}.sql.j2").render(values).strip() + "\n"
    except jinja2.TemplateError as error:
        raise TemplateError(f"sql_templates/{template}.sql.j2: {error}") from error


def render_statements(template: str, /, **values: Any) -> list[str]:
    """Like `render`, one item a statement, each without its final semicolon."""
    return split_statements(render(template, **values))


def split_statements(script: str) -> list[str]:
    """The statements of a script, with the comments before them; one behind a semicolon comes before its statement.

    asyncpg and other drivers take one statement at a time, so nothing longer is ever sent.
    """
    statements, start = [], 0
    for part in _STATEMENT_PARTS.finditer(script):
        if part["end"]:
            statement, start = script[start : part.start()].strip(), part.end()
            if behind := _COMMENT_BEHIND.match(script, start):
                # After the statement, it would comment out the semicolon that is appended.
                statement, start = f"{behind[1]}\n{statement}", behind.end()
            statements.append(statement)
    rest = script[start:].strip()
    return [s for s in (*statements, rest) if re.sub(r"--[^\n]*", "", s).strip()]


@cache
def query(name: str) -> str:
    """The text of `sql_templates/queries/<name>.sql`; its parameters are `%(name)s`."""
    return (template_directory() / "queries" / f"{name}.sql").read_text(encoding="utf-8")


@cache
def template_directory() -> Path:
    """Where the templates are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "sql_templates"
    return inside if inside.is_dir() else package.parent / "sql_templates"


@cache
def _environment() -> jinja2.Environment:
    environment = _Environment(
        loader=jinja2.FileSystemLoader(template_directory()),
        undefined=jinja2.StrictUndefined,
        finalize=_only_sql,
        autoescape=False,  # this is SQL: finalize and quoting filters, not HTML
        trim_blocks=True,
        lstrip_blocks=True,
        # Each include asks for its template: without a look at its file, and at which was used last.
        auto_reload=False,
        cache_size=-1,
        bytecode_cache=_BytecodeCache.where_possible(),
    )
    environment.filters.update(
        ident=_identifier,
        idents=_identifiers,
        plain=_plain,
        literal=_literal,
        literals=_literals,
        comment=names.comment_text,
        dollar_quoted=names.dollar_quote,
        doubled=_doubled,
        trusted=Sql,  # words of a template itself, or SQL that the user gave to be SQL (--when)
    )
    return environment


class _Environment(jinja2.Environment):
    """What a template includes is compiled as a part of it.

    At run time, an include makes a context of its own: the function of a table has 70 of them.
    """

    def compile(self, source: Any, *given: Any, **options: Any) -> Any:
        if isinstance(source, str):
            source = _Included(self).visit(self.parse(source, *given[:2]))
        return super().compile(source, *given, **options)


class _Included(NodeTransformer):
    """Puts the parsed template in place of each include."""

    def __init__(self, environment: jinja2.Environment) -> None:
        self._environment = environment

    def visit_Include(self, node: nodes.Include) -> nodes.Node:  # noqa: N802 - the name is Jinja's
        template = node.template.as_const()
        source = _source(template)
        included = self.visit(self._environment.parse(source, template))
        return nodes.Scope(included.body, lineno=node.lineno)


def _with_included(source: str) -> str:
    """The source, and that of each template which it includes, directly or through others."""
    sources = {"": source}
    queue = [source]
    while queue:
        for name in _INCLUDE.findall(queue.pop()):
            if name not in sources:
                sources[name] = _source(name)
                queue.append(sources[name])
    return "".join(sources.values())


def _source(template: str) -> str:
    return (template_directory() / template).read_text(encoding="utf-8")


class _BytecodeCache(jinja2.FileSystemBytecodeCache):
    """Compiled templates, kept in the folder of Jinja below that for temporary files, which is its user's alone.

    To compile them takes a command longer than most of its queries. Beside the modules they would outlive
    `pip uninstall`, and often nobody but root may write there.
    """

    def __init__(self) -> None:
        super().__init__()
        # Filters of constants are computed by the compiler.
        modules = (__file__, names.__file__)
        self._filters = "".join(str(Path(module).stat().st_mtime_ns) for module in modules)

    @classmethod
    def where_possible(cls) -> _BytecodeCache | None:
        """The cache, if there is a folder for it that nobody else can write to."""
        with suppress(OSError, RuntimeError):
            return cls()
        return None

    def get_bucket(
        self, environment: jinja2.Environment, name: str, filename: str | None, source: str
    ) -> Bucket:
        return super().get_bucket(environment, name, filename, _with_included(source))

    def get_source_checksum(self, source: str) -> str:
        return super().get_source_checksum(__version__ + self._filters + source)

    def load_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError, EOFError, PickleError):  # not readable, cut short
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):  # not writable, full: compiled again by the next command
            super().dump_bytecode(bucket)


def _only_sql(value: object) -> object:
    # Macros and blocks that were captured come as str of template text; Jinja hands those to finalize too,
    # so templates use {% include %} and {% filter %} instead.
    if isinstance(value, Sql | jinja2.Undefined):
        return value
    raise jinja2.TemplateRuntimeError(f"the value {value!r} was printed without a quoting filter")


def _identifier(value: str | QualifiedName) -> Sql:
    return value.sql if isinstance(value, QualifiedName) else names.quote_identifier(value)


def _identifiers(values: Iterable[str], of: str = "") -> Sql:
    # of: the alias of the template itself that they are columns of, with its dot
    return Sql(", ".join(f"{of}{_identifier(value)}" for value in values))


def _doubled(value: Sql) -> Sql:
    # A percent sign of a name would begin a specifier of format(), or a parameter of a query that has some.
    return Sql(value.replace("%", "%%"))


def _plain(value: str | QualifiedName) -> Sql:
    return value.plain if isinstance(value, QualifiedName) else names.quote_plainly(value)


def _literal(value: str | int | datetime | None) -> Sql:
    match value:
        case None:
            return Sql("null")
        case bool():
            return Sql("true" if value else "false")
        case int():
            return Sql(str(value))
        case str():
            return names.quote_literal(value)
        case datetime(tzinfo=zone) if (
            zone
        ):  # with its offset, so that every session reads the same instant
            return names.quote_literal(value.astimezone(UTC).isoformat(sep=" ").removesuffix(":00"))
    raise jinja2.TemplateRuntimeError(f"there is no literal for {value!r}")


def _literals(values: Iterable[str]) -> Sql:
    return Sql(", ".join(_literal(value) for value in values))
