"""The seal of an archived partition: what shows, without the database, that its files hold what was sealed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from audit_toolkit.archive.columns import TEXTS
from audit_toolkit.archive.digest import NONE, Digest
from audit_toolkit.archive.manifest import MOST_BYTES, Manifest
from audit_toolkit.archive.optional_packages import arrow, parquet
from audit_toolkit.archive.store import Store
from audit_toolkit.errors import AuditError
from audit_toolkit.seals.checkpoints import PublicKey
from audit_toolkit.seals.partition import Part

_BATCH = 16_384
_SINCE_2000 = 946_684_800_000_000
"""Microseconds from 1970 to 2000."""


@dataclass(slots=True)
class SealedLeaves(Digest):
    """Hashes events as leaves of the sealed tree, where `Digest` hashes them for the archive."""

    part: Part | None = None

    def records(self, batch: Any) -> Iterator[bytes]:
        """Of each event its id and time, as bytes that sort, and its leaf."""
        pa, part = arrow(), self.part
        if part is None:
            return
        columns: dict[str, list[Any]] = {name: batch.column(name).to_pylist() for name in TEXTS}
        for name in ("event_id", "action_tstamp", "transaction_id", "transaction_tstamp"):
            columns[name] = batch.column(name).cast(pa.int64()).to_pylist()
        events = sorted(range(batch.num_rows), key=columns["event_id"].__getitem__)
        for place in events:
            event = {name: values[place] for name, values in columns.items()}
            number, time = event["event_id"], event["action_tstamp"]
            for name in ("action_tstamp", "transaction_tstamp"):
                if event[name] is not None:
                    event[name] -= _SINCE_2000
            key = (number - NONE).to_bytes(8, "big") + (time - NONE).to_bytes(8, "big")
            yield key + part.leaf(event)


def seal_note(store: Store, manifest: Manifest) -> str | None:
    """The checkpoint in the seal of an archived partition; None without one, or where it cannot be read."""
    if manifest.seal is None:
        return None
    try:
        content = json.loads(store.read_bytes(manifest.seal.path, most=MOST_BYTES))
        note = content["checkpoint"]
    except (AuditError, ValueError, KeyError, TypeError):
        return None
    return note if isinstance(note, str) else None


def read_seal(store: Store, manifest: Manifest, keys: Sequence[PublicKey] = ()) -> Part | None:
    """The seal of an archived partition, None without; raises `AuditError` for one that is not what was written."""
    if manifest.seal is None:
        return None
    with store.fetched(manifest.seal.path) as (copy, sha256):
        if sha256 != manifest.seal.sha256 or copy.stat().st_size > MOST_BYTES:
            raise AuditError(f"{manifest.seal.path}: the bytes are not those that were written")
        return Part.read(json.loads(copy.read_bytes()), keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What came of holding an archived partition against its seal."""

    problems: tuple[str, ...] = ()
    unsigned: frozenset[int] = frozenset()
    """Redactions of which no signature in the seal says what they left; 0 where it does not say by which."""


def seal_problems(
    store: Store, manifest: Manifest, keys: Sequence[PublicKey] = ()
) -> tuple[str, ...]:
    """What is wrong with an archived partition, held against its seal; nothing where it has none."""
    return compare_seal(store, manifest, keys).problems


def compare_seal(store: Store, manifest: Manifest, keys: Sequence[PublicKey] = ()) -> Compared:
    """Hold the events of an archived partition against its seal, and what redactions left against their notes."""
    try:
        part = read_seal(store, manifest, keys)
        if part is None:
            return Compared()
        with closing(SealedLeaves(part=part)) as leaves:
            for file in manifest.files:
                with store.fetched(file.path) as (copy, _), parquet().ParquetFile(copy) as opened:
                    for batch in opened.iter_batches(batch_size=_BATCH):
                        leaves.add(batch)
            problems = tuple(part.problems(leaves.hashes()))
        return Compared(problems=problems, unsigned=frozenset(part.unsigned))
    except AuditError as error:
        problem = f"its seal: {error.message}"
    except (arrow().ArrowException, OSError, KeyError, ValueError) as error:
        problem = f"its seal cannot be compared: {str(error).splitlines()[0]}"
    return Compared(problems=(problem,))
