"""A command as it was typed, with another border: the one that shows the next page."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import typer


def next_page(ctx: typer.Context, option: str, border: int, limit: int | None) -> str:
    """The command line of the page that begins at `border`.

    An address that holds a password is left out: it is known to whoever typed it.
    """
    replaced = {option: border, "--limit": limit}
    names: list[str] = []
    options: list[str] = []
    for parameter in ctx.command.params:
        value = ctx.params.get(str(parameter.name))
        spelling = parameter.opts[0] if len(parameter.opts) == 1 else parameter.opts[-1]
        if parameter.param_type_name == "argument":
            names += _texts(value)
        elif spelling not in replaced and not _is_left_out(parameter, value):
            options += [spelling] if value is True else _repeated(spelling, _texts(value))
    options += [text for name, value in replaced.items() for text in (name, str(value))]
    dashed = any(name.startswith("-") for name in names)
    words = [*options, "--", *names] if dashed else [*names, *options]
    return shlex.join(["audit", str(ctx.info_name), *words])


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return [item.value if isinstance(item, StrEnum) else str(item) for item in values]


def _repeated(spelling: str, texts: list[str]) -> list[str]:
    return [word for text in texts for word in (spelling, text)]


def _is_left_out(parameter: Any, value: Any) -> bool:
    nothing = value is None or value is False or value in ([], ())
    return nothing or value == parameter.default or _holds_password(parameter, value)


def _holds_password(parameter: Any, value: Any) -> bool:
    if parameter.name != "dsn":
        return False
    return "password" in value or ("://" in value and urlsplit(value).password is not None)
