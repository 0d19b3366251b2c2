"""The archive as an Apache Iceberg table: registered, read by others, and in line with the manifests."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from audit_toolkit.archive import (
    Store,
    Target,
    differences,
    read_manifests,
    register,
)
from audit_toolkit.archive.iceberg import register_own
from audit_toolkit.cli.app import app
from audit_toolkit.errors import AuditError, MissingExtraError, UsageError
from audit_toolkit.plurals import counted
from tests.archive.live import ONE, archive_all, export, fill, in_folder, in_trail
from tests.plugins.rotating import START, Rotating, months
from tests.plugins.trail import SCHEMA


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/catalog.db"


@pytest.fixture(autouse=True)
def planner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its own planner, Polars warns."""
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")


def enrol(rotating: Rotating, store: Store, catalog: str) -> tuple[int, int]:
    """Register; how many files were added and removed."""
    found = register_own(rotating.connection, store, SCHEMA, catalog)
    return found.added, found.removed


def opened(store: Store, catalog: str) -> Any:
    return Target.parse(catalog, SCHEMA).open(store)


def in_iceberg(store: Store, catalog: str) -> list[int]:
    with opened(store, catalog) as found:
        table = found.load_table("audit.logged_actions")
        return sorted(table.scan(selected_fields=("event_id",)).to_arrow()["event_id"].to_pylist())


@pytest.mark.parametrize("kind", ["local", "s3"])
@pytest.mark.thorough
def test_exports_and_archives_are_registered(
    rotating: Rotating, kind: str, catalog: str, request: pytest.FixtureRequest
) -> None:
    store: Store = request.getfixturevalue(kind)
    rotating.fill(START - timedelta(days=40), START, "2 days")
    export(rotating, store)
    added, removed = enrol(rotating, store, catalog)
    assert (added > 1, removed) == (True, 0)
    assert enrol(rotating, store, catalog) == (0, 0)
    assert in_iceberg(store, catalog) == in_trail(rotating) == in_folder(store)
    oldest = rotating.read().bounded[0]
    assert oldest.lower
    rotating.execute(ONE, [oldest.lower + timedelta(hours=1)])
    everything = in_trail(rotating)
    rotating.run(START + timedelta(days=120), retention=months(1), drop=False)
    assert set(archive_all(rotating, store, iceberg=catalog)) == {"done"}
    assert enrol(rotating, store, catalog) == (1, 0)
    assert in_iceberg(store, catalog) == everything


