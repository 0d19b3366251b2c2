"""What a check found, for people, programs, Nagios and Prometheus; values only, nothing is printed here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from audit_toolkit.indexes.diagnose import worst
from audit_toolkit.indexes.model import Finding, Severity, State
from audit_toolkit.indexes.repair import Repair
from audit_toolkit.plurals import counted

_NAGIOS = {Severity.WARNING: ("WARNING", 1), Severity.CRITICAL: ("CRITICAL", 2)}
_ADVICE = (State.DUPLICATE, State.REDUNDANT, State.UNUSED)
_HELP = {
    "audit_check_success": "1 if the check itself could run",
    "audit_indexes": "indexes that were checked",
    "audit_index_findings": "findings by severity",
    "audit_index_building": "indexes that are being built, rebuilt or dropped now",
    "audit_index_invalid": "1 for each broken or incomplete index, with its cause",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Findings with their remedies, of `total` indexes."""

    repairs: Sequence[Repair]
    total: int

    def __post_init__(self) -> None:
        order = list(Severity)
        worst_first = sorted(self.repairs, key=lambda r: -order.index(r.finding.severity))
        object.__setattr__(self, "repairs", worst_first)

    @property
    def severity(self) -> Severity:
        """That of the worst finding."""
        return worst([repair.finding for repair in self.repairs])

    @property
    def nagios_code(self) -> int:
        """0 OK, 1 WARNING, 2 CRITICAL."""
        return _NAGIOS.get(self.severity, ("OK", 0))[1]

    def reaches(self, severity: Severity) -> bool:
        """Whether a finding is as bad as that, or worse."""
        order = list(Severity)
        return order.index(self.severity) >= order.index(severity)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "severity": self.severity.value,
            "indexes": self.total,
            "findings": [_finding_dict(repair) for repair in self.repairs],
        }

    def as_text(self) -> str:
        """The report for people: each finding, why, and the SQL that ends it."""
        blocks = ["\n".join(_lines(repair)) for repair in self.repairs]
        wrong = sum(_is_wrong(repair.finding) for repair in self.repairs)
        need = "needs" if wrong == 1 else "need"
        verdict = f"{wrong} of {counted(self.total, 'index')} {need} attention" if wrong else (
            "the index is fine" if self.total == 1 else f"all {self.total} indexes are fine"
        )  # fmt: skip
        return "\n\n".join([*blocks, verdict])

    def as_nagios(self) -> str:
        """One line with counts, then a line for each finding."""
        word = _NAGIOS.get(self.severity, ("OK", 0))[0]
        wrong = [repair.finding for repair in self.repairs if _is_wrong(repair.finding)]
        counts = _by_state(wrong)
        text = ", ".join(f"{n} {state}" for state, n in counts.items()) or counted(
            self.total, "index"
        )
        line = (
            f"AUDIT_INDEXES {word} - {text} | broken={len(wrong)};0;;0; building={self._building}"
        )
        details = (f"{f.severity}: {f.subject}: {f.message}".replace("|", "/") for f in wrong)
        return "\n".join([line, *details])

    def as_prometheus(self) -> str:
        """Gauges for the textfile collector."""
        lines = [*_gauge("audit_check_success", [({"check": "indexes"}, 1)])]
        lines += _gauge("audit_indexes", [({}, self.total)])
        severities = [repair.finding.severity for repair in self.repairs]
        by_severity = [({"severity": s.value}, severities.count(s)) for s in list(Severity)[1:]]
        lines += _gauge("audit_index_findings", by_severity)
        lines += _gauge("audit_index_building", [({}, self._building)])
        wrong = (repair.finding for repair in self.repairs if _is_wrong(repair.finding))
        samples = [({"index": f.subject, "state": f.state.value}, 1) for f in wrong]
        lines += _gauge("audit_index_invalid", samples)
        return "\n".join(lines) + "\n"

    @property
    def _building(self) -> int:
        return sum(repair.finding.state is State.BUILDING for repair in self.repairs)


def _is_wrong(finding: Finding) -> bool:
    return finding.severity in _NAGIOS


def _by_state(findings: Sequence[Finding]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for finding in findings:
        words = finding.state.value.replace("_", " ")
        counts[words] = counts.get(words, 0) + 1
    return counts


def _finding_dict(repair: Repair) -> dict[str, Any]:
    finding, index = repair.finding, repair.finding.index
    return {
        "state": finding.state.value,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "oid": index and index.oid,
        "table": index and str(index.table),
        "definition": index and index.definition,
        "bytes": index and index.size,
        "maintained_on_writes": index and index.ready and not index.partitioned,
        "constraint": index and index.constraint and index.constraint.name,
        "pid": index and index.busy_pid,
        "message": finding.message,
        "advice": finding.advice,
        "remedy": [step.as_dict() for step in repair.steps],
    }


def _lines(repair: Repair) -> Iterator[str]:
    finding = repair.finding
    mark = "building" if finding.state is State.BUILDING else finding.severity.value
    yield f"{mark}: {finding.subject} ({finding.state.value.replace('_', ' ')})"
    if finding.index is not None:
        yield f"    on {finding.index.table}: {finding.message}"
    else:
        yield f"    {finding.message}"
    for step in repair.steps:
        for statement in step.statements:
            yield f"    fix: {' '.join(statement.split())};"
    if finding.advice and not repair.steps:
        yield f"    {'advice' if finding.state in _ADVICE else 'to do'}: {finding.advice}"


def _gauge(name: str, samples: Sequence[tuple[dict[str, str], int]]) -> Iterator[str]:
    yield f"# HELP {name} {_HELP[name]}"
    yield f"# TYPE {name} gauge"
    for labels, value in samples:
        # Prometheus quotes label values as JSON does.
        pairs = ",".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in labels.items())
        yield f"{name}{{{pairs}}} {value}" if pairs else f"{name} {value}"
