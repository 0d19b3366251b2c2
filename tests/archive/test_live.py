"""`audit archive export`: events of partitions in use, each once in the folder, at every moment."""

from __future__ import annotations

import json
import random
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars
import psycopg
import pytest
from typer.testing import CliRunner

from audit_toolkit.archive import (
    Manifest,
    Store,
    adopt,
    chain_breaks,
    check_catalogue,
    export_live,
    find_manifest,
    newest,
    query_archive,
    read_catalogue,
    read_expected,
    read_manifests,
    restore_leaf,
)
from audit_toolkit.cli.app import app
from audit_toolkit.connection import connect
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.partitions import plan_attach
from audit_toolkit.partitions.blockers import name_blockers
from audit_toolkit.plan import apply
from tests.archive.live import ONE, archive_all, export, few, fill, in_folder, in_trail, problems
from tests.plugins.rotating import START, Rotating, install, months
from tests.plugins.trail import SCHEMA


@contextmanager
def watched(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """What the folder holds after every file that is made or removed: no event twice, and none goes."""
    seen = [in_folder(store)]
    if not store.is_local:  # the same steps, and slower to look at
        yield seen
        return

    def look(which: Store) -> None:
        if which == store:
            found = in_folder(store)
            assert len(found) == len(set(found))
            assert set(found) >= set(seen[-1])
            seen.append(found)

    create, remove = Store.create, Store.remove

    @contextmanager
    def created(self: Store, path: str) -> Iterator[Any]:
        with create(self, path) as file:
            yield file
        look(self)

    def removed(self: Store, place: str) -> None:
        remove(self, place)
        look(self)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "create", created)
        patch.setattr(Store, "remove", removed)
        yield seen


