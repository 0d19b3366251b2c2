"""The tree, its proofs, salts and notes by themselves: against another implementation, and against forgeries."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from functools import cache

import pymerkle
import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.merkle import Tree as PlainTree
from audit_toolkit.merkle import (
    leaf_hash,
    root_of,
)
from audit_toolkit.seals.checkpoints import (
    Checkpoint,
    Note,
    NoteError,
    PublicKey,
    read_checkpoint,
    write_note,
)
from audit_toolkit.seals.ids import compress, describe, expand, read_ranges, write_ranges
from audit_toolkit.seals.keys import introduce, new_key, successor_of, trusted_keys
from audit_toolkit.seals.salts import (
    IDS,
    OF_EVENT,
    SALT,
    SLOTS,
    new_seed,
    salts_between,
)
from audit_toolkit.seals.tiles import WIDTH, Growth, Tree, widths
from audit_toolkit.seals.verify_proof import ProofError, root_from

ENTRIES = [str(number).encode() for number in range(70_000)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


def tiles_of(leaves: Sequence[bytes]) -> dict[tuple[int, int], list[bytes]]:
    """The tiles of a tree, each computed by itself."""
    found, level, hashes = {}, 0, list(leaves)
    while hashes:
        for start in range(0, len(hashes), WIDTH):
            found[level, start // WIDTH] = hashes[start : start + WIDTH]
        whole = len(hashes) - len(hashes) % WIDTH
        hashes = [root_of(hashes[start : start + WIDTH]) for start in range(0, whole, WIDTH)]
        level += 1
    return found


@cache
def tree_of(size: int) -> Tree:
    tiles = tiles_of(LEAVES[:size])
    return Tree(lambda level, tile: tiles.get((level, tile), []))


SIZES = (1, 2, 3, 5, 7, 8, 255, 256, 257, 511, 513, 700, 66_000)


def test_roots_are_those_of_another_implementation() -> None:
    other = pymerkle.InmemoryTree(algorithm="sha256")
    for entry in ENTRIES[:700]:
        other.append_entry(entry)
    for size in (*range(1, 40), *(s for s in SIZES if 40 < s <= 700)):
        assert tree_of(size).root(size) == other.get_root(size), size
        assert tree_of(700).root(size) == other.get_root(size), size
        for index in {1, size // 2 or 1, size}:
            theirs = other.prove_inclusion(
                index, size
            )  # which counts from 1, and begins with the leaf
            assert tree_of(700).inclusion(index - 1, size) == theirs.path[1:]


@pytest.mark.parametrize("size", SIZES)
def test_all_ways_to_a_root_agree(size: int) -> None:
    plain = PlainTree()
    for leaf in LEAVES[:size]:
        plain.add(leaf)
    growth = Growth()
    whole = size - size % WIDTH
    for start in range(0, whole, WIDTH):
        growth.add_tile(LEAVES[start : start + WIDTH])
    assert growth.root(LEAVES[whole:size]) == plain.root() == tree_of(size).root(size)
    assert root_of(LEAVES[:size]) == plain.root()
    tiles = tiles_of(LEAVES[:size])
    for level, tile, hashes in growth.take_full():
        assert b"".join(tiles[level, tile]) == hashes
    for level, tile, width in widths(size):
        assert len(tiles[level, tile]) == width
        if level:
            assert growth.edge[level] == tiles[level, tile]


def root_from_proof(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root that the verifier without dependencies finds; None where it refuses the proof."""
    try:
        return root_from(leaf, index, size, path)
    except ProofError:
        return None


