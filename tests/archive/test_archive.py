from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from audit_toolkit.archive import (
    Store,
    archive_gate,
    archiver,
    chain_breaks,
    find_manifest,
    newest,
    query_archive,
    read_back,
    read_manifests,
    restore_leaf,
)
from audit_toolkit.errors import AuditError, MissingExtraError, UsageError
from audit_toolkit.partitions import Outcome, Policy, Run, Stage, plan_attach
from audit_toolkit.plan import apply
from tests.archive.detaching import archive, detached, unarchived
from tests.plugins.rotating import Rotating
from tests.plugins.seeds import some_quick
from tests.plugins.trail import SCHEMA


def rows(rotating: Rotating, table: str) -> list[tuple[object, ...]]:
    return rotating.execute(
        "select e.*, e.transaction_id::text, concat(e.client_addr), e.old_row::text, e.new_row::text"
        f" from audit.{table} as e order by event_id"
    )


def drop(rotating: Rotating) -> list[Outcome]:
    """The drops of a run after the quarantine, with the archive's gate."""
    rotating.now += timedelta(days=8)
    run = Run(
        connection=rotating.connection,
        schema=SCHEMA,
        policy=Policy(archived_only=True),
        now=lambda: rotating.now,
    )
    run.gate = archive_gate(run)
    return run.stage(Stage.DROP)


@pytest.mark.parametrize("kind", some_quick(["local", "s3"], ["s3"]))
def test_there_and_back(rotating: Rotating, kind: str, request: pytest.FixtureRequest) -> None:
    store: Store = request.getfixturevalue(kind)
    entries = detached(rotating)
    before = {entry.name: rows(rotating, entry.name) for entry in entries}
    assert all(before.values())
    attached = rotating.count()
    for entry in entries:
        manifest = archive(rotating, store, entry)
        assert manifest.events == len(before[entry.name])
        assert read_back(store, manifest).problems == ()
    assert chain_breaks(read_manifests(store)) == []
    assert [outcome.result.value for outcome in drop(rotating)] == ["done"] * len(entries)
    for entry in entries:
        manifest = find_manifest(store, entry.name)
        restore_leaf(rotating.connection, store, SCHEMA, manifest, now=rotating.now)
        assert rows(rotating, entry.name) == before[entry.name]
        apply(plan_attach(rotating.read(), entry.name, "asked for").plan, rotating.connection)
    assert rotating.count() == attached + sum(map(len, before.values()))
    assert drop(rotating) == []


def test_the_layout_is_hive_s_and_the_files_stand_alone(rotating: Rotating, local: Store) -> None:
    entry = detached(rotating)[0]
    manifest = archive(rotating, local, entry)
    relations = {file.path.split("/")[4] for file in manifest.files}
    assert relations == {
        "relation=Wei%22rd.ß.ord%2Fers%3D%250",
        "relation=Wei%22rd.ß.ord%2Fers%3D%251",
        "relation=public.ord%2Fers%3D%250",
        "relation=public.ord%2Fers%3D%251",
    }
    for file in manifest.files:
        found = pq.ParquetFile(local.path(file.path))
        assert found.metadata.row_group(0).column(8).compression == "ZSTD"
        table = found.read()
        times = table.column("action_tstamp").to_pylist()
        assert times == sorted(times)
        assert {f"{time:%Y-%m}" for time in times} == {file.path.split("month=")[1].split("/")[0]}
        assert len(set(table.column("table_name").to_pylist())) == 1
        assert '"n": 1.50' in str(table.column("old_row")[0])


def damage_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def damage_rows(path: Path) -> None:
    """A well-formed file with a row group less."""
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows - 1), path, compression="zstd")


