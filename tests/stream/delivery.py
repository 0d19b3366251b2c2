"""A sink that remembers or fails as a test says, and a consumer that delivers to it everything there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from audit_toolkit import stream
from audit_toolkit.stream import FormatName, Message, Outcome, Progress, Terms
from audit_toolkit.stream.run import find_origin
from audit_toolkit.trail import Action, Event
from tests.plugins.trail import Trail


@dataclass
class Memory:
    """A sink that remembers, and says of each message what `judge` says: None, "refused …" or "error …"."""

    judge: Callable[[Message], str | None] = lambda _: None
    taken: list[Message] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def send(self, messages: Sequence[Message]) -> Outcome:
        self.batches.append(len(messages))
        for place, message in enumerate(messages):
            verdict = self.judge(message)
            if verdict is not None:
                kind, _, reason = verdict.partition(" ")
                if kind == "error":
                    return Outcome(done=place, error=reason)
                return Outcome(done=place, refused=reason)
            self.taken.append(message)
        return Outcome(done=len(messages))

    def close(self) -> None:
        pass

    @property
    def ids(self) -> list[int]:
        return [message.event.event_id for message in self.taken]

    @property
    def rows(self) -> list[tuple[str, str | None]]:
        return [(message.event.action.value, message.event.row_key) for message in self.taken]


def deliver(
    trail: Trail, sink: Any, name: str = "c", terms: Terms | None = None, **more: Any
) -> list[Progress]:
    """Run a consumer until it has delivered everything."""
    with trail.database.connect() as connection:
        form = stream.find_format(
            more.pop("body", FormatName.EVENT), find_origin(connection, "audit")
        )
        once = replace(terms or Terms(), once=True)
        return list(stream.run(connection, name, sink, form, once, sleep=lambda _: None, **more))


def insert(trail: Trail, *keys: int) -> None:
    for key in keys:
        trail.execute("insert into orders values (%s, 0)", [key])


def message(number: int, body: bytes = b"{}", key: str | None = None) -> Message:
    """A message about a row of its own."""
    event = Event(
        event_id=number,
        action_tstamp=datetime(2026, 1, 1, tzinfo=UTC),
        transaction_id=number,
        schema_name="public",
        table_name="orders",
        action=Action.INSERT,
        row_key=key or str(number),
        old_row_key=None,
        old_row=None,
        new_row={},
        context=None,
        session_user_name=None,
        role_name=None,
        application_name=None,
        client_addr=None,
        query=None,
    )
    return Message(
        id=f"here-{number}",
        key=f"public.orders:{event.row_key}",
        topic="public.orders.inserted",
        body=body,
        event=event,
    )
