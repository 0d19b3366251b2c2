"""Destroyed salts: the value is gone for good, and the tree, its other values and its proofs hold."""

from __future__ import annotations

import hashlib
import itertools
import json
import random

import pytest

from audit_toolkit.connection import connect
from audit_toolkit.seals import (
    read_public,
    verify_proof,
)
from audit_toolkit.seals.leaves import read_seeds
from audit_toolkit.seals.prove import prove
from audit_toolkit.seals.salts import IDS, OF_EVENT, SALT, SLOTS, children, salts_between, salts_of
from audit_toolkit.trail import Erasure
from audit_toolkit.trail import redact as erase
from tests.seals.words import Sealed, detach, drop, redact


def test_a_redacted_value_is_no_finding_and_is_counted(sealed: Sealed) -> None:
    redact(sealed, [301, 302], ["status"])
    report = sealed.verify()
    assert (report.alarms, report.redacted, report.verified) == ([], 4, 462)
    sealed.seal()
    assert sealed.verify().alarms == []


def test_neighbours_can_be_proved_and_what_was_redacted_shows_nothing(sealed: Sealed) -> None:
    keys = [str(key) for key in read_public(sealed.key)]
    redact(sealed, [301], ["status"])
    with connect(sealed.trail.database.dsn) as connection:
        for event in (300, 301, 302):
            proof = prove(connection, "audit", event)
            verify_proof.verify(json.loads(json.dumps(proof)), keys)
            assert (proof["event"]["new_row"] is None) == (event == 301)
            assert proof["event"]["old_row_key"] is None
            assert proof["event"]["row_key"] is not None


def test_nobody_can_test_a_guess(sealed: Sealed) -> None:
    """All that the database still has does not lead to the salt, not even with the value at hand."""
    [(value,)] = sealed.execute(
        "select new_row::text from audit.logged_actions where event_id = 301"
    )
    redact(sealed, [301], ["status", "note", "id"])
    [(commitment,)] = sealed.execute("select commitment from audit.redacted_slots where slot = 3")
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
    redact(sealed, [301, 302], ["status"])
    redact(sealed, [301, 302], ["note"], ["nothing"])
    report = sealed.verify()
    assert (report.alarms, report.redacted) == ([], 8)
    rows = sealed.execute("select count(*) from audit.redacted_slots where salt is not null")
    assert rows == [(4,)]
    [(image,)] = sealed.execute("select new_row from audit.logged_actions where event_id = 301")
    assert isinstance(image, dict)
    assert {key: "audit:redacted" in str(value) for key, value in image.items()} == {
        "id": False,
        "status": True,
        "note": True,
    }


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
    redact(sealed, [301], ["status"])
    sealed.seal()
    assert sealed.found() == []
    sealed.tamper(act)
    assert {kind for kind, _ in sealed.found()} & {
        "event_changed",
        "redaction_unannounced",
        "event_removed",
    }


def test_a_redaction_that_nobody_announced_is_found(sealed: Sealed) -> None:
    redact(sealed, [301], ["status"])
    sealed.tamper("delete from audit.logged_actions where action = 'R'")
    assert set(sealed.found()) == {("redaction_unannounced", "event 301")}


def test_a_destroyed_salt_is_gone_and_no_other(sealed: Sealed) -> None:
    rng = random.Random(7)
    sealed.tamper("delete from audit.seal_seeds where block = 9")
    sealed.tamper("insert into audit.seal_seeds values (9, 1, sha256('seed'))")
    seed = hashlib.sha256(b"seed").digest()
    before, gone = salts_between({1: seed}, 0, IDS - 1), set()
    for _ in range(40):
        event, slot = rng.choice((0, 1, 2, 4095, rng.randrange(IDS))), rng.randrange(SLOTS)
        rows = sealed.execute(f"select audit.destroy_salt({9 * IDS + event}, {slot})")
        start = event * OF_EVENT + slot * SALT
        wanted = None if (event, slot) in gone else before[start : start + SALT]
        assert rows == [(wanted,)]
        gone.add((event, slot))
    with connect(sealed.trail.database.dsn) as connection:
        nodes = read_seeds(connection, "audit", 9, 9)[9]
    after = salts_between(nodes, 0, IDS - 1)
    for event in range(IDS):
        for slot in range(SLOTS):
            start = event * OF_EVENT + slot * SALT
            expected = bytes(SALT) if (event, slot) in gone else before[start : start + SALT]
            assert after[start : start + SALT] == expected
    for event, slot in gone:
        # No node is left above it.
        number = (IDS + event) * SLOTS + slot
        assert not {number >> height for height in range(number.bit_length())} & set(nodes)
    assert len(nodes) < 40 * (12 + SLOTS)


def test_events_that_are_not_sealed_have_nothing_to_destroy(unsealed: Sealed) -> None:
    redact(unsealed, [301], ["status"])
    assert unsealed.execute("select count(*) from audit.redacted_slots") == [(0,)]
    unsealed.seal()
    assert unsealed.found() == []


def test_a_row_is_erased_by_its_key_and_its_neighbours_can_be_proved(sealed: Sealed) -> None:
    """Whole, as the command does it: sealed events, those that are not, and the tree after the next seal."""
    sealed.execute("update orders set status = 'secret-status' where id = 1")
    sealed.seal()
    sealed.execute("update orders set note = '\"secret-status\"' where id = 1")
    asked = Erasure(table="orders", rows=["1"], columns=["status", "note"], reason="asked to")
    with connect(sealed.trail.database.dsn) as connection:
        done = erase(connection, asked, apply=True)
    assert done.events == 3
    assert not sealed.execute(
        "select event_id from audit.logged_actions as e where e::text like '%secret-status%'"
    )
    assert sealed.verify().alarms == []
    sealed.seal()
    report = sealed.verify()
    assert (report.alarms, report.redacted) == ([], 3)
    with connect(sealed.trail.database.dsn) as connection:
        proof = prove(connection, "audit", 2)
    verify_proof.verify(
        json.loads(json.dumps(proof)), [str(key) for key in read_public(sealed.key)]
    )


def test_an_announcement_that_left_with_its_partition_is_no_alarm(sealed: Sealed) -> None:
    redact(sealed, [301], ["status"])
    sealed.seal()
    partition = detach(sealed)
    report = sealed.verify()
    assert (report.alarms, report.redacted) == ([], 2)
    sealed.tamper(f"update {partition} set new_row = '{{}}' where event_id = 301")
    assert ("redaction_unannounced", "event 301") in sealed.found()
    drop(sealed, str(partition))
    report = sealed.verify()
    assert (report.alarms, report.redacted) == ([], 2)
