"""What of a web request goes into the context: its id, method, route, client address and trace."""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from audit_toolkit.attribution.current import Block, nested
from audit_toolkit.attribution.values import Json
from audit_toolkit.errors import ContextError

MAX_TEXT = 200
"""Characters kept of a route: a client decides how long a path is, and may make no write fail."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass(frozen=True, slots=True)
class Proxies:
    """The networks whose `X-Forwarded-For` and `X-Request-ID` are believed."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, addresses: Iterable[str]) -> Proxies:
        """Read networks, as in `10.0.0.0/8`, and addresses; raises `ContextError`."""
        try:
            return cls(tuple(ip_network(address) for address in addresses))
        except ValueError as error:
            raise ContextError(
                f"trusted_proxies: {error}", hint='write addresses or networks: ["10.0.0.0/8"]'
            ) from error

    def trust(self, address: str | None) -> bool:
        """Whether an address belongs to one of them."""
        try:
            parsed = ip_address(address or "")
        except ValueError:  # a Unix socket has none
            return False
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed  # a server listening on [::]
        return any(parsed in network for network in self.networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a server tells of a request, in ASGI and WSGI alike."""

    method: str
    peer: str | None
    """The address that the connection comes from."""
    forwarded_for: Sequence[str] = ()
    """The hops that proxies wrote down, the last one first."""
    request_id: str = ""

    def claims(self, proxies: Proxies) -> dict[str, Json]:
        """What is known when the request comes in."""
        behind = proxies.trust(self.peer)
        given = self.request_id if behind and _REQUEST_ID.fullmatch(self.request_id) else ""
        return {
            "request_id": given or uuid.uuid4().hex,
            "method": clean(self.method) or None,
            "client": clean(self._client(proxies) or "") or None,
        }

    def _client(self, proxies: Proxies) -> str | None:
        # The nearest hop that is not trusted: anybody may have written what comes before it.
        client = self.peer
        for hop in self.forwarded_for:
            if not proxies.trust(client):
                break
            if (address := _address(hop)) is None:
                break
            client = address
        return client


def request_block(request: Request, proxies: Proxies, route: Callable[[], str]) -> Block:
    """The context of a request, added to what is current.

    Route and trace are looked up when something is written: by then the router has run, and a span
    is open.
    """

    def late() -> dict[str, Json]:
        found: dict[str, Json] = {"route": clean(route())}
        if trace := trace_id():
            found["trace_id"] = trace
        return found

    return nested(request.claims(proxies), late)


def clean(text: str) -> str:
    """Text of a client, made storable: cut, and without what PostgreSQL refuses."""
    return text[:MAX_TEXT].replace("\x00", "").encode(errors="replace").decode()


def trace_id() -> str | None:
    """OpenTelemetry's current trace as 32 hexadecimal digits; None where there is none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}" if span.is_valid else None


def _address(hop: str) -> str | None:
    # As some proxies write it: with a port, an IPv6 address in brackets.
    # Behind a % is the name of an interface, which may be any text.
    text, _, _ = hop.strip().partition("%")
    bracketed = re.fullmatch(r"\[(.+)\](?::\d+)?", text)
    for candidate in (bracketed[1] if bracketed else text, text.rpartition(":")[0]):
        try:
            return str(ip_address(candidate))
        except ValueError:
            continue
    return None
