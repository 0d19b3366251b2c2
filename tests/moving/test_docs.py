"""Every block of docs/moving.md, run as it stands, between real servers."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from audit_toolkit.demo.binaries import DEBIAN
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.demo.processes import run_as, server_account
from audit_toolkit.schema import moved_trail
from tests.moving.words import TABLES, boundaries, findings, kinds
from tests.plugins.cluster import Server
from tests.plugins.database import Databases, MakeDatabase
from tests.plugins.trail import Trail, audit, install_trail

TEXT = (Path(__file__).parents[2] / "docs" / "moving.md").read_text(encoding="utf-8")
EVENTS = "select action, new_row from audit.logged_actions order by event_id"
WIDE = "select string_agg(md5(n::text), '') from generate_series(1, 400) as n"


def blocks(heading: str) -> list[list[str]]:
    """The lines of each block under a heading."""
    [section] = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", TEXT, re.M | re.S)
    found = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    return [block.splitlines() for block in found]


class Shell:
    """Runs lines of the page in a directory, with the programs of the server."""

    def __init__(self, directory: Path, bin_dir: Path, old: str, new: str) -> None:
        self.directory, self.bin_dir, self.old, self.new = directory, bin_dir, old, new

    def run(self, *lines: str) -> None:
        for line in lines:
            program = line.split()[0]
            if program == "alembic":
                continue  # the database that the test brings is what migrations make
            if program == "audit":
                typed = line.removesuffix(" || true").replace("$NEW", self.new)
                answer = CliRunner().invoke(app, shlex.split(typed)[1:])
                assert answer.exit_code == 0 or line.endswith("|| true"), (line, answer.output)
            else:
                self._run(line)

    def _run(self, line: str) -> None:
        path = f"{self.bin_dir}:{os.environ['PATH']}"
        subprocess.run(
            ["/bin/bash", "-o", "pipefail", "-c", line],
            env=os.environ | {"OLD": self.old, "NEW": self.new, "PATH": path},
            cwd=self.directory,
            check=True,
            capture_output=True,
        )


@pytest.fixture
def bin_dir(cluster: Server) -> Path:
    if cluster.bin_dir is None or not (cluster.bin_dir / "pg_dump").exists():
        pytest.skip("there is no pg_dump beside the server")
    return cluster.bin_dir


@pytest.fixture
def shell(shop: Trail, empty: Trail, bin_dir: Path, tmp_path: Path) -> Shell:
    """The shop is $OLD, an empty database $NEW."""
    shell = Shell(tmp_path, bin_dir, shop.database.dsn, empty.database.dsn)
    shell.run('pg_dump -Fc -d "$OLD" -f shop.dump')
    return shell


@pytest.fixture(scope="module")
def old_server(cluster: Server) -> Iterator[Cluster]:
    """Another server with a shop: of an older version, and with lz4, where there is one on this machine."""
    older = DEBIAN / "15" / "bin"
    settings = {"wal_level": "logical", "restore_command": "false"}
    with pytest.MonkeyPatch.context() as patch:
        if (older / "initdb").exists() and cluster.version > 15:
            patch.setenv("AUDIT_PG_BIN", str(older))
        with throwaway_cluster(settings=settings) as server:
            install_trail(server.dsn())
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                connection.execute(TABLES)
                audit(connection, "orders")
                connection.execute(f"insert into orders values (1, ({WIDE})), (2, 'new')")
            yield server


def test_dump_and_restore_and_clean(shell: Shell, empty: Trail) -> None:
    shell.run(*blocks("Dump and restore")[0])
    assert empty.story()[-1] == ("B", None)
    empty.execute("update orders set status = 'lost' where id = 1")
    shell.run(*blocks("`--clean`: over an existing database")[0])
    assert [action for action, _ in empty.story()] == [*"IIIB"]


def test_data_only(shell: Shell, migrated: Trail) -> None:
    shell.new = migrated.database.dsn
    shell.run(*blocks("`--data-only`: into a migrated database")[0])
    assert [action for action, _ in migrated.story()] == [*"IIIBG"]
    assert [key for _, key in migrated.story()[:2]] == ["1", "2"]


def test_a_single_table(shell: Shell, shop: Trail) -> None:
    shell.new = shop.database.dsn
    shell.run(*blocks("A single table")[0])
    assert shop.story()[-1] == ("G", None)


def test_a_table_taken_from_a_dump_of_everything(shell: Shell, shop: Trail) -> None:
    shell.new = shop.database.dsn
    shell.run('pg_restore --clean --table orders -d "$NEW" shop.dump')
    assert "trigger_missing" in kinds(shop)


def test_staging(shell: Shell, empty: Trail) -> None:
    shell.run(*blocks("A copy for staging")[0])
    assert findings(empty) == []


@pytest.mark.thorough
def test_upgrade_by_dump_to_a_server_without_lz4(
    old_server: Cluster, make_database: MakeDatabase, bin_dir: Path, tmp_path: Path
) -> None:
    new = Trail(make_database())
    shell = Shell(tmp_path, bin_dir, old_server.dsn(), new.database.dsn)
    shell.run(*blocks("Upgrade by dump")[0])
    assert boundaries(new)[0]["former"]["system_identifier"]
    wide, _ = new.execute(
        "select new_row ->> 'status' from audit.logged_actions order by 1 limit 2"
    )
    assert len(wide[0]) == 32 * 400
    adopted, asked = blocks("Upgrade by pg_upgrade")
    new.execute("update audit.home set system_identifier = '7'")
    shell.run(*adopted, *asked)
    assert findings(new) == []


@pytest.mark.thorough
def test_upgrade_by_pg_upgrade(cluster: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns keep their numbers and tables their OIDs, so that nothing needs the adoption to be followed."""
    older = DEBIAN / "15" / "bin"
    if not (older / "initdb").exists() or cluster.version == 15:
        pytest.skip("there is no PostgreSQL 15 to upgrade from")
    with ExitStack() as stack:
        monkeypatch.setenv("AUDIT_PG_BIN", str(cluster.bin_dir))
        new = stack.enter_context(throwaway_cluster())
        monkeypatch.setenv("AUDIT_PG_BIN", str(older))
        old = stack.enter_context(throwaway_cluster())
        before = _in_use(old)
        for server in (old, new):
            server.stop()
        upgrade = f"""
            cd {new.socket_dir} && {new.bin_dir}/pg_checksums --disable -D {new.data_dir};
            {new.bin_dir}/pg_upgrade -U postgres --no-sync -s {new.socket_dir} -b {older} -B {new.bin_dir} \
                -d {old.data_dir} -D {new.data_dir}
        """
        done = run_as(server_account(), ["/bin/bash", "-c", upgrade])
        assert done.returncode == 0, done.stdout + done.stderr
        new.start()
        with psycopg.connect(new.dsn(), autocommit=True) as connection:
            assert connection.execute(EVENTS).fetchall() == before
            connection.execute("update orders set id = 2, name = 'hidden, too'")
            # Neither the column that is hidden, nor the one that took its name.
            assert connection.execute(EVENTS).fetchall()[-1] == ("U", {"id": 2})
            address = ("--dsn", new.dsn())
            assert "trail_moved" in CliRunner().invoke(app, ["check", *address]).stdout
            Shell(Path("/"), new.bin_dir, "", new.dsn()).run(*blocks("Upgrade by pg_upgrade")[0])
            assert "trail_moved" not in CliRunner().invoke(app, ["check", *address]).stdout
            now = "select * from audit.table_at(null::notes, now())"
            assert connection.execute(now).fetchall() == [(1, "kept")]


