"""The blocks of docs/context.md, to be run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "context.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S)


def block(mark: str, **names: Any) -> dict[str, Any]:
    """Run the block with that mark; what it defined."""
    (code,) = (code for code in BLOCKS if mark in code)
    exec(compile(code, f"docs/context.md: {mark}", "exec", dont_inherit=True), names)  # noqa: S102 - our own documentation
    return names
