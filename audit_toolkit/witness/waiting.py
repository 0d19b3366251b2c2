"""Changes and events of one transaction that wait for each other; on disk where they are many.

A statement changes all its rows before its triggers fire, so a large one leaves as many changes waiting. Beyond a
limit, what waits and all that follows is spread over files by its bucket, in its order, and matched file by file.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryFile
from typing import IO, Any, Generic, TypeVar

from audit_toolkit.errors import AuditError

T = TypeVar("T")

HELD = 20_000
"""How many wait in memory."""
FILES = 64


class Waiting(Generic[T]):
    """Matches what comes within its bucket. `pack` makes values for `pickle` of one, and `unpack` the reverse."""

    def __init__(
        self,
        are_one: Callable[[T, T], bool],
        pack: Callable[[T], object],
        unpack: Callable[[Any], T],
    ) -> None:
        self._are_one, self._pack, self._unpack = are_one, pack, unpack
        self._held: dict[Hashable, list[T]] = {}
        self._count = 0
        self._files: list[IO[bytes]] = []
        self._closing = ExitStack()

    def meet(self, bucket: Hashable, one: T) -> None:
        """One more, which ends the wait of the first one that it matches, or waits itself."""
        if self._files:
            self._put_away(bucket, one)
            return
        self._meet(bucket, one)
        if self._count > HELD:
            self._spill()

    def left(self) -> Iterator[list[T]]:
        """What nothing matched, by buckets; then it is empty."""
        yield from self._held.values()
        self._held.clear()
        for file in self._files:
            with _room():
                file.seek(0)  # which writes the rest
            for bucket, packed in _read(file):
                self._meet(bucket, self._unpack(packed))
            yield from self._held.values()
            self._held.clear()
        self._files.clear()
        self._closing.close()

    def _meet(self, bucket: Hashable, one: T) -> None:
        waiting = self._held.get(bucket)
        if waiting is None:
            self._held[bucket] = [one]
            self._count += 1
            return
        place = next((n for n, other in enumerate(waiting) if self._are_one(one, other)), None)
        if place is None:
            waiting.append(one)
            self._count += 1
            return
        del waiting[place]
        self._count -= 1
        if not waiting:
            del self._held[bucket]

    def _spill(self) -> None:
        self._files = [self._closing.enter_context(_new_file()) for _ in range(FILES)]
        for bucket, waiting in self._held.items():
            for one in waiting:
                self._put_away(bucket, one)
        self._held.clear()

    def _put_away(self, bucket: Hashable, one: T) -> None:
        file = self._files[hash(bucket) % FILES]
        with _room():
            pickle.dump((bucket, self._pack(one)), file, pickle.HIGHEST_PROTOCOL)


def _new_file() -> IO[bytes]:
    with _room():
        return TemporaryFile()


@contextmanager
def _room() -> Iterator[None]:
    """Name the place where there is no room; nothing is kept then, and the transaction is read again."""
    try:
        yield
    except OSError as error:
        raise AuditError(
            f"a large transaction needs temporary files, and they cannot be written: {error.strerror or error}",
            hint="make room for them, or set TMPDIR to another directory; the witness goes on where it was",
        ) from error


def _read(file: IO[bytes]) -> Iterator[tuple[Hashable, object]]:
    while True:
        try:
            yield pickle.load(file)  # noqa: S301  # no name leads to the file, and we wrote it
        except EOFError:
            return
