"""Archived partitions: only what is sealed is archived, and its files verify without the database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from audit_toolkit.archive import Manifest, Store, read_manifests, seal_problems
from audit_toolkit.errors import AuditError
from audit_toolkit.seals import new_key, read_public
from tests.seals.words import MORE, Sealed, archive, detach, drop, redact


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "archive"))


def rewrite(store: Store, manifest: Manifest, change: Any) -> None:
    """Change the events of the first file."""
    path = Path(store.root, manifest.files[0].path)
    table = pq.read_table(path)
    columns = table.to_pydict()
    change(columns)
    import pyarrow as pa

    pq.write_table(pa.table(columns, schema=table.schema), path)


def test_an_archived_partition_verifies_without_the_database(sealed: Sealed, store: Store) -> None:
    redact(sealed, [301], ["status"])
    sealed.seal()
    keys = read_public(sealed.key)
    manifest = archive(sealed, store, detach(sealed))
    assert manifest.seal is not None
    assert Manifest.from_bytes(manifest.as_bytes(), "x") == manifest
    assert seal_problems(store, manifest, keys) == ()
    assert "not signed" in seal_problems(store, manifest, [new_key("example.com/shop").public])[0]
    content = json.loads(Path(store.root, manifest.seal.path).read_text())
    assert [(run["index"], run["events"]) for run in content["runs"]] == [(0, 463)]

    def change(columns: Any) -> None:
        columns["role_name"][5] = "mallory"

    original = Path(store.root, manifest.files[0].path).read_bytes()
    rewrite(store, manifest, lambda columns: columns)
    assert seal_problems(store, manifest, keys) == ()
    rewrite(store, manifest, change)
    assert seal_problems(store, manifest, keys) == (
        "its events are not the 463 that were sealed from entry 0 of the tree on",
    )
    Path(store.root, manifest.files[0].path).write_bytes(original)
    assert seal_problems(store, manifest, keys) == ()


def test_what_is_not_sealed_is_not_archived(sealed: Sealed, store: Store) -> None:
    sealed.execute(MORE.format(3))
    partition = detach(sealed)
    with pytest.raises(AuditError, match="has events that are not sealed"):
        archive(sealed, store, partition)
    sealed.seal()
    manifest = archive(sealed, store, partition)
    assert sealed.found() == []
    assert (manifest.events, seal_problems(store, manifest)) == (465, ())


def test_without_seals_an_archive_is_what_it_was(unsealed: Sealed, store: Store) -> None:
    manifest = archive(unsealed, store, detach(unsealed))
    assert manifest.seal is None
    assert b"seal" not in manifest.as_bytes()
    assert not Path(store.root, "seals").exists()


def test_the_commands(sealed: Sealed, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from audit_toolkit.cli.app import app

    monkeypatch.setenv("AUDIT_DATABASE_URL", sealed.trail.database.dsn)
    monkeypatch.chdir(sealed.folder)
    partition = detach(sealed)
    manifest = archive(sealed, store, partition)
    drop(sealed, str(partition))

    def audit(*words: str) -> tuple[int, str]:
        answer = CliRunner().invoke(app, [*words, "--archive", store.url, "--key", "seal.key.pub"])
        return answer.exit_code, answer.output

    code, said = audit("verify", "--checkpoints", "kept")
    assert code == 0, said
    assert "462 were dropped with logged_actions_" in said
    assert said.endswith("2 checkpoints kept outside agree\n")
    assert audit("archive", "verify")[0] == 0

    def change(columns: Any) -> None:
        columns["event_id"][5] = 7

    rewrite(store, manifest, change)
    code, said = audit("verify", "--checkpoints", "kept")
    assert code == 3
    assert "its events are not the 462 that were sealed" in said
    assert audit("archive", "verify")[0] == 3
    assert read_manifests(store) == [manifest]
