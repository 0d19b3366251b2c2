"""NATS JetStream: `nats://host:4222/SUBJECT`, events under SUBJECT.schema.table.action.

A stream has to be there that keeps these subjects; each message carries its id as `Nats-Msg-Id`, by which
the stream leaves out what comes again within its duplicate window.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from audit_toolkit.errors import ConnectError, UsageError
from audit_toolkit.stream.messages import Message, Outcome
from audit_toolkit.stream.sinks.base import Address, require, unreachable

if TYPE_CHECKING:
    from nats.aio.client import Client

PATIENCE = 5.0
"""Seconds for the first connection."""
TIMEOUT = 10.0
"""Seconds for the confirmations of a batch."""
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
        self._stream = self._client.jetstream(timeout=TIMEOUT, publish_async_max_pending=4096)

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

        pending: list[asyncio.Future[Any]] = []
        outcome = Outcome(done=len(messages))
        for message in messages:
            headers = {
                **message.headers,
                "Nats-Msg-Id": message.id,
                "Content-Type": message.content_type,
            }
            try:
                pending.append(
                    await self._stream.publish_async(
                        self._subject_of(message), message.body, headers=headers
                    )
                )
            except nats.errors.MaxPayloadError:
                outcome = Outcome(
                    done=len(pending), refused="larger than max_payload of the server"
                )
                break
            except (OSError, TimeoutError, nats.errors.Error) as error:
                outcome = replace(await self._explained(error), done=len(pending))
                break
        if pending:
            await asyncio.wait(pending, timeout=TIMEOUT)
        for place, confirmation in enumerate(pending):
            if not confirmation.done():
                confirmation.cancel()
                return Outcome(done=place, error=f"{self._where} did not confirm in time")
            if failure := confirmation.exception():
                return replace(await self._explained(failure), done=place)
        return outcome

    async def _explained(self, error: BaseException) -> Outcome:
        import nats

        if isinstance(error, nats.js.errors.NoStreamResponseError):
            return await self._nobody_keeps_it()
        if found := unreachable(error, self._where):
            return found
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
