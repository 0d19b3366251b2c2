"""Each sink against a real server: everything arrives in order, and what fails is tried again or refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from audit_toolkit import stream
from audit_toolkit.errors import ConnectError, UsageError
from audit_toolkit.stream import FormatName, Terms, open_sink, parse_address
from audit_toolkit.stream.run import find_origin
from audit_toolkit.stream.sinks import webhook
from audit_toolkit.stream.sinks.base import GROUP
from tests.plugins.command import Audit
from tests.plugins.trail import Trail
from tests.stream.delivery import Memory, deliver, message
from tests.stream.servers import (
    Receiver,
    Request,
    dripping_tls,
    http_server,
    nats_server,
    redis_server,
    tls_server,
)


def story(trail: Trail) -> None:
    trail.execute("insert into orders select n, 0 from generate_series(1, 30) n")
    trail.execute("update orders set v = 1")
    trail.execute("update orders set v = 2 where id < 5")


def send(trail: Trail, address: str, **more: Any) -> None:
    with closing(open_sink(parse_address(address))) as sink:
        deliver(trail, sink, **more)


def keys(bodies: list[Any]) -> list[tuple[str, str]]:
    return [(event["action"], event["row_key"]) for event in map(json.loads, bodies)]


@pytest.fixture(scope="module")
def nats_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as address:
        yield address


@pytest.fixture(scope="module")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as address:
        yield address


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    kafka = pytest.importorskip("confluent_kafka")
    producer = kafka.Producer({"test.mock.num.brokers": 3, "bootstrap.servers": "mock"})
    found = producer.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in found)
    producer.flush(1)


class TestFile:
    def test_lines_and_new_files(self, orders: Trail, tmp_path: Path) -> None:
        story(orders)
        file = tmp_path / "out.jsonl"
        send(orders, f"file:{file}?rotate=4000", terms=Terms(batch=10))
        files = sorted(tmp_path.glob("out.*.jsonl"))
        assert len(files) > 2
        lines = [line for each in (*files, file) for line in each.read_text().splitlines()]
        assert keys(lines) == orders.story()

    def test_half_a_line_of_a_crash_is_taken_away(self, orders: Trail, tmp_path: Path) -> None:
        file = tmp_path / "out.jsonl"
        file.write_text('{"event_id": 1}\n{"event_id": 2, "half')
        story(orders)
        send(orders, f"file:{file}")
        lines = file.read_text().splitlines()
        assert [json.loads(line)["event_id"] for line in lines[:2]] == [1, 1]

    def test_a_file_that_others_rotate_or_remove(self, orders: Trail, tmp_path: Path) -> None:
        story(orders)
        memory = Memory()
        deliver(orders, memory, "m")
        file, away = tmp_path / "out.jsonl", tmp_path / "out.jsonl.1"
        with closing(open_sink(parse_address(f"file:{file}"))) as sink:
            sink.send(memory.taken[:3])
            file.rename(away)
            sink.send(memory.taken[3:5])
            assert file.read_bytes().count(b"\n") == 2
            file.unlink()
            sink.send(memory.taken[5:6])
            os.truncate(file, 0)  # as logrotate's copytruncate
            sink.send(memory.taken[6:8])
        assert away.read_bytes().count(b"\n") == 3
        assert file.read_bytes() == b"".join(m.body + b"\n" for m in memory.taken[6:8])

    @pytest.mark.parametrize("becomes_a_file", [False, True])
    def test_a_directory_that_has_gone_for_now(self, tmp_path: Path, becomes_a_file: bool) -> None:
        place = tmp_path / "mounted"
        place.mkdir()
        with closing(open_sink(parse_address(f"file:{place}/events.jsonl"))) as sink:
            assert sink.send([message(1)]).done == 1
            shutil.rmtree(place)
            if becomes_a_file:
                place.touch()
            for _ in range(2):
                outcome = sink.send([message(2)])
                assert (outcome.done, outcome.refused) == (0, None)
                assert "cannot be written" in str(outcome.error)
            if becomes_a_file:
                place.unlink()
            place.mkdir()
            assert sink.send([message(2)]).done == 1
        assert (place / "events.jsonl").read_text() == "{}\n"

    def test_a_disk_that_is_full(self, orders: Trail, tmp_path: Path) -> None:
        story(orders)
        memory = Memory()
        deliver(orders, memory, "m")
        file = tmp_path / "out.jsonl"
        first, rest = memory.taken[:1], memory.taken[1:9]
        former = resource.getrlimit(resource.RLIMIT_FSIZE)
        with closing(open_sink(parse_address(f"file:{file}"))) as sink:
            sink.send(first)
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 100, former[1]))
                outcome = sink.send(rest)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, former)
            assert (outcome.done, outcome.hint) == (0, "free or add disk space")
            assert file.read_bytes() == first[0].body + b"\n"
            assert sink.send(rest).done == len(rest)
        assert file.read_bytes() == b"".join(m.body + b"\n" for m in (*first, *rest))


class TestFunction:
    def test_a_function_and_a_class(
        self, orders: Trail, tmp_path: Path, audit: Audit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "own_sink.py").write_text(
            "seen = []\n"
            "def take(messages):\n    seen.extend(messages)\n"
            "class Once:\n"
            "    failed = False\n"
            "    def __call__(self, messages):\n"
            "        if not self.failed:\n            self.failed = True\n            raise ValueError('not yet')\n"
            "        take(messages)\n"
        )
        story(orders)
        assert audit("stream", "run", "a", "--to", "python:own_sink:take", "--once").exit_code == 0
        ran = audit("stream", "run", "b", "--to", "python:own_sink:Once", "--once")
        assert "ValueError: not yet" in ran.stderr
        import own_sink  # type: ignore[import-not-found]

        assert keys([m.body for m in own_sink.seen]) == orders.story() * 2

    def test_a_sink_of_another_package(
        self, orders: Trail, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from audit_toolkit.stream.sinks import base

        sink = Memory()

        class Entry:
            def load(self) -> Any:
                return lambda address: sink if address.path == "/there" else None

        def found(*, group: str, name: str) -> list[Entry]:
            return [Entry()] if (group, name) == (GROUP, "own") else []

        monkeypatch.setattr(base, "entry_points", found)
        story(orders)
        send(orders, "own:///there")
        assert sink.rows == orders.story()


SECRET = b"s" * 32


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_server() as made:
        yield made


class TestWebhook:
    def test_signed_as_in_standard_webhooks(
        self, orders: Trail, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = base64.b64encode(b"o" * 24).decode()
        monkeypatch.setenv(
            "AUDIT_STREAM_SECRET", f"whsec_{base64.b64encode(SECRET).decode()} whsec_{old}"
        )
        story(orders)
        send(orders, receiver.url)
        assert keys([r.body for r in receiver.taken]) == orders.story()
        assert len({r.headers["webhook-id"] for r in receiver.taken}) == len(receiver.taken)
        first = receiver.taken[0]
        signed = f"{first.headers['webhook-id']}.{first.headers['webhook-timestamp']}.".encode()
        digest = hmac.new(SECRET, signed + first.body, hashlib.sha256).digest()
        signatures = first.headers["webhook-signature"].split(" ")
        assert signatures[0] == "v1," + base64.b64encode(digest).decode()
        assert len(signatures) == 2

    @pytest.mark.parametrize(
        "answer", [500, 503, 404, 410, 429, 408, 301, 302, 307, "drop", "half", "not HTTP"]
    )
    def test_what_may_pass_is_tried_again(
        self, orders: Trail, receiver: Receiver, answer: int | str
    ) -> None:
        failures = [answer, answer]

        def judge(request: Request) -> int | str:
            is_second = json.loads(request.body)["event_id"] == 2
            return failures.pop() if is_second and failures else 200

        receiver.answer = judge
        orders.execute("insert into orders values (1, 0), (2, 0), (3, 0)")
        send(orders, receiver.url)
        assert keys([r.body for r in receiver.taken]) == orders.story()
        assert len(receiver.requests) == 5
        assert stream.read_letters(orders.connection, "c") == []

    @pytest.mark.parametrize("answer", [400, 413, 422])
    def test_what_is_refused_for_good_is_a_dead_letter(
        self, orders: Trail, receiver: Receiver, answer: int
    ) -> None:
        receiver.answer = lambda r: answer if json.loads(r.body)["event_id"] == 2 else 200
        orders.execute("insert into orders values (1, 0), (2, 0), (3, 0)")
        send(orders, receiver.url, terms=Terms(tries=2))
        assert [key for _, key in keys([r.body for r in receiver.taken])] == ["1", "3"]
        [letter] = stream.read_letters(orders.connection, "c")
        assert (letter.event_id, letter.tries) == (2, 2)
        assert letter.reason.startswith(f"HTTP {answer}")

    @pytest.mark.parametrize(
        ("answer", "seconds"),
        [
            ("7", 7),
            ("", 0.2),
            ("soon", 0.2),
            ("-1", 0.2),
            ("999999", 3600),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0.2),
        ],
    )
    def test_a_receiver_that_wants_to_be_left_alone(
        self, orders: Trail, receiver: Receiver, answer: str, seconds: float
    ) -> None:
        answers = [429]
        receiver.answer = lambda _: answers.pop() if answers else 200
        receiver.headers = {"Retry-After": answer}
        orders.execute("insert into orders values (1, 0)")
        slept: list[float] = []
        with (
            orders.database.connect() as connection,
            closing(open_sink(parse_address(receiver.url))) as sink,
        ):
            form = stream.find_format(FormatName.EVENT, find_origin(connection))
            steps = stream.run(connection, "c", sink, form, Terms(once=True), sleep=slept.append)
            assert sum(step.delivered for step in steps) == 1
        assert slept == [seconds]

    @pytest.mark.parametrize("zone", ["", "-0000", "GMT"])
    def test_a_date_is_in_utc(self, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
        """Not in the time zone of this machine, where it names none."""
        with monkeypatch.context() as there:
            there.setenv("TZ", "America/New_York")
            time.tzset()
            moment = datetime.now(UTC) + timedelta(hours=1)
            assert 0 < webhook.wait(f"{moment:%a, %d %b %Y %H:%M:%S} {zone}".strip()) <= 3600
        time.tzset()

    @pytest.mark.parametrize("answer", ["endless", "half a body"])
    def test_an_odd_body(self, orders: Trail, receiver: Receiver, answer: str) -> None:
        """The status has said all; its body is not waited for, and not kept."""
        receiver.answer = lambda _: answer
        orders.execute("insert into orders values (1, 0), (2, 0)")
        send(orders, receiver.url)
        assert keys([r.body for r in receiver.requests]) == orders.story()

    def test_headers_without_end(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        receiver.answer = lambda _: "drip"
        monkeypatch.setattr(webhook, "DEADLINE", 0.1)
        with closing(open_sink(parse_address(receiver.url))) as sink:
            assert "did not answer in time" in (sink.send([message(1)]).error or "")
            receiver.answer = lambda _: 204
            monkeypatch.undo()
            assert sink.send([message(1)]) == stream.Outcome(done=1)

    def test_a_handshake_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(webhook, "DEADLINE", 0.1)
        with dripping_tls() as (address, sent):
            with closing(open_sink(parse_address(address))) as sink:
                assert "did not answer in time" in (sink.send([message(1)]).error or "")
            assert len(sent) < 200

    def test_cloudevents_in_headers(self, orders: Trail, receiver: Receiver) -> None:
        orders.execute("insert into orders values (1, 0)")
        send(orders, receiver.url, body=FormatName.CLOUDEVENTS_BINARY)
        assert receiver.taken[0].headers["ce-type"] == "audit.inserted"

    def test_a_secret_that_is_none(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for secret in ("whsec_short", "not base64!", "whsec_" + "A" * 400, "whsec_é"):
            monkeypatch.setenv("AUDIT_STREAM_SECRET", secret)
            with pytest.raises(UsageError, match="not a Standard Webhooks secret"):
                open_sink(parse_address(receiver.url))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("SSL_CERT_FILE", "/nowhere.pem"),
            ("SSL_CERT_FILE", __file__),
            ("HTTPS_PROXY", "ftp://127.0.0.1"),
            ("SSLKEYLOGFILE", "/nowhere/keys"),
        ],
    )
    def test_settings_that_are_none(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(UsageError, match="settings of the environment"):
            open_sink(parse_address("https://127.0.0.1:1/"))


class TestNats:
    def test_everything_arrives_once(self, orders: Trail, nats_address: str) -> None:
        import nats

        async def received() -> list[Any]:
            client = await nats.connect(nats_address)
            context = client.jetstream()
            subscription = await context.pull_subscribe("audit.>", "reader", stream="AUDIT")
            found: list[Any] = []
            info = await subscription.consumer_info()
            while len(found) < (info.num_pending or 0):
                found += await subscription.fetch(100, timeout=10)
            await client.close()
            return found

        async def prepare() -> None:
            client = await nats.connect(nats_address)
            await client.jetstream().add_stream(
                name="AUDIT", subjects=["audit.>"], max_msg_size=100_000
            )
            await client.close()

        asyncio.run(prepare())
        story(orders)
        send(orders, f"{nats_address}/audit")
        stream.reset(orders.connection, "c", 0)
        send(orders, f"{nats_address}/audit")
        found = asyncio.run(received())
        assert keys([m.data for m in found]) == orders.story()
        assert found[0].subject == "audit.public.orders.inserted"

    def test_no_stream_and_no_server(self, orders: Trail, nats_address: str) -> None:
        orders.execute("insert into orders values (1, 0)")
        with (
            closing(open_sink(parse_address(f"{nats_address}/nowhere"))) as sink,
            orders.database.connect() as connection,
        ):
            form = stream.find_format(FormatName.EVENT, stream.Origin(database="d"))
            steps = stream.run(connection, "c", sink, form)
            step = next(step for step in steps if step.error)
            assert step.error is not None
            assert "no stream of JetStream" in step.error
            steps.close()
        with pytest.raises(ConnectError, match="cannot connect to NATS"):
            open_sink(parse_address("nats://user:secret@127.0.0.1:1/audit"))


class TestRedis:
    def test_everything_arrives(self, orders: Trail, redis_address: str) -> None:
        import redis

        story(orders)
        send(orders, f"redis://{redis_address}/0?stream=audit")
        host, _, port = redis_address.partition(":")
        with redis.Redis(host=host, port=int(port)) as client:
            entries: Any = client.xrange("audit")
            assert keys([fields[b"body"] for _, fields in entries]) == orders.story()
            assert entries[0][1][b"key"] == b"public.orders:1"

    def test_no_server(self, orders: Trail) -> None:
        pytest.importorskip("redis")
        orders.execute("insert into orders values (1, 0)")
        with closing(open_sink(parse_address("redis://127.0.0.1:1/0?stream=audit"))) as sink:
            outcome = sink.send([])
            assert (outcome.done, outcome.error) == (0, None)


class TestKafka:
    """Against librdkafka's mock cluster, which speaks the protocol; no broker is at hand."""

    def test_everything_arrives_in_order_per_row(self, orders: Trail, brokers: str) -> None:
        from confluent_kafka import Consumer

        story(orders)
        send(orders, f"kafka://{brokers}/audit")
        consumer = Consumer(
            {"bootstrap.servers": brokers, "group.id": "g", "auto.offset.reset": "earliest"}
        )
        consumer.subscribe(["audit"])
        found: list[Any] = []
        while len(found) < len(orders.story()):
            message = consumer.poll(30)
            assert message is not None
            assert message.error() is None
            found.append(message)
        consumer.close()
        arrived: dict[str, list[tuple[str, str]]] = {}
        for message in found:
            (event,) = keys([message.value()])
            arrived.setdefault(event[1], []).append(event)
            assert message.key() == f"public.orders:{event[1]}".encode()
        expected: dict[str, list[tuple[str, str | None]]] = {}
        for action, key in orders.story():
            expected.setdefault(str(key), []).append((action, key))
        assert arrived == expected

    def test_too_large(self, orders: Trail, brokers: str) -> None:
        orders.execute("alter table orders add note text")
        orders.execute("insert into orders values (1, 0, repeat('x', 5000)), (2, 0, '')")
        send(orders, f"kafka://{brokers}/large?message.max.bytes=2000", terms=Terms(tries=1))
        [letter] = stream.read_letters(orders.connection, "c")
        assert (letter.row_key, "too large" in letter.reason) == ("1", True)
        assert stream.find_consumer(orders.connection, "c").delivered == 1