@pytest.mark.parametrize("size", SIZES)
def test_proofs_verify_and_forged_ones_do_not(size: int) -> None:
    rng = random.Random(size)
    tree, root = tree_of(size), tree_of(size).root(size)
    for index in {0, size - 1, size // 2, *(rng.randrange(size) for _ in range(5))}:
        path = tree.inclusion(index, size)
        assert root_from_proof(LEAVES[index], index, size, path) == root
        for forged in forgeries(path, rng):
            assert root_from_proof(LEAVES[index], index, size, forged) != root
        assert root_from_proof(LEAVES[index][::-1], index, size, path) != root
        if size > 1:
            assert root_from_proof(LEAVES[index], (index + 1) % size, size, path) != root
        assert root_from_proof(LEAVES[index], index + size, size, path) is None
        assert root_from_proof(LEAVES[index], -1, size, path) is None


def forgeries(path: list[bytes], rng: random.Random) -> list[list[bytes]]:
    """What a liar would send instead."""
    found = [[*path, bytes(32)], [*path, *path[-1:]] if path else [bytes(32)]]
    for place in range(len(path)):
        found.append(path[:place] + path[place + 1 :])
        bit = 1 << rng.randrange(8)
        found.append(
            [*path[:place], bytes([path[place][0] ^ bit]) + path[place][1:], *path[place + 1 :]]
        )
    if len(set(path)) > 1:
        found.append(path[::-1])
    return [one for one in found if one != path]


def test_salts_are_the_same_whatever_is_asked_for() -> None:
    nodes = {1: new_seed()}
    everything = salts_between(nodes, 0, IDS - 1)
    assert len(everything) == IDS * OF_EVENT
    assert len({everything[i : i + SALT] for i in range(0, len(everything), SALT)}) == IDS * SLOTS
    for first, last in ((0, 0), (17, 17), (4095, 4095), (100, 163), (1, 4094)):
        base = 7 * IDS
        found = salts_between(nodes, base + first, base + last)
        assert found == everything[first * OF_EVENT : (last + 1) * OF_EVENT]


def test_ranges_of_ids() -> None:
    ids = [-5, -4, 1, 2, 3, 9]
    assert compress(ids) == ((-5, -3), (1, 4), (9, 10))
    assert expand(read_ranges(write_ranges(compress(ids)))) == ids
    assert compress([]) == ()
    assert describe(ids) == "-5--4, 1-3, 9"


# From the documentation of Go's package golang.org/x/mod/sumdb/note, which C2SP's signed-note takes over.
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""


def test_published_notes_verify() -> None:
    key = PublicKey.parse(VKEY)
    assert str(key) == VKEY
    note = Note.parse(NOTE)
    assert note.signed_by([key]) == key
    assert note.text.startswith("If you think")
    with pytest.raises(NoteError, match="wrong"):
        Note.parse(NOTE.replace("answer", "Answer")).signed_by([key])
    with pytest.raises(NoteError, match="not signed by a key that is trusted"):
        note.signed_by([new_key("PeterNeumann").public])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n- name abcd\n",
        "text\n\n— name\n",
        "text\n\n— name !!!!\n",
        NOTE.rstrip("\n"),
        NOTE + "more\n",
        NOTE.replace("answer", "an\tswer"),
        NOTE.replace("\n\n—", "\n—"),
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(NoteError):
        Note.parse(note).signed_by([PublicKey.parse(VKEY)])


@pytest.mark.parametrize(
    "text",
    ["", "a", "a+b+c", VKEY[:-4], VKEY.replace("c74f20a3", "c74f20a4"), VKEY.replace("Peter", "")],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a public key"):
        PublicKey.parse(text)


def checkpoint(**changes: object) -> Checkpoint:
    values = {
        "origin": "shop",
        "size": 7,
        "root": bytes(32),
        "up_to_id": 9,
        "sealed_at": "2026-11-28T00:00:00Z",
    }
    return Checkpoint(**(values | changes))  # type: ignore[arg-type]


def test_checkpoints_go_there_and_back() -> None:
    key = new_key("shop")
    one = checkpoint()
    note = write_note(one.text, key.public, key.sign(one.text))
    assert read_checkpoint(note, [key.public]) == one
    for wrong in (
        one.text.replace("7\n", "07\n"),
        one.text + "more\n",
        one.text.replace("9 at", "9  at"),
    ):
        with pytest.raises(NoteError):
            read_checkpoint(write_note(wrong, key.public, key.sign(wrong)), [key.public])
    other = checkpoint(origin="another")
    with pytest.raises(NoteError, match="signed for 'shop'"):
        read_checkpoint(write_note(other.text, key.public, key.sign(other.text)), [key.public])


def test_trust_goes_from_the_former_key_to_the_next_and_not_back() -> None:
    first, second, third, thief = (new_key("shop") for _ in range(4))
    notes = [introduce(first, second.public), introduce(second, third.public)]
    assert successor_of(notes[0]) == (first.public, second.public)
    assert trusted_keys([first.public], notes[::-1]) == (first.public, second.public, third.public)
    assert trusted_keys([second.public], notes) == (second.public, third.public)
    assert trusted_keys([third.public], notes) == (third.public,)
    forged = introduce(thief, thief.public).replace(str(thief.public), str(first.public), 1)
    assert trusted_keys([first.public], [forged]) == (first.public,)
    assert trusted_keys([third.public], [introduce(thief, third.public)]) == (third.public,)


def test_a_key_is_as_rfc_8032_has_it() -> None:
    """The first test of RFC 8032, 7.1, by `cryptography` and by the verifier that needs nothing."""
    from audit_toolkit.seals.keys import FileKey
    from audit_toolkit.seals.verify_proof import is_signed

    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    signature = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    key = FileKey("shop", seed)
    assert key.public.key == public
    assert key.sign("") == signature
    assert is_signed(public, b"", signature)
    assert not is_signed(public, b"x", signature)
    rng = random.Random(2)
    for _ in range(8):
        place = rng.randrange(64)
        forged = bytearray(signature)
        forged[place] ^= 1 << rng.randrange(8)
        assert not is_signed(public, b"", bytes(forged))
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(signature[32:], "little") + order
    assert not is_signed(public, b"", signature[:32] + scalar.to_bytes(32, "little"))
    assert hashlib.sha256(b"").digest() == root_of([])
