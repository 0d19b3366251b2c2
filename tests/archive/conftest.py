"""Stores to archive partitions in."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
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


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 API on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store in a bucket."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"trail-{secrets.token_hex(4)}"
    store = Store.open(f"s3://{bucket}/production")
    store.filesystem.mkdir(bucket)
    return store
