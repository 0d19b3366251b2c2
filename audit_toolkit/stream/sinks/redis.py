"""Redis streams: `redis://host:6379/0?stream=audit`, an entry for each event, added with XADD in one transaction.

An entry has the fields id, key, topic, type and body; `maxlen=N` keeps about the newest N.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from audit_toolkit.errors import UsageError
from audit_toolkit.stream.messages import Message, Outcome
from audit_toolkit.stream.sinks.base import Address, require, unreachable

if TYPE_CHECKING:
    import redis


_HINTS = {
    "maxmemory": "raise maxmemory of the server, or keep fewer entries: maxlen=N in the address",
    "read only replica": "name the primary in the address of the sink",
    "WRONGPASS": "check the user and password in the address: redis://user:password@host",
    "invalid username-password": "check the user and password in the address: redis://user:password@host",
    "Authentication required": "put the password into the address: redis://:password@host",
    "NOAUTH": "put the password into the address: redis://:password@host",
    "already authenticated": "put the password into the address: redis://:password@host",
    "no permissions": "let this user write the stream: acl setuser NAME ~STREAM +xadd +multi +exec",
    "wrong kind of value": "name another key: ?stream=NAME; this one holds something else",
}
"""What to do, by what Redis says."""
_OF_PIPELINE = re.compile(r"^Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)
"""What its client says before that, with the command."""


class RedisSink:
    """Adds the messages of a batch to a stream, all or none."""

    def __init__(self, client: redis.Redis, stream: str, maxlen: int | None) -> None:
        self._client = client
        self._stream = stream
        self._maxlen = maxlen
        place = client.connection_pool.connection_kwargs
        self._where = f"Redis at {place.get('host', 'localhost')}:{place.get('port', 6379)}"

    def send(self, messages: Sequence[Message]) -> Outcome:
        """Add the messages; Redis runs the batch as a whole."""
        import redis

        pipeline = self._client.pipeline(transaction=True)
        for message in messages:
            entry: dict[Any, Any] = {
                "id": message.id,
                "key": message.key,
                "topic": message.topic,
                "type": message.content_type,
                **message.headers,
                "body": message.body,
            }
            pipeline.xadd(self._stream, entry, maxlen=self._maxlen, approximate=True)
        try:
            pipeline.execute()
        except redis.RedisError as error:
            return self._explained(error)
        return Outcome(done=len(messages))

    def _explained(self, error: redis.RedisError) -> Outcome:
        import redis

        if isinstance(error, redis.TimeoutError):
            found = unreachable(TimeoutError(), self._where)
        elif isinstance(error, redis.ConnectionError):
            found = unreachable(error, self._where)
        else:
            found = None
        if found and not isinstance(error, redis.AuthenticationError):
            return found
        # Nothing of what the event has: the message is kept with the consumer.
        text = _OF_PIPELINE.sub("", str(error))
        hint = next((hint for mark, hint in _HINTS.items() if mark in text), None)
        return Outcome(done=0, error=f"{self._where}: {text}", hint=hint)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def open_sink(address: Address) -> RedisSink:
    """The sink of `redis://host:port/database?stream=NAME`; `rediss://` with TLS."""
    try:
        import redis
    except ImportError as error:
        raise require("redis", "redis") from error
    address.require_known("stream", "maxlen")
    stream = address.option("stream", "")
    maxlen = address.number("maxlen", None, "entries", 1_000_000)
    if not stream or not address.place:
        raise UsageError(
            "the address names no server and stream",
            hint="write redis://127.0.0.1:6379/0?stream=audit",
        )
    url = urlunsplit(urlsplit(address.text)._replace(query="", fragment=""))
    try:
        client = redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=10)
    except ValueError as error:
        raise UsageError(f"the address of Redis cannot be read: {error}") from error
    return RedisSink(client, stream, maxlen or None)
