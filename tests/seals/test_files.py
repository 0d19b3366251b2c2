"""What somebody with the files can do, without the database; and what nothing finds, as docs/seals.md says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from audit_toolkit.connection import connect
from audit_toolkit.demo.cluster import throwaway_cluster
from audit_toolkit.errors import AuditError
from audit_toolkit.seals import new_key, run_seal, verify
from tests.seals.conftest import fill
from tests.seals.words import MORE, Sealed


@pytest.mark.thorough
def test_an_event_that_was_changed_in_the_files_of_the_server() -> None:
    key = new_key("example.com/shop")
    with throwaway_cluster() as cluster:
        fill(cluster.dsn())
        with connect(cluster.dsn()) as connection:
            run = run_seal(connection, "audit", key, wait=10)
            [(file,)] = connection.execute(
                "select pg_relation_filepath(tableoid) from audit.logged_actions limit 1"
            ).fetchall()
        cluster.stop()
        page = cluster.data_dir / str(file)
        content = page.read_bytes()
        assert b"postgres" in content
        page.write_bytes(content.replace(b"postgres", b"mallory!", 1))
        tool = cluster.bin_dir / "pg_checksums"
        subprocess.run(
            [tool, "--disable", "-D", cluster.data_dir], capture_output=True, check=False
        )
        shutil.chown(cluster.data_dir / "global/pg_control", cluster.data_dir.stat().st_uid)
        cluster.start()
        with connect(cluster.dsn()) as connection:
            report = verify(
                connection, "audit", keys=[key.public], outside=[("kept", str(run.note))]
            )
    assert [finding.kind for finding in report.findings] == ["event_changed"]


def test_a_clock_that_goes_back_while_events_are_sealed(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is that of the ids; the time of a checkpoint is a claim."""
    sealed.execute(MORE.format(3))
    early = datetime(2001, 1, 1, tzinfo=UTC)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["audit_toolkit.seals.seal"], "now_of", lambda _: early)
        assert sealed.seal().events == 3
    sealed.execute(MORE.format(2).replace("1000", "2000"))
    assert sealed.seal().events == 2
    report = sealed.verify()
    assert (report.findings, report.outside, report.verified) == ([], 3, 467)


def test_a_checkpoint_that_was_changed_where_it_is_kept(sealed: Sealed) -> None:
    [file] = sealed.kept.rglob("*.checkpoint")
    file.write_text(file.read_text().replace("462", "461"))
    assert sealed.found() == [("checkpoint_invalid", str(file))]


def test_a_file_that_is_put_before_the_sealer(sealed: Sealed) -> None:
    """Nobody who can write where checkpoints are kept has the sealer believe in a restore."""
    [file] = sealed.kept.rglob("*.checkpoint")
    forged = file.with_name(f"{10**19}.checkpoint")
    forged.write_text(file.read_text().replace("\n462\n", f"\n{10**19}\n"))
    with pytest.raises(AuditError, match="is not a checkpoint of this key") as refused:
        sealed.seal()
    assert "find out who put it there" in str(refused.value.hint)
    assert sealed.found() == [("checkpoint_invalid", str(forged))]
    forged.unlink()
    assert sealed.seal().events == 0


def test_checkpoints_that_were_removed_are_counted(sealed: Sealed) -> None:
    sealed.execute(MORE.format(2))
    sealed.seal()
    assert sealed.verify().outside == 2
    min(sealed.kept.rglob("*.checkpoint")).unlink()
    report = sealed.verify()
    assert (report.findings, report.outside) == ([], 1)
