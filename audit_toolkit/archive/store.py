"""Where an archive is: a folder or a bucket, reached through fsspec.

    <root>/events/<whose>/relation=public.orders/month=2026-03/<leaf>-<oid>-<digest>.parquet   the events
    <root>/manifests/<whose>/<time>-<leaf>.json                            what of it counts as archived
    <root>/seals/<whose>/<leaf>-<oid>-<digest>.json                        what shows that it is what was sealed

where <whose> is system=…/database=…/trail=…, so that no two databases share a file. DuckDB, Spark, Trino, Polars and
pandas read the folder `events` as it stands, in Hive's layout. Archives from before 0.3 have `relation=…` and
`_manifests` in their root. A path inside is relative; nothing outside of the root is read or written, by links neither.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from audit_toolkit.archive.optional_packages import fsspec
from audit_toolkit.connection import import_psycopg
from audit_toolkit.errors import AuditError, MissingExtraError, UsageError

CHUNK = 4 * 2**20
"""Bytes that are held at once while a file is fetched."""
EVENTS, FOLDER, OLD_FOLDER, SEALS = "events", "manifests", "_manifests", "seals"


def is_inside(path: str) -> bool:
    """Whether a path is relative and stays below where it begins, on every kind of store."""
    return (
        bool(path)
        and not path.startswith(("/", "~"))
        and "\\" not in path
        and "://" not in path
        and all(part not in ("", ".", "..") for part in path.split("/"))
    )


def is_unfinished(path: str) -> bool:
    """Whether it is a file that was being written when a run was killed; readers of the folder pass over it."""
    return posixpath.basename(path).startswith(_UNFINISHED)


def unfinished(path: str) -> str:
    """The path of a file while it is written into a folder."""
    folder, name = posixpath.split(path)
    return posixpath.join(folder, _UNFINISHED + name)


_UNFINISHED = "._"


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
                    hint=f"install the package that it names: {error}",
                ) from error
            except ValueError as error:
                raise UsageError(
                    f"{url!r} is not a valid archive location: {error}",
                    hint="use a folder, s3://bucket/path, gs://bucket/path or az://container/path",
                ) from error
        return cls(url, filesystem, _one_spelling(filesystem, root))

    @classmethod
    def of(cls, address: str, given: Store | None) -> tuple[Store, str]:
        """The archive that has the manifest of an address, and its path inside: `given`, if it was moved there."""
        url, name = split_address(address)
        return given if given and given.has(name) else cls.open(url), name

    def path(self, path: str) -> str:
        """A path inside, as the file system wants it; raises `AuditError` for one that leads outside."""
        if not is_inside(path):
            raise AuditError(
                f"{path!r} is not a path inside the archive {self.url}",
                hint="its manifest was forged: restore the archive from a backup",
            )
        if self.is_local:
            self._refuse_links(path)
        return posixpath.join(self.root, path)

    def _refuse_links(self, path: str) -> None:
        place = Path(self.root)
        for part in path.split("/"):
            place /= part
            kind = place.lstat().st_mode if os.path.lexists(place) else stat.S_IFREG
            if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                raise AuditError(
                    f"{place} is not a file or folder, but a link or a device",
                    hint="an archive has only ordinary files: find out who put it there, and "
                    "remove it",
                )

    def address(self, path: str) -> str:
        """A path inside as a URL, for other programs."""
        return str(self.filesystem.unstrip_protocol(self.path(path)))

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return _is_local(self.filesystem)

    @contextmanager
    def create(self, path: str) -> Iterator[IO[bytes]]:
        """A new file, whole or not at all: an error on the way leaves none behind."""
        target = self.path(path)
        # Object stores show a file when it is complete; in a folder the last step is a link.
        place = self.path(unfinished(path)) if self.is_local else target
        with storage_errors(self.url):
            if self.filesystem.exists(target):
                raise FileExistsError(f"{path} already exists, and nothing is overwritten")
            if (
                self.is_local
            ):  # elsewhere there are no folders, and s3fs would even make a missing bucket
                self.filesystem.makedirs(posixpath.dirname(target), exist_ok=True)
                self.remove(place)
            try:
                with self._opened(place) as file:
                    yield file
            except BaseException:
                self.remove(place)
                raise
            if place != target:
                os.link(place, target)  # fails where a rename would overwrite
                self.remove(place)

    def _opened(self, place: str) -> Any:
        # Exclusively: a link that somebody put there meanwhile would lead elsewhere.
        return Path(place).open("xb") if self.is_local else self.filesystem.open(place, "wb")

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        with storage_errors(self.url):
            return bool(self.filesystem.exists(self.path(path)))

    def remove(self, place: str) -> None:
        """Remove a file that is not to stay, if it is there."""
        with storage_errors(self.url):
            if self.filesystem.exists(place):
                self.filesystem.rm_file(place)

    def read_bytes(self, path: str, *, most: int) -> bytes:
        """A small file as a whole; raises `AuditError` for one of more than `most` bytes."""
        with storage_errors(self.url):
            content: bytes = self.filesystem.cat_file(self.path(path), start=0, end=most + 1)
        if len(content) > most:
            raise AuditError(f"{path} is larger than {most} bytes")
        return content

    def files(self, folder: str, suffix: str = "") -> list[str]:
        """All paths below a folder, in order, links and the like too; none where there is no such folder."""
        with storage_errors(self.url):
            self.filesystem.invalidate_cache()
            place = self.path(folder) if folder else self.root
            if self.is_local:
                found = [
                    posixpath.join(parent, name)
                    for parent, folders, names in os.walk(place, onerror=_unless_missing)
                    for name in [*names, *(f for f in folders if Path(parent, f).is_symlink())]
                ]
            else:
                # What ends in a slash is how consoles of object stores mark a folder: nobody reads it.
                found = [name for name in self.filesystem.find(place) if not name.endswith("/")]
            start = len(self.root) + 1
            return sorted(name[start:] for name in found if name.endswith(suffix))

    def files_of_old_layout(self) -> list[str]:
        """The paths of Parquet files beside the folders of ours."""
        found = self.files("", ".parquet")
        return [name for name in found if not name.startswith((f"{EVENTS}/", f"{FOLDER}/"))]

    def require_reachable(self) -> None:
        """Raise `AuditError` unless the place can be listed, or is a folder that is yet to be made."""
        with storage_errors(self.url):
            self.filesystem.invalidate_cache()
            if self.is_local and os.path.lexists(self.root) and not Path(self.root).is_dir():
                raise NotADirectoryError(f"{self.root} is not a folder")
            try:
                self.filesystem.ls(self.root)
            except FileNotFoundError:
                # A folder, or what a bucket calls one, comes with its first file; a bucket does not.
                bucket = self.root.split("/")[0]
                if not self.is_local and (bucket == self.root or not self._has_bucket(bucket)):
                    raise

    def _has_bucket(self, bucket: str) -> bool:
        try:
            self.filesystem.ls(bucket)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def fetched(self, path: str) -> Iterator[tuple[Path, str]]:
        """A file brought here, piece by piece, with the SHA-256 of the bytes that came."""
        digest = hashlib.sha256()
        place = self.path(path)
        with tempfile.TemporaryDirectory(prefix="audit-archive-") as folder:
            copy = Path(folder, "file")
            with (
                storage_errors(self.url),
                self.filesystem.open(place, "rb") as source,
                copy.open("wb") as target,
            ):
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
            yield copy, digest.hexdigest()


def _is_local(filesystem: Any) -> bool:
    protocol = filesystem.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def _one_spelling(filesystem: Any, root: str) -> str:
    """The same text for the same place: two spellings of an archive must not be two archives."""
    if _is_local(filesystem):
        return os.path.realpath(root).rstrip("/")
    # Drivers count the characters of a listed name by the spelling without doubled slashes.
    return posixpath.normpath(root).rstrip("/") if root.strip("/") else root.rstrip("/")


def _unless_missing(error: OSError) -> None:
    """A folder that cannot be listed is not an empty one."""
    if not isinstance(error, FileNotFoundError):
        raise error


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
            hint="nothing was dropped; make sure that the location exists, can be reached and has "
            "free space, then run it again",
        ) from error


def split_address(address: str) -> tuple[str, str]:
    """The address of a manifest as that of its archive, and the path inside."""
    folder = OLD_FOLDER if f"/{OLD_FOLDER}/" in address else FOLDER
    url, _, name = address.rpartition(f"/{folder}/")
    return url, f"{folder}/{name}"