class TestNoReceiver:
    """What is wrong with a sink is said in plain words, with what to do; --once comes to an end."""

    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for sink in ("nats", "kafka"):
            monkeypatch.setattr(f"audit_toolkit.stream.sinks.{sink}.PATIENCE", 0.5)

    def test_once_ends_and_says_why(self, orders: Trail, audit: Audit) -> None:
        orders.execute("insert into orders values (1, 0)")
        for address, code, reason, hint in (
            (
                "http://127.0.0.1:1/",
                4,
                "cannot connect to 127.0.0.1:1: connection refused",
                "running",
            ),
            (
                "https://no-such-host.invalid/",
                4,
                "the name of no-such-host.invalid cannot be",
                "DNS",
            ),
            (
                "redis://127.0.0.1:1/0?stream=a",
                4,
                "cannot connect to Redis at 127.0.0.1:1",
                "running",
            ),
            (
                "redis://no-such-host.invalid/0?stream=a",
                4,
                "the name of Redis at no-such-host",
                "DNS",
            ),
            ("nats://127.0.0.1:1/a", 4, "cannot connect to NATS at 127.0.0.1:1", "running"),
            ("nats://no-such-host.invalid/a", 4, "the name of NATS at no-such-host.invalid", "DNS"),
            ("kafka://127.0.0.1:1/a", 4, "Kafka at 127.0.0.1:1, topic a: ", "running"),
            (
                "kafka://no-such-host.invalid/a",
                4,
                "Kafka at no-such-host.invalid, topic a: ",
                "DNS",
            ),
            ("python:json:no_such_thing", 2, "cannot be imported", ""),
            (
                "python:json:loads",
                1,
                "the sink took nothing for 0.3 seconds: TypeError",
                "fix the",
            ),
        ):
            command = ["stream", "run", "c", "--to", address, "--once", "--give-up-after", "0.3"]
            ran = audit(*command, code=code)
            assert reason in ran.stderr, address
            assert hint in ran.stderr, address
        assert stream.find_consumer(orders.connection, "c").event_id == 0

    def test_patience_begins_anew_with_each_message(self, orders: Trail) -> None:
        orders.execute("insert into orders select n, 0 from generate_series(1, 5) n")
        failed: list[int] = []

        def judge(message: stream.Message) -> str | None:
            if failed.count(message.event.event_id) < 2:
                failed.append(message.event.event_id)
                return "error later"
            return None

        sink = Memory(judge)
        deliver(orders, sink, terms=Terms(patience=1))
        assert sink.ids == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("answer", [401, 403, 407])
    def test_a_login_that_is_refused_puts_nothing_aside(
        self, orders: Trail, receiver: Receiver, audit: Audit, answer: int
    ) -> None:
        receiver.answer = lambda _: answer
        orders.execute("insert into orders values (1, 0)")
        command = ["stream", "run", "c", "--to", receiver.url, "--once", "--give-up-after", "0"]
        ran = audit(*command, code=1)
        assert f"answered HTTP {answer}" in ran.stderr
        assert "AUDIT_STREAM_SECRET" in ran.stderr
        assert stream.read_letters(orders.connection, "c") == []

    def test_tls_that_fails(
        self, orders: Trail, receiver: Receiver, audit: Audit, tmp_path: Path
    ) -> None:
        orders.execute("insert into orders values (1, 0)")
        run = ["stream", "run", "c", "--once", "--give-up-after", "0", "--to"]
        plain = receiver.url.replace("http:", "https:")
        assert "no TLS with 127.0.0.1" in audit(*run, plain, code=4).stderr
        with tls_server(tmp_path) as address:
            ran = audit(*run, address, code=4)
            assert "is not trusted: self-signed certificate" in ran.stderr
            assert "SSL_CERT_FILE" in ran.stderr

    def test_redis_that_refuses(self, orders: Trail, redis_address: str, audit: Audit) -> None:
        import redis

        host, _, port = redis_address.partition(":")
        orders.execute("insert into orders values (1, 0)")
        run = ["stream", "run", "c", "--once", "--give-up-after", "0", "--to"]
        with redis.Redis(host=host, port=int(port)) as client:

            def refused(
                address: str = f"redis://{redis_address}/0?stream=s", *, code: int = 1
            ) -> str:
                return audit(*run, address, code=code).stderr

            client.set("taken", 1)
            assert "name another key" in refused(f"redis://{redis_address}/0?stream=taken")
            client.config_set("maxmemory", 1)
            assert "raise maxmemory" in refused()
            assert "XADD" not in refused()  # with the values of the event
            client.config_set("maxmemory", 0)
            client.replicaof("127.0.0.1", "1")
            assert "name the primary" in refused()
            client.replicaof("NO", "ONE")
            client.config_set("requirepass", "right")
            client.execute_command("AUTH", "right")
            assert "put the password into the address" in refused()
            wrong = f"redis://:wrong@{redis_address}/0?stream=s"
            assert "check the user and password" in refused(wrong)
            client.execute_command(
                "ACL", "SETUSER", "poor", "on", ">poor", "+ping", "+multi", "+exec"
            )
            assert "let this user write" in refused(f"redis://poor:poor@{redis_address}/0?stream=s")
            right = f"redis://:right@{redis_address}/0?stream=s"
            assert "1 event delivered" in refused(right, code=0)

    def test_nats_without_jetstream_and_with_another_login(
        self, orders: Trail, audit: Audit, tmp_path: Path
    ) -> None:
        orders.execute("insert into orders values (1, 0)")
        run = ["stream", "run", "c", "--once", "--give-up-after", "0", "--to"]
        with nats_server(tmp_path, "--user", "u", "--pass", "right", jetstream=False) as address:
            place = address.removeprefix("nats://")
            right = audit(*run, f"nats://u:right@{place}/a", code=1)
            assert "has no JetStream" in right.stderr
            assert "nats-server -js" in right.stderr
            wrong = audit(*run, f"nats://u:wrong@{place}/a", code=4)
            assert "refused the login" in wrong.stderr
            assert "wrong" not in wrong.stderr

    def test_what_kafka_says(self, brokers: str) -> None:
        from confluent_kafka import KafkaError

        from audit_toolkit.stream.sinks.kafka import KafkaSink

        sink = open_sink(parse_address(f"kafka://{brokers}/audit"))
        assert isinstance(sink, KafkaSink)
        with closing(sink):
            for code, hint in (
                (KafkaError.UNKNOWN_TOPIC_OR_PART, "kafka-topics --create --topic audit"),
                (KafkaError._UNKNOWN_TOPIC, "kafka-topics --create --topic audit"),
                (KafkaError._AUTHENTICATION, "sasl.username"),
                (KafkaError._SSL, "security.protocol"),
                (KafkaError.TOPIC_AUTHORIZATION_FAILED, "let this user write the topic"),
            ):
                outcome = sink.failed(KafkaError(code))
                assert hint in str(outcome.hint)
                assert f"Kafka at {brokers}, topic audit" in str(outcome.error)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nats://127.0.0.1:4222", "no server and subject"),
        ("redis://127.0.0.1:6379/0", "no server and stream"),
        ("redis://127.0.0.1:6379/0?stream=a&maxlen=x", "not a number of entries"),
        ("kafka://127.0.0.1:9092", "no broker and topic"),
        ("kafka://127.0.0.1:9092/t?no.such.setting=1", "does not take these settings"),
        ("file:out.jsonl?rotate=much", "not a number of bytes"),
        (f"file:/tmp/{'n' * 300}", "cannot be written: File name too long"),
        ("file:a%00b", "names no file"),
        ("https://a..b/", "address of the webhook is not valid"),
        ("https://xn--/", "address of the webhook is not valid"),
        (f"https://{'a' * 64}.example/", "address of the webhook is not valid"),
        ("https://127.0.0.1/\0", "address of the webhook is not valid"),
    ],
)
def test_addresses_that_lack_something(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_sink(parse_address(address))


def test_no_password_is_shown() -> None:
    for address in (
        "nats://u:secret@h:4222/audit",
        "redis://:secret@h/0?stream=a",
        "kafka://h/t?sasl.password=secret",
    ):
        assert "secret" not in parse_address(address).shown
