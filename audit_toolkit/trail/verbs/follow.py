"""Events as they come."""

from __future__ import annotations

from audit_toolkit.trail.history.follow import follow as _follow
from audit_toolkit.trail.history.follow import follow_subject as _follow_subject
from audit_toolkit.trail.sources.dispatch import stream_verb

follow = stream_verb(_follow)
follow_subject = stream_verb(_follow_subject)