@pytest.mark.parametrize("kind", ["local", pytest.param("s3", marks=pytest.mark.thorough)])
def test_export_then_archive_each_event_once_at_every_moment(
    rotating: Rotating, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Store = request.getfixturevalue(kind)
    fill(rotating)
    with watched(store, monkeypatch) as seen:
        first = export(rotating, store)
        assert in_folder(store) == in_trail(rotating)
        assert export(rotating, store).manifests == ()
        rotating.execute(ONE, [START])
        (second,) = export(rotating, store).manifests
        assert second.events == 1
        assert in_folder(store) == in_trail(rotating)
        oldest = rotating.read().bounded[0]
        assert oldest.lower
        # Late, with a time of the past: it is new all the same.
        rotating.execute(ONE, [oldest.lower + timedelta(hours=1)])
        rotating.run(START + timedelta(days=120), retention=months(2), drop=False)
        assert set(archive_all(rotating, store)) == {"done"}
    assert len(seen) > 6 or not store.is_local
    assert problems(rotating, store) == ()
    found = newest(read_manifests(store))
    whole = next(m for m in found if m.leaf == oldest.name.name)
    assert whole.exported is None
    exported = {file.path for m in first.manifests for file in m.files if m.oid == oldest.oid}
    assert {file.path for file in whole.files} > exported
    assert chain_breaks(read_manifests(store)) == []
    assert query_archive(store, "select count(*), count(distinct event_id) from logged_actions")[
        1
    ] == [(len(in_folder(store)),) * 2]
    if store.is_local:
        there = f"{store.root}/events/**/*.parquet"
        frame = polars.scan_parquet(there, hive_partitioning=True).select("event_id").collect()
        assert sorted(frame["event_id"].to_list()) == in_folder(store)
        duck = duckdb.read_parquet(there).fetchall()
        assert sorted(row[0] for row in duck) == in_folder(store)
    before = rotating.count(oldest.name.name)
    restore_leaf(rotating.connection, store, SCHEMA, whole, now=START, name="back")
    assert rotating.count("back") == before


def test_an_open_transaction_holds_back_what_it_could_still_add_to(
    rotating: Rotating, local: Store
) -> None:
    few(rotating)
    certain = in_trail(rotating)
    export(rotating, local)
    with rotating.database.connect(autocommit=False) as early:
        early.execute(ONE, [START])
        rotating.execute(ONE, [START])
        held = export(rotating, local, wait=0)
        assert (held.manifests, [b.pid for b in held.held_by]) == ((), [early.info.backend_pid])
        with rotating.database.connect(autocommit=False) as late:
            late.execute(ONE, [START])
            rotating.execute(ONE, [START])
            early.commit()
            # What the run before saw is certain now, though another transaction is open.
            held = export(rotating, local, wait=0)
            assert [b.pid for b in held.held_by] == [late.info.backend_pid]
            assert [m.events for m in held.manifests] == [2]
            assert len(in_folder(local)) == len(certain) + 2
            late.rollback()
    assert [m.events for m in export(rotating, local).manifests] == [1]
    assert in_folder(local) == in_trail(rotating)
    assert problems(rotating, local) == ()


@pytest.mark.thorough
def test_a_prepared_transaction_holds_back_and_a_failover_goes_on(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    with throwaway_cluster(settings={"max_prepared_transactions": "2"}) as cluster:
        install(cluster.dsn())
        with psycopg.connect(cluster.dsn(), autocommit=True) as writer:
            writer.execute("begin")
            writer.execute(ONE, [START])
            writer.execute("prepare transaction 'late'")
            writer.execute(ONE, [START])
            with connect(cluster.dsn()) as connection:
                held = export_live(connection, store, SCHEMA, now=START, wait=0)
                assert [b.prepared_name for b in held.held_by] == ["late"]
                in_the_way = name_blockers(connection, SCHEMA)
                assert in_the_way.startswith("the prepared transaction late (postgres, ")
                assert in_folder(store) == []
                writer.execute("commit prepared 'late'")
                writer.execute(
                    "begin; lock table audit.logged_actions; prepare transaction 'it''s on'"
                )
                check = ["check", "--timeout", "1", "--dsn", cluster.dsn()]
                answer = CliRunner().invoke(app, check)
                assert answer.exit_code == 5
                assert "the prepared transaction it's on (postgres, " in answer.stderr
                assert "rollback prepared 'it''s on' ends it" in answer.stderr
                writer.execute("commit prepared 'it''s on'")
                found = export_live(connection, store, SCHEMA, now=START)
        assert (sum(m.events for m in found.manifests), found.held_by) == (2, ())
        assert in_folder(store) == [1, 2]
        become_standby(cluster)
        with connect(cluster.dsn()) as connection:
            command = ["archive", "export", "--archive", store.url, "--dsn", cluster.dsn()]
            refused = CliRunner().invoke(app, command)
            assert (refused.exit_code, "is a standby" in refused.stderr) == (2, True)
            connection.execute("select pg_promote()")
            connection.execute(ONE.encode(), [START])
            with pytest.raises(AuditError, match="wrote there last"):
                export_live(connection, store, SCHEMA, now=START)
            adopt(connection, store, SCHEMA, now=START)
            export_live(connection, store, SCHEMA, now=START)
            assert len(in_folder(store)) == 3
            expected = read_expected(connection, SCHEMA)
        assert check_catalogue(store, read_catalogue(store), expected) == ()


def become_standby(cluster: Cluster) -> None:
    """Start it again as one that is to be promoted."""
    cluster.stop()
    signal = cluster.data_dir / "standby.signal"
    shutil.copy(cluster.data_dir / "PG_VERSION", signal, follow_symlinks=False)
    shutil.chown(signal, cluster.data_dir.owner(), cluster.data_dir.group())
    cluster.start()


def test_writers_meanwhile(rotating: Rotating, local: Store) -> None:
    """Transactions that end in another order than they began, while exports follow each other."""
    stop = threading.Event()

    def write(seed: int) -> None:
        chance = random.Random(seed)
        with rotating.database.connect(autocommit=False) as session:
            while not stop.is_set():
                for _ in range(chance.randrange(1, 4)):
                    session.execute(ONE, [START + timedelta(minutes=chance.randrange(900))])
                stop.wait(chance.random() / 30)
                session.rollback() if chance.random() < 0.2 else session.commit()

    writers = [threading.Thread(target=write, args=[seed]) for seed in range(3)]
    for writer in writers:
        writer.start()
    try:
        exported = [export(rotating, local, wait=0.2) for _ in range(6)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert sum(bool(one.manifests) for one in exported) > 1
    export(rotating, local)
    assert in_folder(local) == in_trail(rotating)
    assert problems(rotating, local) == ()


class KilledError(BaseException):
    """The process is gone: nothing catches this."""


BOUNDARIES = ["begin", "file", "files", "read_back", "manifest", "note"]


@contextmanager
def killed(at: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Die at that point of an export."""
    from audit_toolkit.archive import export

    def die(*_: object, **__: object) -> None:
        raise KilledError

    create, note = Store.create, export._Work.note
    made: list[str] = []

    @contextmanager
    def created(self: Store, path: str) -> Iterator[Any]:
        made.append(path)
        if (at == "file" and len(made) == 3) or (at == "manifest" and path.endswith(".json")):
            raise KilledError
        with create(self, path) as file:
            yield file

    def noted(self: Any, **values: Any) -> None:
        if at == "note" and values.get("sha256"):
            raise KilledError
        note(self, **values)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "create", created)
        patch.setattr(export._Work, "note", noted)
        if at == "begin":
            patch.setattr(export, "write_files", die)
        if at == "files":
            patch.setattr(export, "make_manifest", die)
        if at == "read_back":
            patch.setattr(export, "read_back", die)
        with pytest.raises(KilledError):
            yield


@pytest.mark.parametrize("at", BOUNDARIES)
def test_killed_the_next_run_goes_on(
    rotating: Rotating, local: Store, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(rotating)
    with watched(local, monkeypatch), killed(at, monkeypatch):
        export(rotating, local)
    # More of the same partition: the range that was begun stays as it was.
    oldest = rotating.read().bounded[0]
    assert oldest.lower
    rotating.execute(ONE, [oldest.lower + timedelta(hours=1)])
    with watched(local, monkeypatch):
        export(rotating, local)
    assert in_folder(local) == in_trail(rotating)
    assert export(rotating, local).manifests == ()
    assert problems(rotating, local) == ()


def test_killed_while_a_manifest_is_written_hides_nothing(rotating: Rotating, local: Store) -> None:
    few(rotating)
    last = export(rotating, local).manifests[-1]
    half = Path(local.path(last.name.replace("/20", "/._20")))
    half.write_bytes(last.as_bytes()[:100])
    rotating.execute(ONE, [START])
    assert [m.events for m in export(rotating, local).manifests] == [1]
    assert not half.exists()
    assert problems(rotating, local) == ()


@pytest.mark.parametrize("at", ["file", "note"])
def test_killed_and_then_archived(
    rotating: Rotating, local: Store, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(rotating)
    before = in_trail(rotating)
    with killed(at, monkeypatch):
        export(rotating, local)
    rotating.run(START + timedelta(days=220), retention=months(1), drop=False)
    assert len(in_trail(rotating)) < len(before)
    with watched(local, monkeypatch):
        assert set(archive_all(rotating, local)) == {"done"}
        export(rotating, local)  # what is new of the partition that covers the present
    assert in_folder(local) == before
    assert problems(rotating, local) == ()


def test_what_was_begun_of_a_partition_that_is_gone_is_removed(
    rotating: Rotating, local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(rotating)
    with killed("files", monkeypatch):
        export(rotating, local)
    assert in_folder(local)
    rotating.run(START + timedelta(days=220), retention=months(1), drop=False)
    rotating.run(START + timedelta(days=250), drop=True)
    export(rotating, local)
    assert in_folder(local) == in_trail(rotating)


def test_a_file_that_was_damaged_meanwhile_is_written_again(
    rotating: Rotating, local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(rotating)
    with killed("files", monkeypatch):
        export(rotating, local)
    damaged = Path(local.path(local.files("events", ".parquet")[0]))
    damaged.write_bytes(damaged.read_bytes()[:-50])
    with pytest.raises(AuditError, match="cannot be read"):
        export(rotating, local)
    export(rotating, local)
    assert in_folder(local) == in_trail(rotating)


def test_since_and_until(rotating: Rotating, local: Store) -> None:
    fill(rotating)
    since, until = START - timedelta(days=9), START - timedelta(days=3)
    export(rotating, local, since=since, until=until)
    (wanted,) = rotating.execute(
        "select array_agg(event_id order by event_id) from audit.logged_actions"
        " where action_tstamp >= %s and action_tstamp < %s",
        [since, until],
    )
    assert in_folder(local) == wanted[0]
    export(rotating, local, since=since - timedelta(days=1), until=until)
    export(rotating, local)
    assert in_folder(local) == in_trail(rotating)
    assert problems(rotating, local) == ()


def test_two_tables_with_one_folder_have_a_file_each(rotating: Rotating, local: Store) -> None:
    for schema, table in (("a.b", "c"), ("a", "b.c")):
        rotating.execute(ONE.replace("'public', 'orders'", f"'{schema}', '{table}'"), [START])
    (manifest,) = export(rotating, local).manifests
    assert len({file.path for file in manifest.files}) == 2
    assert in_folder(local) == in_trail(rotating)


def test_what_came_back_from_the_archive_is_not_exported(rotating: Rotating, local: Store) -> None:
    few(rotating)
    rotating.run(START + timedelta(days=120), retention=months(2), drop=False)
    archive_all(rotating, local)
    leaf = read_manifests(local)[0].leaf
    archived = in_folder(local)
    apply(plan_attach(rotating.read(), leaf, "asked for").plan, rotating.connection)
    export(rotating, local)
    found = in_folder(local)
    assert len(found) == len(set(found))
    assert set(found) >= set(archived)


def test_again_writes_anew_what_was_exported(rotating: Rotating, local: Store) -> None:
    few(rotating)
    export(rotating, local)
    oldest = rotating.read().bounded[0].name.name
    for path in local.files("events", ".parquet"):
        if f"/{oldest}-" in path:
            damaged = Path(local.path(path))
            damaged.write_bytes(damaged.read_bytes()[:-50])
    rotating.run(START + timedelta(days=120), retention=months(2), drop=False)
    assert "failed" in archive_all(rotating, local)
    assert set(archive_all(rotating, local, again=True)) == {"done"}
    assert [
        name
        for name in local.files("events", ".parquet")
        if f"/{oldest}-" in name and "-to-" in name
    ] == []
    assert problems(rotating, local) == ()


def test_what_has_no_partition_of_its_own_is_named(rotating: Rotating, local: Store) -> None:
    for when in (START, START + timedelta(days=4000), START - timedelta(days=4000)):
        rotating.execute(ONE, [when])
    found = export(rotating, local)
    assert [m.events for m in found.manifests] == [1]
    assert sorted(text.partition(" has ")[0] for text in found.left_out) == [
        "logged_actions_past",
        "logged_actions_tail",
    ]


def test_who_may_not_export_is_told(rotating: Rotating, local: Store) -> None:
    few(rotating)
    # A role that every server has: it may look at statistics, and no more.
    rotating.execute("grant usage on schema audit to pg_monitor")
    rotating.execute("grant select on audit.maintenance to pg_monitor")
    rotating.connection.execute("set role pg_monitor")
    with pytest.raises(AuditError, match="the role pg_monitor may not export") as refused:
        export(rotating, local)
    assert "owner of the trail" in (refused.value.hint or "")
    assert local.files("events") == []


class TestTampering:
    """What was done to the ranges behind our back."""

    def test_the_last_manifest_is_removed(self, rotating: Rotating, local: Store) -> None:
        few(rotating)
        last = export(rotating, local).manifests[-1]
        local.remove(local.path(last.name))
        for file in last.files:
            local.remove(local.path(file.path))
        found = problems(rotating, local)
        assert (
            "exports",
            f"the manifest of the last export is missing from the archive: {last.name}",
        ) in found

    def test_of_a_database_that_was_renamed_nothing_is_missing(
        self, rotating: Rotating, local: Store
    ) -> None:
        few(rotating)
        export(rotating, local)
        expected = read_expected(rotating.connection, SCHEMA)
        renamed = replace(expected, place=f"{expected.place}-renamed")
        assert check_catalogue(local, read_catalogue(local), renamed) == ()

    def test_a_range_is_forged(self, rotating: Rotating, local: Store) -> None:
        few(rotating)
        last = export(rotating, local).manifests[-1]
        forged = Path(local.path(last.name))
        values = json.loads(forged.read_bytes())
        values["exported"]["reach"] += 1000
        forged.write_text(json.dumps(values, indent=1, ensure_ascii=False))
        found = dict(problems(rotating, local))
        assert found["exports"].startswith("the manifest of the last export is missing")
        with pytest.raises(AuditError, match="which this database did not export"):
            export(rotating, local)

    def test_a_path_outside(self, rotating: Rotating, local: Store) -> None:
        few(rotating)
        last = export(rotating, local).manifests[-1]
        values = json.loads(last.as_bytes())
        for changes in ({"reach": "1"}, {"reach": -1}, {"reach": 1, "since": "soon"}, {"x": 1}):
            with pytest.raises(AuditError, match="cannot read"):
                Manifest.from_bytes(json.dumps(values | {"exported": changes}).encode(), last.name)

    def test_a_copy_of_the_database_is_refused(self, rotating: Rotating, local: Store) -> None:
        few(rotating)
        export(rotating, local)
        rotating.execute("delete from audit.maintenance where command = 'archive export'")
        rotating.execute(ONE, [START])
        with pytest.raises(AuditError, match="which this database did not export"):
            export(rotating, local)
        adopt(rotating.connection, local, SCHEMA, now=rotating.now)
        export(rotating, local)
        assert in_folder(local) == in_trail(rotating)


class TestCommand:
    """What people type."""

    @pytest.fixture
    def typed(self, rotating: Rotating, local: Store, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
        monkeypatch.setenv("AUDIT_DATABASE_URL", rotating.database.dsn)
        monkeypatch.setenv("AUDIT_ARCHIVE", local.url)
        fill(rotating)
        return CliRunner()

    def test_export_list_verify_restore(
        self, typed: CliRunner, rotating: Rotating, local: Store
    ) -> None:
        month = f"{START:%Y-%m}"
        assert typed.invoke(app, ["archive", "export", "--until", month]).exit_code == 0
        months_there = {path.split("month=")[1].split("/")[0] for path in local.files("events")}
        assert months_there
        assert max(months_there) < month
        found = typed.invoke(app, ["archive", "export"])
        assert found.exit_code == 0
        assert re.search(
            r"^exported  logged_actions_\d{4}_\d\d up to event \d+: \d+ events$", found.stdout, re.M
        )
        assert typed.invoke(app, ["archive", "export"]).stdout == "nothing new\n"
        rotating.execute(ONE, [START])
        (row,) = json.loads(typed.invoke(app, ["archive", "export", "--format", "json"]).stdout)[
            "exported"
        ]
        assert row["events"] == 1
        assert "up to event" in typed.invoke(app, ["archive", "list"]).stdout
        verified = typed.invoke(app, ["archive", "verify"])
        assert (verified.exit_code, "broken" in verified.stdout) == (0, False)
        refused = typed.invoke(app, ["archive", "restore", row["leaf"]])
        assert refused.exit_code == 2
        assert "its events are still in the trail" in refused.stderr

    def test_an_open_transaction_is_named(self, typed: CliRunner, rotating: Rotating) -> None:
        with rotating.database.connect(autocommit=False) as session:
            session.execute(ONE, [START])
            rotating.execute(ONE, [START])
            found = typed.invoke(app, ["archive", "export", "--wait", "0"])
            assert found.stdout == "nothing new to export\n"
            assert f"pid {session.info.backend_pid}" in found.stderr

    def test_usage(self, typed: CliRunner) -> None:
        found = typed.invoke(app, ["archive", "export", "--since", "2026-03", "--until", "2026-02"])
        assert (found.exit_code, "--since must be earlier than --until" in found.stderr) == (
            2,
            True,
        )
        found = typed.invoke(app, ["archive", "export", "--since", "2026-13"])
        assert (found.exit_code, "--since: '2026-13' is not" in found.stderr) == (2, True)


def test_restored_from_a_dump_nothing_is_exported_twice(rotating: Rotating, local: Store) -> None:
    """A partition has another OID then, and the same name."""
    few(rotating)
    export(rotating, local)
    origin = read_manifests(local)[-1].origin
    assert origin
    for manifest in read_manifests(local):
        assert manifest.is_part_of(origin, "other", manifest.oid)
        assert not manifest.is_part_of(origin, manifest.leaf, 1)
    from dataclasses import replace

    restored = replace(origin, database_oid=origin.database_oid + 1)
    manifest = find_range(local)
    assert manifest.is_part_of(restored, manifest.leaf, 1)
    assert not manifest.is_part_of(restored, "other", manifest.oid)


def find_range(store: Store) -> Manifest:
    found = read_manifests(store)[-1]
    with pytest.raises(UsageError, match="parts of it were exported"):
        find_manifest(store, found.leaf)
    return found
