"""Events made up to be printed."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from typing import Any

from audit_toolkit.cli.output import (
    print_timeline,
)
from audit_toolkit.names import QualifiedName
from audit_toolkit.trail import Action, Event, Subject
from tests.plugins.trail import Trail

SUBJECT = Subject(schema="audit", table=QualifiedName("public", "t"), columns=("b", "a"), key="1")


def make_event(action: Action = Action.UPDATE, **values: Any) -> Event:
    absent = ("old_row_key", "old_row", "new_row", "context", "role_name", "query")
    given: dict[str, Any] = {
        **dict.fromkeys((*absent, "application_name", "client_addr")),
        "event_id": 1,
        "action_tstamp": datetime(2026, 11, 1, tzinfo=UTC),
        "transaction_id": 7,
        "schema_name": "public",
        "table_name": "t",
        "row_key": "1",
        "session_user_name": "app",
    }
    return Event(action=action, **(given | values))


def timeline(*events: Event) -> str:
    file = io.StringIO()
    print_timeline(SUBJECT, events, file)
    return file.getvalue()


def timeless(text: str, trail: Trail) -> str:
    """What the command printed, without what differs from run to run."""
    (login, address) = trail.execute("select session_user::text, host(inet_client_addr())")[0]
    text = re.sub(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", "2026-11-01 09:00:00 UTC", text)
    text = re.sub(r'(action_tstamp": ")[^"]+', r"\g<1>2026-11-01T09:00:00.000000+00:00", text)
    text = re.sub(r'(transaction"?(_id)?"?:? )\d+', r"\g<1>700", text)
    text = text.replace(f'"{login}"', '"shop_app"').replace(f"by {login}", "by shop_app")
    text = text.replace(f"login {login}", "login shop_app")
    return text.replace(f" · {address}", "").replace(f'"{address}"', "null")
