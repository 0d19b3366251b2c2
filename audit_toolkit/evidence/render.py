"""A report as Markdown, as one HTML file that prints, and as JSON; nothing in it can be taken for markup."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path

import jinja2

from audit_toolkit.evidence.report import EvidenceReport, machine, utc
from audit_toolkit.printable import visible

_TEMPLATES = Path(__file__).parent / "templates"
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def as_json(report: EvidenceReport) -> str:
    """The report as JSON, in ASCII."""
    return json.dumps(report.as_dict(), indent=2) + "\n"


def as_html(report: EvidenceReport) -> str:
    """The report as one HTML file, which fetches nothing."""
    return _render("report.html", report)


def as_markdown(report: EvidenceReport) -> str:
    """The report as Markdown (CommonMark)."""
    return _render("report.md", report)


def _render(template: str, report: EvidenceReport) -> str:
    statements = report.statements()
    numbers = {sql: number for number, sql in enumerate(statements, start=1)}
    text = _environment(html=template.endswith(".html")).get_template(template)
    return text.render(report=report, statements=statements, numbers=numbers).rstrip() + "\n"


@cache
def _environment(*, html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=html,  # noqa: S701 - Markdown is escaped by the filters
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        typed=_typed,
        utc=utc,
        machine=machine,
        visible=visible,
        statement=_statement,
        plain=_plain,
        code=_code,
        fenced=_fenced,
    )
    return environment


def _statement(sql: str) -> str:
    return visible(sql, keep="\n")


def _typed(command: str) -> str:
    """A command as bash reads it, with nothing in it that cannot be seen."""
    if command.isprintable():
        return command
    return " ".join(map(_word, shlex.split(command)))


def _word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    shown = (f"\\{c}" if c in "'\\" else c if c.isprintable() else f"\\U{ord(c):08x}" for c in word)
    return f"$'{''.join(shown)}'"


_MARKDOWN = re.compile(
    r"""
    [\\`*\[\]|~$@]               # anywhere; at @, GitHub makes a link of an address
    | (?<![^\W_])_ | _(?![^\W_])  # emphasis, unless inside a word
    | :(?=//) | (?<=www)\.       # links
    | ^[#+=-] | (?<=^\d)[.)] | (?<=^\d\d)[.)] | (?<=^\d\d\d)[.)]  # the beginning of a heading or a list
    """,
    re.VERBOSE,
)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", visible(text))
    shown = "".join(_HTML.get(c, c) for c in escaped)
    # Four spaces at the beginning are a block of code.
    return f"&#32;{shown[1:]}" if shown.startswith(" ") else shown


def _code(text: str) -> str:
    """Text as a code span, whatever backticks it has."""
    shown = visible(text)
    fence = "`" * (_longest_run(shown) + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def _fenced(sql: str) -> str:
    """A statement as a code block, whatever fences it has."""
    shown = _statement(sql)
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}sql\n{shown}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
