"""The trail itself: schema, table, functions and first leaves, as one step."""

from __future__ import annotations

import json
from typing import Any

from audit_toolkit.config import Interval, TrailSettings
from audit_toolkit.names import quote_identifier
from audit_toolkit.plan import Plan, Step
from audit_toolkit.templates import render_statements
from audit_toolkit.version import __version__

_LEAF_NAMES = {Interval.DAY: "YYYY_MM_DD", Interval.WEEK: 'IYYY"w"IW', Interval.MONTH: "YYYY_MM"}

_FUNCTIONS = {
    "revoke_all": "(regclass)",
    "refuse_change": "()",
    "guard_relation": "(regclass)",
    "leaves": "()",
    "make_leaf": "(text)",
    "leaf_digest": "(regclass)",
    "ensure_partitions": "(integer)",
    "mask": "(jsonb, text, text)",
    "pick": "(jsonb, text[])",
    "stand_in": "(bytea)",
    "hand_over": "(regprocedure)",
    "record_gap": "(regclass, text, text)",
    "audited_table": "(regtype)",
    "row_key_of": "(regclass, text)",
    "row_known_since": "(text, text, text)",
    "require_reach": "(text, text, text, timestamptz)",
    "require_known": "(regclass, text)",
    "require_whole": "(regclass, text, text, boolean, timestamptz)",
    "warn_of_gap": "(text, text, text, timestamptz)",
    "row_image_at": "(text, text, text, timestamptz)",
    "row_images_at": "(text, text, timestamptz)",
    "row_at": "(anyelement, text, timestamptz)",
    "table_at": "(anyelement, timestamptz)",
    "history": "(regclass, text)",
}

_COLUMN_COMMENTS = (
    ("event_id", "rises with capture; gaps are normal"),
    ("action_tstamp", "when the change was captured; the partition key"),
    ("transaction_id", "the transaction that made the change"),
    ("schema_name", "schema of the audited table"),
    ("table_name", "the audited table; for a partitioned table its root"),
    (
        "action",
        "I insert, U update, D delete, T truncate, S snapshot of a row older than the trail, G gap in capture",
    ),
    ("row_key", "primary key: one column as its text, several as a JSON array, NULL without a key"),
    ("old_row_key", "the key before an update that changed it"),
    ("old_row", "the row before the change"),
    ("new_row", "the row after the change"),
    (
        "context",
        "what the application said of this transaction (setting audit.context): a claim, not a proof",
    ),
    ("session_user_name", "the login role"),
    ("role_name", "the role taken on with SET ROLE, NULL if none"),
    ("application_name", "application_name of the connection"),
    ("client_addr", "address of the client as the server sees it, NULL for a socket"),
    ("query", "the statement, only for tables installed with --capture-query"),
)


def trail_comment(settings: TrailSettings) -> str:
    """The comment of `logged_actions`: JSON that says what made it, and with which settings."""
    return json.dumps(
        {"tool": "audit-toolkit", "version": __version__, "interval": settings.interval.value}
    )


def plan_trail(settings: TrailSettings) -> Plan:
    """The steps that make the trail; taking them back removes it while it has no events.

    Runs again without harm on a trail that is already there. Refuses, when it runs, a schema or a table
    that belongs to somebody else. All times are relative to the server's now, in UTC.
    """
    ours = json.dumps({"tool": "audit-toolkit", "version": __version__})
    values: dict[str, Any] = {
        "schema": settings.schema,
        "intervals": tuple(Interval),
        "leaf_names": _LEAF_NAMES,
        "comment": ours,
    }
    schema = quote_identifier(settings.schema)

    def rendered(*templates: str, **more: Any) -> tuple[str, ...]:
        return tuple(s for name in templates for s in render_statements(name, **(values | more)))

    return Plan(
        steps=(
            Step(
                why=f"The schema {schema}, unless somebody else has one of that name",
                statements=rendered(
                    "schema/refuse_foreign", "schema/refuse_pending_detach", "schema/schema"
                ),
                undo=rendered("schema/refuse_pending_detach", "schema/drop_if_empty"),
            ),
            Step(
                why=f"The trail, {schema}.logged_actions: one row an event, partitioned by time",
                statements=rendered(
                    "schema/logged_actions",
                    comment=trail_comment(settings),
                    column_comments=_COLUMN_COMMENTS,
                ),
            ),
            Step(
                why="Its functions, none of which PUBLIC may execute",
                statements=rendered(
                    *(f"functions/{name}" for name in _FUNCTIONS),
                    "schema/function_comments",
                    functions=_FUNCTIONS,
                ),
            ),
            Step(why="The key of keyed masks", statements=rendered("schema/mask_key")),
            Step(
                why="What maintenance records: leaves on their way out, its last success",
                statements=rendered("schema/partition_lifecycle", "schema/maintenance"),
            ),
            Step(
                why="Append-only, without grants, and with leaves well ahead of the server's clock",
                statements=rendered("schema/first_leaves"),
            ),
            *_owner_steps(settings),
        )
    )


def _owner_steps(settings: TrailSettings) -> tuple[Step, ...]:
    if settings.owner is None:
        return ()
    values = {"schema": settings.schema, "owner": settings.owner}
    return (
        Step(
            why=f"All of it belongs to {quote_identifier(settings.owner)}",
            statements=tuple(render_statements("schema/owner", **values)),
        ),
    )
