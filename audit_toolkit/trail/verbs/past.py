"""Rows and tables as they were."""

from __future__ import annotations

from audit_toolkit.trail import time_travel
from audit_toolkit.trail.sources.dispatch import stream_verb, verb

copy_table_at = stream_verb(time_travel.copy_table_at)
diff = stream_verb(time_travel.diff)
row_at = verb(time_travel.row_at)
stream_table_at = stream_verb(time_travel.stream_table_at)
table_at = stream_verb(time_travel.table_at)
