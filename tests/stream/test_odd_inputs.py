"""What a stranger types: odd addresses, places that are none, sinks that misbehave. Never a traceback."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from audit_toolkit import stream
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.stream import Outcome, Terms, open_sink, parse_address
from audit_toolkit.stream.sinks.function import FunctionSink
from tests.plugins.command import Audit
from tests.plugins.trail import Trail
from tests.stream.delivery import deliver, insert

ONCE = ("--once", "--give-up-after", "0.1")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("https://[::1/hook", "'https://[::1/hook' is not a valid address"),
        ("https://host:port/hook", "is not a valid address"),
        ("nats://host:99999/audit", "is not a valid address"),
        ("redis://host:-1/0?stream=a", "is not a valid address"),
        ("nats://host/audit#x", "has a #"),
        ("redis://host/0?stream=a#b", "has a #"),
        ("file:events.jsonl?rotat=5", "knows no option rotat"),
        ("file:events.jsonl?rotate=²", "not a number of bytes"),
        ("nats://host/audit?stream=x", "knows no option stream"),
        ("python:tests.stream.odd:take?x=1", "knows no option x"),
        ("redis://host/0?stream=a&maxlen=²", "maxlen"),
        ("python:os:sep", "is not a function"),
        ("python:tests.stream.test_odd_inputs:Unmade", "cannot be made: no key"),
    ],
)
def test_addresses_that_are_none(address: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_sink(parse_address(address))
    assert message in str(refused.value)


def test_a_column_that_no_table_has(orders: Trail, audit: Audit, tmp_path: Path) -> None:
    to = f"file:{tmp_path / 'out.jsonl'}"
    misspelt = audit("stream", "run", "a", "--to", to, "--once", "--changed", "w")
    assert "note: no table that is captured has a column w" in misspelt.stderr
    right = audit("stream", "run", "b", "--to", to, "--once", "--changed", "v", "--table", "orders")
    assert "has a column" not in right.stderr


class Unmade:
    def __init__(self) -> None:
        raise KeyError("no key")


def test_a_module_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_sink.py").write_text("raise RuntimeError('no licence')\n")
    with pytest.raises(UsageError, match="cannot be imported: no licence"):
        open_sink(parse_address("python:broken_sink:take"))


@pytest.mark.parametrize("name", ["a b.jsonl", "a#b.jsonl", "ä%25.jsonl", "a'\"b.jsonl"])
def test_files_with_odd_names(orders: Trail, audit: Audit, tmp_path: Path, name: str) -> None:
    insert(orders, 1)
    assert audit("stream", "run", "c", "--to", f"file:{name}", *ONCE).exit_code == 0
    assert (tmp_path / name.replace("%25", "%")).read_text().count("\n") == 1


@pytest.mark.parametrize("name", ['it\'s "c"; drop', "-- c", "line\nbreak", "é😀", "x" * 300])
def test_consumers_with_odd_names(orders: Trail, audit: Audit, name: str) -> None:
    insert(orders, 1)
    end = ("--to", "file:out.jsonl", *ONCE)
    ran = audit("stream", "run", *end, "--", name)
    assert ran.exit_code == 0, ran.output
    assert [consumer.name for consumer in stream.read_consumers(orders.connection)] == [name]
    for words in (["list"], ["lag"], ["lag", "--format", "prometheus"]):
        shown = audit("stream", *words)
        assert shown.exit_code == 0
        assert "line\nbreak" not in shown.stdout
    assert audit("stream", "reset", "--to", "beginning", "--", name).exit_code == 0
    assert audit("stream", "drop", "--", name).exit_code == 0


@pytest.mark.parametrize("name", ["", " "])
def test_a_consumer_without_a_name(orders: Trail, audit: Audit, name: str) -> None:
    ran = audit("stream", "run", name, "--to", "file:out.jsonl", *ONCE)
    assert ran.exit_code == 2
    assert "a consumer needs a name" in ran.stderr


@pytest.mark.parametrize("where", ["²", "99999999999999999999", "999999", "-1", "soon"])
@pytest.mark.parametrize("command", ["run", "reset"])
def test_places_that_are_none(orders: Trail, audit: Audit, where: str, command: str) -> None:
    """The place of an event that was not yet captured would step over those that come."""
    insert(orders, 1)
    run = ("stream", "run", "c", "--to", "file:out.jsonl", *ONCE)
    if command == "reset":
        assert audit(*run).exit_code == 0
        ran = audit("stream", "reset", "c", f"--to={where}")
    else:
        ran = audit(*run, f"--from={where}")
    assert ran.exit_code == 2, ran.output
    assert ran.stderr.startswith("error: ")


@pytest.mark.parametrize("place", ["/dev/full", "/dev/null", "fifo", "folder"])
def test_what_is_no_file(orders: Trail, audit: Audit, tmp_path: Path, place: str) -> None:
    insert(orders, 1)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    ran = audit("stream", "run", "c", "--to", f"file:{place}", *ONCE)
    assert ran.exit_code == 2
    assert "cannot be written: it is not a regular file" in ran.stderr
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


@pytest.mark.parametrize("said", [True, 1, "ok", Outcome(done=3), Outcome(done=-1)])
def test_a_function_that_says_what_cannot_be(orders: Trail, said: object) -> None:
    """Nothing counts as delivered by an answer that makes no sense."""
    insert(orders, 1, 2)
    sink = FunctionSink(lambda _: said)  # type: ignore[arg-type,return-value]
    with pytest.raises(AuditError, match="the function returned"):
        deliver(orders, sink, terms=Terms(patience=0.1))
    [consumer] = stream.read_consumers(orders.connection)
    assert consumer.delivered == 0


@pytest.mark.parametrize("seconds", ["nan", "-1"])
def test_patience_that_is_none(audit: Audit, seconds: str) -> None:
    ran = audit("stream", "run", "c", "--to", "file:o", "--once", f"--give-up-after={seconds}")
    assert ran.exit_code == 2


@pytest.mark.parametrize("terms", [{"batch": 0}, {"batch": -1}, {"tries": 0}])
def test_numbers_that_would_deliver_nothing(terms: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Terms(**terms)  # type: ignore[arg-type]