def test_what_is_written_anew_replaces_the_former_files(
    rotating: Rotating, local: Store, catalog: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table stops naming files before they are removed: whoever reads it has every event once."""
    rotating.fill(START - timedelta(days=40), START, "2 days")
    everything = in_trail(rotating)
    export(rotating, local)
    enrol(rotating, local, catalog)
    rotating.run(START + timedelta(days=120), retention=months(1), drop=False)
    remove = Store.remove

    def removed(self: Store, place: str) -> None:
        was_there = self.filesystem.exists(place)
        remove(self, place)
        if was_there and place.endswith(".parquet") and "._" not in place:
            assert in_iceberg(self, catalog) == everything

    monkeypatch.setattr(Store, "remove", removed)
    assert set(archive_all(rotating, local, again=True, iceberg=catalog)) == {"done"}
    assert in_iceberg(local, catalog) == everything == in_folder(local)
    assert enrol(rotating, local, catalog) == (0, 0)


def test_the_files_are_the_archive_s_and_pruned_by_month_and_table(
    rotating: Rotating, local: Store, catalog: str
) -> None:
    long = "x" * 60
    rotating.execute(ONE.replace("'orders'", f"'{long}1'"), [START])
    rotating.execute(ONE.replace("'orders'", f"'{long}2'"), [START])
    fill(rotating)
    export(rotating, local)
    enrol(rotating, local, catalog)
    with opened(local, catalog) as found:
        table = found.load_table("audit.logged_actions")
        tasks = list(table.scan(row_filter=f"table_name = '{long}2'").plan_files())
        assert {tuple(task.file.partition[n] for n in (1, 2)) for task in tasks} == {
            ("public", f"{long}2")
        }
        paths = {task.file.file_path for task in table.scan().plan_files()}
        assert table.properties["gc.enabled"] == "false"
    assert paths == {local.address(path) for path in local.files("events")}


def test_others_read_it(rotating: Rotating, local: Store, catalog: str) -> None:
    import polars

    fill(rotating)
    export(rotating, local)
    enrol(rotating, local, catalog)
    with opened(local, catalog) as found:
        table = found.load_table("audit.logged_actions")
        wanted = polars.col("table_name").str.ends_with("0") & polars.col("old_row").is_not_null()
        frame = polars.scan_iceberg(table).filter(wanted).select("event_id").collect()
    (expected,) = rotating.execute(
        "select array_agg(event_id order by event_id) from audit.logged_actions"
        " where table_name like '%%0' and old_row is not null"
    )
    assert sorted(frame["event_id"].to_list()) == expected[0]


def test_duckdb_reads_it(rotating: Rotating, local: Store, catalog: str) -> None:
    with duckdb.connect() as engine:
        try:
            engine.execute("install iceberg; load iceberg")
        except duckdb.Error as error:
            pytest.skip(
                f"DuckDB's extension iceberg cannot be had here: {str(error).splitlines()[0]}"
            )
        fill(rotating)
        export(rotating, local)
        enrol(rotating, local, catalog)
        with opened(local, catalog) as found:
            metadata = found.load_table("audit.logged_actions").metadata_location
        read = f"select event_id from iceberg_scan('{metadata}') order by 1"
        assert [row[0] for row in engine.execute(read).fetchall()] == in_trail(rotating)


def test_a_table_of_fewer_columns_is_given_the_others(
    rotating: Rotating, local: Store, catalog: str
) -> None:
    """As one made by an older release; the fields keep their ids."""
    fill(rotating)
    export(rotating, local)
    enrol(rotating, local, catalog)
    with opened(local, catalog) as found:
        table = found.load_table("audit.logged_actions")
        ids = {field.name: field.field_id for field in table.schema().fields}
        with table.update_schema(allow_incompatible_changes=True) as update:
            update.delete_column("transaction_tstamp")
    rotating.execute(ONE, [START])
    export(rotating, local)
    assert enrol(rotating, local, catalog) == (1, 0)
    with opened(local, catalog) as found:
        table = found.load_table("audit.logged_actions")
        after = {field.name: field.field_id for field in table.schema().fields}
        known = {name: number for name, number in ids.items() if name != "transaction_tstamp"}
        assert after.items() >= known.items()
        times = table.scan().to_arrow()["transaction_tstamp"]
        assert len(times) == len(in_trail(rotating))
        assert times.null_count == 0


def test_what_another_program_wrote_is_refused(
    rotating: Rotating, local: Store, catalog: str, tmp_path: Path
) -> None:
    fill(rotating)
    export(rotating, local)
    enrol(rotating, local, catalog)
    other = tmp_path / "compacted.parquet"
    shutil.copy(local.path(local.files("events")[0]), other)
    with opened(local, catalog) as found:
        found.load_table("audit.logged_actions").add_files([other.as_uri()])
    rotating.execute(ONE, [START])
    export(rotating, local)
    with pytest.raises(AuditError, match="files that are not in this archive"):
        enrol(rotating, local, catalog)


def test_a_lost_commit_is_tried_again(
    rotating: Rotating, local: Store, catalog: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audit_toolkit.archive import iceberg

    fill(rotating)
    export(rotating, local)
    enrol(rotating, local, catalog)
    rotating.execute(ONE, [START])
    export(rotating, local)
    compare = iceberg._compare
    meanwhile: list[int] = []

    def compared(table: Any, *rest: Any) -> Any:
        found = compare(table, *rest)
        if not meanwhile:
            meanwhile.append(1)
            with opened(local, catalog) as other:
                with other.load_table("audit.logged_actions").transaction() as transaction:
                    transaction.set_properties(owner="analysts")
                enrol(rotating, local, catalog)
        return found

    monkeypatch.setattr(iceberg, "_compare", compared)
    enrol(rotating, local, catalog)
    assert in_iceberg(local, catalog) == in_trail(rotating)


def test_a_catalogue_in_postgresql(rotating: Rotating, local: Store) -> None:
    rotating.execute("create schema lake")
    catalog = f"{rotating.database.dsn}?options=-csearch_path%3Dlake#audit.logged_actions"
    fill(rotating)
    export(rotating, local)
    enrol(rotating, local, catalog)
    assert in_iceberg(local, catalog) == in_trail(rotating)
    assert rotating.execute("select count(*) from lake.iceberg_tables") == [(1,)]


def test_verify_and_register_on_the_command_line(
    rotating: Rotating, local: Store, catalog: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", rotating.database.dsn)
    monkeypatch.setenv("AUDIT_ARCHIVE", local.url)
    run = CliRunner()
    refused = run.invoke(app, ["archive", "register"])
    assert (refused.exit_code, "AUDIT_ICEBERG" in refused.stderr) == (2, True)
    monkeypatch.setenv("AUDIT_ICEBERG", catalog)
    fill(rotating)
    assert run.invoke(app, ["archive", "export"]).exit_code == 0
    assert run.invoke(app, ["archive", "verify"]).exit_code == 0
    files = len(local.files("events"))
    monkeypatch.setenv("AUDIT_ICEBERG", f"{catalog}#lake.events")
    verified = run.invoke(app, ["archive", "verify"])
    assert verified.exit_code == 3
    assert verified.stdout.count("the Iceberg table lacks this file") == files
    registered = run.invoke(app, ["archive", "register"])
    added, metadata = registered.stdout.splitlines()
    assert added == f"lake.events: {counted(files, 'file')} added, 0 removed"
    assert Path(metadata.removeprefix("metadata: file://")).is_file()
    rotating.run(START + timedelta(days=120), retention=months(1), drop=False)
    archived = run.invoke(app, ["archive", "run"])
    assert "Register the archive's files in the Iceberg table" in archived.stdout
    assert run.invoke(app, ["archive", "verify"]).exit_code == 0
    # Another database archives there, too.
    one = read_manifests(local)[0]
    assert one.origin
    other = replace(one, origin=replace(one.origin, database="other"), previous=None)
    of_another = Path(local.path(other.name))
    of_another.parent.mkdir(parents=True)
    of_another.write_bytes(other.as_bytes())
    refused = run.invoke(app, ["archive", "register"])
    assert refused.exit_code == 2
    assert sorted(re.findall("--from (\\S+?)(?:,|$)", refused.stderr, re.MULTILINE)) == sorted(
        [one.place, other.place]
    )
    assert run.invoke(app, ["archive", "register", "--from", one.place]).exit_code == 0
    assert run.invoke(app, ["archive", "verify"]).exit_code == 0, "the database says whose it is"
    with monkeypatch.context() as nowhere:
        nowhere.delenv("AUDIT_DATABASE_URL")
        assert "--from" in run.invoke(app, ["archive", "verify"]).stderr
        assert run.invoke(app, ["archive", "verify", "--from", one.place]).exit_code == 0
        others = run.invoke(app, ["archive", "verify", "--from", other.place])
        assert (others.exit_code, "iceberg_differs" in others.stdout) == (3, True)
    shutil.rmtree(local.path(other.folder))
    # Whoever lost the manifests is told so, and the table keeps its files.
    before = in_iceberg(local, catalog)
    shutil.rmtree(local.path("manifests"))
    monkeypatch.setenv("AUDIT_ICEBERG", catalog)
    refused = run.invoke(app, ["archive", "register"])
    assert (refused.exit_code, "no manifest that names" in refused.stderr) == (1, True)
    assert in_iceberg(local, catalog) == before
    verified = run.invoke(app, ["archive", "verify"])
    assert verified.exit_code == 3, verified.output
    assert "its manifest" in verified.stdout


class TestErrors:
    """What goes wrong is said in a line."""

    def test_the_extra_is_not_installed(
        self, local: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("pyiceberg.catalog", "pyiceberg.exceptions"):
            monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtraError, match="needs pyiceberg") as missing:
            register(local, "", [], Target.parse("sqlite:///x.db", SCHEMA))
        assert missing.value.hint == "pip install 'audit-toolkit[iceberg]'"

    @pytest.mark.parametrize("text", ["", "#a.b", "sqlite:///x.db#table", "sqlite:///x.db#a..b"])
    def test_no_table(self, text: str) -> None:
        with pytest.raises(UsageError, match="given as CATALOG"):
            Target.parse(text, SCHEMA)

    @pytest.mark.parametrize(
        "catalog",
        ["nowhere", "sqlite:////no/such/folder/x.db", "postgresql://u:secret@127.0.0.1:9/x"],
    )
    def test_no_catalogue(self, local: Store, catalog: str) -> None:
        with pytest.raises(AuditError) as failed:
            differences(local, "", [], Target.parse(catalog, SCHEMA))
        assert "secret" not in f"{failed.value} {Target.parse(catalog, SCHEMA)!r}"
        assert failed.value.hint
