"""A trail with detached leaves, and stores to archive them in."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from audit_toolkit.archive import Manifest, Store, archive_leaf
from audit_toolkit.partitions import Entry, Policy
from audit_toolkit.partitions.planning import is_archivable
from tests.partitions.conftest import (  # noqa: F401 - fixtures
    START,
    Rotating,
    make_rotating,
    months,
    rotating,
    rotating_template,
    simulated_clock,
)
from tests.plugins.trail import SCHEMA

HARD_EVENTS = """
    insert into audit.logged_actions (
        action_tstamp, schema_name, table_name, action, row_key, old_row_key, old_row, new_row,
        context, role_name, application_name, client_addr, query
    )
    select
        at, case mod(number, 3) when 0 then 'public' else 'Wei"rd.ß' end, 'ord/ers=%%' || mod(number, 2),
        'U', number::text, nullif(mod(number, 2), 1)::text,
        jsonb_build_object('n', 1.50, 'big', 123456789012345678901234567890.10, 'text', E'ä\\u2028\\n"€', 'no', null),
        case when mod(number, 4) = 0 then null else '[]'::jsonb end,
        case when mod(number, 5) = 0 then '"plain"'::jsonb end,
        nullif('role' || mod(number, 2), 'role1'), '', '10.0.0.1/8', E'a\\tb\\\\N'
    from generate_series(%s::timestamptz, %s::timestamptz, '7 hours 0.000001 seconds') with ordinality as g (at, number)
"""


def detached(rotating: Rotating) -> list[Entry]:  # noqa: F811
    """Leaves with events of every kind, detached by retention."""
    oldest = rotating.read().bounded[0].lower
    rotating.execute(HARD_EVENTS, [oldest, START + timedelta(days=60)])
    rotating.run(START + timedelta(days=120), retention=months(2), drop=False)
    entries = unarchived(rotating)
    assert len(entries) >= 2
    return entries


def unarchived(rotating: Rotating) -> list[Entry]:  # noqa: F811
    """What the next run would archive."""
    return [e for e in rotating.read().entries if is_archivable(e, Policy())]


def archive(rotating: Rotating, store: Store, entry: Entry) -> Manifest:  # noqa: F811
    """Archive one leaf."""
    return archive_leaf(rotating.connection, store, SCHEMA, entry, now=rotating.now)


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
