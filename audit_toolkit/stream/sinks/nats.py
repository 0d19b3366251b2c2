"""NATS JetStream: `nats://host:4222/SUBJECT`, events under SUBJECT.schema.table.action.

A stream has to be there that keeps these subjects; each message carries its id as `Nats-Msg-Id`, by which
the stream leaves out what comes again within its duplicate window.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from audit_toolkit.errors import ConnectError, UsageError
from audit_toolkit.stream.messages import Message, Outcome
from audit_toolkit.stream.sinks.base import Address, require, unreachable

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

PATIENCE = 5.0
"""Seconds for the first connection."""
TIMEOUT = 10.0
"""Seconds for the confirmations of a batch."""
_TOO_LARGE = 10054
"""What JetStream answers where a message is larger than `max_msg_size` of its stream."""
_PART = re.compile(r"[\s.*>]")


class NatsSink:
    """Publishes messages, and waits for the confirmations of all."""

    def __init__(self, servers: str, subject: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._servers = servers
        self._where = f"NATS at {servers.rpartition('@')[2].removeprefix('nats://')}"
        self._subject = subject
        try:
            self._client: Client = self._loop.run_until_complete(self._connect())
        except BaseException:
            self._loop.close()
            raise
        self._stream = self._client.jetstream(timeout=TIMEOUT)
        self._answers = _Answers(self._client)

    def send(self, messages: Sequence[Message]) -> Outcome:
        """Publish the messages one behind another, then wait until the stream has them."""
        return self._loop.run_until_complete(self._send(messages))

    def close(self) -> None:
        """Close the connection."""
        self._loop.run_until_complete(self._client.close())
        self._loop.close()

    async def _connect(self) -> Client:
        import nats

        reasons: list[Exception] = []

        async def note(error: Exception) -> None:
            reasons.append(error)

        connecting = nats.connect(
            self._servers,
            name="audit-toolkit",
            max_reconnect_attempts=-1,  # later on: it goes on where the server does
            error_cb=note,
        )
        try:
            return await asyncio.wait_for(connecting, PATIENCE)
        except (OSError, TimeoutError, nats.errors.Error) as error:
            refused = [each for each in reasons if "authorization" in str(each).lower()]
            raise self._no_connection((refused or reasons or [error])[-1]) from error

    def _no_connection(self, reason: Exception) -> ConnectError:
        text = str(reason) or type(reason).__name__
        if "authorization" in text.lower():
            return ConnectError(
                f"{self._where} refused the login: {text}",
                hint="check the user and password in the address: nats://user:password@host/subject",
            )
        if found := unreachable(reason, self._where):
            return ConnectError(found.error or "", hint=found.hint)
        return ConnectError(
            f"cannot connect to {self._where}: {text}",
            hint="is it running, with JetStream (nats-server -js)?",
        )

    async def _send(self, messages: Sequence[Message]) -> Outcome:
        # Of each row one message is on its way at a time: none can overtake another that fails.
        start = 0
        while start < len(messages):
            wave = _wave(messages, start)
            outcome = await self._send_wave(wave)
            start += outcome.done
            if outcome.done < len(wave):
                return replace(outcome, done=start)
        return Outcome(done=start)

    async def _send_wave(self, messages: Sequence[Message]) -> Outcome:
        import nats

        answers = self._answers
        outcome = Outcome(done=len(messages))
        sent = 0
        try:
            await answers.expect(len(messages))
            for message in messages:
                headers = {
                    **message.headers,
                    "Nats-Msg-Id": message.id,
                    "Content-Type": message.content_type,
                }
                if len(message.body) + _size(headers) > self._client.max_payload:
                    outcome = Outcome(done=sent, refused="larger than max_payload of the server")
                    break
                await self._client.publish(
                    self._subject_of(message), message.body, answers.subject(sent), headers
                )
                sent += 1
        except (OSError, TimeoutError, nats.errors.Error) as error:
            outcome = replace(await self._explained(error), done=sent)
        done, failure = await answers.of_first(sent)
        if done == sent:
            return outcome
        if failure is None and not self._client.is_connected:
            lost = f"the connection to {self._where} was lost"
            return Outcome(done=done, error=lost, hint="is it running there?", is_unreachable=True)
        if failure is None:
            return Outcome(done=done, error=f"{self._where} did not confirm in time")
        return replace(await self._explained(failure), done=done)

    async def _explained(self, error: BaseException) -> Outcome:
        import nats

        if isinstance(error, nats.js.errors.NoStreamResponseError):
            return await self._nobody_keeps_it()
        if found := unreachable(error, self._where):
            return found
        if getattr(error, "err_code", None) == _TOO_LARGE:
            return Outcome(done=0, refused="larger than max_msg_size of the stream")
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        if "maximum" in text.lower():
            hint = "raise the limits of the stream, or let it discard the oldest: nats stream edit"
            return Outcome(done=0, error=f"{self._where}: {text}", hint=hint)
        return Outcome(done=0, error=f"{self._where}: {text}")

    async def _nobody_keeps_it(self) -> Outcome:
        """Nobody answered what was published: without JetStream, or without a stream for the subject."""
        import nats

        try:
            await self._stream.account_info()
        except (TimeoutError, nats.errors.Error):
            return Outcome(
                done=0,
                error=f"{self._where} has no JetStream, or not for this account",
                hint="start it with JetStream: nats-server -js",
            )
        subjects = f"{self._subject}.>"
        return Outcome(
            done=0,
            error=f"no stream of JetStream keeps the subject {subjects}",
            hint=f"nats stream add AUDIT --subjects '{subjects}'",
        )

    def _subject_of(self, message: Message) -> str:
        event = message.event
        action = message.topic.rpartition(".")[2]
        return _subject(self._subject, event.schema_name, event.table_name, action)


class _Answers:
    """What the stream says of each message of a wave: one subscription and one wait for all of them.

    A future and an inbox for each message, as nats-py's own `publish_async` has, take longer than all the rest.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = f"{client.new_inbox()}."
        self._is_open = False
        self._first = 0
        """Its number: what still comes of former waves has a lower one."""
        self._said: list[Msg | None] = []
        self._missing = 0
        self._complete: asyncio.Future[None] | None = None

    async def expect(self, messages: int) -> None:
        """Begin a wave of so many messages."""
        if not self._is_open:
            await self._client.subscribe(f"{self._inbox}*", cb=self._note)
            self._is_open = True
        self._first += len(self._said)
        self._said = [None] * messages
        self._missing = messages
        self._complete = None

    def subject(self, place: int) -> str:
        """Where the stream answers the message at that place of the wave."""
        return f"{self._inbox}{self._first + place}"

    async def of_first(self, messages: int) -> tuple[int, Exception | None]:
        """How many of so many messages were taken, and why the next one was not; None where nothing was said of it."""
        self._missing -= len(self._said) - messages
        if self._missing > 0:
            self._complete = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._complete], timeout=TIMEOUT)
        for place, said in enumerate(self._said[:messages]):
            if said is None:
                return place, None
            if failure := _failure(said):
                return place, failure
        return messages, None

    async def _note(self, said: Msg) -> None:
        place = int(said.subject[len(self._inbox) :]) - self._first
        if place < 0 or self._said[place] is not None:
            return
        self._said[place] = said
        self._missing -= 1
        if self._missing == 0 and self._complete is not None and not self._complete.done():
            self._complete.set_result(None)


