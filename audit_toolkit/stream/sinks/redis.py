"""Redis streams: `redis://host:6379/0?stream=audit`, an entry for each event, added with XADD in one transaction.

An entry has the fields id, key, topic, type and body; `maxlen=N` keeps about the newest N.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from audit_toolkit.errors import UsageError
from audit_toolkit.stream.messages import Message, Outcome
from audit_toolkit.stream.sinks.base import Address, require

if TYPE_CHECKING:
    import redis


class RedisSink:
    """Adds the messages of a batch to a stream, all or none."""

    def __init__(self, client: redis.Redis, stream: str, maxlen: int | None) -> None:
        self._client = client
        self._stream = stream
        self._maxlen = maxlen

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
            return Outcome(done=0, error=f"{type(error).__name__}: {error}")
        return Outcome(done=len(messages))

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def open_sink(address: Address) -> RedisSink:
    """The sink of `redis://host:port/database?stream=NAME`; `rediss://` with TLS."""
    try:
        import redis
    except ImportError as error:
        raise require("redis", "redis") from error
    stream, maxlen = address.option("stream", ""), address.option("maxlen", "")
    if not stream or not address.place:
        raise UsageError(
            "the address names no server and stream",
            hint="write redis://127.0.0.1:6379/0?stream=audit",
        )
    if maxlen and not maxlen.isdigit():
        raise UsageError(f"maxlen={maxlen} is no number of entries", hint="as in maxlen=1000000")
    url = urlunsplit(urlsplit(address.text)._replace(query="", fragment=""))
    try:
        client = redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=10)
    except ValueError as error:
        raise UsageError(f"the address of Redis cannot be read: {error}") from error
    return RedisSink(client, stream, int(maxlen) if maxlen else None)
