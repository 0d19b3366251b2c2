"""Jinja2 templates of the page: everything escaped, in one language each."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup

from audit_toolkit.web.language import Words
from audit_toolkit.web.values import visible

TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"


def render(template: str, words: Words, **values: Any) -> str:
    """The text of a template."""
    return _environment(words.language).get_template(template).render(words=words, **values)


def address(base: str, path: str, **query: object) -> str:
    """The address of a page with those parts of its query that are not None."""
    asked = [(name, value) for name, value in query.items() if value not in (None, "", ())]
    return f"{base}{path}" + (f"?{urlencode(asked, doseq=True)}" if asked else "")


@cache
def fingerprint(name: str) -> str:
    """What tells one version of a file of `static/` from another."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def _joined(parts: list[Markup], words: Words) -> Markup:
    """Parts of a sentence as `a, b and c`."""
    *rest, last = parts
    if not rest:
        return last
    template = Markup(words.gettext("%(rest)s and %(last)s"))  # noqa: S704 - our own catalogue
    return template % {"rest": Markup(", ").join(rest), "last": last}


@cache
def _environment(language: str) -> jinja2.Environment:
    from zoneinfo import ZoneInfo

    words = Words(language, ZoneInfo("UTC"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
    )
    environment.install_gettext_callables(  # type: ignore[attr-defined]
        words.gettext, words._translations.ngettext, newstyle=True
    )
    environment.filters["joined"] = _joined
    environment.filters["visible"] = lambda text: visible(str(text))
    environment.globals["fingerprint"] = fingerprint
    return environment
