"""A file that is written as a whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audit_toolkit.errors import AuditError


def require_place(path: Path, option: str) -> None:
    """Raise `AuditError` where `write_whole` could not write: before the work, not after it."""
    with _explained(path, option):
        if _is_special(path):
            path.open("a").close()
        else:
            _new(_place(path)).unlink()


def write_metrics(path: Path, text: str) -> None:
    """Write the file of `--textfile`, which node_exporter reads as another user. Raises `AuditError`."""
    write_whole(path, text, "--textfile", mode=0o644)


def write_whole(path: Path, text: str, option: str, *, mode: int | None = None) -> None:
    """Write a file: a reader sees the former text or the new one, never a part. Raises `AuditError`.

    Without a mode it keeps that of the former file. A link stays, and what it leads to is written. What is no file,
    such as /dev/stdout or a pipe, is written as it is.
    """
    with _explained(path, option):
        if _is_special(path):
            path.write_text(text, encoding="utf-8")
            return
        place = _place(path)
        new = _new(place)
        try:
            new.write_text(text, encoding="utf-8")
            with new.open("rb") as written:
                os.fsync(written.fileno())
            new.chmod(_mode_of(place) if mode is None else mode)
            new.replace(place)
        finally:
            new.unlink(missing_ok=True)


def _place(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _new(place: Path) -> Path:
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=".audit-")
    os.close(handle)
    return Path(name)


def _mode_of(place: Path) -> int:
    return place.stat().st_mode & 0o7777 if place.exists() else 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def _explained(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AuditError(
            f"could not write {path}: {error.strerror}", hint=f"name another file: {option} FILE"
        ) from error
