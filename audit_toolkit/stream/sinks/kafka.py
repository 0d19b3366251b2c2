"""Kafka: `kafka://broker:9092[,broker…]/TOPIC`, with the idempotent producer; the key is that of the row.

All events of a row are in one partition, in their order. More settings of librdkafka as options of the address:
`?security.protocol=SASL_SSL&sasl.username=…`, or in a file, `?config=/etc/audit/kafka.properties`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_toolkit.errors import ConnectError, UsageError
from audit_toolkit.stream.messages import Message, Outcome
from audit_toolkit.stream.sinks.base import Address, require

if TYPE_CHECKING:
    from confluent_kafka import Producer

PATIENCE = 10.0
"""Seconds for the first answer of a broker."""
TIMEOUT = 30.0
"""Seconds for the confirmations of a batch."""


class KafkaSink:
    """Produces messages, and waits for the confirmations of all."""

    def __init__(self, settings: dict[str, Any], topic: str) -> None:
        self._noted: Any = None
        """The last error that was about no message: mostly the reason why messages time out."""
        self._settings = {**settings, "error_cb": self._note}
        self._topic = topic
        self._where = f"Kafka at {settings['bootstrap.servers']}"
        self._producer = self._new_producer()

    def send(self, messages: Sequence[Message]) -> Outcome:
        """Produce the messages one behind another, then wait until all replicas have them."""
        from confluent_kafka import KafkaException

        confirmed: dict[int, Any] = {}
        outcome = Outcome(done=len(messages))
        sent = 0
        for place, message in enumerate(messages):
            headers = {
                **message.headers,
                "id": message.id,
                "topic": message.topic,
                "content-type": message.content_type,
            }
            try:
                self._producer.produce(
                    self._topic,
                    message.body,
                    message.key.encode(),
                    headers={name: value.encode() for name, value in headers.items()},
                    on_delivery=partial(_confirm, confirmed, place),
                )
            except (KafkaException, BufferError) as error:
                outcome = self._refusal(place, error)
                break
            sent += 1
            self._producer.poll(0)
        self._producer.flush(TIMEOUT)
        for place in range(sent):
            failure = confirmed.get(place, "Kafka did not confirm in time")
            if failure is not None:
                return self._failed(place, failure)
        return outcome

    def require_reachable(self) -> None:
        """Raise `ConnectError` where no broker answers."""
        from confluent_kafka import KafkaException

        try:
            self._producer.list_topics(self._topic, timeout=PATIENCE)
        except KafkaException as error:
            self._producer.poll(0)
            reason, hint = self._explained(error)
            raise ConnectError(reason, hint=hint) from error

    def close(self) -> None:
        """Let go of the producer."""
        self._producer.purge()
        self._producer.flush(1)

    def _new_producer(self) -> Producer:
        from confluent_kafka import KafkaException, Producer

        try:
            return Producer(self._settings)
        except (KafkaException, ValueError) as error:
            raise UsageError(f"Kafka does not take these settings: {_reason(error)}") from error

    def _refusal(self, place: int, error: Exception) -> Outcome:
        from confluent_kafka import KafkaError

        code = (
            error.args[0].code() if error.args and isinstance(error.args[0], KafkaError) else None
        )
        if code == KafkaError.MSG_SIZE_TOO_LARGE:
            return Outcome(done=place, refused=_reason(error))
        return Outcome(done=place, error=_reason(error))

    def _failed(self, place: int, error: Any) -> Outcome:
        # What is still on its way could overtake what is sent again.
        self._producer.purge()
        self._producer.flush(1)
        self._producer = self._new_producer()
        return replace(self.failed(error), done=place)

    def failed(self, error: Any) -> Outcome:
        """The outcome for an error of Kafka's: nothing was taken, why, and what to do."""
        reason, hint = self._explained(error)
        return Outcome(done=0, error=reason, hint=hint)

    def _note(self, error: Any) -> None:
        self._noted = error

    def _explained(self, error: Any) -> tuple[str, str | None]:
        """What went wrong, and what to do about it."""
        from confluent_kafka import KafkaError

        found = [e for e in (_kafka_error(error), self._noted) if e is not None]
        self._noted = None
        hints = {
            KafkaError._RESOLVE: "check the brokers in the address of the sink, and DNS",
            KafkaError._SSL: "set security.protocol and ssl.ca.location as options of the address",
            KafkaError._AUTHENTICATION: "set sasl.username and sasl.password: ?config=FILE",
            KafkaError.SASL_AUTHENTICATION_FAILED: "set sasl.username and sasl.password: ?config=FILE",
            KafkaError.TOPIC_AUTHORIZATION_FAILED: f"let this user write the topic {self._topic}",
            KafkaError.UNKNOWN_TOPIC_OR_PART: f"kafka-topics --create --topic {self._topic} …",
            KafkaError._UNKNOWN_TOPIC: f"kafka-topics --create --topic {self._topic} …",
            KafkaError._ALL_BROKERS_DOWN: "is it running, and can this host reach it?",
            KafkaError._TRANSPORT: "is it running, and can this host reach it?",
            KafkaError._MSG_TIMED_OUT: "is it running, and can this host reach it?",
        }
        hint = next((hints[e.code()] for e in reversed(found) if e.code() in hints), None)
        reasons = dict.fromkeys([_reason(error), *(e.str() for e in found)])
        return f"{self._where}, topic {self._topic}: {'; '.join(reasons)}", hint


def _confirm(confirmed: dict[int, Any], place: int, error: Any, _: object) -> None:
    confirmed[place] = error


def _kafka_error(error: Any) -> Any:
    first = error.args[0] if isinstance(error, Exception) and error.args else error
    return first if hasattr(first, "code") else None


def _reason(error: object) -> str:
    first = error.args[0] if isinstance(error, Exception) and error.args else error
    return str(first.str()) if hasattr(first, "str") else str(first)


def open_sink(address: Address) -> KafkaSink:
    """The sink of `kafka://broker:port[,…]/topic`."""
    try:
        import confluent_kafka  # noqa: F401
    except ImportError as error:
        raise require("confluent-kafka", "kafka") from error
    topic = address.path.strip("/")
    if not address.place or not topic:
        raise UsageError(
            "the address names no broker and topic", hint="write kafka://127.0.0.1:9092/audit"
        )
    settings: dict[str, Any] = {
        "client.id": "audit-toolkit",
        "log_level": 0,  # what librdkafka would say on stderr is in our errors
        "linger.ms": 5,
        "delivery.timeout.ms": int(TIMEOUT * 1000),
    }
    options = dict(address.options)
    if file := options.pop("config", None):
        settings |= _read_settings(Path(file))
    # Gapless: behind a message that failed for good no later one of its partition is delivered.
    fixed = {
        "bootstrap.servers": address.place,
        "enable.idempotence": True,
        "enable.gapless.guarantee": True,
    }
    sink = KafkaSink(settings | options | fixed, topic)
    try:
        sink.require_reachable()
    except ConnectError:
        sink.close()
        raise
    return sink


def _read_settings(path: Path) -> dict[str, str]:
    """The settings of a properties file: `name=value` lines."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{str(path)!a} cannot be read: {error.strerror}") from error
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}
