"""What somebody could do to an archive behind our back."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from audit_toolkit.archive.digest import Digest


@dataclass
class Folder:
    """A copy of an archive, to be tampered with."""

    root: Path

    @property
    def manifests(self) -> list[Path]:
        return sorted(self.root.glob("manifests/**/*.json"))

    @property
    def data(self) -> list[Path]:
        return sorted(self.root.glob("events/**/*.parquet"))

    def rewrite(self, **changes: Any) -> None:
        """Other values in the newest manifest."""
        newest_one = self.manifests[-1]
        newest_one.write_text(json.dumps(json.loads(newest_one.read_text()) | changes))

    def origin(self, **changes: Any) -> None:
        """Another origin of the newest manifest."""
        self.rewrite(origin=json.loads(self.manifests[-1].read_text())["origin"] | changes)

    def first_file(self, **changes: Any) -> None:
        """Other values for the first file of the newest manifest."""
        files = json.loads(self.manifests[-1].read_text())["files"]
        self.rewrite(files=[files[0] | changes, *files[1:]])


def forge(folder: Folder) -> None:
    """Another event, and a manifest that agrees with it: file, hash, digest and all."""
    values = json.loads(folder.manifests[-1].read_text())
    path = folder.root / values["files"][0]["path"]
    table = pq.read_table(path, partitioning=None)
    index = table.schema.get_field_index("application_name")
    names = ["forged", *table.column("application_name").to_pylist()[1:]]
    pq.write_table(table.set_column(index, table.schema.field(index), [names]), path)
    values["files"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    digest = Digest()
    for file in values["files"]:
        digest.add(pq.read_table(folder.root / file["path"], partitioning=None))
    values["digest"] = str(digest)
    digest.close()
    folder.manifests[-1].write_text(json.dumps(values))


def edit_data(folder: Folder) -> None:
    content = bytearray(folder.data[0].read_bytes())
    content[len(content) // 2] ^= 1
    folder.data[0].write_bytes(content)


def link_data(folder: Folder) -> None:
    elsewhere, path = folder.root.parent / "elsewhere.parquet", folder.data[0]
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def fifo(folder: Folder) -> None:
    os.mkfifo(folder.manifests[0].with_name("20990101T000000000000-x.json"))


def link_manifests(folder: Folder) -> None:
    moved = folder.root.parent / "manifests"
    shutil.move(folder.root / "manifests", moved)
    (folder.root / "manifests").symlink_to(moved)


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def rewrite_rows(file: Path) -> None:
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.slice(0, table.num_rows - 1), file)


def deep(folder: Folder) -> None:
    folder.manifests[0].write_text("[" * 100_000)


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


TAMPERED: dict[str, Callable[[Folder], Any]] = {
    "the last manifest removed": lambda f: f.manifests[-1].unlink(),
    "the first manifest removed": lambda f: f.manifests[0].unlink(),
    "all manifests removed": lambda f: shutil.rmtree(f.root / "manifests"),
    "the folder emptied": lambda f: emptied(f.root),
    "the folder removed": lambda f: shutil.rmtree(f.root),
    "the wrong folder": lambda f: f.root.rename(f.root.with_name("other")),
    "an additional Parquet file": lambda f: shutil.copy(f.data[0], f.data[0].with_name("more.parquet")),
    "an additional Parquet file for another table": lambda f: shutil.copy(
        f.data[0], made(f.root / "events/relation=x") / "x.parquet"
    ),
    "a Parquet file in the root": lambda f: shutil.copy(f.data[0], f.root / "x.parquet"),
    "a Parquet file removed": lambda f: f.data[-1].unlink(),
    "a byte of a Parquet file changed": edit_data,
    "two Parquet files swapped": lambda f: [
        f.data[0].rename(f.root / "t"), f.data[1].rename(f.data[0]), (f.root / "t").rename(f.data[0].with_name("t"))
    ],
    "a Parquet file truncated": lambda f: os.truncate(f.data[0], 100),
    "a Parquet file emptied": lambda f: os.truncate(f.data[0], 0),
    "a Parquet file replaced by a symbolic link": link_data,
    "a FIFO among the manifests": fifo,
    "the manifests replaced by a symbolic link": link_manifests,
    "an event forged together with its manifest": forge,
    "another digest": lambda f: f.rewrite(digest="1/sha256:00"),
    "different bounds": lambda f: f.rewrite(lower=None),
    "no files": lambda f: f.rewrite(files=[]),
    "fewer events": lambda f: f.rewrite(events=1),
    "another name": lambda f: f.rewrite(leaf="logged_actions_1999_01"),
    "a name with terminal escapes": lambda f: f.rewrite(leaf="\x1b[2J"),
    "another database": lambda f: f.rewrite(origin=None),
    "another timeline": lambda f: f.origin(timeline=2),
    "another OID of the database": lambda f: f.origin(database_oid=1),
    "another OID of the partition": lambda f: f.rewrite(oid=1),
    "another version of the server": lambda f: f.rewrite(server_version=170001),
    "another version of the toolkit": lambda f: f.rewrite(toolkit="0.2.0"),
    "no columns": lambda f: f.rewrite(columns=[]),
    "another predecessor": lambda f: f.rewrite(previous="0" * 64),
    "an absolute path": lambda f: f.first_file(path="/etc/passwd"),
    "a path that leaves the folder": lambda f: f.first_file(path="events/../../secret"),
    "a path with backslashes": lambda f: f.first_file(path="events\\..\\x"),
    "a URL in place of a path": lambda f: f.first_file(path="s3://other/x"),
    "a number in place of a path": lambda f: f.first_file(path=1),
    "a Parquet file listed twice": lambda f: f.rewrite(files=2 * json.loads(f.manifests[-1].read_text())["files"]),
    "a folder in place of a Parquet file": lambda f: folder_instead(f.data[0]),
    "the files copied under another system": lambda f: shutil.copytree(
        next((f.root / "events").glob("system=*")), f.root / "events/system=1"
    ),
    "a boolean in place of a number": lambda f: f.rewrite(oid=True),
    "a time in the far future": lambda f: f.rewrite(created_at="2999-01-01T00:00:00+00:00"),
    "a symbolic link to a folder": lambda f: (f.root / "events/x").symlink_to("/etc"),
    "a manifest that is not JSON": lambda f: f.manifests[0].write_bytes(b"\x00"),
    "a manifest nested without end": deep,
    "a manifest of another version": lambda f: f.rewrite(version=99),
    "a manifest that is too large": lambda f: os.truncate(f.manifests[0], 40 * 2**20),
    "two manifests swapped": lambda f: swap(f.manifests[0], f.manifests[1]),
    "the manifests of two databases in one folder": lambda f: f.origin(database="other"),
    "a manifest of the next version": lambda f: f.rewrite(version=3),
    "a manifest compressed": lambda f: f.manifests[0].with_suffix(".json.gz").write_bytes(
        gzip.compress(f.manifests[0].read_bytes())
    ),
    "a hidden file among the events": lambda f: f.data[0].with_name(".hidden").write_bytes(b""),
    "a hidden folder among the events": lambda f: shutil.copy(
        f.data[0], made(f.data[0].parent / "_old") / "x.parquet"
    ),
    "an empty file among the manifests": lambda f: f.manifests[0].with_name("empty.json").touch(),
    "a Parquet file without its last row": lambda f: rewrite_rows(f.data[0]),
    "a Parquet file under two names, by a hard link": lambda f: f.data[0].with_name("x.parquet").hardlink_to(f.data[0]),
    "a manifest copied": lambda f: shutil.copy(
        f.manifests[0], f.manifests[0].with_name("20990101T000000000000-again.json")
    ),
}  # fmt: skip
