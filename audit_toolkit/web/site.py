"""What one application was made with."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from audit_toolkit.web.database import Database
from audit_toolkit.web.settings import Settings
from audit_toolkit.web.viewer import Viewer

Authorize: TypeAlias = Callable[
    [Request], "Viewer | Response | Awaitable[Viewer | Response | None] | None"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What one application was made with."""

    database: Database
    authorize: Authorize | None
    base_path: str
    schema: str
    settings: Settings
    undoing: Database | None
    """Through which changes are taken back; None: not at all."""
    static: StaticFiles = field(repr=False)


def is_loopback(host: str) -> bool:
    """Whether it is an address of this machine that no other can reach."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
