"""The command line on a test's database."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # plugins are imported by the root's conftest, which comes later than this one
    from tests.timetravel.words import Audit


@pytest.fixture
def audit(audit: Audit) -> Audit:
    """The command line, which has to succeed where no other `code` is expected."""
    return partial(audit, code=0)
