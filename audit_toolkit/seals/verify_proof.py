#!/usr/bin/env python3
"""Verify a proof that an event was in a sealed audit trail: python3 verify_proof.py PROOF.json --key PUBLIC_KEY.

One file that needs nothing but Python 3.9: give it away with a proof. It says whether the event that the proof
shows, every column of it, is in the tree whose root was signed with that key. Exit code 0: it is; 3: it is not;
2: usage.

The format is described in docs/seals.md of Audit Toolkit. Ed25519 is verified as RFC 8032 has it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import struct
import sys
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, TypeVar  # noqa: UP035 - Python 3.9

FORMAT = "audit-toolkit proof 1"
TEXTS = (
    "schema_name",
    "table_name",
    "action",
    "session_user_name",
    "role_name",
    "application_name",
    "client_addr",
)
SLOTS = ("row_key", "old_row_key", "old_row", "new_row", "context", "query")
TIMES = ("action_tstamp", "transaction_tstamp")
MEMBERS = {"format", "event", "salts", "redacted", "index", "path", "checkpoint"}
MEMBERS_LEFT = {"text", "salt", "index", "path", "note"}
NEWER = "if a later release made it, take the verifier of that release"
ROTATED = "if the key was rotated, ask for the public keys of now"
LEFT = "audit-toolkit: what a redaction left of sealed events"
COLUMNS = {"event_id", "transaction_id", *TIMES, *TEXTS, *SLOTS}
_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - Python 3.9 has no datetime.UTC
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,19}")
_SIGNATURE = re.compile(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")


_Read = TypeVar("_Read")


class ProofError(Exception):
    """The proof does not hold, and why."""


def _shown(value: Any) -> str:
    """A value for a message, whatever its length, its depth or the characters in it."""
    return ascii(value[:80]) if isinstance(value, str) else "what is not a text"


def visible(text: str) -> str:
    """JSON text in which nothing colours a terminal, turns the reading direction or hides."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def hexadecimal(text: Any, size: int) -> bytes:
    """Bytes that are written in hexadecimal."""
    if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{%d}" % (2 * size), text):  # noqa: UP031
        raise ProofError(f"{_shown(text)} is not {size} bytes in hexadecimal")
    return bytes.fromhex(text)


def microseconds(text: Any) -> int:
    """A time as PostgreSQL sends it: microseconds since 2000."""
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise ProofError(f"{_shown(text)} is not a time in UTC with six decimals")
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=_EPOCH.tzinfo)
    except ValueError as error:
        raise ProofError(f"{_shown(text)} is not a time") from error
    return (moment - _EPOCH) // timedelta(microseconds=1)


def commitment(salt: bytes, text: str) -> bytes:
    """The commitment to the text of a slot."""
    return hashlib.sha256(salt + text.encode()).digest()


def leaf_hash(
    event: dict[str, Any], salts: dict[str, bytes], commitments: dict[str, bytes]
) -> bytes:
    """An event as a leaf of the tree, encoding 1; `commitments` are those of slots whose salt was destroyed."""
    numbers = [event["event_id"], microseconds(event["action_tstamp"])]
    began = event["transaction_tstamp"]
    texts = [event[name] for name in TEXTS]
    data = struct.pack(">qq", *numbers) + struct.pack(">Q", int(event["transaction_id"]))
    data += struct.pack(">q", -(2**63) if began is None else microseconds(began))
    data += b"".join(struct.pack(">i", -1 if text is None else len(text)) for text in texts)
    data += "".join(text or "" for text in texts).encode()
    for name in SLOTS:
        found = commitments.get(name)
        if found is None and event[name] is not None:
            found = commitment(salts[name], event[name])
        data += b"\xff\xff\xff\xff" if found is None else b"\0\0\0\x20" + found
    return hashlib.sha256(b"\0\1" + data).digest()


