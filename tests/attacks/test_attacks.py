"""Every attack of the list is tried: refused, found by the next check, or known to be possible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from audit_toolkit.cli.check import check_database
from tests.attacks import elsewhere
from tests.attacks.attacks import ALL, Actor, Attack, Found, Possible, Refused, as_table
from tests.plugins.database import Connection
from tests.plugins.trail import Trail


def known_as(attack: Attack) -> str:
    return f"{attack.actor}: {attack.aim}"


@contextmanager
def taken_back(connection: Connection) -> Iterator[None]:
    """Whatever is done in here is undone."""
    with connection.transaction(force_rollback=True):
        yield


def attempt(connection: Connection, attack: Attack) -> None:
    first = connection.execute(
        "select leaf::text from audit.leaves() where lower_bound is not null order by lower_bound limit 1"
    ).fetchone()
    assert first is not None
    statement = attack.sql.replace("audit.logged_actions_first", str(first[0]))
    schema = {Actor.OWNER: "audit"}.get(attack.actor, "evil")
    connection.execute(
        b"set local role att_owner"
        if attack.actor is Actor.OWNER
        else f"set local session authorization {attack.actor.role}".encode()
    )
    connection.execute(statement.replace("{schema}", schema).encode())
    connection.execute("reset role; reset session authorization; reset all")


def findings(connection: Connection) -> set[str]:
    connection.execute("set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'")
    return {finding.kind for finding in check_database(connection, "audit")}


def test_nothing_is_found_before(attacked: Trail) -> None:
    with taken_back(attacked.connection):
        assert findings(attacked.connection) == set()


@pytest.mark.parametrize("attack", ALL, ids=known_as)
def test_attack(attacked: Trail, attack: Attack) -> None:
    connection = attacked.connection
    with taken_back(connection):
        match attack:
            case Refused(state=state):
                with pytest.raises(psycopg.Error) as refusal, connection.transaction():
                    attempt(connection, attack)
                assert refusal.value.sqlstate == state, refusal.value
            case Found(kind=kind):
                attempt(connection, attack)
                assert kind in findings(connection)
            case Possible():
                attempt(connection, attack)
                assert findings(connection) == set()


def test_the_list_is_what_the_docs_publish(request: pytest.FixtureRequest) -> None:
    page = Path(__file__).parents[2] / "docs" / "attacks.md"
    before, mark, _ = page.read_text(encoding="utf-8").partition("## The list\n\n")
    wanted = f"{before}{mark}{as_table()}\n## In other test suites\n\n{elsewhere.as_table()}"
    if request.config.getoption("--update-golden"):
        page.write_text(wanted, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == wanted, "pytest --update-golden, and read the diff"
    assert len(ALL) >= 60
    assert [one.test for one in elsewhere.elsewhere() if not one.is_there] == []
    assert len({attack.actor for attack in ALL}) >= 8
