"""Short words for what happens to a test's database."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from typer.testing import Result

from tests.plugins.trail import Trail

Audit = Callable[..., Result]


def now(trail: Trail) -> datetime:
    """The server's clock, behind everything that was captured so far."""
    moment: datetime = trail.execute("select clock_timestamp()")[0][0]
    return moment


def say(trail: Trail, **claims: Any) -> None:
    """Claim this for all that follows."""
    trail.execute(
        "select set_config('audit.context', %s, false)", [json.dumps(claims) if claims else ""]
    )
