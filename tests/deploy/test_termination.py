"""SIGTERM, by which systemd and Kubernetes end a worker: it ends in order, as by Ctrl-C, also as process 1."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from audit_toolkit.cli.app import app
from audit_toolkit.cli.exits import unwound_by_sigterm
from audit_toolkit.seals import new_key, write_key
from tests.plugins.trail import Trail

AUDIT = [sys.executable, "-m", "audit_toolkit"]


def test_a_worker_ends_in_order(trail: Trail, tmp_path: Path) -> None:
    """Without a handler process 1 of a container would not get the signal: that it exits with 0 shows one."""
    key = tmp_path / "seal.key"
    write_key(key, new_key("example.com/shop"))
    command = [*AUDIT, "seal", "--key", str(key), "--every", "1 hour", "--dsn", trail.database.dsn]
    with subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=-1, text=True) as worker:
        assert worker.stdout
        assert worker.stderr
        try:
            assert (
                worker.stdout.readline()
                == "nothing to seal: the trail has no events that are certain\n"
            )
            worker.terminate()
            assert (worker.wait(), worker.stderr.read()) == (0, "")
        finally:
            worker.kill()


def test_what_is_interrupted_dies_of_the_signal_when_all_is_undone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undone: list[str] = []

    def interrupted(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            undone.append("yes")

    def as_process_1(number: int) -> None:
        """The kernel gives process 1 no signal that it does not handle."""
        assert signal.getsignal(number) is signal.SIG_DFL
        undone.append("raised")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("audit_toolkit.cli.status.open_database", interrupted)
    raise_signal = signal.raise_signal
    monkeypatch.setattr(
        "audit_toolkit.cli.exits.signal.raise_signal",
        lambda number: as_process_1(number) if undone else raise_signal(number),
    )
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as ended, unwound_by_sigterm():
            app(["status"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 128 + signal.SIGTERM
    assert undone == ["yes", "raised"]
    assert capsys.readouterr() == ("", "")
