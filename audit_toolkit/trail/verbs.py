"""The verbs as applications call them. Each is a function of its own module, for any source.

feed = trail.history(session, "orders", 42, newest_first=True, limit=20)
feed = await trail.history(async_session, "orders", 42, newest_first=True, limit=20)

for row in trail.table_at(session, "orders", moment): …
async with trail.table_at(async_session, "orders", moment) as rows:
async for row in rows: …
"""

from __future__ import annotations

from audit_toolkit.trail import person, redaction, time_travel
from audit_toolkit.trail.blame import blame as _blame
from audit_toolkit.trail.history import events, known, pages, transactions
from audit_toolkit.trail.history.follow import follow as _follow
from audit_toolkit.trail.history.follow import follow_subject as _follow_subject
from audit_toolkit.trail.history.read import history as _history
from audit_toolkit.trail.history.read import stream_events as _stream_events
from audit_toolkit.trail.revert import marks, selection
from audit_toolkit.trail.rows import key_range, lookup
from audit_toolkit.trail.sources.calling import stream_verb, verb

blame = verb(_blame)
cut_page = verb(pages.cut_page)
find_event = verb(known.find_event)
find_range = verb(key_range.find_range)
find_subject = verb(lookup.find_subject)
history = verb(_history)
known_tables = verb(known.known_tables)
read_page = verb(known.read_page)
rows_there = verb(known.rows_there)
rows_with_key = verb(known.rows_with_key)
select_events = verb(events.select_events)
subjects_of = verb(events.subjects_of)

row_at = verb(time_travel.row_at)
copy_table_at = stream_verb(time_travel.copy_table_at)
diff = stream_verb(time_travel.diff)
follow = stream_verb(_follow)
follow_subject = stream_verb(_follow_subject)
stream_events = stream_verb(_stream_events)
stream_table_at = stream_verb(time_travel.stream_table_at)
table_at = stream_verb(time_travel.table_at)

apply_restore = verb(selection.apply_restore)
apply_revert = verb(selection.apply_revert)
plan_restore = verb(selection.plan_restore)
plan_revert = verb(selection.plan_revert)

events_of_person = verb(person.events_of_person)
redact = verb(redaction.redact)

find_mark = verb(marks.find_mark)
set_mark = verb(marks.set_mark)
transaction_starts = verb(transactions.transaction_starts)
