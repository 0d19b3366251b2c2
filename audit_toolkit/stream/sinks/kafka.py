"""Kafka: `kafka://broker:9092[,broker…]/TOPIC`, with the idempotent producer; the key is that of the row.

All events of a row are in one partition, in their order. More settings of librdkafka as options of the address:
`?security.protocol=SASL_SSL&sasl.username=…`, or in a file, `?config=/etc/audit/kafka.properties`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_toolkit.errors import ConnectError, UsageError
from audit_toolkit.stream.messages import Message, Outcome
from audit_toolkit.stream.sinks.base import Address, require

if TYPE_CHECKING:
    from confluent_kafka import KafkaException, Producer

PATIENCE = 10.0
"""Seconds for the first answer of a broker."""
TIMEOUT = 30.0
"""Seconds for the confirmations of a batch."""
_TOGETHER = "batch.num.messages"


class KafkaSink:
    """Produces messages, and waits for the confirmations of all."""

    def __init__(self, settings: dict[str, Any], topic: str) -> None:
        self._noted: Any = None
        """The last error that was about no message: mostly the reason why messages time out."""
        self._fatal: KafkaException | None = None
        """Why the producer of this batch can go on no more."""
        # All that it would print is in our errors.
        silent = logging.Logger("librdkafka", logging.CRITICAL + 1)
        self._settings = {**settings, "error_cb": self._note, "logger": silent}
        self._topic = topic
        self._where = f"Kafka at {settings['bootstrap.servers']}"
        self._producer = self._new_producer()

    def send(self, messages: Sequence[Message]) -> Outcome:
        """Produce the messages one behind another, then wait until all replicas have them."""
        from confluent_kafka import KafkaException

        if self._fatal is not None:
            self._renew()
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
            self._call(self._producer.poll, 0)
        self._call(self._producer.flush, TIMEOUT)
        missing = self._fatal or "Kafka did not confirm in time"
        failures = {place: confirmed.get(place, missing) for place in range(sent)}
        failures = {place: failure for place, failure in failures.items() if failure is not None}
        return self._failed(messages, failures) if failures else outcome

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
        """Let go of the producer, and of what is still on its way."""
        self._call(self._producer.purge)
        self._call(self._producer.flush, 1)

    def _call(self, method: Callable[..., object], *arguments: float) -> None:
        """Let the producer call back until all is said: after each fatal error, which it raises, it has more to say."""
        from confluent_kafka import KafkaException

        while True:
            try:
                method(*arguments)
            except (KafkaException, SystemError) as error:  # the latter where it was in a callback
                cause = error.__cause__ if isinstance(error, SystemError) else error
                if not isinstance(cause, KafkaException):
                    raise
                self._fatal = cause
            else:
                return

    def _renew(self) -> None:
        self.close()
        self._producer = self._new_producer()
        self._fatal = None

    def _new_producer(self) -> Producer:
        from confluent_kafka import KafkaException, Producer

        try:
            return Producer(self._settings)
        except (KafkaException, ValueError) as error:
            raise UsageError(f"Kafka does not take these settings: {_reason(error)}") from error

    def _refusal(self, place: int, error: Exception) -> Outcome:
        if _code(error) in _refusals():
            return Outcome(done=place, refused=_reason(error))
        return Outcome(done=place, error=_reason(error))

    def _failed(self, messages: Sequence[Message], failures: Mapping[int, Any]) -> Outcome:
        refused = [place for place, error in failures.items() if _code(error) in _refusals()]
        is_alone = str(self._settings.get(_TOGETHER)) == "1"
        if refused and not is_alone:
            # It may be what librdkafka put together that is too large, and no message by itself.
            self._settings[_TOGETHER] = 1
        # What is still on its way could overtake what is sent again.
        self._renew()
        first = min(failures)
        if not refused:
            return replace(self.failed(_told(failures)), done=first)
        if not is_alone:
            return self._sent_on(messages, first, len(messages))
        if first == refused[0]:
            return Outcome(done=first, refused=_reason(failures[first]))
        # A refusal is fatal for what goes beside it in other partitions: this first, without it.
        return self._sent_on(messages, first, refused[0])

    def _sent_on(self, messages: Sequence[Message], first: int, end: int) -> Outcome:
        outcome = self.send(messages[first:end])
        return replace(outcome, done=first + outcome.done)

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


def _code(error: Any) -> int | None:
    found = _kafka_error(error)
    return None if found is None else int(found.code())


def _told(failures: Mapping[int, Any]) -> Any:
    """The failure that says why: the others may only have been given up because of it."""
    from confluent_kafka import KafkaError

    given_up = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._FATAL)
    reasons = (error for error in failures.values() if _code(error) not in given_up)
    return next(reasons, failures[min(failures)])


def _refusals() -> tuple[int, ...]:
    """What brokers say of a message that they will never take."""
    from confluent_kafka import KafkaError

    return (
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    )


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
        "log_level": 0,
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
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"{str(path)!a} cannot be read: {reason}") from error
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}
