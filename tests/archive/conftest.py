"""Stores to archive partitions in."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from audit_toolkit.archive import Store


@pytest.fixture(autouse=True)
def _clock(simulated_clock: None) -> None:
    """The clock of every test here."""


@pytest.fixture
def local(tmp_path: Any) -> Store:
    """A store in a folder."""
    return Store.open(str(tmp_path / "archive"))


@pytest.fixture
def s3(s3_login: None) -> Store:
    """A store in a bucket."""
    bucket = f"trail-{secrets.token_hex(4)}"
    store = Store.open(f"s3://{bucket}/production")
    store.filesystem.mkdir(bucket)
    return store
