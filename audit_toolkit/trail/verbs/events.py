"""Events of the trail, the history of a table or a row, and what is known of both."""

from __future__ import annotations

from audit_toolkit.trail.blame import blame as _blame
from audit_toolkit.trail.history import audited_tables, events, pages, transactions
from audit_toolkit.trail.history.read import history as _history
from audit_toolkit.trail.history.read import stream_events as _stream_events
from audit_toolkit.trail.rows import key_range, lookup
from audit_toolkit.trail.sources.dispatch import stream_verb, verb

blame = verb(_blame)
cut_page = verb(pages.cut_page)
find_event = verb(audited_tables.find_event)
find_range = verb(key_range.find_range)
find_subject = verb(lookup.find_subject)
history = verb(_history)
known_tables = verb(audited_tables.known_tables)
read_page = verb(audited_tables.read_page)
read_page_within = verb(audited_tables.read_page_within)
rows_there = verb(audited_tables.rows_there)
rows_with_key = verb(audited_tables.rows_with_key)
select_events = verb(events.select_events)
stream_events = stream_verb(_stream_events)
subjects_of = verb(events.subjects_of)
transaction_starts = verb(transactions.transaction_starts)
