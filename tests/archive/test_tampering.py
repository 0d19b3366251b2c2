"""What was done to an archive behind our back is found by `audit archive verify`, and nothing outside is touched."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from audit_toolkit.archive import (
    Manifest,
    Store,
    adopt,
    check_catalogue,
    find_manifest,
    newest,
    query_archive,
    read_back,
    read_catalogue,
    read_expected,
    read_manifests,
    restore_leaf,
)
from audit_toolkit.archive.columns import NAMES
from audit_toolkit.archive.digest import SumDigest
from audit_toolkit.cli.app import app
from audit_toolkit.connection import prepare_session
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.plan import single_flight
from tests.archive.detaching import archive, detached, unarchived
from tests.archive.tampering import TAMPERED, Folder, forge
from tests.plugins.rotating import MakeRotating, Rotating
from tests.plugins.trail import SCHEMA


def problems(rotating: Rotating, root: Path) -> list[str]:
    """What verify finds, or why it cannot look."""
    store = Store.open(str(root))
    catalogue = read_catalogue(store)
    expected = read_expected(rotating.connection, SCHEMA)
    found = [f"{f.subject}: {f.message}" for f in check_catalogue(store, catalogue, expected)]
    for manifest in newest(catalogue.manifests):
        found += read_back(store, manifest).problems
    return found


def test_every_tampering_is_found(rotating: Rotating, local: Store, tmp_path: Path) -> None:
    for entry in detached(rotating):
        archive(rotating, local, entry)
    assert problems(rotating, Path(local.root)) == []
    unseen = []
    for number, (name, tamper) in enumerate(TAMPERED.items()):
        copy = tmp_path / str(number) / "copy"
        shutil.copytree(local.root, copy)
        tamper(Folder(copy))
        try:
            if not problems(rotating, copy):
                unseen.append(name)
        except AuditError:
            continue  # that it cannot be read at all is an answer, too
    assert unseen == []
    assert len(TAMPERED) >= 25


def test_one_damaged_manifest_hides_nothing_of_the_others(rotating: Rotating, local: Store) -> None:
    entries = detached(rotating)
    for entry in entries:
        archive(rotating, local, entry)
    folder = Folder(Path(local.root))
    folder.manifests[0].write_text("{}")
    catalogue = read_catalogue(local)
    assert len(catalogue.damaged) == 1
    assert len(newest(catalogue.manifests)) == len(entries) - 1


def test_a_forged_archive_does_not_come_back(rotating: Rotating, local: Store) -> None:
    entry = detached(rotating)[-1]
    archive(rotating, local, entry)
    forge(Folder(Path(local.root)))
    manifest = find_manifest(local, entry.name)
    assert read_back(local, manifest).problems == ()
    with pytest.raises(AuditError, match="differs from the one that this database recorded"):
        restore_leaf(rotating.connection, local, SCHEMA, manifest, now=rotating.now, name="back")


def test_a_manifest_with_other_bounds_does_not_come_back(rotating: Rotating, local: Store) -> None:
    entry = detached(rotating)[-1]
    archive(rotating, local, entry)
    Folder(Path(local.root)).rewrite(lower="2001-01-01T00:00:00+00:00")
    manifest = find_manifest(local, entry.name)
    with pytest.raises(AuditError, match="its manifest differs from the one"):
        restore_leaf(rotating.connection, local, SCHEMA, manifest, now=rotating.now, name="back")


def test_a_query_says_that_a_file_is_damaged(rotating: Rotating, local: Store) -> None:
    entries = detached(rotating)[:2]
    for entry in entries:
        archive(rotating, local, entry)
    folder = Folder(Path(local.root))
    with pytest.raises(AuditError, match="DuckDB: ") as caught:
        query_archive(local, "select nonsense from logged_actions")
    assert caught.value.hint == (
        "query the view logged_actions; its JSON columns are text: new_row::json"
    )
    for damaged in (lambda file: os.truncate(file, file.stat().st_size - 50), Path.unlink):
        damaged(folder.data[-1])
        with pytest.raises(AuditError, match="DuckDB: ") as caught:
            query_archive(local, "select count(distinct row_key) from logged_actions")
        assert "audit archive verify" in (caught.value.hint or "")


def test_a_planted_link_is_not_followed(rotating: Rotating, local: Store, tmp_path: Path) -> None:
    entry = detached(rotating)[0]
    archive(rotating, local, entry)
    outside = tmp_path / "outside"
    outside.write_text("precious")
    folder = Folder(Path(local.root))
    target = folder.data[0]
    for path in folder.data:
        path.unlink()
        path.symlink_to(outside)
    with pytest.raises(AuditError, match="link"):
        archive(rotating, local, entry)
    assert outside.read_text() == "precious"
    for path in folder.data:
        path.unlink()
    target.with_name(f"._{target.name}").symlink_to(outside)
    made = [Path(local.path(file.path)) for file in archive(rotating, local, entry).files]
    assert not any(path.is_symlink() for path in made)
    assert {path.read_bytes()[:4] for path in made} == {b"PAR1"}
    assert outside.read_text() == "precious"


def test_a_copy_of_the_database_never_writes_over_the_archive(
    make_rotating: MakeRotating, local: Store
) -> None:
    """`createdb -T` keeps names and OIDs of the partitions: production and its copy archive to the same place."""
    production = make_rotating()
    entries = detached(production)
    production.connection.close()
    production.database.connection.close()
    copy = copied(make_rotating, production)
    production = reopened(production)
    for entry in entries:
        archive(production, local, entry)
    before = {path: path.read_bytes() for path in Path(local.root).rglob("*") if path.is_file()}
    copy.execute(f"alter table audit.{entries[0].name} disable trigger all")
    copy.execute(f"update audit.{entries[0].name} set application_name = 'of the copy'")
    for entry in unarchived(copy):
        archive(copy, local, entry)
    assert {path: path.read_bytes() for path in before} == before
    assert problems(production, Path(local.root)) == []
    # Each gets its own back.
    for one in (production, copy):
        names = {record.name for record in read_expected(one.connection, SCHEMA).recorded}
        manifest = find_manifest(local, entries[0].name, names=names)
        restore_leaf(one.connection, local, SCHEMA, manifest, now=one.now, name="back")
        assert one.execute(
            f"select count(*) from (table audit.back except all table audit.{entries[0].name}) as lost"
        ) == [(0,)]
    with pytest.raises(UsageError, match="from several databases"):
        find_manifest(local, entries[0].name)


def copied(make_rotating: MakeRotating, production: Rotating) -> Rotating:
    copy = make_rotating()
    copy.connection.close()
    copy.database.connection.close()
    with production.database.connect(dbname="postgres") as server:
        server.execute(f"drop database {copy.database.name} with (force)")
        server.execute(f"create database {copy.database.name} template {production.database.name}")
    return reopened(copy)


def reopened(rotating: Rotating) -> Rotating:
    database = rotating.database
    object.__setattr__(database, "connection", database.connect())
    connection = database.connect()
    prepare_session(connection)
    return Rotating(database, connection, rotating.now)


def test_a_physical_copy_is_refused_until_it_adopts(rotating: Rotating, local: Store) -> None:
    """A copy with the same identity: the archive has what this database did not write."""
    first, second, *_ = detached(rotating)
    archive(rotating, local, first)
    # What a restore to a time before knows of the archive: nothing.
    rotating.execute(
        "create table former as table audit.partition_lifecycle; delete from audit.partition_lifecycle"
        f" where leaf_name = '{first.name}'"
    )
    with pytest.raises(AuditError, match="which this database did not archive") as refused:
        archive(rotating, local, second)
    assert "audit archive adopt" in (refused.value.hint or "")
    adopt(rotating.connection, local, SCHEMA, now=rotating.now)
    assert [p for p in problems(rotating, Path(local.root)) if "adoption" in p] == []
    adoption = Folder(Path(local.root)).manifests[-1]
    written = adoption.read_text()
    adoption.write_text(written.replace('"server_version": 1', '"server_version": 2'))
    assert "adoption: its manifest differs from the one" in str(
        problems(rotating, Path(local.root))
    )
    adoption.unlink()
    assert "the manifest of the adoption is missing" in str(problems(rotating, Path(local.root)))
    adoption.write_text(written)
    archive(rotating, local, second)
    # The one that it was copied from is refused now.
    rotating.execute("delete from audit.maintenance")
    with pytest.raises(AuditError, match="adopted it"):
        archive(rotating, local, second)


def test_an_archive_of_0_2_is_read(rotating: Rotating, local: Store) -> None:
    """Its files, columns, sums and manifests lie elsewhere; its partitions are archived anew before a drop."""
    entry = detached(rotating)[0]
    manifest = archive(rotating, local, entry)
    old = as_of_0_2(Path(local.root), manifest.files)
    rotating.execute(
        "update audit.partition_lifecycle set archive = %s, archive_digest = %s,"
        " archive_manifest = null where archive is not null",
        [local.address(old[0]), old[1]],
    )
    assert problems(rotating, Path(local.root)) == []
    assert query_archive(local, "select count(*) from logged_actions")[1] == [(manifest.events,)]
    [found] = newest(read_manifests(local))
    restore_leaf(rotating.connection, local, SCHEMA, found, now=rotating.now, name="back")
    assert rotating.execute("select count(*), count(transaction_tstamp) from audit.back") == [
        (manifest.events, 0)
    ]
    assert unarchived(rotating)[0].name == entry.name


def test_what_was_archived_before_fingerprints_gets_them(rotating: Rotating, local: Store) -> None:
    """By a whole verification that found nothing, and by no other; the newest manifest may change until then."""
    first, second = detached(rotating)[:2]
    archive(rotating, local, first)
    archive(rotating, local, second)
    rotating.execute("update audit.partition_lifecycle set archive_manifest = null")
    folder = Folder(Path(local.root))
    written = folder.manifests[-1].read_text()
    verify = ("archive", "verify", "--archive", local.root, "--dsn", rotating.database.dsn)

    def fingerprints() -> int:
        found = rotating.execute("select count(archive_manifest) from audit.partition_lifecycle")
        return int(found[0][0])

    file = folder.data[0]
    file.rename(folder.root / "away")
    assert CliRunner().invoke(app, verify).exit_code == 3
    (folder.root / "away").rename(file)
    assert CliRunner().invoke(app, [*verify, second.name]).exit_code == 0
    assert fingerprints() == 0

    found = CliRunner().invoke(app, [*verify, "--format", "json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["fingerprints_recorded"] == sorted([first.name, second.name])
    assert "recorded the fingerprints of 2 manifests from before 0.3" in found.stderr
    assert fingerprints() == 2
    again = CliRunner().invoke(app, verify)
    assert (again.exit_code, "recorded" in again.stderr) == (0, False)
    folder.rewrite(toolkit="0.2.0")
    assert problems(rotating, folder.root) == [
        f"{second.name}: its manifest differs from the one that the database recorded"
    ]
    folder.manifests[-1].write_text(written)
    assert problems(rotating, folder.root) == []


def test_a_reader_of_the_trail_verifies_without_recording(rotating: Rotating, local: Store) -> None:
    archive(rotating, local, detached(rotating)[0])
    rotating.execute("update audit.partition_lifecycle set archive_manifest = null")
    role = f"reader_{secrets.token_hex(4)}"
    rotating.execute(f"create role {role} login")
    try:
        rotating.execute(f"grant usage on schema audit to {role}")
        rotating.execute(f"grant select on all tables in schema audit to {role}")
        dsn = rotating.database.dsn.replace("postgres@", f"{role}@")
        verify = ["archive", "verify", "--archive", local.root, "--dsn", dsn]
        found = CliRunner().invoke(app, verify)
        assert (found.exit_code, "recorded" in found.stderr) == (0, False), found.output
    finally:
        rotating.execute(f"drop owned by {role}; drop role {role}")


def as_of_0_2(root: Path, files: Any) -> tuple[str, str]:
    columns = NAMES[:-1]
    digest, written = SumDigest(columns), []
    for file in files:
        table = pq.read_table(root / file.path, partitioning=None).select(list(columns))
        digest.add(table)
        path = root / "/".join(file.path.split("/")[4:])
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        written.append(
            {"path": str(path.relative_to(root)), "bytes": path.stat().st_size, "sha256": sha256,
             "events": table.num_rows}
        )  # fmt: skip
    (former,) = root.glob("manifests/**/*.json")
    values = json.loads(former.read_text()) | {
        "files": written,
        "digest": str(digest),
        "version": 1,
    }
    values |= {"columns": list(columns), "previous": None}
    del values["origin"]
    shutil.rmtree(root / "manifests")
    shutil.rmtree(root / "events")
    (root / "_manifests").mkdir()
    name = f"_manifests/{former.name}"
    (root / name).write_text(json.dumps(values, indent=1, ensure_ascii=False))
    return name, str(digest)


def test_what_another_run_writes_meanwhile_is_no_damage(
    rotating: Rotating, local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(rotating, local, detached(rotating)[0])
    words = ["archive", "verify", "--archive", local.url, "--dsn", rotating.database.dsn]
    half_written = Path(local.root) / "events" / "._half.parquet"
    half_written.touch()
    with single_flight(rotating.database.dsn, SCHEMA):
        busy = CliRunner().invoke(app, words)
    assert (busy.exit_code, busy.stdout) == (5, "")
    assert "another run of the toolkit is in progress" in busy.stderr
    assert CliRunner().invoke(app, words).exit_code == 3

    @contextmanager
    def until_it_ends(*whose: str) -> Iterator[None]:
        half_written.unlink()
        with single_flight(*whose):
            yield

    monkeypatch.setattr("audit_toolkit.cli.archive.verify.single_flight", until_it_ends)
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout.split()[0]) == (0, "good")


def test_verify_says_when_it_runs_without_the_database(
    rotating: Rotating, local: Store, tmp_path: Path
) -> None:
    archive(rotating, local, detached(rotating)[0])
    command = ["archive", "verify", "--archive", local.root]
    alone = CliRunner().invoke(app, command)
    assert alone.exit_code == 0
    assert "without the database" in alone.stderr
    compared = CliRunner().invoke(app, [*command, "--dsn", rotating.database.dsn])
    assert compared.exit_code == 0, compared.output
    assert "without" not in compared.stderr
    shutil.rmtree(Path(local.root) / "manifests")
    found = CliRunner().invoke(app, [*command, "--dsn", rotating.database.dsn])
    assert found.exit_code == 3
    assert "is missing from the archive" in found.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "it is not a JSON object"),
        ("", "it is not JSON"),
        ("\xff", "it is not JSON"),
        ("[" * 100_000, "it is nested too deep"),
        ('{"leaf": "a"}', "it lacks oid, lower, upper, digest"),
        ({"more": 1}, "it has 'more', which this version does not know"),
        ({"files": {}}, "its files or columns are not a list"),
        ({"files": [[]]}, "a file of it is not a JSON object"),
        ({"files": [{"path": "a"}]}, "a file of it lacks bytes, sha256, events"),
        ({"origin": [1]}, "its origin is not a JSON object"),
        ({"origin": {"x": 1}}, "its origin lacks system_identifier"),
        ({"created_at": 1}, "1 is not a valid time"),
        ({"created_at": None}, "None is not a valid time"),
        ({"upper": "soon"}, "'soon' is not a valid time"),
        ({"events": "1"}, "a number is missing"),
        ({"leaf": 1}, "a text value is not text"),
        ({"version": []}, "its version is []"),
    ],
)
def test_what_is_wrong_with_a_manifest(content: Any, said: str) -> None:
    sound = {
        "leaf": "a",
        "oid": 1,
        "lower": None,
        "upper": None,
        "digest": "",
        "events": 0,
        "files": [],
        "created_at": "2026-01-01",
        "toolkit": "",
        "server_version": 1,
        "previous": None,
        "columns": [],
    }
    text = json.dumps(sound | content) if isinstance(content, dict) else content
    Manifest.from_bytes(json.dumps(sound).encode(), "m")
    with pytest.raises(AuditError) as refused:
        Manifest.from_bytes(text.encode("latin-1"), "m")
    assert refused.value.message.startswith(f"cannot read the manifest m: {said}")


def test_a_file_is_no_archive(tmp_path: Path) -> None:
    Path(tmp_path, "file").touch()
    with pytest.raises(AuditError, match="is not a folder"):
        Store.open(str(tmp_path / "file")).require_reachable()
    Store.open(str(tmp_path / "new")).require_reachable()
