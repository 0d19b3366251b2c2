"""Reading the trail: events, and the history of tables and rows."""

from audit_toolkit.trail.events import Selection, select_events, subjects_of, table_of
from audit_toolkit.trail.history import Filter, history, history_query, stream_events
from audit_toolkit.trail.model import Action, Event
from audit_toolkit.trail.subject import Subject, find_subject

__all__ = [
    "Action",
    "Event",
    "Filter",
    "Selection",
    "Subject",
    "find_subject",
    "history",
    "history_query",
    "select_events",
    "stream_events",
    "subjects_of",
    "table_of",
]
