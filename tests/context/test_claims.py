"""What may be claimed, and who sees the claim: blocks, threads, tasks."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

import audit_toolkit
from audit_toolkit.attribution.values import MAX_BYTES
from audit_toolkit.errors import ContextError
from tests.plugins.drivers import run

NESTED: list[Any] = []
for _ in range(10):
    NESTED = [NESTED]


def test_a_block_claims_and_its_end_takes_back() -> None:
    with audit_toolkit.context(actor="user:42", reason="refund #17"):
        assert audit_toolkit.current_context() == {"actor": "user:42", "reason": "refund #17"}
    assert audit_toolkit.current_context() == {}


def test_blocks_nest() -> None:
    with audit_toolkit.context(actor="a", tenant="x"):
        with audit_toolkit.context(actor=None, reason="r", tenant="y"):
            assert audit_toolkit.current_context() == {"actor": "a", "reason": "r", "tenant": "y"}
        assert audit_toolkit.current_context() == {"actor": "a", "tenant": "x"}


def test_an_error_ends_a_block_too() -> None:
    with pytest.raises(ZeroDivisionError), audit_toolkit.context(actor="a"):
        raise ZeroDivisionError
    assert audit_toolkit.current_context() == {}


def test_set_actor_holds_to_the_end_of_the_innermost_block() -> None:
    with audit_toolkit.context(actor="a"):
        with audit_toolkit.context(reason="r"):
            audit_toolkit.set_actor("b", tenant="t")
            assert audit_toolkit.current_context() == {"actor": "b", "reason": "r", "tenant": "t"}
        assert audit_toolkit.current_context() == {"actor": "a"}


def test_set_actor_is_seen_from_a_copied_context() -> None:
    with audit_toolkit.context():
        contextvars.copy_context().run(audit_toolkit.set_actor, "a")
        assert audit_toolkit.current_context() == {"actor": "a"}


def test_set_actor_needs_a_block() -> None:
    with pytest.raises(ContextError, match="no context to set the actor in") as caught:
        audit_toolkit.set_actor("a")
    assert "with audit_toolkit.context()" in str(caught.value.hint)


def test_what_the_caller_changes_later_is_not_claimed() -> None:
    tags = ["a"]
    with audit_toolkit.context(tags=tags):
        tags.append("b")
        assert audit_toolkit.current_context() == {"tags": ["a"]}


def test_tasks_have_claims_of_their_own() -> None:
    async def task(name: str, gate: asyncio.Barrier) -> Any:
        with audit_toolkit.context(actor=name):
            await gate.wait()
            return audit_toolkit.current_context()["actor"]

    async def tasks() -> list[Any]:
        gate = asyncio.Barrier(20)
        return await asyncio.gather(*(task(str(n), gate) for n in range(20)))

    assert run(tasks()) == [str(n) for n in range(20)]


def test_threads_have_claims_of_their_own() -> None:
    gate = threading.Barrier(8)

    def work(name: str) -> Any:
        before = audit_toolkit.current_context()
        with audit_toolkit.context(actor=name):
            gate.wait()
            return before, audit_toolkit.current_context()["actor"]

    with audit_toolkit.context(actor="main"), ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, "abcdefgh"))
    assert results == [({}, name) for name in "abcdefgh"]


def test_a_block_is_for_one_with_at_a_time() -> None:
    block = audit_toolkit.context(actor="a")
    with block, pytest.raises(ContextError, match="already in use"), block:
        pass
    assert audit_toolkit.current_context() == {}
    with block:
        assert audit_toolkit.current_context() == {"actor": "a"}


def test_a_block_of_a_generator_may_end_elsewhere() -> None:
    def dependency() -> Any:
        with audit_toolkit.context(actor="a"):
            yield

    generator = dependency()
    contextvars.copy_context().run(next, generator)
    assert contextvars.copy_context().run(next, generator, "done") == "done"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('it\'s "quoted" \\ % %s $1 */ -- /* :name {}', id="sql"),
        pytest.param("\t\n\r\x01\x7f\u2028\u202e\U0001f600", id="controls"),
        pytest.param([1, -0.5, 1e300, True, None, {"a": {"b": []}}, 10**40], id="json"),
        pytest.param("x" * (MAX_BYTES - len('{"reason":""}')), id="as large as may be"),
    ],
)
def test_values_that_may_be_claimed(value: Any) -> None:
    with audit_toolkit.context(reason=value):
        assert audit_toolkit.current_context()["reason"] == value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        pytest.param("a\x00b", "NUL", id="nul"),
        pytest.param({"a\x00": 1}, "NUL", id="nul in a key"),
        pytest.param("\ud800", "lone surrogate", id="surrogate"),
        pytest.param("x" * 2_000_000, "at most 8192", id="2 MB"),
        pytest.param("\U0001f600" * 2045, "at most 8192", id="a byte too many"),
        pytest.param(float("nan"), "not valid JSON", id="nan"),
        pytest.param(10**5000, "not valid JSON", id="endless number"),
        pytest.param(uuid4(), "a UUID, which is not valid JSON", id="uuid"),
        pytest.param(b"x", "a bytes, which is not valid JSON", id="bytes"),
        pytest.param({1: "x"}, "the key 1", id="key that is no text"),
        pytest.param({"": "x"}, "the key ''", id="empty key"),
        pytest.param(NESTED, "nested more than 8", id="deep"),
    ],
)
def test_values_that_are_refused(value: Any, why: str) -> None:
    with pytest.raises(ContextError, match=why):
        audit_toolkit.context(reason=value)
    with audit_toolkit.context(actor="a"):
        with pytest.raises(ContextError, match=why):
            audit_toolkit.set_actor("b", reason=value)
        assert audit_toolkit.current_context() == {"actor": "a"}


def test_nested_blocks_together_are_not_larger_than_one_may_be() -> None:
    half = "x" * (MAX_BYTES // 2)
    with audit_toolkit.context(one=half), pytest.raises(ContextError, match="bytes long; at most"):
        audit_toolkit.context(two=half)


SECRETS = "password userPassword API-Key apikey access_key Authorization sessionToken cookies"


@pytest.mark.parametrize("key", SECRETS.split())
def test_keys_named_like_secrets_are_refused_and_values_not_shown(key: str) -> None:
    with pytest.raises(ContextError, match="the name of a secret") as caught:
        audit_toolkit.context(user={key: "hunter2"})
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "key", ["tokenizer", "key", "monkey", "author", "secretary", "order_key", "passport"]
)
def test_keys_that_only_look_like_secrets_are_fine(key: str) -> None:
    with audit_toolkit.context(**{key: 1}):
        assert json.dumps(audit_toolkit.current_context()) == f'{{"{key}": 1}}'
