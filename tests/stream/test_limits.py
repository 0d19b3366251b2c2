"""What servers refuse: too large a message, a full stream, one that is gone, a certificate that nobody trusts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from audit_toolkit.stream import Message, Outcome, open_sink, parse_address
from audit_toolkit.stream.sinks import nats as nats_sink
from tests.stream.delivery import message
from tests.stream.servers import certificate, mock_kafka, nats_server, redis_server

MAX_PAYLOAD = 4096
TOO_LARGE, NOT_AUTHORIZED, WRONG_FORMAT, AGAINST_A_POLICY = 10, 29, 43, 44
"""What brokers of Kafka answer."""


class TestNats:
    @pytest.fixture
    def address(self, tmp_path: Path) -> Iterator[str]:
        configuration = tmp_path / "nats.conf"
        configuration.write_text(f"max_payload: {MAX_PAYLOAD}\n")
        with nats_server(tmp_path, "-c", str(configuration)) as address:
            yield address

    def jetstream(self, address: str, verb: str, *name: str, **settings: Any) -> Any:
        """Call JetStream's management."""
        import nats

        async def call() -> Any:
            client = await nats.connect(address)
            try:
                return await getattr(client.jetstream(), verb)(*name, **settings)
            finally:
                await client.close()

        return asyncio.run(call())

    def send(self, address: str, messages: Sequence[Message]) -> Outcome:
        with closing(open_sink(parse_address(f"{address}/audit"))) as sink:
            return sink.send(messages)

    def test_headers_count_as_part_of_the_message(self, address: str) -> None:
        """The server would end the connection, and again at the next attempt."""
        self.jetstream(address, "add_stream", name="AUDIT", subjects=["audit.>"])
        with closing(open_sink(parse_address(f"{address}/audit"))) as sink:
            found = sink.send([message(1), message(2, b"x" * (MAX_PAYLOAD - 20)), message(3)])
            assert (found.done, found.refused) == (1, "larger than max_payload of the server")
            assert sink.send([message(3, b"x" * (MAX_PAYLOAD - 200))]) == Outcome(done=1)
        assert self.jetstream(address, "stream_info", "AUDIT").state.messages == 2

    def test_a_message_larger_than_its_stream_takes_is_refused_for_good(self, address: str) -> None:
        self.jetstream(address, "add_stream", name="AUDIT", subjects=["audit.>"], max_msg_size=500)
        found = self.send(address, [message(1), message(2, b"x" * 600), message(3)])
        assert found.done == 1
        assert found.refused == "larger than max_msg_size of the stream"

    def test_a_full_stream_is_tried_again(self, address: str) -> None:
        from nats.js.api import DiscardPolicy

        limits = {"max_msgs": 2, "discard": DiscardPolicy.NEW}
        self.jetstream(address, "add_stream", name="AUDIT", subjects=["audit.>"], **limits)
        some = [message(number) for number in range(1, 5)]
        found = self.send(address, some)
        assert (found.done, found.refused) == (2, None)
        assert found.error is not None
        assert "maximum messages exceeded" in found.error
        assert "raise the limits of the stream" in str(found.hint)
        self.jetstream(address, "update_stream", name="AUDIT", subjects=["audit.>"], max_msgs=10)
        assert self.send(address, some) == Outcome(done=4)
        assert self.jetstream(address, "stream_info", "AUDIT").state.messages == 4

    def test_a_stream_that_is_deleted(self, address: str) -> None:
        self.jetstream(address, "add_stream", name="AUDIT", subjects=["audit.>"])
        with closing(open_sink(parse_address(f"{address}/audit"))) as sink:
            assert sink.send([message(1)]) == Outcome(done=1)
            self.jetstream(address, "delete_stream", "AUDIT")
            found = sink.send([message(2), message(3)])
            assert (found.done, found.refused) == (0, None)
            assert "no stream of JetStream keeps the subject audit.>" in str(found.error)
            self.jetstream(address, "add_stream", name="AUDIT", subjects=["audit.>"])
            assert sink.send([message(2), message(3)]) == Outcome(done=2)

    def test_a_server_that_is_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nats_sink, "TIMEOUT", 0.3)
        with nats_server(tmp_path) as address:
            sink = open_sink(parse_address(f"{address}/audit"))
        with closing(sink):
            found = sink.send([message(1)])
        assert (found.done, found.is_unreachable) == (0, True)
        assert "was lost" in str(found.error)

    def test_events_of_one_row_go_one_after_another(self, address: str) -> None:
        """None behind the one that was not taken is in the stream."""
        self.jetstream(address, "add_stream", name="AUDIT", subjects=["audit.>"], max_msg_size=500)
        row = [message(1, key="1"), message(2, b"x" * 600, key="1"), message(3, key="1")]
        assert self.send(address, row).done == 1
        assert self.jetstream(address, "stream_info", "AUDIT").state.messages == 1


class TestKafka:
    """A broker that refuses a message is fatal for an idempotent producer, and for what goes beside it."""

    def test_what_the_broker_never_takes_is_refused(self) -> None:
        with (
            mock_kafka() as kafka,
            closing(open_sink(parse_address(f"kafka://{kafka.brokers}/t"))) as sink,
        ):
            row = [message(number, key="1") for number in (1, 2, 3)]
            kafka.answer(TOO_LARGE)  # all of them together, and none by itself
            assert sink.send(row) == Outcome(done=3)
            kafka.answer(0, TOO_LARGE)  # the second one by itself
            found = sink.send(row)
            assert (found.done, found.error) == (1, None)
            assert found.refused == "Broker: Message size too large"
            assert sink.send(row[2:]) == Outcome(done=1)
            for code in (WRONG_FORMAT, AGAINST_A_POLICY):
                kafka.answer(code)
                assert sink.send(row[2:]).refused is not None

    def test_what_else_it_says_is_the_reason(self) -> None:
        with (
            mock_kafka() as kafka,
            closing(open_sink(parse_address(f"kafka://{kafka.brokers}/t"))) as sink,
        ):
            some = [message(number) for number in range(1, 7)]
            kafka.answer(*[NOT_AUTHORIZED] * 6)
            found = sink.send(some)
            assert (found.done, found.refused) == (0, None)
            assert "Topic authorization failed" in str(found.error)
            assert "let this user write the topic" in str(found.hint)


class TestRedis:
    def test_tls(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("redis")
        key, own = certificate(tmp_path)
        options: list[str | Path] = [
            "--tls-cert-file",
            own,
            "--tls-key-file",
            key,
            "--tls-ca-cert-file",
            own,
        ]
        with redis_server(tmp_path, *options, "--tls-auth-clients", "no", tls=True) as place:
            port = place.rpartition(":")[2]

            def send(scheme: str) -> Outcome:
                address = f"{scheme}://localhost:{port}/0?stream=s"
                with closing(open_sink(parse_address(address))) as sink:
                    return sink.send([message(1)])

            found = send("rediss")
            assert "is not trusted: self-signed certificate" in str(found.error)
            assert "SSL_CERT_FILE" in str(found.hint)
            assert found.is_unreachable
            assert send("redis").error is not None
            monkeypatch.setenv("SSL_CERT_FILE", str(own))
            assert send("rediss") == Outcome(done=1)
