"""What a check of indexes found, as findings with the steps that mend them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from audit_toolkit.findings import Finding, Measure, Metric, Report, Severity
from audit_toolkit.indexes.model import Diagnosis, IndexState
from audit_toolkit.indexes.repair import Repair
from audit_toolkit.plurals import counted

FIX = "audit indexes fix"


def index_report(repairs: Sequence[Repair], total: int, command: str = "indexes check") -> Report:
    """The report on `total` indexes, the worst first."""
    findings = tuple(
        sorted(map(_finding, repairs), key=lambda finding: finding.severity.rank, reverse=True)
    )
    wrong = [repair.diagnosis for repair in repairs if _is_wrong(repair.diagnosis)]
    building = sum(repair.diagnosis.state is IndexState.BUILDING for repair in repairs)
    return Report(
        command=command,
        findings=findings,
        heading=counted(total, "index"),
        verdict=f"{len(wrong)} {'needs' if len(wrong) == 1 else 'need'} attention"
        if wrong
        else "all fine",
        details={"indexes": total},
        measures=(
            Measure(name="broken", value=len(wrong), limits="0;;0;"),
            Measure(name="building", value=building),
        ),
        gauges=_gauges([repair.diagnosis for repair in repairs], total, building),
    )


def _finding(repair: Repair) -> Finding:
    found = repair.diagnosis
    fixes = (f"fix: {' '.join(s.split())};" for step in repair.steps for s in step.statements)
    return Finding(
        kind=found.kind,
        severity=found.severity,
        subject=found.subject,
        message=found.message,
        remedy=FIX if repair.steps else found.advice,
        notes=(*([f"on {found.index.table}"] if found.index else []), *fixes),
        details=_details(repair),
    )


def _details(repair: Repair) -> dict[str, Any]:
    found, index = repair.diagnosis, repair.diagnosis.index
    return {
        "state": found.state.value,
        "oid": index and index.oid,
        "table": index and str(index.table),
        "definition": index and index.definition,
        "bytes": index and index.size,
        "maintained_on_writes": index and index.ready and not index.partitioned,
        "constraint": index and index.constraint and index.constraint.name,
        "pid": index and index.busy_pid,
        "advice": found.advice,
        "steps": [step.as_dict() for step in repair.steps],
    }


def _gauges(diagnoses: Sequence[Diagnosis], total: int, building: int) -> tuple[Metric, ...]:
    severities = [found.severity for found in diagnoses]
    return (
        Metric(name="audit_indexes", help="indexes that were looked at", samples=[({}, total)]),
        Metric(
            name="audit_index_findings",
            help="findings by severity",
            samples=[({"severity": s.alarm}, severities.count(s)) for s in list(Severity)[1:]],
        ),
        Metric(
            name="audit_index_building",
            help="indexes that are being built, rebuilt or dropped now",
            samples=[({}, building)],
        ),
        Metric(
            name="audit_index_invalid",
            help="1 for each broken or incomplete index, with its cause",
            samples=[
                ({"index": found.subject, "state": found.state.value}, 1)
                for found in diagnoses
                if _is_wrong(found)
            ],
        ),
    )


def _is_wrong(found: Diagnosis) -> bool:
    return found.severity.rank >= Severity.WARNING.rank
