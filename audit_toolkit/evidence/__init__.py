"""Evidence: what somebody who examines the trail asks for on paper, and what they did themselves."""

from audit_toolkit.evidence.drill import Drill, drill
from audit_toolkit.evidence.drills_and_reviews import note_review
from audit_toolkit.evidence.gather import Verification, gather
from audit_toolkit.evidence.profiles import PROFILES, Profile
from audit_toolkit.evidence.render import as_html, as_json, as_markdown
from audit_toolkit.evidence.report import EvidenceReport, Line, Period, Section

__all__ = [
    "PROFILES",
    "Drill",
    "EvidenceReport",
    "Line",
    "Period",
    "Profile",
    "Section",
    "Verification",
    "as_html",
    "as_json",
    "as_markdown",
    "drill",
    "gather",
    "note_review",
]
