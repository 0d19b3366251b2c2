"""Proofs of one event, by the command and by the script that needs nothing; and forged ones of every kind."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from audit_toolkit.connection import connect
from audit_toolkit.seals import read_public, verify_proof
from audit_toolkit.seals.prove import prove
from audit_toolkit.seals.verify_proof import ProofError
from tests.seals.words import Sealed


def proof_of(sealed: Sealed, event: int) -> Any:
    with connect(sealed.trail.database.dsn) as connection:
        return json.loads(json.dumps(prove(connection, "audit", event)))


def keys_of(sealed: Sealed) -> list[str]:
    return [str(key) for key in read_public(sealed.key)]


def test_every_event_can_be_proved(sealed: Sealed) -> None:
    keys = keys_of(sealed)
    for event in (1, 7, 256, 257, 301, 451, 462):
        proof = proof_of(sealed, event)
        assert verify_proof.verify(proof, keys).startswith("up to event 462 at ")
        assert proof["event"]["event_id"] == event
        assert proof["index"] == event - 1
    assert "Zoë" in proof_of(sealed, 1)["event"]["new_row"]


def test_forged_proofs_are_refused(sealed: Sealed) -> None:
    keys, proof, other = keys_of(sealed), proof_of(sealed, 301), proof_of(sealed, 302)
    rng = random.Random(1)
    verify_proof.verify(proof, keys)
    forged: list[Any] = [None, [], {}, "proof", {**proof, "format": "audit-toolkit proof 2"}]
    for part in proof:
        forged.append({key: value for key, value in proof.items() if key != part})
        if other[part] != proof[part]:
            forged.append({**proof, part: other[part]})
        wrongs: list[Any] = [None, 7.5, "x", [], {}, True]
        forged += [{**proof, part: value} for value in wrongs if value != proof[part]]
    for column, value in proof["event"].items():
        wrongs = [None, "x", 5, -1, f"{value}0", [], {"a": 1}, "2026-13-01T00:00:00.000000Z"]
        for wrong in wrongs:
            if wrong != value:
                forged.append({**proof, "event": {**proof["event"], column: wrong}})
    forged.append({**proof, "event": {**proof["event"], "more": "x"}})
    forged += [{**proof, "index": proof["index"] + n} for n in (1, -1, 462, -462, 2**64)]
    forged += [
        {**proof, "path": path}
        for path in (proof["path"][1:], proof["path"][::-1], [*proof["path"], "00" * 32])
    ]
    for _ in range(10):
        bad = copy.deepcopy(proof)
        place = rng.randrange(len(bad["path"]))
        bad["path"][place] = bad["path"][place][::-1]
        forged.append(bad)
    for name in proof["salts"]:
        forged.append({**proof, "salts": {**proof["salts"], name: "00" * 16}})
        committed = verify_proof.commitment(
            bytes.fromhex(proof["salts"][name]), proof["event"][name]
        ).hex()
        # The commitment of before beside another payload.
        salts = {key: value for key, value in proof["salts"].items() if key != name}
        event = {**proof["event"], name: "forged"}
        forged.append({**proof, "salts": salts, "redacted": {name: committed}, "event": event})
        # Without the payload it is a redacted value, and holds.
        shown = {
            **proof,
            "salts": salts,
            "redacted": {name: committed},
            "event": {**event, name: None},
        }
        verify_proof.verify(shown, keys)
    note = proof["checkpoint"]
    forged += [{**proof, "checkpoint": wrong} for wrong in (
        note.replace("462", "461"), note.replace("example.com/shop", "example.com/show"), note[:-10] + note[-9:],
        note.split("\n\n")[0] + "\n\n", note.replace("—", "-"), "", note + note,
    )]  # fmt: skip
    for bad in forged:
        if bad == proof:
            continue
        with pytest.raises(ProofError):
            verify_proof.verify(bad, keys)
    with pytest.raises(ProofError):
        verify_proof.verify(proof, [])
    from audit_toolkit.seals import new_key

    with pytest.raises(ProofError, match="not signed"):
        verify_proof.verify(proof, [str(new_key("example.com/shop").public)])


def test_the_script_needs_nothing(sealed: Sealed, tmp_path: Path) -> None:
    script = tmp_path / "alone.py"
    script.write_bytes(Path(verify_proof.__file__).read_bytes())
    file = tmp_path / "proof.json"
    proof = proof_of(sealed, 301)
    file.write_text(json.dumps(proof), encoding="utf-8")
    public = tmp_path / "seal.key.pub"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", str(script), *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, encoding="utf-8"
        )

    answer = run(str(file), "--key", str(public))
    assert (answer.returncode, json.loads(answer.stdout)) == (0, proof["event"])
    assert "proved: this event is in the sealed trail" in answer.stderr
    assert run(str(file), "--key", public.read_text().strip()).returncode == 0
    proof["event"]["new_row"] = "{}"
    file.write_text(json.dumps(proof), encoding="utf-8")
    answer = run(str(file), "--key", str(public))
    assert (answer.returncode, answer.stdout) == (3, "")
    assert answer.stderr.startswith("NOT proved: the event that it shows is not in the tree")
    assert run("nowhere.json", "--key", str(public)).returncode == 2
    (tmp_path / "broken.json").write_text("[" * 100_000)
    assert run(str(tmp_path / "broken.json"), "--key", str(public)).returncode == 3
