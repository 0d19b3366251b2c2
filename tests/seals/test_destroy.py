"""Destroyed salts: the value is gone for good, and the tree, its other values and its proofs hold."""

from __future__ import annotations

import hashlib
import itertools
import json

import pytest

from audit_toolkit.connection import connect
from audit_toolkit.seals import (
    commit_remaining,
    destroy_slots,
    draw_redaction_id,
    read_public,
    verify_proof,
)
from audit_toolkit.seals.leaves import read_seeds
from audit_toolkit.seals.prove import prove
from audit_toolkit.seals.salts import OF_EVENT, SALT, children, salts_between, salts_of
from tests.seals.conftest import Sealed


def redact(
    sealed: Sealed, slots: list[tuple[int, str]], statement: str, *, announce: bool = True
) -> int:
    """What an erasure does: destroy, replace, announce."""
    with connect(sealed.trail.database.dsn) as connection, connection.transaction():
        connection.execute("set local session_replication_role = replica")
        for table in ("logged_actions", *leaves(sealed)):
            connection.execute(
                f'alter table audit.{table} disable trigger "00_audit_append_only"'.encode()
            )
        number = draw_redaction_id(connection, "audit")
        destroy_slots(connection, "audit", slots, number)
        connection.execute(statement.encode())
        digest = commit_remaining(connection, "audit", number)
        if announce:
            connection.execute(
                "insert into audit.logged_actions (event_id, schema_name, table_name, action, new_row) "
                "values (%s, 'public', 'orders', 'R', %s)",
                [number, json.dumps({"slots_sha256": digest})],
            )
        for table in ("logged_actions", *leaves(sealed)):
            connection.execute(
                f'alter table audit.{table} enable always trigger "00_audit_append_only"'.encode()
            )
    return number


def leaves(sealed: Sealed) -> list[str]:
    rows = sealed.execute(
        "select c.relname from pg_inherits join pg_class as c on c.oid = inhrelid "
        "where inhparent = 'audit.logged_actions'::regclass"
    )
    return [str(name) for (name,) in rows]


MASK = "update audit.logged_actions set new_row = jsonb_set(new_row, '{status}', '\"x\"') where event_id in (301, 302)"


def test_a_redacted_value_is_no_finding_and_is_counted(sealed: Sealed) -> None:
    redact(sealed, [(301, "new_row"), (302, "new_row")], MASK)
    report = sealed.verify()
    assert (report.findings, report.redacted, report.verified) == ([], 2, 462)
    sealed.seal()
    assert sealed.verify().findings == []


def test_neighbours_can_be_proved_and_what_was_redacted_shows_nothing(sealed: Sealed) -> None:
    keys = [str(key) for key in read_public(sealed.key)]
    redact(sealed, [(301, "new_row")], MASK.replace("(301, 302)", "(301)"))
    with connect(sealed.trail.database.dsn) as connection:
        for event in (300, 301, 302):
            proof = prove(connection, "audit", event)
            verify_proof.verify(json.loads(json.dumps(proof)), keys)
            assert (proof["event"]["new_row"] is None) == (event == 301)
            assert proof["event"]["old_row_key"] is None
            assert proof["event"]["row_key"] is not None


def test_nobody_can_test_a_guess(sealed: Sealed) -> None:
    """All that the database still has does not lead to the salt, not even with the value at hand."""
    [(value, commitment)] = sealed.execute(
        "select new_row::text, null::bytea from audit.logged_actions where event_id = 301"
    )
    redact(
        sealed,
        [(301, "new_row")],
        "update audit.logged_actions set new_row = null where event_id = 301",
    )
    [(commitment,)] = sealed.execute("select commitment from audit.redacted_slots")
    with connect(sealed.trail.database.dsn) as connection:
        nodes = read_seeds(connection, "audit", 0, 0)[0]
    salts = salts_between(nodes, 0, 4095)
    candidates = {salts[i : i + SALT] for i in range(0, len(salts), SALT)}
    candidates |= {
        half for seed in nodes.values() for half in itertools.chain(children(seed), [seed])
    }
    candidates |= {
        salts_of(seed)[i : i + SALT] for seed in nodes.values() for i in range(0, OF_EVENT, SALT)
    }
    for salt in candidates:
        assert hashlib.sha256(salt + str(value).encode()).digest() != commitment


def test_a_second_redaction_of_the_same_value(sealed: Sealed) -> None:
    redact(sealed, [(301, "new_row"), (302, "new_row")], MASK)
    redact(
        sealed,
        [(301, "new_row"), (301, "context")],
        "update audit.logged_actions set new_row = new_row - 'note', context = null where event_id = 301",
    )
    report = sealed.verify()
    assert (report.findings, report.redacted) == ([], 4)
    rows = sealed.execute("select count(*) from audit.redacted_slots where salt is not null")
    assert rows == [(2,)]


@pytest.mark.parametrize(
    "act",
    [
        "update audit.logged_actions set new_row = new_row || '{\"x\": 1}' where event_id = 301",
        "update audit.logged_actions set new_row = null where event_id = 301",
        "update audit.redacted_slots set remaining = sha256('x')",
        "update audit.redacted_slots set salt = null",
        "update audit.redacted_slots set commitment = sha256('x') where event_id = 301",
        "delete from audit.redacted_slots where event_id = 301",
        "delete from audit.logged_actions where action = 'R'",
        "update audit.logged_actions set new_row = '{}' where action = 'R'",
    ],
)
def test_whoever_changes_it_afterwards_is_found(sealed: Sealed, act: str) -> None:
    redact(sealed, [(301, "new_row")], MASK.replace("(301, 302)", "(301)"))
    sealed.seal()
    assert sealed.found() == []
    sealed.tamper(act)
    assert {kind for kind, _ in sealed.found()} & {
        "event_changed",
        "redaction_unannounced",
        "event_removed",
    }


def test_a_redaction_that_nobody_announced_is_found(sealed: Sealed) -> None:
    redact(sealed, [(301, "new_row")], MASK.replace("(301, 302)", "(301)"), announce=False)
    assert sealed.found() == [("redaction_unannounced", "event 301")]


def test_events_that_are_not_sealed_have_nothing_to_destroy(unsealed: Sealed) -> None:
    redact(unsealed, [(301, "new_row")], MASK)
    assert unsealed.execute("select count(*) from audit.redacted_slots") == [(0,)]
    unsealed.seal()
    assert unsealed.found() == []
