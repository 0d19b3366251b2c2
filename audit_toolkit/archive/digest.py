"""What an archived partition holds, as a short text: the same that the database computes for its table.

The number of events, and the root of the RFC 6962 tree over them in the order of their ids; as a leaf of the tree,
an event is encoded as `sql_templates/parts/event_hash.sql.j2` has it.
"""

from __future__ import annotations

import hashlib
import heapq
import sys
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from audit_toolkit.archive.columns import TEXTS
from audit_toolkit.archive.optional_packages import arrow, compute
from audit_toolkit.merkle import Tree, leaf_hash

VERSION = b"\x01"
NONE = -(2**63)
"""In the place of a time that is NULL."""
_RECORD = 48
"""Id, time, hash: as bytes they sort as the events do."""
_RECORDS_AT_ONCE = 4096


@dataclass(slots=True)
class Digest:
    """Computes what the database's `leaf_digest()` computes, from Arrow data in any order.

    Each file is sorted by itself and set aside on disk, 48 bytes an event, to be merged at the end: memory does not
    grow with the number of events.
    """

    events: int = 0
    _runs: list[tuple[int, int]] = field(default_factory=list)
    _last: bytes = b""
    _spool: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def add(self, batch: Any) -> None:
        """Count in the events of a table or record batch with our columns."""
        if not batch.num_rows:
            return
        records = sorted(self.records(batch))
        start = self.events * _RECORD
        self._spool.seek(start)
        self._spool.writelines(records)
        end = start + len(records) * _RECORD
        if self._runs and records[0] >= self._last:
            start = self._runs.pop()[0]  # it goes on in order, as what we write does
        self._runs.append((start, end))
        self._last = records[-1]
        self.events += len(records)

    def records(self, batch: Any) -> Iterator[bytes]:
        """Of each event its id and time, as bytes that sort, and its hash."""
        return _records(batch)

    def hashes(self) -> Iterator[bytes]:
        """The hashes of all events, in the order of their ids."""
        for record in heapq.merge(*(self._run(start, end) for start, end in self._runs)):
            yield record[16:]

    def close(self) -> None:
        """Give back the place on disk."""
        self._spool.close()

    def __str__(self) -> str:
        tree = Tree()
        for hashed in self.hashes():
            tree.add(hashed)
        return f"{self.events}/sha256:{tree.root().hex()}"

    def _run(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            self._spool.seek(start)
            content = self._spool.read(min(end - start, _RECORDS_AT_ONCE * _RECORD))
            start += len(content)
            for at in range(0, len(content), _RECORD):
                yield content[at : at + _RECORD]


def _records(batch: Any) -> Iterator[bytes]:
    """Of each event its id and time, as bytes that sort, and its hash."""
    pa, pc = arrow(), compute()
    ids, times = _integers(batch, "event_id"), _integers(batch, "action_tstamp")
    parts = [*map(_fixed, (ids, times)), _fixed(_integers(batch, "transaction_id"))]
    parts.append(_fixed(_integers(batch, "transaction_tstamp")))
    for name in TEXTS:
        text = batch.column(name).cast(pa.large_binary())
        length = pc.fill_null(pc.binary_length(text), -1)
        parts += [_fixed(length.cast(pa.int32())), pc.fill_null(text, b"")]
    joined = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))
    keys = zip(ids.to_pylist(), times.to_pylist(), strict=True)
    for (number, time), message in zip(keys, joined.to_pylist(), strict=True):
        key = (number - NONE).to_bytes(8, "big") + (time - NONE).to_bytes(8, "big")
        yield key + leaf_hash(VERSION + message)


def _integers(batch: Any, name: str) -> Any:
    """A column as integers, as one array without NULL; one that an older archive does not have is NULL."""
    pa, pc = arrow(), compute()
    if name not in batch.schema.names:
        return pa.array([NONE] * batch.num_rows, pa.int64())
    column = batch.column(name)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return pc.fill_null(column.cast(pa.int64()), NONE)


def _fixed(numbers: Any) -> Any:
    """Integers as the bytes in which the network sends them."""
    pa = arrow()
    width = numbers.type.bit_width // 8
    values = array("q" if width == 8 else "i", numbers.to_pylist())
    if sys.byteorder == "little":
        values.byteswap()
    data = [None, pa.py_buffer(values.tobytes())]
    fixed = pa.Array.from_buffers(pa.binary(width), len(values), data)
    return fixed.cast(pa.large_binary())


@dataclass(slots=True)
class SumDigest:
    """The digest of archives that were written before 0.3: sums that do not depend on the order of the events."""

    columns: tuple[str, ...]
    events: int = 0
    _first: int = 0
    _second: int = 0

    def add(self, batch: Any) -> None:
        """Count in the events of a table or record batch."""
        for row in self._texts(batch).to_pylist():
            hashed = hashlib.sha256(row.encode()).digest()
            self._first += int.from_bytes(hashed[:8], signed=True)
            self._second += int.from_bytes(hashed[8:16], signed=True)
        self.events += batch.num_rows

    def close(self) -> None:
        """There is nothing to give back."""

    def _texts(self, batch: Any) -> Any:
        """Each event as its fields, `length:text` or `-` for NULL, one after the other."""
        pa, pc = arrow(), compute()
        fields = []
        for name in self.columns:
            values = batch.column(name)
            if pa.types.is_timestamp(values.type):
                values = values.cast(pa.int64())
            text = values.cast(pa.large_string())
            length = pc.utf8_length(text).cast(pa.large_string())
            marked = pc.binary_join_element_wise(length, text, pa.scalar(":", pa.large_string()))
            fields.append(pc.fill_null(marked, "-"))
        return pc.binary_join_element_wise(*fields, pa.scalar("", pa.large_string()))

    def __str__(self) -> str:
        return f"{self.events}/{self._first}/{self._second}"
