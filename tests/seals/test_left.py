"""What a signed redaction left is proved of one event, and of an archive, without the database."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from audit_toolkit.archive import Manifest, Store, compare_seal, newest, read_manifests
from audit_toolkit.connection import connect
from audit_toolkit.errors import AuditError
from audit_toolkit.merkle import leaf_hash, path_from, root_of
from audit_toolkit.seals import read_public, rotate_key, verify_proof
from audit_toolkit.seals.prove import prove
from audit_toolkit.seals.verify_proof import ProofError, left_of, not_shown
from tests.plugins.command import Audit
from tests.seals.words import Sealed, archive, detach, drop, redact, redact_signed


def proof_of(sealed: Sealed, event: int) -> Any:
    with connect(sealed.trail.database.dsn) as connection:
        return json.loads(json.dumps(prove(connection, "audit", event)))


def keys_of(sealed: Sealed) -> list[str]:
    return [str(key) for key in read_public(sealed.key)]


def kept(store: Store) -> Manifest:
    [manifest] = newest(read_manifests(store))
    return manifest


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_a_path_leads_to_the_root(size: int) -> None:
    leaves = [leaf_hash(bytes([n])) for n in range(size)]
    for index, leaf in enumerate(leaves):
        path = path_from(index, leaves)
        assert verify_proof.root_from(leaf, index, size, path) == root_of(leaves)


def test_a_proof_has_what_a_signed_redaction_left(sealed: Sealed, audit: Audit) -> None:
    number = redact_signed(sealed, "1", "2", columns=["note", "status"])
    sealed.seal()
    proof, keys = proof_of(sealed, 1), keys_of(sealed)
    verify_proof.verify(proof, keys)
    [(slot, (redaction, text))] = left_of(proof).items()
    assert (slot, redaction, not_shown(proof)) == ("new_row", number, ["new_row"])
    assert json.loads(text)["note"] == {"audit:redacted": number}
    file = sealed.folder / "proof.json"
    file.write_text(json.dumps(proof), encoding="utf-8")
    words = ("verify-proof", str(file), "--key", f"{sealed.key}.pub")
    said = json.loads(audit(*words, "--format", "json", code=0).stdout)["left"]
    assert said == {"new_row": {"redaction": number, "text": text}}
    alone = subprocess.run(
        [sys.executable, "-I", verify_proof.__file__, str(file), "--key", keys[0]],
        capture_output=True,
        text=True,
        check=True,
    )
    line = f"left of new_row, signed with the redaction of event {number}: "
    for output in (audit(*words, code=0).stdout, alone.stderr):
        assert line in output


@pytest.mark.parametrize(
    "change",
    ["alter table orders rename column id to number", "alter table orders drop column id cascade"],
)
def test_events_are_proved_whatever_became_of_their_key(sealed: Sealed, change: str) -> None:
    before = redact_signed(sealed, "1", keys=True)
    sealed.execute(change)
    sealed.execute("update orders set status = 'after' where status = 'new'")
    sealed.execute("select audit.note_changes()")
    after = redact_signed(sealed, "2", "4", columns=["status"], keys=True)
    sealed.seal()
    keys = keys_of(sealed)
    [(newest,)] = sealed.execute("select max(event_id) from audit.logged_actions")
    for event in (1, 2, 4, 301, before, before + 1, after, int(str(newest))):
        verify_proof.verify(proof_of(sealed, event), keys)
    for event, redaction in ((1, before), (2, after), (301, after)):
        proof = proof_of(sealed, event)
        assert "row_key" in not_shown(proof)
        assert {number for number, _ in left_of(proof).values()} == {redaction}
    assert sealed.found() == []


def test_what_is_shown_as_left_is_what_was_signed(sealed: Sealed) -> None:
    redact_signed(sealed, "1", "2", columns=["note", "status"])
    redact_signed(sealed, "3")
    sealed.seal()
    keys, proof, other = keys_of(sealed), proof_of(sealed, 1), proof_of(sealed, 3)
    left = proof["left"]["new_row"]
    wrong: list[Any] = [None, [], {}, "x", {"old_row": left}, {"query": left}, {"new_row": None}]
    wrong += [{"new_row": left, "x": left}, other["left"]]
    for member, value in left.items():
        wrong.append({"new_row": {k: v for k, v in left.items() if k != member}})
        values: list[Any] = [None, "", "x", -1, 7, True, [], {}, ["00" * 32], "\ud800"]
        for one in values:
            if one != value:
                wrong.append({"new_row": left | {member: one}})
    wrong.append({"new_row": left | {"text": left["text"].replace("1", "2")}})
    wrong.append({"new_row": left | {"note": other["left"]["new_row"]["note"]}})
    wrong.append({"new_row": left | {"note": proof["checkpoint"]}})
    wrong.append({"new_row": left | {"note": left["note"].replace("event ", "event 1")}})
    wrong.append({"new_row": left | {"salt": "00" * 16}})
    wrong.append({"new_row": left | {"path": left["path"][::-1] + left["path"]}})
    for bad in wrong:
        with pytest.raises(ProofError):
            pytest.fail(f"{verify_proof.verify(proof | {'left': bad}, keys)}: {bad}")
    without = copy.deepcopy(proof)
    del without["left"]
    verify_proof.verify(without, keys)  # a proof from before, or one that shows less
    assert left_of(without) == {}


def test_an_unsigned_redaction_has_none(sealed: Sealed) -> None:
    redact_signed(sealed, "1")
    redact(sealed, [1], ["status"])
    assert "left" not in proof_of(sealed, 1)


def test_the_keys_of_before_a_rotation_verify_it(sealed: Sealed) -> None:
    redact_signed(sealed, "1")
    rotate_key(sealed.key)
    sealed.seal()
    proof, keys = proof_of(sealed, 1), keys_of(sealed)
    assert left_of(proof)
    verify_proof.verify(proof, keys)
    with pytest.raises(ProofError, match="the note of a redaction is not signed with"):
        verify_proof.verify(proof, keys[:1])


def test_what_was_changed_after_it_is_not_proved(sealed: Sealed) -> None:
    redact_signed(sealed, "1")
    sealed.tamper(
        """update audit.logged_actions set new_row = new_row || '{"status": "x"}' where event_id = 1"""
    )
    with pytest.raises(AuditError, match="new_row of event 1 was changed after it was redacted"):
        proof_of(sealed, 1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "archive"))


@pytest.mark.parametrize("first", ["redact", "archive"])
def test_an_archive_has_what_signed_redactions_left(
    sealed: Sealed, store: Store, first: str
) -> None:
    if first == "redact":
        number = redact_signed(sealed, "1", "2")
        sealed.seal()
    partition = detach(sealed)
    archive(sealed, store, partition)
    drop(sealed, partition)
    if first == "archive":
        number = redact_signed(sealed, "1", "2")
    keys, manifest = read_public(sealed.key), kept(store)
    found = compare_seal(store, manifest, keys)
    assert (found.problems, found.unsigned) == ((), frozenset())
    path = Path(store.root, manifest.files[0].path)
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in rows:
        if row["event_id"] == 1:
            row["new_row"] = row["new_row"].replace('"id": 1', '"id": 3')
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)
    said = f"new_row of event 1 is not what its redaction (event {number}) left"
    assert compare_seal(store, manifest, keys).problems == (said,)


def test_a_signature_that_is_taken_out_of_an_archive_is_found(
    sealed: Sealed, store: Store, audit: Audit
) -> None:
    partition = detach(sealed)
    archive(sealed, store, partition)
    drop(sealed, partition)
    redact(sealed, [1], ["status"])
    redact_signed(sealed, "3")
    there = (
        "--archive",
        store.url,
        "--key",
        f"{sealed.key}.pub",
        "--dsn",
        sealed.trail.database.dsn,
    )
    audit("verify", *there, code=0)
    manifest = kept(store)
    assert manifest.seal is not None
    seal = Path(store.root, manifest.seal.path)
    content = json.loads(seal.read_text())
    whole = json.dumps(content)
    seal.write_text(whole.replace(json.dumps(content["notes"]), "{}"))
    [sums] = [p for p in Path(store.root).rglob("*.json") if manifest.seal.sha256 in p.read_text()]
    text = sums.read_text().replace(
        manifest.seal.sha256, hashlib.sha256(seal.read_bytes()).hexdigest()
    )
    sums.write_text(text)
    assert "what a redaction left there has no signature" in audit("verify", *there, code=3).stdout