def _failure(said: Msg) -> Exception | None:
    """Why a stream did not take a message; None where it did."""
    from nats.js.errors import APIError, NoStreamResponseError

    if said.headers and said.headers.get("Status") == "503":
        return NoStreamResponseError()
    if b'"error"' in said.data and (error := json.loads(said.data).get("error")):
        known = ("code", "err_code", "description")
        failure: Exception = APIError(**{name: error.get(name) for name in known})
        return failure
    return None


def _size(headers: Mapping[str, str]) -> int:
    """The bytes of the headers of a message, which count as part of it."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return len(b"NATS/1.0\r\n\r\n") + len(lines.encode())


@lru_cache(maxsize=10_000)
def _subject(beginning: str, *parts: str) -> str:
    return ".".join((beginning, *(_PART.sub("_", part) for part in parts)))


def _wave(messages: Sequence[Message], start: int) -> Sequence[Message]:
    """The messages from there on, up to the second one of any row."""
    keys: set[str] = set()
    for place in range(start, len(messages)):
        if messages[place].key in keys:
            return messages[start:place]
        keys.add(messages[place].key)
    return messages[start:]


def open_sink(address: Address) -> NatsSink:
    """The sink of `nats://[user:password@]host[:port]/subject`."""
    try:
        import nats  # noqa: F401
    except ImportError as error:
        raise require("nats-py", "nats") from error
    address.require_known()
    subject = address.path.strip("/").replace("/", ".")
    if not address.place or not subject or _PART.search(subject.replace(".", "")):
        raise UsageError(
            "the address names no server and subject", hint="write nats://127.0.0.1:4222/audit"
        )
    return NatsSink(f"nats://{address.place}", subject)
