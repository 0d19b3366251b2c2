"""Sinks: where consumers deliver. Each imports its client only when it is opened."""

from __future__ import annotations

from importlib import import_module

from audit_toolkit.errors import UsageError
from audit_toolkit.stream.sinks.base import (
    GROUP,
    Address,
    Sink,
    SinkFactory,
    own_factory,
    parse_address,
)

_MODULES = {
    "file": "file",
    "python": "function",
    "http": "webhook",
    "https": "webhook",
    "nats": "nats",
    "redis": "redis",
    "rediss": "redis",
    "kafka": "kafka",
}


def open_sink(address: Address) -> Sink:
    """The sink of an address.

    Raises `UsageError` where there is none for its scheme or the address lacks something, and
    `MissingExtraError` where its client is not installed.
    """
    if module := _MODULES.get(address.scheme):
        factory: SinkFactory = import_module(f"audit_toolkit.stream.sinks.{module}").open_sink
    elif found := own_factory(address.scheme):
        factory = found
    else:
        raise UsageError(
            f"no sink handles {address.scheme}:",
            hint=f"choose one of {', '.join(_MODULES)}, or install a package with an entry point in {GROUP}",
        )
    return factory(address)


__all__ = ["GROUP", "Address", "Sink", "SinkFactory", "open_sink", "parse_address"]
