"""Reading the trail: events, the history of tables and rows, how they were, and putting them back."""

from typing import TYPE_CHECKING

from audit_toolkit.lazy_names import lazy_names
from audit_toolkit.trail.blame import Origin
from audit_toolkit.trail.event import Action, Event
from audit_toolkit.trail.history.audited_tables import HistoryPage, KnownTable, scope_of
from audit_toolkit.trail.history.events import Selection, table_of
from audit_toolkit.trail.history.filter import Filter, history_query
from audit_toolkit.trail.history.pages import Page
from audit_toolkit.trail.rows.key_range import KeyRange
from audit_toolkit.trail.rows.lookup import Subject
from audit_toolkit.trail.sources.session import psycopg_connection
from audit_toolkit.trail.verbs.events import (
    blame,
    cut_page,
    find_event,
    find_range,
    find_subject,
    history,
    known_tables,
    read_page,
    read_page_within,
    rows_there,
    rows_with_key,
    select_events,
    stream_events,
    subjects_of,
    transaction_starts,
)

if TYPE_CHECKING:
    from audit_toolkit.trail.history.cursor import Position
    from audit_toolkit.trail.history.follow import Batch, Blocker
    from audit_toolkit.trail.redaction import BROUGHT, ErasedFile, Erasure, Redaction, Wanted
    from audit_toolkit.trail.revert.marks import Mark
    from audit_toolkit.trail.revert.plan import OnConflict, RowChange, Undo
    from audit_toolkit.trail.revert.reversal import Conflict, Reversal, reverse
    from audit_toolkit.trail.revert.selection import ConflictError
    from audit_toolkit.trail.time_travel import Difference
    from audit_toolkit.trail.verbs.follow import follow, follow_subject
    from audit_toolkit.trail.verbs.past import (
        copy_table_at,
        diff,
        row_at,
        stream_table_at,
        table_at,
    )
    from audit_toolkit.trail.verbs.personal import events_of_person, redact
    from audit_toolkit.trail.verbs.undo import (
        apply_restore,
        apply_revert,
        find_mark,
        plan_restore,
        plan_revert,
        set_mark,
    )
else:
    # Following, time travel and undo are imported on first use.
    _HOMES = {
        "BROUGHT": "redaction",
        "Batch": "history.follow",
        "Blocker": "history.follow",
        "Conflict": "revert.reversal",
        "ConflictError": "revert.selection",
        "Difference": "time_travel",
        "ErasedFile": "redaction",
        "Erasure": "redaction",
        "Mark": "revert.marks",
        "OnConflict": "revert.plan",
        "Position": "history.cursor",
        "Redaction": "redaction",
        "Reversal": "revert.reversal",
        "RowChange": "revert.plan",
        "Undo": "revert.plan",
        "Wanted": "redaction",
        "apply_restore": "verbs.undo",
        "apply_revert": "verbs.undo",
        "copy_table_at": "verbs.past",
        "diff": "verbs.past",
        "events_of_person": "verbs.personal",
        "find_mark": "verbs.undo",
        "follow": "verbs.live",
        "follow_subject": "verbs.live",
        "plan_restore": "verbs.undo",
        "plan_revert": "verbs.undo",
        "redact": "verbs.personal",
        "reverse": "revert.reversal",
        "row_at": "verbs.past",
        "set_mark": "verbs.undo",
        "stream_table_at": "verbs.past",
        "table_at": "verbs.past",
    }
    __getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "BROUGHT",
    "Action",
    "Batch",
    "Blocker",
    "Conflict",
    "ConflictError",
    "Difference",
    "ErasedFile",
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
    "Wanted",
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
    "read_page_within",
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
