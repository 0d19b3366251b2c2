"""The texts of the page that are to be translated, as they stand in its templates and modules."""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import audit_toolkit.web
from audit_toolkit.web.rendering import _environment

PACKAGE = Path(audit_toolkit.web.__file__).parent
CATALOGUES = PACKAGE / "locale"

Message = str | tuple[str, str]


def messages() -> list[Message]:
    """Each text once, in the order of files: `(one, many)` where it has a number in it."""
    found = [*_of_templates(), *_of_modules()]
    return list(dict.fromkeys(found))


def _of_templates() -> Iterator[Message]:
    environment = _environment("en")
    for file in sorted((PACKAGE / "templates").glob("*.html")):
        for _line, function, message in environment.extract_translations(file.read_text()):  # type: ignore[attr-defined]
            if function == "ngettext":
                yield message[0], message[1]
            elif isinstance(message, str):
                yield message
            else:
                yield message[0]


def _of_modules() -> Iterator[Message]:
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            texts = [
                a.value
                for a in node.args
                if isinstance(a, ast.Constant) and isinstance(a.value, str)
            ]
            if name in ("_", "gettext") and texts:
                yield texts[0]
            if name == "ngettext" and len(texts) >= 2:
                yield texts[0], texts[1]


def compiled(language: str) -> bytes:
    """The catalogue of a language as gettext reads it, from the text that people edit."""
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    file = io.BytesIO((CATALOGUES / language / "LC_MESSAGES" / "page.po").read_bytes())
    binary = io.BytesIO()
    catalogue = read_po(file, locale=language)
    catalogue.creation_date = catalogue.revision_date = datetime(
        2026, 1, 1, tzinfo=UTC
    )  # not the time of the reading
    write_mo(binary, catalogue)
    return binary.getvalue()
