"""What tests share is where each of them may take it from: no test module depends on another one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def borrowed(file: Path, text: str) -> Iterator[str]:
    """What a module of the tests imports from where it should not."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("tests"):
            continue
        *folder, module = str(node.module).split(".")
        names = [alias.name for alias in node.names]
        if any(name.startswith("test_") for name in (module, *names)):
            yield f"{node.module}: move what is shared to a module beside it, or to tests/plugins"
        elif module == "conftest" and TESTS.parent.joinpath(*folder) != file.parent:
            yield f"{node.module}: fixtures of several folders are in tests/plugins"
        elif hidden := [name for name in names if name.startswith("_")]:
            yield f"{node.module}: {', '.join(hidden)} is private"


def test_what_is_shared_is_not_in_a_test_module() -> None:
    found = {
        str(file.relative_to(TESTS)): wrong
        for file in sorted(TESTS.rglob("*.py"))
        if (wrong := list(borrowed(file, file.read_text("utf-8"))))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "from tests.stream.test_consumers import insert",
        "from tests.stream import test_consumers",
        "from tests.seals.conftest import Sealed",
        "from tests.timetravel.histories import _change",
    ],
)
def test_each_kind_is_found(line: str) -> None:
    assert len(list(borrowed(TESTS / "stream" / "test_some.py", line))) == 1


def test_a_conftest_serves_its_own_folder() -> None:
    line = "from tests.stream.conftest import Instance\nfrom tests.seals.words import Sealed"
    assert list(borrowed(TESTS / "stream" / "test_some.py", line)) == []
