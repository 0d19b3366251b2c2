"""The state of the partitions for monitoring: one line for Nagios, a textfile for Prometheus."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from audit_toolkit.errors import AuditError
from audit_toolkit.partitions.health import Finding, Severity, Thresholds, worst
from audit_toolkit.partitions.model import Partitions, State
from audit_toolkit.plurals import counted


def nagios_code(findings: tuple[Finding, ...]) -> int:
    """0 OK, 1 WARNING, 2 CRITICAL."""
    return {None: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}[worst(findings)]


def nagios(partitions: Partitions, findings: tuple[Finding, ...], limits: Thresholds) -> str:
    """A status line with performance data, and a line for each finding."""
    level = worst(findings)
    word = level.name if level else "OK"
    days = partitions.horizon / timedelta(days=1)
    head = f"AUDIT_PARTITIONS {word} - {days:.1f} days ahead, {_summary(findings)}"
    warn, crit = (
        limit / timedelta(days=1) for limit in (limits.horizon_warning, limits.horizon_critical)
    )
    data = [
        f"horizon_days={days:.1f};{warn:g}:;{crit:g}:;;",
        f"leaves={len(partitions.bounded)};;;0;",
        f"gaps={len(partitions.gaps)};;;0;",
        f"tail_rows={int(_tail_rows(partitions))};;0;0;1",
        f"detach_pending={int(partitions.pending is not None)};0;;0;1",
        f"detached={len(_detached(partitions))};;;0;",
    ]
    lines = [f"{f.severity.upper()} {f.code} {f.object}: {f.message}" for f in findings]
    # A bar would end the text and begin performance data.
    return "\n".join(
        [f"{head.replace('|', '/')} | {' '.join(data)}"] + [t.replace("|", "/") for t in lines]
    )


def prometheus(
    partitions: Partitions, findings: tuple[Finding, ...], policy_needs_archive: bool
) -> str:
    """Gauges in the exposition format, for node_exporter's textfile collector."""
    return "\n".join(_metrics(partitions, findings, policy_needs_archive)) + "\n"


def write_textfile(path: Path, text: str) -> None:
    """Replace a file as a whole: a reader sees the old text or the new one, never a part."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise AuditError(
            f"cannot write the metrics: {error}", hint="give --textfile a path in a writable folder"
        ) from error


def _summary(findings: tuple[Finding, ...]) -> str:
    if not findings:
        return "no findings"
    return counted(len(findings), "finding") + ": " + ", ".join(sorted({f.code for f in findings}))


def _detached(partitions: Partitions) -> list[datetime]:
    return [
        entry.detached_at
        for entry in partitions.entries
        if entry.state is State.DETACHED and entry.detached_at
    ]


def _tail_rows(partitions: Partitions) -> bool:
    return partitions.tail is not None and partitions.tail.has_rows


def _metrics(
    partitions: Partitions, findings: tuple[Finding, ...], policy_needs_archive: bool
) -> Iterator[str]:
    def gauge(name: str, text: str, *samples: tuple[str, float]) -> Iterator[str]:
        yield f"# HELP audit_{name} {text}"
        yield f"# TYPE audit_{name} gauge"
        for labels, value in samples:
            yield f"audit_{name}{labels} {value:.15g}"

    detached = _detached(partitions)
    oldest = max(((partitions.now - at).total_seconds() for at in detached), default=0)
    unarchived = [e for e in partitions.entries if e.state is State.DETACHED and e.archive is None]
    last = partitions.last_success
    default = partitions.default
    yield from gauge(
        "maintenance_last_success_timestamp_seconds",
        "When partition maintenance last succeeded, 0 for never.",
        ("", last.astimezone(UTC).timestamp() if last else 0),
    )
    yield from gauge(
        "partition_horizon_seconds",
        "For how long from now on partitions cover every moment: the main alarm.",
        ("", partitions.horizon.total_seconds()),
    )
    yield from gauge(
        "partition_tail_rows",
        "Whether the catch-all partition has events.",
        ("", _tail_rows(partitions)),
    )
    yield from gauge(
        "partition_default_rows",
        "Whether a DEFAULT partition has events.",
        ("", default is not None and default.has_rows),
    )
    yield from gauge("partition_gaps", "Ranges without a partition.", ("", len(partitions.gaps)))
    yield from gauge(
        "partition_detach_pending",
        "Whether a detach was interrupted.",
        ("", partitions.pending is not None),
    )
    yield from gauge(
        "partitions",
        "Partitions by state.",
        ('{state="attached"}', len(partitions.bounded)),
        ('{state="detached"}', len(detached)),
        ('{state="unattached"}', len(partitions.strays)),
    )
    yield from gauge(
        "partition_oldest_detached_seconds", "Age of the oldest detached partition.", ("", oldest)
    )
    if policy_needs_archive:
        yield from gauge(
            "archive_pending",
            "Detached partitions without a verified archive.",
            ("", len(unarchived)),
        )
    yield from gauge(
        "partition_findings",
        "Findings by severity.",
        *((f'{{severity="{s}"}}', sum(f.severity is s for f in findings)) for s in Severity),
    )