def root_from(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that a proof of inclusion leads to (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        raise ProofError("the place of the event is not in the tree")
    place, last, found = index, size - 1, leaf
    for hashed in path:
        if last == 0:
            raise ProofError("the path is too long")
        if place & 1 or place == last:
            found = hashlib.sha256(b"\1" + hashed + found).digest()
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = hashlib.sha256(b"\1" + found + hashed).digest()
        place, last = place >> 1, last >> 1
    if last != 0:
        raise ProofError("the path is too short")
    return found


P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493


def _add(one: tuple[int, ...], two: tuple[int, ...]) -> tuple[int, ...]:
    a = (one[1] - one[0]) * (two[1] - two[0]) % P
    b = (one[1] + one[0]) * (two[1] + two[0]) % P
    c, d = 2 * one[3] * two[3] * D % P, 2 * one[2] * two[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _times(number: int, point: tuple[int, ...]) -> tuple[int, ...]:
    found: tuple[int, ...] = (0, 1, 1, 0)
    while number:
        if number & 1:
            found = _add(found, point)
        point, number = _add(point, point), number >> 1
    return found


def _point(data: bytes) -> tuple[int, ...]:
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        raise ProofError("a point of the signature is not on the curve")
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        raise ProofError("a point of the signature is not on the curve")
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


_BASE = _point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_signed(key: bytes, text: bytes, signature: bytes) -> bool:
    """Whether a text was signed with an Ed25519 key (RFC 8032, 5.1.7)."""
    if len(signature) != 64 or len(key) != 32:
        return False
    try:
        public, commitment_ = _point(key), _point(signature[:32])
    except ProofError:
        return False
    scalar = int.from_bytes(signature[32:], "little")
    if scalar >= ORDER:
        return False
    hashed = hashlib.sha512(signature[:32] + key + text).digest()
    left = _times(scalar, _BASE)
    right = _add(commitment_, _times(int.from_bytes(hashed, "little") % ORDER, public))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (
        left[1] * right[2] - right[1] * left[2]
    ) % P == 0


def read_key(text: str) -> tuple[str, bytes, bytes]:
    """A public key, name+id+base64, as name, id and key."""
    name, _, rest = text.strip().partition("+")
    hashed, _, data = rest.partition("+")
    content = _decoded(data, "the public key")
    found = hashlib.sha256(name.encode() + b"\n" + content).digest()[:4]
    if not name or len(content) != 33 or content[0] != 1 or found.hex() != hashed:
        raise ProofError("the public key is not name+id+base64 of an Ed25519 key")
    return name, found, content[1:]


def read_checkpoint(note: str, key: str) -> tuple[int, bytes, str]:
    """The size and root of a checkpoint that was signed with a key, and up to which event and when."""
    name, lines = _signed_lines(note, key, "the checkpoint")
    if len(lines) < 4 or lines[0] != name or not _NUMBER.fullmatch(lines[1]):
        raise ProofError("what was signed is not a checkpoint of that trail")
    return int(lines[1]), _decoded(lines[2], "the root of the checkpoint"), lines[3]


def read_left(note: str, key: str) -> tuple[int, int, bytes]:
    """Of the note of a redaction that was signed with a key: its event, and the size and root of what it left."""
    name, lines = _signed_lines(note, key, "the note of a redaction")
    redaction, origin, size, root = left_note(lines)
    if origin != name:
        raise ProofError("what was signed is not the note of a redaction of that trail")
    return redaction, size, root


def left_note(lines: list[str]) -> tuple[int, str, int, bytes]:
    """What the note of a redaction says: its event, the name of the trail, the size and root of what it left."""
    said = re.fullmatch("event ([1-9][0-9]{0,18}) of (.+)", lines[1]) if len(lines) == 5 else None
    if lines[0] != LEFT or said is None or not _NUMBER.fullmatch(lines[2]) or lines[4]:
        raise ProofError("what was signed is not the note of a redaction")
    root = _decoded(lines[3], "the root of the note of a redaction")
    return int(said[1]), said[2], int(lines[2]), root


def _signed_lines(note: str, key: str, what: str) -> tuple[str, list[str]]:
    """The name of a key, and the lines of a note that was signed with it."""
    name, key_id, public = read_key(key)
    text, signatures = _read_note(note, what)
    signed = [data[4:] for by, data in signatures if by == name and data[:4] == key_id]
    if not signed:
        others = [f"{by}+{data[:4].hex()}" for by, data in signatures if by == name]
        instead = f", but names {', '.join(others)}: {ROTATED}" if others else ""
        raise ProofError(f"{what} is not signed with {name}+{key_id.hex()}{instead}")
    if not all(is_signed(public, text.encode(), signature) for signature in signed):
        raise ProofError(f"the signature of {what} is wrong")
    return name, text.split("\n")


def _read_note(note: str, what: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The text of a signed note, and who signed it with what."""
    text, separator, rest = note.rpartition("\n\n")
    if not separator or not rest.endswith("\n"):
        raise ProofError(f"{what} is not a signed note")
    if any((c < " " and c != "\n") or "\ud800" <= c <= "\udfff" for c in note):
        raise ProofError(f"{what} has characters that no note has")
    signatures = []
    for line in rest[:-1].split("\n"):
        found = _SIGNATURE.fullmatch(line)
        if not found:
            raise ProofError(f"a line of {what} is not a signature")
        signatures.append((found[1], _decoded(found[2], f"a signature of {what}")))
    if len(set(signatures)) < len(signatures):
        raise ProofError(f"a signature of {what} is there twice")
    return text + "\n", signatures


def _decoded(text: str, what: str) -> bytes:
    """The bytes of base64, which has one way to write them."""
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ProofError(f"{what} is not base64") from error
    if base64.b64encode(found).decode() != text:
        raise ProofError(f"{what} is not base64 as it is written")
    return found


def read_proof(text: str) -> Any:
    """The value of the text of a proof; raises `ProofError` for a member that is there twice: readers take either."""

    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(members)
        if len(found) < len(members):
            raise ProofError("a member of it is there twice")
        return found

    def number(digits: str) -> int:
        if digits == "-0":
            raise ProofError("a number of it is not as it is written")
        return int(digits)

    try:
        return json.loads(text, object_pairs_hook=once, parse_int=number)
    except (ValueError, RecursionError) as error:
        raise ProofError(f"it is not JSON: {error}") from error


def verify(proof: Any, keys: list[str]) -> str:
    """Verify a proof with one of these public keys; what the checkpoint says of its time.

    Raises `ProofError`: the proof does not hold.
    """
    _require_members(proof)
    try:
        event, index = proof["event"], proof["index"]
        salts = {name: hexadecimal(text, 16) for name, text in proof["salts"].items()}
        redacted = {name: hexadecimal(text, 32) for name, text in proof["redacted"].items()}
        if not isinstance(proof["path"], list):
            raise ProofError("the path is not a list")
        path = [hexadecimal(text, 32) for text in proof["path"]]
        _require_event(event, salts, redacted)
        if type(index) is not int:
            raise ProofError("the place of the event is not a number")
        leaf = leaf_hash(event, salts, redacted)
        note = proof["checkpoint"]
    except (KeyError, TypeError, AttributeError, ValueError, struct.error) as error:
        raise ProofError(f"it is damaged: {_shown(str(error))}") from error
    if not isinstance(note, str):
        raise ProofError("the checkpoint is not a text")
    size, root, when = _signed_by_one(note, keys, read_checkpoint)
    if root_from(leaf, index, size, path) != root:
        raise ProofError("the event that it shows is not in the tree that was signed")
    if "left" in proof:
        _require_left(proof["left"], event["event_id"], redacted, keys)
    return when


def _require_members(proof: Any) -> None:
    if not isinstance(proof, dict) or not isinstance(proof.get("format"), str):
        raise ProofError("it is not a proof")
    if proof["format"] != FORMAT:
        raise ProofError(
            f"its format is {_shown(proof['format'])}, and this verifier knows {FORMAT!r}: {NEWER}"
        )
    if unknown := sorted(set(proof) - MEMBERS - {"left"}):
        raise ProofError(f"this verifier does not know its member {_shown(unknown[0])}: {NEWER}")
    if missing := sorted(MEMBERS - set(proof)):
        raise ProofError(f"it does not have the member {missing[0]!r} of a proof")


def _require_left(left: Any, event_id: int, redacted: dict[str, bytes], keys: list[str]) -> None:
    if not isinstance(left, dict) or not left or not set(left) <= set(redacted):
        raise ProofError("it shows what is left of what it does not show as redacted")
    for slot, one in left.items():
        if not isinstance(one, dict) or set(one) != MEMBERS_LEFT or type(one["index"]) is not int:
            raise ProofError(f"what is left of {slot} does not have exactly its members")
        if not all(isinstance(one[name], str) for name in ("text", "note")):
            raise ProofError(f"what is left of {slot} is not a text")
        if not isinstance(one["path"], list):
            raise ProofError(f"the path of what is left of {slot} is not a list")
        try:
            remaining = commitment(hexadecimal(one["salt"], 16), one["text"])
        except ValueError as error:
            raise ProofError(f"it is damaged: {_shown(str(error))}") from error
        path = [hexadecimal(text, 32) for text in one["path"]]
        leaf = left_hash(event_id, slot, redacted[slot], remaining)
        _, size, root = _signed_by_one(one["note"], keys, read_left)
        if root_from(leaf, one["index"], size, path) != root:
            raise ProofError(f"what it shows as left of {slot} is not what was signed")


def left_hash(event_id: int, slot: str, sealed: bytes, remaining: bytes) -> bytes:
    """A slot of an event as a leaf of the tree that a redaction was signed with."""
    data = struct.pack(">qh", event_id, SLOTS.index(slot)) + sealed + remaining
    return hashlib.sha256(b"\0" + data).digest()


def left_of(proof: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """What a verified proof shows as left of redacted slots: the event of the redaction, and the text."""
    return {
        slot: (int(one["note"].split("\n")[1].split(" ")[1]), one["text"])
        for slot, one in proof.get("left", {}).items()
    }


def left_line(slot: str, redaction: int, text: str) -> str:
    """What is left of a slot, for people."""
    said = f"left of {slot}, signed with the redaction of event {redaction}: {text}"
    return visible(said).replace("\n", "\\n")


def _require_event(event: Any, salts: dict[str, bytes], redacted: dict[str, bytes]) -> None:
    if not isinstance(event, dict) or set(event) != COLUMNS:
        raise ProofError("it does not show exactly the columns of an event")
    if type(event["event_id"]) is not int:
        raise ProofError("the event has no number")
    if not isinstance(event["transaction_id"], str) or not _NUMBER.fullmatch(
        event["transaction_id"]
    ):
        raise ProofError("the transaction has no number")
    for name in (*TEXTS, *SLOTS):
        if event[name] is not None and not isinstance(event[name], str):
            raise ProofError(f"{name} is not a text")
    if not set(redacted) <= set(SLOTS):
        raise ProofError("it has commitments to what an event does not have")
    for name in redacted:
        if event[name] is not None:
            raise ProofError(f"it shows {name}, which was redacted and cannot be proved")
    if set(salts) != {name for name in SLOTS if event[name] is not None}:
        raise ProofError("it does not have exactly the salts of what it shows")


def not_shown(proof: dict[str, Any]) -> list[str]:
    """The values of the event that a verified proof shows as null, although the event has or had one."""
    return [name for name in SLOTS if name in proof["redacted"]]


def _signed_by_one(note: str, keys: list[str], read: Callable[[str, str], _Read]) -> _Read:
    problem = ProofError("no public key is given")
    for key in keys:
        try:
            return read(note, key)
        except ProofError as error:
            problem = error
    raise problem


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("proof", help="the file of the proof, or - for standard input")
    parser.add_argument("--key", required=True, help="the public key: its file, or the key itself")
    options = parser.parse_args(arguments)
    try:
        if options.proof == "-":
            text = sys.stdin.read()
        else:
            with open(options.proof, encoding="utf-8") as file:  # noqa: PTH123 - one file, no more
                text = file.read()
        key = options.key
        if os.path.exists(key):  # noqa: PTH110
            with open(key, encoding="utf-8") as file:  # noqa: PTH123
                key = file.read()
        proof = read_proof(text)
        when = verify(proof, [line for line in key.splitlines() if line.strip()])
    except (OSError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except ProofError as error:
        print(f"NOT proved: {error}", file=sys.stderr)  # noqa: T201
        return 3
    print(visible(json.dumps(proof["event"], indent=2, ensure_ascii=False)))  # noqa: T201
    if not_shown(proof):
        names = ", ".join(not_shown(proof))
        print(f"not shown: {names} (redacted, or left out of this proof)", file=sys.stderr)  # noqa: T201
    for slot, (redaction, left) in left_of(proof).items():
        print(left_line(slot, redaction, left), file=sys.stderr)  # noqa: T201
    print(f"proved: this event is in the sealed trail ({when})", file=sys.stderr)  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
