"""Which parameters of a test every run takes, and which only `nox -s thorough`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def seeds(number: int, *, quick: int) -> list[Any]:
    """The numbers below `number`; every run takes those below `quick`."""
    return some_quick(range(number), range(quick))


def some_quick(values: Iterable[Any], quick: Iterable[Any]) -> list[Any]:
    """The values as parameters; every run takes those of `quick`."""
    always = list(quick)
    return [
        pytest.param(value, marks=() if value in always else pytest.mark.thorough)
        for value in values
    ]
