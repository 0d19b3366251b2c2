"""The trail itself: schema, table, functions and first leaves, as one step."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from types import MappingProxyType
from typing import Any

from audit_toolkit.config import CONTEXT_LIMIT, OVERSIZE_BYTES, QUERY_LIMIT, Interval, TrailSettings
from audit_toolkit.long_keys import LONGEST
from audit_toolkit.names import quote_identifier, wal_publication
from audit_toolkit.plan import Plan, Step
from audit_toolkit.templates import render_statements
from audit_toolkit.version import __version__

_LEAF_NAMES = {Interval.DAY: "YYYY_MM_DD", Interval.WEEK: 'IYYY"w"IW', Interval.MONTH: "YYYY_MM"}

_FUNCTIONS = {
    "revoke_all": "(regclass)",
    "refuse_change": "()",
    "refuse_others": "()",
    "guard_relation": "(regclass)",
    "leaves": "()",
    "make_leaf": "(text)",
    "merkle_root": "(bytea)",
    "leaf_digest": "(regclass)",
    "ensure_past": "()",
    "ensure_partitions": "(integer)",
    "mask": "(jsonb, text, text)",
    "pick": "(jsonb, text[])",
    "stand_in": "(bytea)",
    "plain_type": "(oid)",
    "columns_now": "(regclass)",
    "has_columns": "(regclass, text[], text[], boolean)",
    "known_part": "(jsonb, text[], text[], text[])",
    "columns_carried": "(jsonb, jsonb, jsonb)",
    "names_now": "(regclass, text, text[])",
    "disguised": "(regclass, text, text[])",
    "image_sql": "(text[], oid[], text, boolean)",
    "image_by": "(anyelement, text)",
    "image_of": "(anyelement, boolean)",
    "image_expression": "(text, boolean)",
    "hand_over": "(regprocedure)",
    "columns_of": "(oid)",
    "changed_columns": "(jsonb, jsonb)",
    "partitions_of": "(oid)",
    "triggers_of": "(oid, text)",
    "code_of": "(text)",
    "table_with_capture": "(text, oid)",
    "require_owner": "(oid)",
    "let_owner_partition": "(regclass, text)",
    "columns_restored": "(jsonb, jsonb)",
    "partitions_restored": "(jsonb, jsonb)",
    "name_told": "(oid, text, text)",
    "note_changes_by": "(text, jsonb)",
    "note_changes": "(text)",
    "present_home": "()",
    "is_elsewhere": "()",
    "note_coverage": "()",
    "note_ddl": "()",
    "guard_ddl": "()",
    "captured_as": "(oid, text, text)",
    "captured_relation": "(text)",
    "columns_are_noted": "(text, oid)",
    "columns_in_doubt": "(text)",
    "noted_as": "(text, text, text)",
    "noted_by": "(text)",
    "is_noted": "(text, text, text)",
    "note_here": "(text)",
    "note_again": "(text)",
    "is_second_trigger": "(text, text[], oid, text, text, text)",
    "is_as_installed": "(text, text[], text[], boolean, text[])",
    "await_wal": "(text)",
    "read_from_wal": "(text)",
    "record_by_triggers": "(text, text)",
    "has_other_key": "(text)",
    "has_withheld": "(text)",
    "has_truncated_leaf": "(regclass, text)",
    "note_former": "(regclass, text)",
    "note_beginning": "(regclass, text)",
    "begin_capture": "(regclass, text)",
    "columns_meant": "(regclass, text, jsonb)",
    "note_capture": "(regclass, text)",
    "note_put_back": "(regclass, text)",
    "end_capture": "(text)",
    "record_gap": "(regclass, text, text)",
    "write_event": "(text, jsonb, regclass, text)",
    "record_event": "(text, jsonb, regclass, text)",
    "doubtful_events": "(bigint)",
    "note_dropped": "(oid, boolean)",
    "maintain_limits": "()",
    "maintain_lock": "()",
    "maintain_interval": "(text)",
    "maintain_create": "(text[], timestamptz[], boolean)",
    "maintain_cap": "(timestamptz, timestamptz)",
    "maintain_past": "()",
    "maintain_validate": "()",
    "maintain_relabel": "(text, text[], timestamptz[])",
    "maintain_detach": "(regclass)",
    "maintain_finish": "()",
    "maintain_drop": "(oid)",
    "maintain_hold": "(oid, text)",
    "maintain_note": "(text, boolean, jsonb)",
    "maintain_timeline": "()",
    "maintain_has_rows": "(regclass)",
    "archive_begin": "(oid)",
    "archive_end": "(oid)",
    "archive_note": "(oid, text, text, text)",
    "archive_note_export": "(jsonb)",
    "redacted": "(jsonb, text[], bigint, jsonb)",
    "destroy_salt": "(bigint, integer)",
    "refuse_redacted": "(jsonb)",
    "holds_changes_only": "(jsonb, jsonb)",
    "row_before": "(text, text, text, bigint, jsonb)",
    "present_period": "(regclass, boolean)",
    "deltas_after": "(regclass, text, text[])",
    "altered_by": "(regclass)",
    "redactable": "(text, text, text[], text[], text[], boolean, boolean)",
    "erase_events": "(bigint[], text[], text[], boolean, boolean, boolean)",
    "announce_redaction": "(jsonb, text, text, text[], text[], boolean, boolean, boolean, text, text, jsonb, text)",
    "redact": "(text, text, bigint[], text[], text[], boolean, boolean, boolean, text, text)",
    "seal_leaves": "(regclass, bigint, bigint, bytea)",
    "seal_relations": "()",
    "seal_salts": "(bigint, bigint)",
    "seal_begin": "()",
    "seal_reach": "(bigint)",
    "seal_block": "(bigint, bigint)",
    "seal_add": "(smallint[], bigint[], bytea[], text[], jsonb, jsonb, bigint, bigint, bytea, text)",
    "seal_note": "(boolean, jsonb)",
    "former_columns": "(jsonb, jsonb, text[])",
    "as_called_now": "(jsonb, jsonb, jsonb)",
    "names_known": "()",
    "moved_to": "(text, text, bigint)",
    "name_now": "(text, text)",
    "names_of": "(text, text, jsonb)",
    "require_life": "(text, text, timestamptz, jsonb)",
    "audited_table": "(regtype)",
    "row_key_of": "(regclass, text)",
    "equal_keys": "(regclass, text)",
    "has_row": "(regclass, text)",
    "row_stayed": "(text, text, text, bigint, jsonb)",
    "row_known_since": "(text, text, text, jsonb)",
    "require_reach": "(text, text, text, timestamptz, jsonb)",
    "require_known": "(regclass, text, jsonb)",
    "require_whole": "(regclass, text, text, boolean, timestamptz, jsonb)",
    "warn_of_triggers": "(text, text)",
    "warn_of_absence": "(text, text)",
    "warn_of_partitions": "(text, text, text, timestamptz, jsonb)",
    "warn_of_gap": "(text, text, text, timestamptz, jsonb)",
    "row_image_at": "(text, text, text, timestamptz, jsonb)",
    "row_images_at": "(text, text, timestamptz, jsonb)",
    "row_at": "(anyelement, text, timestamptz)",
    "table_at": "(anyelement, timestamptz)",
    "history": "(regclass, text)",
}

_FOR_READERS = (
    "columns_of",
    "partitions_of",
    "changed_columns",
    "former_columns",
    "as_called_now",
    "names_known",
    "moved_to",
    "name_told",
    "name_now",
    "names_of",
    "require_life",
    "plain_type",
    "columns_now",
    "has_columns",
    "image_sql",
    "image_by",
    "image_of",
    "leaves",
    "present_home",
    "doubtful_events",
    "audited_table",
    "row_key_of",
    "equal_keys",
    "has_row",
    "row_stayed",
    "row_known_since",
    "require_reach",
    "require_known",
    "require_whole",
    "triggers_of",
    "code_of",
    "is_elsewhere",
    "columns_in_doubt",
    "partitions_restored",
    "warn_of_triggers",
    "warn_of_absence",
    "warn_of_partitions",
    "warn_of_gap",
    "refuse_redacted",
    "holds_changes_only",
    "row_before",
    "row_image_at",
    "row_images_at",
    "row_at",
    "table_at",
    "history",
)
READER_FUNCTIONS = {name: _FUNCTIONS[name] for name in _FOR_READERS}
"""What a reader of the trail may execute, with their arguments."""

_FOR_MAINTAINERS = (
    "leaves",
    "present_home",
    "columns_of",
    "partitions_of",
    "doubtful_events",
    "note_changes",
    "note_coverage",
    *(n for n in _FUNCTIONS if n.startswith("maintain_") and n != "maintain_limits"),
)
MAINTAINER_FUNCTIONS = {name: _FUNCTIONS[name] for name in _FOR_MAINTAINERS}
"""What a maintainer may execute, with their arguments."""

_FOR_ARCHIVERS = (
    *("leaves", "present_home", "maintain_lock", "maintain_has_rows"),
    *("leaf_digest", "merkle_root", "archive_begin", "archive_end", "archive_note"),
    "archive_note_export",
)
ARCHIVER_FUNCTIONS = {name: _FUNCTIONS[name] for name in _FOR_ARCHIVERS}
"""What an archiver may execute, with their arguments."""

_FOR_INSTALLERS = (
    "await_wal",
    "begin_capture",
    "note_beginning",
    "note_capture",
    "note_put_back",
    "note_changes",
    "end_capture",
    "record_gap",
)
INSTALLER_FUNCTIONS = {name: _FUNCTIONS[name] for name in _FOR_INSTALLERS}
"""What an installer may execute, with their arguments; each asks whether the table belongs to the caller."""

_FOR_RECORDERS = ("record_event", "write_event", "row_key_of", "plain_type")
RECORDER_FUNCTIONS = {name: _FUNCTIONS[name] for name in _FOR_RECORDERS}
"""What records events of the application may execute, with their arguments."""

_SEALING = ("seal_begin", "seal_reach", "seal_block", "seal_add", "seal_note")
SEALER_FUNCTIONS = {name: _FUNCTIONS[name] for name in (*_SEALING, "present_home", "note_coverage")}
"""What a sealer may execute, with their arguments."""

REDACTOR_FUNCTIONS = {name: _FUNCTIONS[name] for name in ("redactable", "redact")}
"""What a redactor may execute, with their arguments."""

DEFINERS = frozenset(
    (
        *("note_changes", "note_coverage", "note_ddl", "guard_ddl"),
        *("await_wal", "note_beginning", "note_capture", "note_put_back", "end_capture"),
        "record_gap",
        *("write_event", "redactable", "erase_events", "announce_redaction", "redact"),
        *(n for n in _FUNCTIONS if n.startswith("maintain_") and n != "maintain_limits"),
        *("archive_begin", "archive_end", "archive_note", "archive_note_export"),
        *_SEALING,
        "doubtful_events",
    )
)
"""The functions that run as the owner of the trail; each checks by itself who asks."""

_SEALS = (
    *("seal_tiles", "seal_checkpoints", "seal_keys"),
    *("seal_partitions", "seal_seeds", "redacted_slots", "redaction_notes", "redactions"),
)
"""The tables of the seals."""

SLOTS = MappingProxyType(
    {
        "row_key": "event.row_key",
        "old_row_key": "event.old_row_key",
        "old_row": "event.old_row::text",
        "new_row": "event.new_row::text",
        "context": "event.context::text",
        "query": "event.query",
    }
)
"""The payload of an event, which a leaf of the sealed tree commits to: in order, with the text of each."""

SEALED_TEXTS = (
    *("event.schema_name", "event.table_name", "event.action", "event.session_user_name"),
    *("event.role_name", "event.application_name", "nullif(concat(event.client_addr), '')"),
)
"""The texts that a leaf of the sealed tree has, as SQL."""

_NOTED = (
    "captured_tables",
    "capture_progress",
    "truncated_rows",
    "home",
    "maintenance",
    "partition_lifecycle",
    *_SEALS,
)
"""The tables of what is noted of the trail, which its owner alone writes."""

COLUMN_COMMENTS = (
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
    (
        "transaction_tstamp",
        "when the transaction began: with transaction_id, tells it from those of another cluster",
    ),
)


def leaf_interval(names: Iterable[str]) -> Interval:
    """How long the partitions of a trail are, by the names of most of them."""
    forms = {
        Interval.DAY: r"_\d{4}_\d{2}_\d{2}$",
        Interval.WEEK: r"_\d{4}w\d{2}$",
        Interval.MONTH: r"_\d{4}_\d{2}$",
    }
    known = tuple(names)
    return max(forms, key=lambda unit: sum(bool(re.search(forms[unit], name)) for name in known))


def trail_comment(settings: TrailSettings) -> str:
    """The comment of `logged_actions`: JSON that says what made it, and with which settings."""
    return json.dumps(
        _OURS
        | {
            "version": __version__,
            "interval": settings.interval.value,
            "hash": trail_hash(settings.schema),
        }
    )


@cache
def trail_hash(schema: str) -> str:
    """The SHA-256 of what a trail is made with: equal hashes mean equal tables, indexes and functions."""
    steps = _steps(schema, comment="", trail_comment="")
    text = "\n".join(statement for step in steps for statement in step.statements)
    return hashlib.sha256(text.encode()).hexdigest()


def plan_trail(settings: TrailSettings) -> Plan:
    """The steps that make the trail; taking them back removes it while it has no events.

    Runs again without harm on a trail that is already there. Refuses, when it runs, a schema or a table
    that belongs to somebody else. All times are relative to the server's now, in UTC.
    """
    steps = _steps(
        settings.schema,
        comment=_comment(),
        trail_comment=trail_comment(settings),
        owner=settings.owner,
    )
    return Plan(steps=(*steps, *_owner_steps(settings)))


def plan_trail_upgrade(schema: str) -> Plan:
    """The steps that make a trail of an older release what `plan_trail` makes.

    Its owner, the grants on it and how long its leaves are stay as the database has them. Events are
    not touched. An index that is new is left to `audit indexes fix`, which builds it while writes go on.
    """
    quoted = quote_identifier(schema)
    return Plan(
        steps=(
            *_steps(schema, comment=_comment(), trail_comment="", upgrade=True),
            Step(
                why=f"Functions that {quoted} does not need any more",
                statements=tuple(
                    render_statements("schema/retire", schema=schema, functions=_FUNCTIONS)
                ),
            ),
            Step(
                why="New objects belong to the owner of the trail, and its readers may use them",
                statements=(
                    *render_statements("schema/keep_owner", schema=schema),
                    *render_statements(
                        "schema/keep_readers", schema=schema, functions=READER_FUNCTIONS
                    ),
                ),
            ),
            relabel_trail(schema, trail_comment(TrailSettings(schema=schema))),
        )
    )


def relabel_trail(schema: str, comment: str) -> Step:
    """The step that gives the trail a comment, but leaves the interval that the database has in it."""
    return Step(
        why="Its comment says which version installed it",
        statements=tuple(render_statements("schema/relabel", schema=schema, comment=comment)),
    )


_OURS = {"tool": "audit-toolkit"}


def _comment() -> str:
    """The comment of whatever else belongs to a trail."""
    return json.dumps(_OURS | {"version": __version__})


def _steps(
    schema: str,
    *,
    comment: str,
    trail_comment: str,
    owner: str | None = None,
    upgrade: bool = False,
) -> tuple[Step, ...]:
    """All but the owner; without `trail_comment`, the table keeps the comment that it has.

    With `upgrade` for a trail that is there already, and has writers.
    """
    lock = "SHARE ROW EXCLUSIVE on the trail" if upgrade else "none"
    values: dict[str, Any] = {
        "schema": schema,
        "intervals": tuple(Interval),
        "publication": wal_publication(schema),
        "leaf_names": _LEAF_NAMES,
        "bulky_bytes": OVERSIZE_BYTES,
        "query_limit": QUERY_LIMIT,
        "longest_key": LONGEST,
        "comment": comment,
        # Without the version: partitions outlive versions, and functions that differ only by it are equal.
        "leaf_comment": json.dumps(_OURS),
        "slots": SLOTS,
        "texts": SEALED_TEXTS,
        "seals": _SEALS,
    }
    quoted = quote_identifier(schema)

    def rendered(*templates: str, **more: Any) -> tuple[str, ...]:
        return tuple(s for name in templates for s in render_statements(name, **(values | more)))

    return (
        Step(
            why=f"The schema {quoted}, unless somebody else has one of that name",
            statements=(
                *rendered(
                    "schema/refuse_foreign",
                    functions=tuple(_FUNCTIONS),
                    owner=owner,
                    upgrade=upgrade,
                ),
                *rendered("schema/refuse_pending_detach"),
                *rendered("schema/note_grants", functions=tuple(_FUNCTIONS)),
                *rendered("schema/schema"),
            ),
            undo=rendered("schema/refuse_pending_detach", "schema/drop_if_empty"),
        ),
        Step(
            why=f"The trail, {quoted}.logged_actions: one row per event, partitioned by time",
            statements=rendered(
                "schema/logged_actions",
                context_limit=CONTEXT_LIMIT,
                comment=trail_comment,
                column_comments=COLUMN_COMMENTS,
                upgrade=upgrade,
            ),
            lock=lock,
        ),
        Step(
            why="Its functions, none of which PUBLIC may execute",
            statements=(
                *rendered(
                    "functions/revoke_all",
                    "schema/captured_tables",
                    "schema/capture_progress",
                    "schema/truncated_rows",
                    "schema/seals",
                    *(f"functions/{name}" for name in _FUNCTIONS if name != "revoke_all"),
                    "schema/function_comments",
                    functions=_FUNCTIONS,
                ),
                *rendered("schema/take_back_grants", functions=tuple(_FUNCTIONS)),
            ),
        ),
        Step(why="The key of keyed masks", statements=rendered("schema/mask_key")),
        Step(
            why="Maintenance records: partitions on their way out, the last success",
            statements=rendered("schema/partition_lifecycle", "schema/maintenance"),
        ),
        Step(
            why="Who is told what the trail holds, and how far",
            statements=rendered("schema/consumers"),
        ),
        Step(
            why="Where the trail is, so that it notices when it was moved",
            statements=rendered("schema/home", "schema/owner_only", tables=_NOTED),
        ),
        Step(
            why="Append-only, with the grants it had before, and with partitions well ahead of "
            "the server's clock",
            statements=rendered("schema/first_leaves", "schema/give_back_grants"),
            lock=lock,
        ),
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
