"""Of a connection that is lost, the command says what there is to say; what psycopg logs of it is not for users."""

from __future__ import annotations

import subprocess
import sys

import pytest

from audit_toolkit.connection import connect
from audit_toolkit.errors import ConnectError
from tests.plugins.trail import Trail

# As it does where a server dies during a transaction, depending on which of two messages comes first.
PROGRAM = """
import logging, sys
from audit_toolkit.cli.database import open_database
with open_database(sys.argv[1], None):
    logging.getLogger("psycopg").warning("error ignored in rollback of %s", "a transaction")
"""


@pytest.mark.thorough
def test_what_psycopg_logs_does_not_get_to_the_terminal(trail: Trail) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, trail.database.dsn],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_of_a_lost_connection_the_hint_is_not_to_name_the_server(trail: Trail) -> None:
    def lose() -> None:
        with connect(trail.database.dsn) as here:
            trail.execute(f"select pg_terminate_backend({here.info.backend_pid}, 5000)")
            here.execute("select 1")

    with pytest.raises(ConnectError, match="the connection was lost") as lost:
        lose()
    assert (lost.value.exit_code, "--dsn" in str(lost.value.hint)) == (4, False)
    assert "run the command again" in str(lost.value.hint)
