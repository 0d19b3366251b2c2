"""Golden files: text that reviewers read as part of the diff.

`golden("name.sql", text)` compares with `tests/golden/name.sql`; `pytest --update-golden` writes the files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parent.parent / "golden"

Golden = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-golden`."""
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare text with the golden file of that name."""
    update: bool = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        file = DIRECTORY / name
        if update:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert file.exists(), f"no golden file {name}: run pytest --update-golden and read it"
        assert text == file.read_text(encoding="utf-8")

    return compare
