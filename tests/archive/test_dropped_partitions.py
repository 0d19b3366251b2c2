"""`check` and `maintain` look whether the archive has what was dropped, and whether it is there at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit_toolkit.archive import Store, read_manifests
from audit_toolkit.archive.dropped_partitions import archive_findings
from audit_toolkit.cli.app import app
from audit_toolkit.connection import connect
from audit_toolkit.errors import AuditError
from audit_toolkit.findings import FindingKind
from tests.archive.detaching import archive, detached
from tests.archive.live import ONE, export, problems
from tests.plugins.rotating import START, Rotating
from tests.plugins.trail import SCHEMA

Audit = Callable[..., Result]


@pytest.fixture
def audit(rotating: Rotating) -> Audit:
    def call(*arguments: str) -> Result:
        clock = ["--now", rotating.now.isoformat(), "--trust-clock"]
        clock = [] if arguments[0] in ("check", "archive") else clock
        return CliRunner().invoke(app, [*arguments, *clock, "--dsn", rotating.database.dsn])

    return call


def dropped(rotating: Rotating, store: Store) -> str:
    """The first of the partitions that were archived and dropped."""
    entries = detached(rotating)
    for entry in entries:
        archive(rotating, store, entry)
    rotating.run(rotating.now + timedelta(days=8), archived_only=True, drop=True)
    assert {entry.state.value for entry in rotating.read().entries} >= {"dropped"}
    return entries[0].name


def found(result: Result) -> dict[str, str]:
    """Objects by code, of `audit check` and of `audit partitions check`."""
    findings = json.loads(result.stdout)["findings"]
    return {finding.get("kind") or finding["code"]: finding["object"] for finding in findings}


@pytest.mark.parametrize("lost", ["manifests", "events"])
def test_what_was_dropped_and_is_not_in_the_archive(
    rotating: Rotating, local: Store, audit: Audit, lost: str
) -> None:
    leaf = dropped(rotating, local)
    place = ("--archive", local.root, "--format", "json")
    assert "dropped_not_archived" not in found(audit("partitions", "check", *place))
    shutil.rmtree(Path(local.root, lost))
    for command in (("check",), ("partitions", "check")):
        result = audit(*command, *place)
        assert result.exit_code == 3
        assert found(result)["dropped_not_archived"].startswith("audit.logged_actions_")
    result = audit("maintain", *place)
    assert result.exit_code == 3, result.output
    assert f"audit.{leaf}" in result.stdout


def test_of_a_database_that_was_renamed_nothing_is_missing(
    rotating: Rotating, local: Store
) -> None:
    """As after pg_upgrade or a move to another cluster: the archive has it under the former name."""
    dropped(rotating, local)
    dsn, name = rotating.database.dsn, rotating.database.name
    rotating.connection.close()
    rotating.database.connection.close()
    with rotating.database.connect(dbname="postgres") as server:
        server.execute(f"alter database {name} rename to {name}_x")
        try:
            with connect(dsn.replace(name, f"{name}_x")) as connection:
                assert [*archive_findings(connection, SCHEMA, local.root)] == []
                shutil.rmtree(Path(local.root, "events"))
                lost = {
                    finding.kind for finding in archive_findings(connection, SCHEMA, local.root)
                }
                assert lost == {FindingKind.DROPPED_NOT_ARCHIVED}
        finally:
            server.execute(f"alter database {name}_x rename to {name}")


@pytest.mark.parametrize(
    "spelling", ["{}/x/../archive", "{}/link", "file://{}/archive/", "{}//archive"]
)
def test_a_place_has_one_name_however_it_is_spelled(
    rotating: Rotating, tmp_path: Path, spelling: str
) -> None:
    rotating.fill(START - timedelta(days=20), START, "5 days")
    (tmp_path / "link").symlink_to(tmp_path / "archive")
    plain, spelled = Store.open(f"{tmp_path}/archive"), Store.open(spelling.format(tmp_path))
    export(rotating, plain)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    rotating.execute(ONE, [START])
    assert [m.events for m in export(rotating, spelled).manifests] == [1]
    assert {path: path.read_bytes() for path in before} == before
    assert problems(rotating, plain) == ()
    plain.remove(plain.path(read_manifests(plain)[-1].name))
    for store in (plain, spelled):
        assert "the manifest of the last export is missing" in str(problems(rotating, store))


def test_a_bucket_with_doubled_slashes_and_marks_of_folders(rotating: Rotating, s3: Store) -> None:
    archive(rotating, s3, detached(rotating)[0])
    for folder in ("", "events/", "manifests/"):  # as a console makes them
        s3.filesystem.pipe_file(f"{s3.root}/{folder}", b"")
    for url in (s3.url, f"{s3.url}/", s3.url.replace("/production", "//production")):
        assert problems(rotating, Store.open(url)) == (), url


def test_a_folder_that_cannot_be_listed_is_not_empty(rotating: Rotating, local: Store) -> None:
    archive(rotating, local, detached(rotating)[0])
    shutil.rmtree(Path(local.root, "manifests"))
    Path(local.root, "manifests").write_text("")
    with pytest.raises(AuditError, match="Not a directory"):
        read_manifests(local)


def test_an_archive_that_was_moved_is_looked_for_where_it_is_given(
    rotating: Rotating, local: Store, audit: Audit
) -> None:
    entries = detached(rotating)
    for entry in entries:
        archive(rotating, local, entry)
    rotating.now += timedelta(days=8)
    moved = Path(local.root).rename(Path(local.root).with_name("moved"))
    result = audit("partitions", "run", "--archive", str(moved))
    assert result.exit_code == 0, result.output
    assert result.stdout.count("done      drop") == len(entries)
    assert audit("archive", "verify", "--archive", str(moved)).exit_code == 0


def test_what_was_dropped_without_an_archive_where_others_have_one(
    rotating: Rotating, local: Store
) -> None:
    first, second, *_ = detached(rotating)
    archive(rotating, local, first)
    rotating.execute(f"drop table audit.{second.name}")
    rotating.run(rotating.now + timedelta(days=1))
    assert rotating.findings()["dropped_unarchived"] == "warning"


def test_a_bucket_that_is_away_is_an_error_with_nothing_to_do(
    rotating: Rotating, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    place = ("--archive", "s3://trail/production")
    Store.open(place[1]).filesystem.mkdir("trail")
    assert audit("maintain", *place).exit_code in (0, 3)
    assert audit("archive", "run", *place).exit_code == 0
    server.stop()
    for command in (("maintain",), ("partitions", "run"), ("archive", "run")):
        result = audit(*command, *place)
        assert result.exit_code == 1, result.output
        assert "failed" in result.stdout
        assert "s3://trail/production" in result.stdout
    result = audit("check", *place, "--format", "json")
    assert result.exit_code == 3
    assert found(result)["archive_unreachable"] == place[1]


def test_a_bucket_that_does_not_exist_is_an_error(
    s3: Store, rotating: Rotating, audit: Audit
) -> None:
    place = ("--archive", "s3://no-such-bucket/production")
    assert audit("archive", "run", *place).exit_code == 1
    for command in ("list", "verify"):
        result = CliRunner().invoke(app, ["archive", command, *place])
        assert result.exit_code == 1, result.output
    s3.require_reachable()  # a folder of a bucket comes with its first file
