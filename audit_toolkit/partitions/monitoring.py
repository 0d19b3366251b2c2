"""The state of the partitions for people and for monitoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from audit_toolkit.findings import Finding, Measure, Metric, Report, Severity
from audit_toolkit.partitions.health import Thresholds
from audit_toolkit.partitions.model import Partitions, PartitionState
from audit_toolkit.plurals import counted

_DAY = timedelta(days=1)


def partition_report(
    partitions: Partitions,
    findings: Sequence[Finding],
    limits: Thresholds | None = None,
    *,
    needs_archive: bool = False,
) -> Report:
    """The report of `audit partitions check`; `needs_archive` where only what is archived is dropped."""
    last = partitions.last_success
    return Report(
        command="partitions check",
        findings=tuple(sorted(findings, key=lambda finding: -finding.severity.rank)),
        heading=f"{counted(len(partitions.bounded), 'partition')}, one {partitions.interval} each, "
        f"{partitions.horizon / _DAY:.1f} days ahead",
        verdict="" if findings else "OK: no problems found",
        details={
            "now": partitions.now.isoformat(),
            "interval": partitions.interval.value,
            "horizon_seconds": partitions.horizon.total_seconds(),
            "last_success": last.isoformat() if last else None,
        },
        measures=_measures(partitions, limits or Thresholds()),
        gauges=tuple(_gauges(partitions, findings, needs_archive)),
    )


def _measures(partitions: Partitions, limits: Thresholds) -> tuple[Measure, ...]:
    warning, critical = (
        limit / _DAY for limit in (limits.horizon_warning, limits.horizon_critical)
    )
    days = round(partitions.horizon / _DAY, 1)
    return (
        Measure(name="horizon_days", value=days, limits=f"{warning:g}:;{critical:g}:;;"),
        Measure(name="leaves", value=len(partitions.bounded), limits=";;0;"),
        Measure(name="gaps", value=len(partitions.gaps), limits=";;0;"),
        Measure(name="tail_rows", value=int(_tail_rows(partitions)), limits=";0;0;1"),
        Measure(name="detach_pending", value=int(partitions.pending is not None), limits="0;;0;1"),
        Measure(name="detached", value=len(_detached(partitions)), limits=";;0;"),
    )


def _detached(partitions: Partitions) -> list[datetime]:
    return [
        entry.detached_at
        for entry in partitions.entries
        if entry.state is PartitionState.DETACHED and entry.detached_at
    ]


def _tail_rows(partitions: Partitions) -> bool:
    return partitions.tail is not None and partitions.tail.has_rows


def _gauges(
    partitions: Partitions, findings: Sequence[Finding], needs_archive: bool
) -> Iterator[Metric]:
    def gauge(name: str, text: str, value: float) -> Metric:
        return Metric(name=f"audit_{name}", help=text, samples=[({}, value)])

    detached = _detached(partitions)
    last, default = partitions.last_success, partitions.default
    yield gauge(
        "maintenance_last_success_timestamp_seconds",
        "When partition maintenance last succeeded, 0 for never.",
        last.astimezone(UTC).timestamp() if last else 0,
    )
    yield gauge(
        "partition_horizon_seconds",
        "For how long from now on partitions cover every moment: the main alarm.",
        partitions.horizon.total_seconds(),
    )
    yield gauge(
        "partition_tail_rows",
        "Whether the catch-all partition has events.",
        _tail_rows(partitions),
    )
    yield gauge(
        "partition_default_rows",
        "Whether a DEFAULT partition has events.",
        default is not None and default.has_rows,
    )
    yield gauge("partition_gaps", "Ranges without a partition.", len(partitions.gaps))
    yield gauge(
        "partition_detach_pending",
        "Whether a detach was interrupted.",
        partitions.pending is not None,
    )
    states = {
        "attached": len(partitions.bounded),
        "detached": len(detached),
        "unattached": len(partitions.strays),
    }
    yield Metric(
        name="audit_partitions",
        help="Partitions by state.",
        samples=[({"state": state}, number) for state, number in states.items()],
    )
    yield gauge(
        "partition_oldest_detached_seconds",
        "Age of the oldest detached partition.",
        max(((partitions.now - at).total_seconds() for at in detached), default=0),
    )
    if needs_archive:
        unarchived = [
            e for e in partitions.entries if e.state is PartitionState.DETACHED and not e.archive
        ]
        yield gauge(
            "archive_pending", "Detached partitions without a verified archive.", len(unarchived)
        )
    yield Metric(
        name="audit_partition_findings",
        help="Findings by severity.",
        samples=[
            ({"severity": severity.alarm}, sum(f.severity is severity for f in findings))
            for severity in (Severity.WARNING, Severity.ERROR)
        ],
    )
