"""Proofs of one event, by the command and by the script that needs nothing; and forged ones of every kind."""

from __future__ import annotations

import copy
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from audit_toolkit.connection import connect
from audit_toolkit.errors import AuditError
from audit_toolkit.seals import read_key, read_public, rotate_key, verify_proof
from audit_toolkit.seals.prove import prove
from audit_toolkit.seals.verify_proof import ProofError
from tests.seals.words import Sealed, redact


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


def test_a_proof_by_a_later_key_asks_for_it(sealed: Sealed) -> None:
    former = keys_of(sealed)
    rotate_key(sealed.key)
    sealed.execute("update orders set status = 'late' where id = 1")
    sealed.seal()
    proof, (later, _) = proof_of(sealed, 1), keys_of(sealed)
    verify_proof.verify(proof, [*former, later])
    names = re.escape("+".join(later.split("+")[:2]))  # what follows may have a + of its own
    with pytest.raises(ProofError, match=f"is not signed with .*, but names {names}: if the key"):
        verify_proof.verify(proof, former)


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


def test_proofs_that_were_made_before_still_hold() -> None:
    """One of an event as it was sealed, and one of an event of which a signed redaction left something."""
    file = Path(__file__).with_name("former_proofs.json")
    kept = json.loads(file.read_text(encoding="utf-8"))
    for proof in kept["proofs"]:
        verify_proof.verify(proof, [kept["key"]])
    assert [sorted(verify_proof.left_of(proof)) for proof in kept["proofs"]] == [[], ["new_row"]]


def test_a_proof_of_a_later_release_is_told_from_a_forged_one() -> None:
    for later, why in (
        ({"format": "audit-toolkit proof 2"}, "its format is 'audit-toolkit proof 2', and this"),
        ({"format": verify_proof.FORMAT, "more": {}}, "does not know its member 'more'"),
    ):
        with pytest.raises(ProofError, match=f"{why}.*take the verifier of that release"):
            verify_proof.verify(later, [])


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


def variants(proof: Any) -> dict[str, Any]:
    """The same proof written in another way: two files that both hold would be told apart by nobody."""
    event, note = proof["event"], proof["checkpoint"]
    text, signature = note.split("\n\n")
    line = signature.rstrip("\n")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = letters[letters.index(line[-2]) ^ 1]
    number = event["transaction_id"]
    return {
        "a path that is an object": {"path": dict.fromkeys(proof["path"], 0)},
        "a path with a hash twice": {"path": [proof["path"][0], *proof["path"]]},
        "an empty path": {"path": []},
        "hashes in capitals": {"path": [one.upper() for one in proof["path"]]},
        "digits of another script": {
            "event": event | {"transaction_id": chr(0xFF10 + int(number[0])) + number[1:]}
        },
        "a number with a zero before it": {"event": event | {"transaction_id": f"0{number}"}},
        "a number in place of its text": {"event": event | {"transaction_id": int(number)}},
        "a number that is too large": {"event": event | {"transaction_id": "9" * 20}},
        "a year in another script": {
            "event": event | {"action_tstamp": chr(0xFF12) + event["action_tstamp"][1:]}
        },
        "a number that is not whole": {"event": event | {"event_id": float(event["event_id"])}},
        "half a character": {"event": event | {"new_row": "\ud800"}},
        "a salt of nothing": {"salts": proof["salts"] | {"query": "11" * 16}},
        "half a character in the note": {"checkpoint": note.replace("up to", "\ud800")},
        "spare bits in the signature": {"checkpoint": f"{text}\n\n{line[:-2]}{other}=\n"},
        "a line behind the signature": {"checkpoint": f"{note}more\n"},
        "an empty line behind the signature": {"checkpoint": f"{note}\n"},
        "no line break at the end": {"checkpoint": note.rstrip("\n")},
        "another line break": {"checkpoint": f"{note.rstrip()}\u2028more"},
        "a carriage return": {"checkpoint": f"{note.rstrip()}\r\n"},
        "a signature twice": {"checkpoint": note + signature},
        "a signature by nobody before it": {"checkpoint": f"{text}\n\nmore\n{signature}"},
    }


def test_a_proof_is_written_in_one_way(sealed: Sealed) -> None:
    keys, proof = keys_of(sealed), proof_of(sealed, 301)
    assert "query" not in proof["salts"]
    for what, change in variants(proof).items():
        text = json.dumps(proof | change)
        with pytest.raises(ProofError):
            pytest.fail(f"{what}: {verify_proof.verify(verify_proof.read_proof(text), keys)}")
    with pytest.raises(ProofError, match="not as it is written"):
        verify_proof.read_proof('{"index": -0}')


def test_a_checkpoint_of_another_trail_and_a_key_of_the_same_name(sealed: Sealed) -> None:
    from audit_toolkit.seals import new_key
    from audit_toolkit.seals.checkpoints import read_checkpoint, write_note

    keys, proof = keys_of(sealed), proof_of(sealed, 301)
    text = proof["checkpoint"].split("\n\n")[0] + "\n"
    thief, honest = new_key("example.com/shop"), read_key(sealed.key)
    other = text.replace("example.com/shop", "example.com/other")
    for note, why in (
        (write_note(text, thief.public, thief.sign(text)), "not signed with"),
        (write_note(text, honest.public, thief.sign(text)), "signature of the checkpoint is wrong"),
        (write_note(other, honest.public, honest.sign(other)), "not a checkpoint of that trail"),
    ):
        with pytest.raises(ProofError, match=why):
            verify_proof.verify(proof | {"checkpoint": note}, keys)
        with pytest.raises(AuditError):
            read_checkpoint(note, read_public(sealed.key))


def test_what_is_redacted_is_not_shown_as_null(sealed: Sealed, tmp_path: Path) -> None:
    """`null` in the event alone would say that it had no such value; and nothing in it moves a terminal."""
    sealed.execute("insert into orders values (900, e'a\\u009b31m\\u202eb', null)")
    sealed.seal()
    redact(sealed, [463], ["note"])
    redact(sealed, [301], ["status"])
    for event, hidden in ((463, []), (301, ["old_row", "new_row"])):
        file = tmp_path / "proof.json"
        file.write_text(json.dumps(proof_of(sealed, event)), encoding="utf-8")
        script = [
            sys.executable,
            "-I",
            verify_proof.__file__,
            str(file),
            "--key",
            keys_of(sealed)[0],
        ]
        alone = subprocess.run(script, capture_output=True, check=True)
        words = ["verify-proof", str(file), "--key", keys_of(sealed)[0]]
        command = CliRunner().invoke(app, words)
        said = json.loads(CliRunner().invoke(app, [*words, "--format", "json"]).stdout)
        assert (said["ok"], said["not_shown"]) == (True, hidden)
        for text in (alone.stdout.decode() + alone.stderr.decode(), command.output):
            told = "not shown: old_row, new_row (redacted, or left out of this proof)\n" in text
            assert told == bool(hidden)
            assert text.replace("\n", "").isprintable()


def test_a_time_that_no_proof_can_show(sealed: Sealed) -> None:
    """Whoever may insert events can give one such a time; proving it is refused, and not a traceback."""
    sealed.execute(
        "insert into audit.logged_actions (action_tstamp, schema_name, table_name, action) "
        "values ('infinity', 'public', 'orders', 'I'), ('20000-01-01', 'public', 'orders', 'I')"
    )
    sealed.seal()
    assert sealed.found() == []
    for event in (463, 464):
        with pytest.raises(AuditError, match="its time"):
            proof_of(sealed, event)
