"""Profiles: which sections a framework asks for, in its order, and the controls that they are evidence for.

What a control demands is in the framework's own text; here is only which part of the report speaks to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from audit_toolkit.evidence.sections import SECTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The sections for one framework."""

    title: str
    sections: Mapping[str, tuple[str, ...]]
    """By the name of a section, in the order of the report: controls."""


def _profile(title: str, **sections: tuple[str, ...]) -> Profile:
    return Profile(title=title, sections=MappingProxyType(sections))


ALL = "all"
"""The name of the profile that has every section and cites nothing."""

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        ALL: _profile("Audit trail report", **dict.fromkeys(SECTIONS, ())),
        "soc2": _profile(
            "SOC 2: evidence from the audit trail",
            access=("CC6.1", "CC6.3"),
            activity=("CC6.1", "CC7.2"),
            coverage=("CC7.2",),
            tables=("CC7.2",),
            gaps=("CC7.2", "CC7.3"),
            checks=("CC7.1", "CC7.2"),
            seals=("CC7.1", "CC7.2"),
            reviews=("CC7.3",),
            ddl=("CC8.1",),
            restores=("CC7.5",),
            drills=("CC7.5",),
            retention=("CC6.5",),
            redactions=("CC6.5",),
            limits=("CC7.2",),
        ),
        "hipaa": _profile(
            "HIPAA security rule: evidence from the audit trail",
            access=("§164.312(a)(1)",),
            coverage=("§164.312(b)",),
            tables=("§164.312(b)",),
            gaps=("§164.312(b)",),
            activity=("§164.312(b)",),
            seals=("§164.312(c)(1)", "§164.312(c)(2)"),
            checks=("§164.312(c)(1)",),
            redactions=("§164.312(c)(1)",),
            reviews=("§164.308(a)(1)(ii)(D)",),
            retention=("§164.316(b)(2)(i)",),
            restores=("§164.308(a)(7)(ii)(B)",),
            drills=("§164.308(a)(7)(ii)(D)",),
            limits=("§164.312(b)",),
        ),
        "pci": _profile(
            "PCI DSS 4, requirement 10: evidence from the audit trail",
            coverage=("10.2.1",),
            tables=("10.2.1",),
            activity=("10.2.1.1", "10.2.2"),
            gaps=("10.2.1.6",),
            ddl=("10.2.1.7",),
            access=("10.3.1", "10.3.2"),
            retention=("10.3.3", "10.5.1"),
            seals=("10.3.4",),
            redactions=("10.3.2",),
            reviews=("10.4.1",),
            restores=("10.5.1",),
            drills=("10.5.1",),
            checks=("10.7.2", "10.7.3"),
            limits=("10.2.1",),
        ),
        "gdpr": _profile(
            "GDPR: evidence from the audit trail",
            tables=("Art. 30(1)(c)", "Art. 25"),
            coverage=("Art. 5(2)",),
            retention=("Art. 5(1)(e)", "Art. 30(1)(f)"),
            redactions=("Art. 17",),
            access=("Art. 30(1)(d)", "Art. 32(1)(b)"),
            activity=("Art. 32(4)",),
            gaps=("Art. 32(1)(b)",),
            seals=("Art. 5(1)(f)",),
            checks=("Art. 32(1)(d)",),
            restores=("Art. 32(1)(c)",),
            drills=("Art. 32(1)(c)", "Art. 32(1)(d)"),
            reviews=("Art. 32(1)(d)",),
            limits=("Art. 5(2)",),
        ),
        "part11": _profile(
            "21 CFR part 11: evidence from the audit trail",
            coverage=("§11.10(e)",),
            tables=("§11.10(e)",),
            activity=("§11.10(e)",),
            gaps=("§11.10(e)",),
            seals=("§11.10(c)", "§11.10(e)"),
            redactions=("§11.10(e)",),
            retention=("§11.10(c)",),
            restores=("§11.10(c)",),
            drills=("§11.10(b)", "§11.10(c)"),
            access=("§11.10(d)", "§11.10(g)"),
            ddl=("§11.10(k)",),
            checks=("§11.10(a)",),
            reviews=("§11.10(e)",),
            limits=("§11.10(e)",),
        ),
    }
)
"""By the word that is typed."""
