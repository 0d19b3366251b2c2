"""Erasure reaches archives: their files are written anew, the former ones are gone, and everything still verifies."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from audit_toolkit.archive import (
    Archives,
    Store,
    check_catalogue,
    export_live,
    newest,
    read_back,
    read_catalogue,
    read_expected,
    read_manifests,
    restore_leaf,
    seal_problems,
)
from audit_toolkit.connection import connect
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.schema import render_grants
from audit_toolkit.seals import read_public
from audit_toolkit.trail import Erasure, Redaction
from audit_toolkit.trail import redact as run
from tests.seals.words import Sealed, archive, detach, drop

SECRET = "zoe-7f3a9c"


def redact(sealed: Sealed, *rows: str, apply: bool = True, **more: Any) -> Redaction:
    """Erase values of orders, in archives too."""
    asked = {"table": "orders", "columns": ["status"], "reason": "asked to"} | more
    url = asked.pop("url", None)
    with connect(sealed.trail.database.dsn) as connection:
        reach = Archives(connection=connection, schema="audit", url=url)
        return run(connection, Erasure(rows=rows, **asked), apply=apply, archives=reach)


def export(sealed: Sealed, store: Store) -> None:
    """Export what is new."""
    with connect(sealed.trail.database.dsn) as connection:
        export_live(connection, store, "audit", now=datetime.now(UTC))


def events(store: Store) -> dict[int, dict[str, Any]]:
    """What the archive has, by id."""
    return {
        row["event_id"]: row
        for manifest in newest(read_manifests(store))
        for file in manifest.files
        for row in pq.ParquetFile(Path(store.root, file.path)).read().to_pylist()
    }


def holding(store: Store) -> list[str]:
    """The events in any Parquet file of the folder, named or not, that have the secret."""
    return [
        f"{path.name}: {row['event_id']}"
        for path in sorted(Path(store.root).rglob("*.parquet"))
        for row in pq.ParquetFile(path).read().to_pylist()
        if SECRET in json.dumps(row, default=str)
    ]


def problems(sealed: Sealed, store: Store) -> list[str]:
    """What `archive verify` finds, with the database."""
    found = [
        why
        for manifest in newest(read_manifests(store))
        for why in (
            *read_back(store, manifest).problems,
            *seal_problems(store, manifest, read_public(sealed.key)),
        )
    ]
    with connect(sealed.trail.database.dsn) as connection:
        expected = read_expected(connection, "audit")
    return found + [f.message for f in check_catalogue(store, read_catalogue(store), expected)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "archive"))


@pytest.fixture
def archived(unsealed: Sealed, store: Store) -> Callable[..., str]:
    """A row with a secret whose events are archived; and whether they are still in the database."""

    def make(*, seal: bool = True, dropped: bool = True) -> str:
        unsealed.execute(f"update orders set status = '{SECRET}' where id = 1")
        unsealed.execute("update orders set id = 4711 where id = 1")
        if seal:
            unsealed.seal()
        partition = detach(unsealed)
        archive(unsealed, store, partition)
        if dropped:
            drop(unsealed, partition)
        return partition

    return make


def test_what_is_redacted_again_leaves_no_trace_among_the_partitions(
    archived: Callable[..., str], unsealed: Sealed
) -> None:
    archived()
    partitions = unsealed.execute("select leaf_name, state from audit.partition_lifecycle")
    for rows in (["4711"], ["4711"], ["9999"]):
        with suppress(UsageError):  # of no such row
            redact(unsealed, *rows)
        assert (
            unsealed.execute("select leaf_name, state from audit.partition_lifecycle") == partitions
        )


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "detached"])
@pytest.mark.parametrize("seal", [True, False], ids=["sealed", "unsealed"])
def test_values_are_gone_from_the_archive_and_all_verifies(
    unsealed: Sealed, store: Store, archived: Callable[..., str], seal: bool, dropped: bool
) -> None:
    archived(seal=seal, dropped=dropped)
    unsealed.execute("update orders set status = 'other' where id = 4711")
    before = events(store)
    [former] = read_manifests(store)
    plan = redact(unsealed, "4711", apply=False)
    assert (plan.events, [p in {f.path for f in former.files} for p in plan.files]) == (4, [True])
    assert (events(store), unsealed.trail.events()[-1]["action"]) == (before, "U")
    done = redact(unsealed, "4711")
    after = events(store)
    assert holding(store) == []
    assert before.keys() == after.keys()
    changed = [number for number in before if before[number] != after[number]]
    assert len(changed) == 3
    number = done.redactions[0]
    assert all(
        json.dumps({"audit:redacted": number}) in after[one]["new_row"] for one in changed[:1]
    )
    told = next(e for e in unsealed.trail.events() if e["event_id"] == number)
    assert [file["path"] for file in told["new_row"]["files"]] == list(done.files)
    [manifest] = read_manifests(store)
    assert set(done.files) <= {file.path for file in manifest.files}
    assert not any(store.has(file.path) for file in former.files if file not in manifest.files)
    assert problems(unsealed, store) == []
    if seal:
        assert unsealed.found() == []
        unsealed.seal()
        assert unsealed.found() == []
    again = redact(unsealed, "4711")
    assert (again.events, again.redactions, again.files) == (0, (), ())
    assert read_manifests(store) == [manifest]


def test_the_salts_are_gone_from_what_the_archive_carries(
    sealed: Sealed, store: Store, archived: Callable[..., str]
) -> None:
    """Also where the redacted event is in the database, and shares its seed with archived ones."""
    archived()
    sealed.execute(f"insert into orders values (9999, '{SECRET}')")
    sealed.seal()
    [last] = sealed.execute("select max(event_id) from audit.logged_actions where action = 'I'")
    [manifest] = read_manifests(store)
    assert manifest.seal is not None
    seeds = json.loads(Path(store.root, manifest.seal.path).read_text())["seeds"]
    assert "1" in seeds["0"]
    redact(sealed, "9999")
    [renewed] = read_manifests(store)
    assert renewed.seal is not None
    assert renewed.files == manifest.files
    nodes = set(map(int, json.loads(Path(store.root, renewed.seal.path).read_text())["seeds"]["0"]))
    slot = (4096 + int(str(last[0]))) * 8 + 3
    assert not nodes & {slot >> height for height in range(slot.bit_length())}
    assert not store.has(manifest.seal.path)
    assert (problems(sealed, store), sealed.found()) == ([], [])


def test_exports_of_partitions_in_use_are_reached(unsealed: Sealed, store: Store) -> None:
    """Also once the values are gone from the database: an archive that was left out follows."""
    unsealed.execute(f"update orders set status = '{SECRET}' where id = 1")
    export(unsealed, store)
    unsealed.execute("update orders set id = 4711 where id = 1")
    unsealed.execute("update orders set status = 'shipped' where id = 2")
    export(unsealed, store)
    unsealed.execute("update orders set status = 'open' where id = 2")
    first = redact(unsealed, "4711", leave_archives=True)
    assert (first.files, len(holding(store))) == ((), 2)
    done = redact(unsealed, "4711")
    assert (done.events, len(done.files), holding(store)) == (0, 2, [])
    told = unsealed.trail.events()[-1]
    assert (told["action"], len(told["new_row"]["files"])) == ("R", 2)
    assert problems(unsealed, store) == []
    redact(unsealed, "2")
    assert problems(unsealed, store) == []
    export(unsealed, store)
    assert problems(unsealed, store) == []
    ids = [e["event_id"] for e in unsealed.trail.events()]
    assert sorted(events(store)) == ids
    archive(unsealed, store, detach(unsealed))
    assert (problems(unsealed, store), sorted(events(store))) == ([], ids)


@pytest.mark.thorough
def test_a_restored_partition_has_what_is_left(
    unsealed: Sealed, store: Store, archived: Callable[..., str]
) -> None:
    archived()
    redact(unsealed, "4711")
    [manifest] = read_manifests(store)
    with connect(unsealed.trail.database.dsn) as connection:
        leaf = restore_leaf(connection, store, "audit", manifest, now=datetime.now(UTC))
    assert unsealed.execute(
        f"select count(*) from {leaf} as e where e::text like '%{SECRET}%'"
    ) == [(0,)]
    assert unsealed.found() == []


def test_an_archive_that_was_changed_is_not_written_anew(
    unsealed: Sealed, store: Store, archived: Callable[..., str]
) -> None:
    archived()
    [manifest] = read_manifests(store)
    path = Path(store.root, manifest.files[0].path)
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows), path, compression="none")
    with pytest.raises(AuditError, match="the file was changed"):
        redact(unsealed, "4711")
    assert read_manifests(store) == [manifest]
    assert not [e for e in unsealed.trail.events() if e["action"] == "R"]


def test_an_archive_that_moved_is_found_where_it_is(
    unsealed: Sealed, store: Store, archived: Callable[..., str]
) -> None:
    archived()
    moved = Path(store.root).rename(Path(store.root).parent / "elsewhere")
    with pytest.raises(AuditError, match="cannot be read") as refused:
        redact(unsealed, "4711")
    assert "--archive" in str(refused.value.hint)
    assert redact(unsealed, "4711", url=str(moved)).files
    there = Store.open(str(moved))
    assert (holding(there), problems(unsealed, there)) == ([], [])


def test_exports_that_are_not_there_are_not_passed_over(unsealed: Sealed, store: Store) -> None:
    unsealed.execute(f"update orders set status = '{SECRET}' where id = 1")
    export(unsealed, store)
    moved = Path(store.root).rename(Path(store.root).parent / "elsewhere")
    with pytest.raises(AuditError, match="lacks manifests") as refused:
        redact(unsealed, "1")
    assert "--archive" in str(refused.value.hint)
    with pytest.raises(UsageError, match="there is no folder"):
        redact(unsealed, "1", url=f"{moved}-or-not")
    assert redact(unsealed, "1", url=str(moved)).files
    assert holding(Store.open(str(moved))) == []


def test_a_redactor_alone_does_not_reach_archives(
    unsealed: Sealed, store: Store, archived: Callable[..., str]
) -> None:
    export(unsealed, store)
    unsealed.execute("create role clerk_of_archives")
    try:
        for statement in render_grants("audit", "postgres", redactor="clerk_of_archives"):
            unsealed.execute(statement)
        unsealed.execute("grant select on orders to clerk_of_archives")
        with connect(unsealed.trail.database.dsn) as connection:
            connection.execute("set role clerk_of_archives")
            asked = Erasure(table="orders", rows=["2"], columns=["status"], reason="asked to")
            reach = Archives(connection=connection, schema="audit")
            with pytest.raises(AuditError, match="exports in") as refused:
                run(connection, asked, apply=True, archives=reach)
            assert "as the owner of the trail" in str(refused.value.hint)
            left = run(connection, replace(asked, leave_archives=True), apply=True, archives=reach)
            assert (left.events, left.files) == (2, ())
    finally:
        unsealed.execute("drop owned by clerk_of_archives; drop role clerk_of_archives")


def test_files_that_nothing_names_are_in_the_way(
    unsealed: Sealed, store: Store, archived: Callable[..., str]
) -> None:
    archived()
    [manifest] = read_manifests(store)
    stray = Path(store.root, manifest.files[0].path).parent / "left.parquet"
    stray.write_bytes(b"")
    with pytest.raises(AuditError, match="no manifest names"):
        redact(unsealed, "4711")
    stray.unlink()
    killed = stray.with_name("logged_actions_x-1-r7.parquet")
    killed.write_bytes(b"")
    redact(unsealed, "4711")
    assert not killed.exists()
    assert (holding(store), problems(unsealed, store)) == ([], [])


@pytest.mark.parametrize("published", [False, True])
def test_what_was_committed_and_not_finished_is_finished_by_who_comes_next(
    unsealed: Sealed,
    store: Store,
    archived: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    published: bool,
) -> None:
    archived()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        target = "_remove" if published else "_publish"
        broken.setattr(f"audit_toolkit.archive.unfinished.{target}", killed)
        with pytest.raises(KeyboardInterrupt):
            redact(unsealed, "4711")
    assert "a redaction was interrupted: files that it replaced are still there" in problems(
        unsealed, store
    )
    assert holding(store)
    if published:
        assert redact(unsealed, "4711").files == ()
    else:
        export(unsealed, store)
    assert (holding(store), problems(unsealed, store)) == ([], [])
