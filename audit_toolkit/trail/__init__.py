"""Reading the trail: events, the history of tables and rows, how they were, and putting them back."""

from audit_toolkit.trail.blame import Origin
from audit_toolkit.trail.event import Action, Event
from audit_toolkit.trail.history.cursor import Position
from audit_toolkit.trail.history.events import Selection, table_of
from audit_toolkit.trail.history.filter import Filter, history_query
from audit_toolkit.trail.history.follow import Batch, Blocker
from audit_toolkit.trail.history.known import HistoryPage, KnownTable, scope_of
from audit_toolkit.trail.history.pages import Page
from audit_toolkit.trail.redaction import Erasure, Redaction
from audit_toolkit.trail.revert.marks import Mark
from audit_toolkit.trail.revert.plan import OnConflict, RowChange, Undo
from audit_toolkit.trail.revert.reversal import Conflict, Reversal, reverse
from audit_toolkit.trail.revert.selection import ConflictError
from audit_toolkit.trail.rows.key_range import KeyRange
from audit_toolkit.trail.rows.lookup import Subject
from audit_toolkit.trail.sources.session import psycopg_connection
from audit_toolkit.trail.time_travel import Difference
from audit_toolkit.trail.verbs import (
    apply_restore,
    apply_revert,
    blame,
    copy_table_at,
    cut_page,
    diff,
    events_of_person,
    find_event,
    find_mark,
    find_range,
    find_subject,
    follow,
    follow_subject,
    history,
    known_tables,
    plan_restore,
    plan_revert,
    read_page,
    redact,
    row_at,
    rows_there,
    rows_with_key,
    select_events,
    set_mark,
    stream_events,
    stream_table_at,
    subjects_of,
    table_at,
    transaction_starts,
)

__all__ = [
    "Action",
    "Batch",
    "Blocker",
    "Conflict",
    "ConflictError",
    "Difference",
    "Erasure",
    "Event",
    "Filter",
    "HistoryPage",
    "KeyRange",
    "KnownTable",
    "Mark",
    "OnConflict",
    "Origin",
    "Page",
    "Position",
    "Redaction",
    "Reversal",
    "RowChange",
    "Selection",
    "Subject",
    "Undo",
    "apply_restore",
    "apply_revert",
    "blame",
    "copy_table_at",
    "cut_page",
    "diff",
    "events_of_person",
    "find_event",
    "find_mark",
    "find_range",
    "find_subject",
    "follow",
    "follow_subject",
    "history",
    "history_query",
    "known_tables",
    "plan_restore",
    "plan_revert",
    "psycopg_connection",
    "read_page",
    "redact",
    "reverse",
    "row_at",
    "rows_there",
    "rows_with_key",
    "scope_of",
    "select_events",
    "set_mark",
    "stream_events",
    "stream_table_at",
    "subjects_of",
    "table_at",
    "table_of",
    "transaction_starts",
]
