"""Where an archive is: a folder or a bucket, reached through fsspec.

    <root>/relation=public.orders/month=2026-03/<leaf>-<oid>.parquet   the events, in Hive's layout
    <root>/_manifests/<time>-<leaf>.json                               what of it counts as archived

DuckDB, Spark and Trino read the data as it stands; they pass over names that begin with an underscore.
"""

from __future__ import annotations

import hashlib
import posixpath
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from audit_toolkit.archive.extra import fsspec
from audit_toolkit.connection import import_psycopg
from audit_toolkit.errors import AuditError, MissingExtraError, UsageError

CHUNK = 4 * 2**20
"""Bytes that are held at once while a file is fetched."""


@dataclass(frozen=True, slots=True)
class Store:
    """One archive."""

    url: str
    filesystem: Any
    root: str

    @classmethod
    def open(cls, url: str) -> Store:
        """The store of that URL; raises `UsageError` for a scheme that nobody knows."""
        with storage_errors(url):
            try:
                filesystem, root = fsspec().core.url_to_fs(url)
            except ImportError as error:
                raise MissingExtraError(
                    f"no driver for {url.split(':')[0]}://",
                    hint=f"pip install what it asks for: {error}",
                ) from error
            except ValueError as error:
                raise UsageError(
                    f"{url!r} is not the address of an archive: {error}",
                    hint="write a folder, s3://bucket/path, gs://bucket/path or az://container/path",
                ) from error
        return cls(url, filesystem, root.rstrip("/"))

    def path(self, *parts: str) -> str:
        """A path inside, as the file system wants it."""
        return posixpath.join(self.root, *parts)

    def address(self, path: str) -> str:
        """A path inside as a URL, for other programs."""
        return str(self.filesystem.unstrip_protocol(self.path(path)))

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        protocol = self.filesystem.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    @contextmanager
    def create(self, path: str) -> Iterator[IO[bytes]]:
        """A new file, whole or not at all: an error on the way leaves none behind."""
        target = self.path(path)
        folder, name = posixpath.split(target)
        # Object stores show a file when it is complete; in a folder the last step is a rename.
        place = posixpath.join(folder, f"._{name}") if self.is_local else target
        with storage_errors(self.url):
            if (
                self.is_local
            ):  # elsewhere there are no folders, and s3fs would even make a missing bucket
                self.filesystem.makedirs(folder, exist_ok=True)
            try:
                with self.filesystem.open(place, "wb") as file:
                    yield file
            except BaseException:
                self.remove(place)
                raise
            if place != target:
                self.filesystem.mv(place, target)

    def remove(self, place: str) -> None:
        """Remove a file that is not to stay, if it is there."""
        with storage_errors(self.url):
            if self.filesystem.exists(place):
                self.filesystem.rm_file(place)

    def read_bytes(self, path: str) -> bytes:
        """A small file as a whole."""
        with storage_errors(self.url):
            content: bytes = self.filesystem.cat_file(self.path(path))
            return content

    def names(self, folder: str) -> list[str]:
        """The names in a folder, in order; none where there is no such folder."""
        with storage_errors(self.url):
            self.filesystem.invalidate_cache()
            if not self.filesystem.exists(self.path(folder)):
                return []
            found = self.filesystem.ls(self.path(folder), detail=False)
            return sorted(posixpath.basename(path.rstrip("/")) for path in found)

    @contextmanager
    def fetched(self, path: str) -> Iterator[tuple[Path, str]]:
        """A file brought here, piece by piece, with the SHA-256 of the bytes that came."""
        digest = hashlib.sha256()
        with tempfile.TemporaryDirectory(prefix="audit-archive-") as folder:
            copy = Path(folder, "file")
            with (
                storage_errors(self.url),
                self.filesystem.open(self.path(path), "rb") as source,
                copy.open("wb") as target,
            ):
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
            yield copy, digest.hexdigest()


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what a storage driver raises into an `AuditError`.

    Drivers have errors of their own (botocore's, aiohttp's, google's) that share no base but Exception.
    """
    try:
        yield
    except (AuditError, import_psycopg().Error):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AuditError(
            f"the archive {url} failed: {reason}",
            hint="nothing was dropped; see that the place exists, is reachable and has room, then run it again",
        ) from error
