"""All that there is of a person, and erasing it."""

from __future__ import annotations

from audit_toolkit.trail import person, redaction
from audit_toolkit.trail.sources.dispatch import verb

events_of_person = verb(person.events_of_person)
redact = verb(redaction.redact)
