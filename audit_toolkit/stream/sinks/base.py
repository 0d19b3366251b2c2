"""What a sink is, and how its address is read."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol
from urllib.parse import SplitResult, parse_qsl, urlsplit

from audit_toolkit.errors import MissingExtraError, UsageError
from audit_toolkit.stream.messages import Message, Outcome

GROUP = "audit_toolkit.sinks"
"""The group of entry points for sinks of one's own: the scheme is the name, a `SinkFactory` the object."""


class Sink(Protocol):
    """Where messages go."""

    def send(self, messages: Sequence[Message]) -> Outcome:
        """Hand over the messages in their order; come back when the receiver has them for good.

        Messages of one key must arrive in their order. What is not `done` is sent again, and what may
        have arrived all the same is told by its id. A sink that takes long over a message comes back after some
        of them, so that its caller can see whether it may still deliver.
        """
        ...

    def close(self) -> None:
        """Let go of whatever it holds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of a sink, taken apart."""

    text: str
    """As it was given, with its secrets."""
    scheme: str
    place: str
    """Host and port, with user and password; empty for a file."""
    path: str
    options: Mapping[str, str]

    @property
    def shown(self) -> str:
        """The address without password and options, for people and for the database."""
        host = self.place.rpartition("@")[2]
        return f"{self.scheme}:{'//' + host if host else ''}{self.path}"

    def option(self, name: str, default: str) -> str:
        """The value of an option of its query."""
        return self.options.get(name, default)

    def number(self, name: str, default: int | None, what: str, example: int) -> int | None:
        """The whole number that an option gives. Raises `UsageError` for anything else."""
        text = self.options.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit()):
            raise UsageError(
                f"{name}={text} is not a number of {what}", hint=f"as in {name}={example}"
            )
        return int(text)

    def require_known(self, *names: str) -> None:
        """Raise `UsageError` for an option that the sink does not know."""
        for option in self.options:
            if option not in names:
                hint = f"it knows {', '.join(names)}" if names else "it takes none"
                raise UsageError(f"the sink {self.scheme}: knows no option {option}", hint=hint)


SinkFactory = Callable[[Address], Sink]


def clock() -> float:
    """Seconds on a clock that goes on while the process, or where the system tells, the machine stands still."""
    boot: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


def parse_address(text: str) -> Address:
    """The address of a sink. Raises `UsageError` where it has no scheme."""
    parts = _split(text)
    if not parts.scheme:
        raise UsageError(
            f"{text!a} is not a valid sink address",
            hint="write file:events.jsonl, https://…, nats://…, redis://…, kafka://… or python:module:name",
        )
    if parts.fragment and parts.scheme not in ("http", "https"):
        # Whatever follows it would be left out without a word.
        raise UsageError(
            f"the address has a # in it, which ends it: {parts.scheme}:…#{parts.fragment}",
            hint="write %23 for a #",
        )
    return Address(
        text=text,
        scheme=parts.scheme.lower(),
        place=parts.netloc,
        path=parts.path,
        options=dict(parse_qsl(parts.query, keep_blank_values=True)),
    )


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        if text.partition(":")[0].lower() == "file":
            # Names of files may have a #, and no fragment.
            parts = urlsplit(text.replace("#", "%23"))
        elif parts.scheme != "kafka":  # which may name several brokers
            _ = parts.port
    except ValueError as error:
        shown = text.rpartition("@")[2]
        raise UsageError(
            f"{shown!a} is not a valid address: {error}", hint="write scheme://host:port/path"
        ) from error
    return parts


def own_factory(scheme: str) -> SinkFactory | None:
    """The sink that another package brings for that scheme."""
    for entry in entry_points(group=GROUP, name=scheme):
        factory: SinkFactory = entry.load()
        return factory
    return None


def require(module: str, extra: str) -> MissingExtraError:
    """The error for a client that is not installed."""
    return MissingExtraError(
        f"this sink needs the package {module}", hint=f"pip install 'audit-toolkit[{extra}]'"
    )


def unreachable(error: BaseException, where: str) -> Outcome | None:
    """Why there is no connection to a server, and what to do; None for an error that says something else."""
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                reason = f"the name of {where} cannot be resolved: {cause.strerror}"
                hint = "check the address of the sink, and DNS"
            case ssl.SSLCertVerificationError():
                reason = f"the certificate of {where} is not trusted: {cause.verify_message}"
                hint = "name the certificate of its authority: SSL_CERT_FILE=/path/to/ca.pem"
            case ssl.SSLError():
                reason = f"no TLS with {where}: {cause.reason or cause}"
                hint = "does the server speak TLS on this port?"
            case ConnectionRefusedError():
                reason = f"cannot connect to {where}: connection refused"
                hint = "is it running there?"
            case TimeoutError():
                reason = f"{where} did not answer in time"
                hint = "is it running, and does every firewall let this host through?"
            case OSError() if cause.errno:
                reason = f"cannot connect to {where}: {cause.strerror}"
                hint = "is it running, and can this host reach it?"
            case _:
                continue
        return Outcome(done=0, error=reason, hint=hint, is_unreachable=True)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What an error came of, the first cause first: clients wrap those of the operating system."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return reversed(found)