def _in_use(server: Cluster) -> list[tuple[Any, ...]]:
    """A trail whose columns have numbers that a dump would not keep, on leaves that any server can read; its events."""
    install_trail(server.dsn())
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(TABLES)
        connection.execute(
            "alter table orders add x int; alter table orders drop x; alter table orders add name text"
        )
        for leaf, column in connection.execute(
            "select attrelid::regclass, attname from pg_attribute where attcompression = 'l'"
        ).fetchall():
            connection.execute(f'alter table {leaf} alter "{column}" set compression default')
        audit(connection, "orders", exclude=("status",))
        audit(connection, "notes")
        connection.execute(
            "insert into orders values (1, 'hidden', 'Ann'); insert into notes values (1, 'kept')"
        )
        connection.execute("""
            alter table orders rename status to other; alter table orders rename name to status;
            alter table orders rename other to name; update orders set status = 'Bea'
        """)
        return connection.execute(EVENTS).fetchall()


@pytest.mark.thorough
def test_upgrade_by_logical_replication(
    old_server: Cluster, databases: Databases, cluster: Server, bin_dir: Path, tmp_path: Path
) -> None:
    begin, switch = blocks("Upgrade by logical replication")
    name = databases.create("empty")
    shell = Shell(tmp_path, bin_dir, old_server.dsn(), cluster.dsn(name))
    try:
        with psycopg.connect(old_server.dsn(), autocommit=True) as old:
            old.execute("delete from orders where id > 2")
            shell.run(*begin)
            old.execute("insert into orders values (3, 'replicated')")
            wait_until_same(old_server.dsn(), cluster.dsn(name))
        shell.run(*switch)
        with psycopg.connect(cluster.dsn(name), autocommit=True) as new:
            new.execute("insert into orders values (4, 'switched')")
            events = new.execute("""
                select action, row_key from audit.logged_actions
                where event_id > (select max(event_id) from audit.logged_actions where row_key = '2')
                order by event_id
            """).fetchall()
        assert events[-4:] == [("I", "3"), ("B", None), ("G", None), ("I", "4")]
    finally:
        databases.drop(name)
        with psycopg.connect(old_server.dsn(), autocommit=True) as old:
            old.execute("drop publication if exists move")


