from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from audit_toolkit.connection import connect
from audit_toolkit.demo.cluster import throwaway_cluster
from tests.plugins.trail import audit as install_capture
from tests.plugins.trail import install_trail


@pytest.fixture
def standby() -> Iterator[str]:
    """The address of a server with a trail that is in recovery, and so only reads."""
    with throwaway_cluster() as server:
        install_trail(server.dsn())
        with connect(server.dsn()) as connection:
            connection.execute("create table orders (id int primary key)")
            connection.execute("insert into orders values (1)")
            install_capture(connection, "orders")
        server.stop("fast")
        signal = server.data_dir / "standby.signal"
        signal.touch()
        owner = server.data_dir.stat()
        os.chown(signal, owner.st_uid, owner.st_gid)
        server.start()
        yield server.dsn()


def test_a_standby_is_left_alone_and_can_be_checked(standby: str) -> None:
    def audit(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--dsn", standby])
        assert result.exit_code == 0, result.output
        return result.stdout

    summary = json.loads(audit("maintain", "--retention", "2 months", "--format", "json"))
    assert summary == {
        "schema_version": 1,
        "status": "standby",
        "outcomes": [],
        "findings": [],
    }
    for command in (("maintain",), ("partitions", "run")):
        assert "the server is a standby" in audit(*command, "--retention", "2 months")
    # A check reads only; that no run is recorded yet is its one finding.
    result = CliRunner().invoke(app, ["partitions", "check", "--format", "json", "--dsn", standby])
    assert [finding["code"] for finding in json.loads(result.stdout)["findings"]] == [
        "last_success"
    ]
    for verb in ("pause", "baseline"):
        words = [verb, "--table", "orders", "--reason", "x", "--dsn", standby]
        result = CliRunner().invoke(app, words)
        assert (result.exit_code, "in a read-only transaction" in result.stderr) == (1, True)
        assert "hint: the server is a read-only standby" in result.stderr
