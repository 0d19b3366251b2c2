"""`audit ui` and `audit demo --ui`: the page on this machine, until somebody ends it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.plugins.command import Audit
from tests.plugins.trail import Trail

# A program that was started in the background of a shell ignores Ctrl-C, and so would its children.
_INTERRUPTIBLE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("audit_toolkit", run_name="__main__")
"""
AUDIT = [sys.executable, "-c", _INTERRUPTIBLE]


@contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that does not outlive the test, however that ends."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_serves_until_it_is_interrupted(trail: Trail, tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text('[page]\ntitle = "Acme"\nlanguage = "de"\n')
    command = [*AUDIT, "ui", "--port", "0", "--dsn", trail.database.dsn]
    with started(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = ""
        while "Ctrl-C" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        assert "warning: the role postgres can change the trail" in said
        [url] = re.findall(r"http://127\.0\.0\.1:\d+/", said)
        with urlopen(url) as answer:  # noqa: S310 - a URL of ours
            page = answer.read().decode()
        assert "<title>Acme</title>" in page
        assert "Noch ist nichts aufgezeichnet" in page
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])  # noqa: S104
def test_it_listens_on_this_machine_only(audit: Audit, host: str) -> None:
    done = audit("ui", "--host", host)
    assert done.exit_code == 2
    assert "can be reached from other machines" in done.stderr
    assert "authorize" in done.stderr


def test_wrong_questions(audit: Audit, trail: Trail, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = audit("ui", "--port", str(taken.getsockname()[1]))
    assert done.exit_code == 2
    assert "--port 0" in done.stderr
    assert audit("ui", "--timeout", "0").exit_code == 2
    assert audit("ui", "--audit-schema", "nope").exit_code == 2
    assert audit("ui", "--dsn", "postgresql://postgres@127.0.0.1:1/none").exit_code == 4
    (tmp_path / "audit.toml").write_text('[page]\nlangage = "de"\n')
    done = audit("ui")
    assert done.exit_code == 2
    assert "audit.toml: page: there is no option 'langage'" in done.stderr


@pytest.mark.thorough
def test_the_demo_shows_it() -> None:
    command = [*AUDIT, "demo", "--ui"]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        said = ""
        while "(press Ctrl-C to stop)" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        [url] = re.findall(r"http://127\.0\.0\.1:\d+/", said)
        with urlopen(f"{url}row?table=orders&key=1") as answer:  # noqa: S310
            assert "ticket 4711" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert "are gone again" in process.stdout.read()
