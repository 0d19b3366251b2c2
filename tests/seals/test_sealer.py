"""A role that may seal and no more: `audit grants --sealer`."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.types.json import Jsonb

from audit_toolkit.cli.check import check_database
from audit_toolkit.connection import connect
from audit_toolkit.seals.leaves import read_seeds
from audit_toolkit.seals.salts import salts_between
from tests.plugins.command import Audit, audit
from tests.seals.words import MORE, Sealed, detach, redact

__all__ = ["audit"]

ROLE = "sealer_and_no_more"


@pytest.fixture
def sealer(unsealed: Sealed, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a login that has what the command prints."""
    monkeypatch.setenv("AUDIT_DATABASE_URL", unsealed.trail.database.dsn)
    unsealed.execute(f"create role {ROLE} login")
    unsealed.execute(audit("grants", "--sealer", ROLE).stdout)
    dsn = unsealed.trail.database.dsn.replace("//postgres@", f"//{ROLE}@")
    monkeypatch.setenv("AUDIT_DATABASE_URL", dsn)
    yield dsn
    unsealed.execute(f"drop owned by {ROLE}; drop role {ROLE}")


def test_a_sealer_seals_whatever_comes(unsealed: Sealed, sealer: str, audit: Audit) -> None:
    words = ("seal", "--key", str(unsealed.key), "--checkpoint-to", str(unsealed.kept))
    assert "sealed 463 events" in audit(*words).stdout
    assert unsealed.verify().verified == 463
    assert "nothing new to seal" in audit(*words).stdout
    redact(unsealed, [301, 302], ["status"])
    unsealed.execute(MORE.format(200))
    detach(unsealed)
    unsealed.execute(MORE.format(20).replace("1000", "2000"))
    assert "sealed 221 events" in audit(*words).stdout
    report = unsealed.verify()
    assert [finding.kind for finding in report.findings] == ["redaction_unsigned"]
    assert (report.alarms, report.verified) == ([], 684)


def test_it_reads_no_event_and_no_salt_and_changes_nothing(
    unsealed: Sealed, sealer: str, audit: Audit
) -> None:
    audit("seal", "--key", str(unsealed.key), "--checkpoint-to", str(unsealed.kept))
    denied = psycopg.errors.InsufficientPrivilege
    with connect(sealer) as connection:
        for column in ("new_row", "old_row", "row_key", "context", "query", "session_user_name"):
            with pytest.raises(denied):
                connection.execute(f"select {column} from audit.logged_actions".encode())
        for statement in (
            "select * from audit.seal_seeds",
            "select * from audit.redacted_slots",
            "select audit.seal_salts(1, 2)",
            "select audit.seal_leaves('audit.logged_actions', 1, 2, '')",
            "select audit.destroy_salt(1, 1)",
            "update audit.seal_tiles set tile = 5",
            "delete from audit.seal_checkpoints",
            "insert into audit.seal_partitions values (0, 'x', 1, 1, 1)",
            "select * from orders",
        ):
            with pytest.raises(denied):
                connection.execute(statement.encode())
        add = "select audit.seal_add('{0}', '{0}', %s::bytea[], %s::text[], '[]', '[]', %s, %s, %s, 'x')"
        root = bytes(32)
        for hashes, ids, size, up_to in (
            ([bytes(8192)], ["{[1,257)}"], 500, 500),  # another first tile
            ([bytes(32)], ["{[1,2)}"], 500, 500),
            ([], [], 463, 463),  # no more than there is
            ([], [], 10, 10),
        ):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                connection.execute(add.encode(), (hashes, ids, size, up_to, root))
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            connection.execute("select audit.seal_block(1, 5000)")
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            connection.execute("select audit.seal_note(null, %s)", [Jsonb({})])
    assert unsealed.found() == []


def test_the_database_computes_the_salts_that_python_does(sealed: Sealed) -> None:
    redact(sealed, [1, 301, 302], ["status"])
    [(found,)] = sealed.execute("select audit.seal_salts(0, 4095)")
    with connect(sealed.trail.database.dsn) as connection:
        nodes = read_seeds(connection, "audit", 0, 0)[0]
    assert found == salts_between(nodes, 0, 4095)
    for first, last in ((0, 0), (301, 301), (7, 2048), (300, 303), (4095, 4095)):
        [(part,)] = sealed.execute(f"select audit.seal_salts({first}, {last})")
        assert part == salts_between(nodes, first, last)


def test_what_is_granted_to_it_is_no_finding(
    unsealed: Sealed, sealer: str, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", unsealed.trail.database.dsn)
    unsealed.execute(audit("grants", "--redactor", ROLE).stdout)
    with connect(unsealed.trail.database.dsn) as connection:
        found = {finding.kind.value for finding in check_database(connection, "audit")}
    assert not {kind for kind in found if kind.endswith("_by_others")}
