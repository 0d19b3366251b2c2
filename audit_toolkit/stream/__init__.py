"""The trail outside: consumers that deliver each event at least once, in order per row."""

from audit_toolkit.stream.archived import Past
from audit_toolkit.stream.consumers import (
    Consumer,
    DeadLetter,
    drop,
    find_consumer,
    forget_letters,
    has_consumers,
    read_consumers,
    read_letters,
    register,
    reset,
    retry_letters,
)
from audit_toolkit.stream.formats import FormatName, Origin, find_format, schema_of
from audit_toolkit.stream.messages import Format, Message, Outcome
from audit_toolkit.stream.run import AfterRefusal, Progress, Terms, Wanted, replay, run
from audit_toolkit.stream.sinks import Address, Sink, open_sink, parse_address

__all__ = [
    "Address",
    "AfterRefusal",
    "Consumer",
    "DeadLetter",
    "Format",
    "FormatName",
    "Message",
    "Origin",
    "Outcome",
    "Past",
    "Progress",
    "Sink",
    "Terms",
    "Wanted",
    "drop",
    "find_consumer",
    "find_format",
    "forget_letters",
    "has_consumers",
    "open_sink",
    "parse_address",
    "read_consumers",
    "read_letters",
    "register",
    "replay",
    "reset",
    "retry_letters",
    "run",
    "schema_of",
]
