"""What the documentation shows: its blocks of code, and the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def blocks(document: str, language: str) -> list[str]:
    text = (DOCS / f"{document}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands(text: str) -> list[list[str]]:
    """The arguments of each `$ audit …` line."""
    return [shlex.split(line)[1:] for line in re.findall(r"^\$ (audit .*)$", text, re.MULTILINE)]
