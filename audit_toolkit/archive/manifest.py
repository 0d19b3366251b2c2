"""The manifest of an archived leaf: without one, nothing counts as archived."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from audit_toolkit.archive.store import Store
from audit_toolkit.errors import AuditError, UsageError

FOLDER = "_manifests"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedFile:
    """One Parquet file."""

    path: str
    """Relative to the root of the archive."""
    bytes: int
    sha256: str
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an archived leaf consists of, and how to prove it."""

    leaf: str
    oid: int
    lower: str | None
    upper: str | None
    digest: str
    """That of the database; the same was computed from the files."""
    events: int
    files: tuple[ArchivedFile, ...]
    created_at: str
    toolkit: str
    server_version: int
    previous: str | None
    """The SHA-256 of the manifest that was written before, so that none can vanish unseen."""
    columns: tuple[str, ...]
    version: int = VERSION

    @property
    def name(self) -> str:
        """Its file, which sorts by time."""
        stamp = datetime.fromisoformat(self.created_at)
        return f"{FOLDER}/{stamp:%Y%m%dT%H%M%S%f}-{self.leaf}.json"

    def as_bytes(self) -> bytes:
        """The content of its file."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> Manifest:
        """Read one; raises `AuditError` when it is none."""
        try:
            values: dict[str, Any] = json.loads(content)
            values["files"] = tuple(ArchivedFile(**file) for file in values["files"])
            values["columns"] = tuple(values["columns"])
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise AuditError(
                f"the manifest {where} cannot be read: {error}",
                hint="it was damaged, or written by a newer audit-toolkit",
            ) from error


def read_manifests(store: Store) -> list[Manifest]:
    """All manifests, the oldest first; the newest of a leaf is the one that counts."""
    names = [name for name in store.names(FOLDER) if name.endswith(".json")]
    return [
        Manifest.from_bytes(store.read_bytes(f"{FOLDER}/{name}"), f"{FOLDER}/{name}")
        for name in names
    ]


def newest(manifests: list[Manifest]) -> list[Manifest]:
    """Of each leaf the manifest that counts, by time of its events."""
    found = {(manifest.leaf, manifest.oid): manifest for manifest in manifests}
    return sorted(found.values(), key=lambda manifest: (manifest.lower or "", manifest.leaf))


def find_manifest(store: Store, leaf: str) -> Manifest:
    """The newest manifest of a leaf; raises `UsageError`."""
    found = [manifest for manifest in read_manifests(store) if manifest.leaf == leaf]
    if not found:
        raise UsageError(
            f"the archive {store.url} has no leaf {leaf!r}",
            hint="audit archive list shows what it has",
        )
    return found[-1]


def chain_breaks(manifests: list[Manifest]) -> list[str]:
    """The leaves whose manifest does not follow the one before it: one was removed or changed."""
    expected, broken = None, []
    for manifest in manifests:
        if manifest.previous != expected:
            broken.append(manifest.leaf)
        expected = fingerprint(manifest)
    return broken


def fingerprint(manifest: Manifest) -> str:
    """The SHA-256 of a manifest."""
    return hashlib.sha256(manifest.as_bytes()).hexdigest()