def wait_until_same(old: str, new: str) -> None:
    """Until the new server has all rows and events of the old one."""
    query = "select (select count(*) from orders), (select count(*) from audit.logged_actions)"
    with (
        psycopg.connect(old, autocommit=True) as source,
        psycopg.connect(new, autocommit=True) as copy,
    ):
        for _ in range(600):
            if source.execute(query).fetchone() == copy.execute(query).fetchone():
                return
            copy.execute("select pg_sleep(0.05)")
    raise AssertionError("the new server does not follow")


def test_recovery_begins_a_timeline(old_server: Cluster, bin_dir: Path, tmp_path: Path) -> None:
    old_server.stop()
    signal = old_server.data_dir / "recovery.signal"
    signal.touch()
    owner = old_server.data_dir.stat()
    os.chown(signal, owner.st_uid, owner.st_gid)
    old_server.start()
    address = ("--dsn", old_server.dsn())
    with psycopg.connect(old_server.dsn(), autocommit=True) as connection:
        for _ in range(600):
            recovering = connection.execute("select pg_is_in_recovery()").fetchone()
            if recovering == (False,):
                break
            connection.execute("select pg_sleep(0.05)")
        assert "timeline_changed" in CliRunner().invoke(app, ["check", *address]).stdout
        shell = Shell(tmp_path, bin_dir, "", old_server.dsn())
        shell.run(*blocks("Failover, and recovery to a point in time")[0])
        [(boundary,)] = connection.execute(
            "select new_row from audit.logged_actions where action = 'B'"
        ).fetchall()
    assert (boundary["timeline"], boundary["former"]["timeline"]) == (2, 1)
    assert "OK: everything installed" in CliRunner().invoke(app, ["check", *address]).stdout


def test_every_finding_is_explained() -> None:
    source = Path(moved_trail.__file__).read_text(encoding="utf-8")
    known = {word.lower() for word in re.findall(r"FindingKind\.(\w+)", source)}
    assert known == set(re.findall(r"^\| `(\w+)` \|", TEXT, re.M))


def test_every_block_is_run() -> None:
    run = re.findall(r"blocks\(\"(.*?)\"\)", Path(__file__).read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", TEXT, re.M)
    assert {h for h in headings if blocks(h)} == set(run)