def damage_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_value(path: Path) -> None:
    """A well-formed file of as many events, one of which says something else."""
    table = pq.read_table(path)
    index = table.schema.get_field_index("action")
    changed = table.column("action").to_pylist()
    changed[0] = "D"
    pq.write_table(table.set_column(index, table.schema.field(index), [changed]), path)


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = [damage_byte, damage_rows, damage_end, damage_value, remove]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_nothing_is_dropped(
    rotating: Rotating, local: Store, damage: Callable[[Path], None]
) -> None:
    entries = detached(rotating)
    for entry in entries:
        manifest = archive(rotating, local, entry)
    damage(Path(local.path(manifest.files[0].path)))
    assert read_back(local, manifest).problems
    outcomes = drop(rotating)
    # The damaged leaf stays, the others go.
    assert [outcome.result.value for outcome in outcomes] == [
        *["done"] * (len(entries) - 1),
        "failed",
    ]
    assert rotating.count(entries[-1].name)
    with pytest.raises(AuditError):
        restore_leaf(
            rotating.connection, local, SCHEMA, manifest, now=rotating.now, name="elsewhere"
        )
    assert rotating.execute("select to_regclass('audit.elsewhere')") == [(None,)]


@pytest.mark.parametrize("damage", [damage_byte, damage_rows, damage_end, damage_value])
def test_damage_on_the_way_leaves_the_leaf_unarchived(
    rotating: Rotating,
    local: Store,
    damage: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A store that returns other bytes than it was given: no manifest, no record, no drop."""
    entry = detached(rotating)[0]
    fetched = Store.fetched

    def corrupting(self: Store, path: str) -> object:
        damage(Path(self.path(path)))
        return fetched(self, path)

    monkeypatch.setattr(Store, "fetched", corrupting)
    with pytest.raises(AuditError, match="does not match the partition"):
        archive(rotating, local, entry)
    assert read_manifests(local) == []
    assert entry in unarchived(rotating)
    assert drop(rotating) == []


@pytest.mark.parametrize(
    "change",
    [
        "update audit.{0} set action = 'D' where event_id = (select min(event_id) from audit.{0})",
        "delete from audit.{0} where event_id = (select min(event_id) from audit.{0})",
        "update audit.{0} set new_row = '{{}}' where event_id = (select max(event_id) from audit.{0})",
    ],
)
def test_a_row_changed_before_the_drop_prevents_it(
    rotating: Rotating, local: Store, change: str
) -> None:
    entry = detached(rotating)[0]
    archive(rotating, local, entry)
    rotating.execute(f"alter table audit.{entry.name} disable trigger all")
    rotating.execute(change.format(entry.name))
    [outcome] = drop(rotating)
    assert outcome.result == "failed"
    assert "does not match its archive any more" in outcome.message
    assert rotating.count(entry.name)


def test_nothing_unarchived_is_dropped(rotating: Rotating) -> None:
    entries = detached(rotating)
    assert drop(rotating) == []
    assert unarchived(rotating) == entries


def test_a_manifest_that_vanishes_breaks_the_chain(rotating: Rotating, local: Store) -> None:
    manifests = [archive(rotating, local, entry) for entry in detached(rotating)]
    Path(local.path(manifests[0].name)).unlink()
    assert chain_breaks(read_manifests(local)) == [manifests[1].leaf]


def test_archiving_again_replaces_what_counts(rotating: Rotating, local: Store) -> None:
    entry = detached(rotating)[0]
    first, second = archive(rotating, local, entry), archive(rotating, local, entry)
    assert first.digest == second.digest
    assert newest(read_manifests(local)) == [second]
    assert chain_breaks(read_manifests(local)) == []


@pytest.mark.parametrize("kind", some_quick(["local", "s3"], ["local"]))
def test_duckdb_answers(rotating: Rotating, kind: str, request: pytest.FixtureRequest) -> None:
    store: Store = request.getfixturevalue(kind)
    entries = detached(rotating)
    with pytest.raises(UsageError, match="has no events"):
        query_archive(store, "select 1 from logged_actions")
    for entry in entries:
        archive(rotating, store, entry)
    expected = sum(row[3] == "public" for entry in entries for row in rows(rotating, entry.name))
    assert expected > 0
    columns, [[number, first]] = query_archive(
        store,
        "select count(*) as events, min(action_tstamp)::varchar as first from logged_actions"
        " where relation like 'public.%' and (old_row::json ->> 'big') is not null",
    )
    assert columns == ["events", "first"]
    assert number == expected
    assert first.endswith("+00")
    with pytest.raises(AuditError, match="DuckDB"):
        query_archive(store, "select nothing from nowhere")


def test_an_unreachable_bucket_is_an_error_and_drops_nothing(
    rotating: Rotating, s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = detached(rotating)[0]
    with pytest.raises(AuditError, match="s3://no-such-bucket/place failed"):
        archive(rotating, Store.open("s3://no-such-bucket/place"), entry)
    # No bucket was made in its stead.
    assert not s3.filesystem.exists("no-such-bucket")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3.filesystem.clear_instance_cache()
    with pytest.raises(AuditError, match="failed"):
        archive(rotating, Store.open(s3.url), entry)
    assert drop(rotating) == []
    assert s3.files("manifests") == []


def test_a_full_disk_is_an_error_and_leaves_no_part_behind(
    rotating: Rotating, local: Store
) -> None:
    entry = detached(rotating)[0]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(AuditError, match="File too large"):
            archive(rotating, local, entry)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path for path in Path(local.root).rglob("*") if path.is_file()] == []
    assert unarchived(rotating)[0] == entry
    archive(rotating, local, entry)


def test_a_leaf_with_more_columns_is_refused(rotating: Rotating, local: Store) -> None:
    entry = detached(rotating)[0]
    rotating.execute(f"alter table audit.{entry.name} add column extra text default 'lost'")
    with pytest.raises(AuditError, match="columns that an event does not have"):
        archive(rotating, local, entry)


def test_one_failure_does_not_stop_the_others(rotating: Rotating, local: Store) -> None:
    entries = detached(rotating)
    rotating.execute(f"alter table audit.{entries[0].name} add column extra text")
    run = Run(
        connection=rotating.connection,
        schema=SCHEMA,
        policy=Policy(archived_only=True),
        now=lambda: rotating.now,
    )
    counted: dict[str, list[int]] = {}
    run.archive = archiver(run, local.url, lambda leaf: counted.setdefault(leaf, []).append)
    outcomes = run.stage(Stage.ARCHIVE)
    assert [outcome.result.value for outcome in outcomes] == [
        "failed",
        *["done"] * (len(entries) - 1),
    ]
    # Counted once as written, once as read back.
    assert {leaf: sum(numbers) for leaf, numbers in counted.items() if numbers} == {
        entry.name: 2 * rotating.count(entry.name) for entry in entries[1:]
    }


def test_addresses_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="not a valid archive location"):
        Store.open("nonsense://place")


class KilledError(BaseException):
    """The process is gone: nothing catches this."""


def die(*_: object, **__: object) -> None:
    raise KilledError


@pytest.mark.parametrize("boundary", ["write_files", "make_manifest", "read_back", "fingerprint"])
def test_killed_on_the_way_the_next_run_completes(
    rotating: Rotating, local: Store, boundary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = detached(rotating)
    archive(rotating, local, first)
    with monkeypatch.context() as patch:
        patch.setattr(f"audit_toolkit.archive.write.{boundary}", die)
        with pytest.raises(KilledError):
            archive(rotating, local, second)
    assert [manifest.leaf for manifest in newest(read_manifests(local))] == [first.name]
    assert second in unarchived(rotating)
    manifest = archive(rotating, local, second)
    assert read_back(local, manifest).problems == ()
    assert chain_breaks(read_manifests(local)) == []
    assert [outcome.result.value for outcome in drop(rotating)] == ["done", "done"]


def test_killed_before_the_record_the_next_run_archives_again(
    rotating: Rotating, local: Store
) -> None:
    entry = detached(rotating)[0]
    archive(rotating, local, entry)
    rotating.execute(
        "update audit.partition_lifecycle set archive = null, archive_digest = null, archived_at = null,"
        " archive_manifest = null"
    )
    assert entry in unarchived(rotating)
    archive(rotating, local, entry)
    assert len(newest(read_manifests(local))) == 1
    assert [outcome.result.value for outcome in drop(rotating)] == ["done"]


def test_what_is_not_installed_is_named(
    rotating: Rotating, local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = detached(rotating)[0]
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtraError, match="no driver for gs://") as missing:
        Store.open("gs://bucket/place")
    assert "gcsfs" in (missing.value.hint or "")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match="needs pyarrow") as missing:
        archive(rotating, local, entry)
    assert missing.value.hint == "pip install 'audit-toolkit[archive]'"
    assert entry in unarchived(rotating)
