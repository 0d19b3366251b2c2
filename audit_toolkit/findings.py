"""What a check finds: one shape for every check, and how it is shown to people, programs and monitoring.

`audit check`, `partitions check`, `indexes check`, `archive verify` and `maintain` all report a `Finding`, and print
a `Report` of them: as text, as JSON, as the one line that Nagios reads, or as Prometheus reads it. docs/findings.md
lists every kind.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from audit_toolkit.errors import UsageError
from audit_toolkit.plurals import counted

SCHEMA_VERSION = 1
"""Of the JSON. It changes when a key changes its meaning or goes; a new key does not change it."""
FINDINGS = 3
"""The exit code of a command that found something."""

LABELS_VARIABLE = "AUDIT_METRIC_LABELS"
"""The environment variable with labels that every metric gets."""

_SHOWN_IN_ONE_LINE = 10


class Severity(StrEnum):
    """How bad a finding is, the least first."""

    OK = "ok"
    """Nothing is wrong: something is under way, for instance an index that is being built."""
    INFO = "info"
    """Advice."""
    WARNING = "warning"
    """It costs something, or will be an error if nobody acts."""
    ERROR = "error"
    """Changes are lost or may be, events may be forged or leaked, or writes fail."""

    @classmethod
    def _missing_(cls, value: object) -> Severity | None:
        return cls.ERROR if value == "critical" else None  # the word of monitoring systems

    @property
    def rank(self) -> int:
        """The number of the severity, from 0 on: the higher the worse."""
        return list(Severity).index(self)

    @property
    def alarm(self) -> str:
        """The word of monitoring systems, where an error is critical."""
        return "critical" if self is Severity.ERROR else self.value


class FindingKind(StrEnum):
    """What is found; docs/findings.md says what each means and what to do."""

    # capture of a table
    CAPTURE_INTERRUPTED = "capture_interrupted"
    CAPTURE_OUTDATED = "capture_outdated"
    CAPTURE_PAUSED = "capture_paused"
    CAPTURE_UNREGISTERED = "capture_unregistered"
    COLUMNS_EXCHANGED = "columns_exchanged"
    CONDITION_COLUMN_RENAMED = "condition_column_renamed"
    CONDITION_UNUSABLE = "condition_unusable"
    FOREIGN_FUNCTION = "foreign_function"
    FOREIGN_TRIGGER = "foreign_trigger"
    FUNCTION_CHANGED = "function_changed"
    FUNCTION_MOVED = "function_moved"
    HEIR_NOT_AUDITED = "heir_not_audited"
    HIDDEN_COLUMN_GONE = "hidden_column_gone"
    HIDDEN_VALUE_COMPUTED = "hidden_value_computed"
    KEY_CHANGED = "key_changed"
    LABELS_RENAMED = "labels_renamed"
    LEAF_AUDITED = "leaf_audited"
    LEAF_WITHOUT_TRIGGER = "leaf_without_trigger"
    OWNER_MAY_NOT_EXECUTE = "owner_may_not_execute"
    SEARCH_PATH_OPEN = "search_path_open"
    SECRET_IN_CLEAR = "secret_in_clear"  # noqa: S105 - a word
    SETTINGS_CHANGED = "settings_changed"
    STATEMENT_IN_TREE = "statement_in_tree"
    TABLE_GONE = "table_gone"
    TABLE_RENAMED = "table_renamed"
    TRIGGER_CHANGED = "trigger_changed"
    TRIGGER_DISABLED = "trigger_disabled"
    TRIGGER_MISSING = "trigger_missing"
    TRIGGER_NOT_ALWAYS = "trigger_not_always"
    UNLOGGED_TABLE = "unlogged_table"
    WRONG_OWNER = "wrong_owner"
    WRONG_SECURITY = "wrong_security"

    # what should be captured, and is not as it should be
    AUDITED_NOT_DECLARED = "audited_not_declared"
    BRANCHES_DISAGREE = "branches_disagree"
    DECLARED_NOT_AUDITED = "declared_not_audited"
    DECLARED_OTHERWISE = "declared_otherwise"
    NOT_AUDITED = "not_audited"
    RECORDED_NOT_AUDITED = "recorded_not_audited"
    RECORDED_OTHERWISE = "recorded_otherwise"

    # the schema of the trail
    COLUMN_CHANGED = "column_changed"
    COLUMN_MISSING = "column_missing"
    COMMENT_CHANGED = "comment_changed"
    CONSTRAINT_CHANGED = "constraint_changed"
    CONSTRAINT_MISSING = "constraint_missing"
    EVENT_FORGED = "event_forged"
    EVENT_TRIGGER_OF_OTHERS = "event_trigger_of_others"
    EXECUTABLE_BY_OTHERS = "executable_by_others"
    EXECUTABLE_BY_PUBLIC = "executable_by_public"
    GRANT_ON_LEAF = "grant_on_leaf"
    INDEX_CHANGED = "index_changed"
    INDEX_MISSING = "index_missing"
    LEAF_CHANGED = "leaf_changed"
    NOT_APPEND_ONLY = "not_append_only"
    NOT_CHECKED = "not_checked"
    READABLE_BY_OTHERS = "readable_by_others"
    RELATION_CHANGED = "relation_changed"
    RELATION_MISSING = "relation_missing"
    SCHEMA_OUTDATED = "schema_outdated"
    SEQUENCE_CHANGED = "sequence_changed"
    TRAIL_MISSING = "trail_missing"
    TRAIL_RENAMED = "trail_renamed"
    UNEXPECTED_CHILD = "unexpected_child"
    UNEXPECTED_COLUMN = "unexpected_column"
    UNEXPECTED_CONSTRAINT = "unexpected_constraint"
    UNEXPECTED_DEFAULT_PRIVILEGES = "unexpected_default_privileges"
    UNEXPECTED_FOREIGN_KEY = "unexpected_foreign_key"
    UNEXPECTED_FUNCTION = "unexpected_function"
    UNEXPECTED_INDEX = "unexpected_index"
    UNEXPECTED_OBJECT = "unexpected_object"
    UNEXPECTED_POLICY = "unexpected_policy"
    UNEXPECTED_RELATION = "unexpected_relation"
    UNEXPECTED_RULE = "unexpected_rule"
    UNEXPECTED_SEQUENCE = "unexpected_sequence"
    UNEXPECTED_TRIGGER = "unexpected_trigger"
    WRITABLE_BY_OTHERS = "writable_by_others"

    # where the trail is, and its ids
    EVENT_IDS_DOUBLED = "event_ids_doubled"
    IDS_RUN_OUT = "ids_run_out"
    SEQUENCE_BEHIND = "sequence_behind"
    STATEMENT_ON_SUBSCRIBER = "statement_on_subscriber"
    TIMELINE_CHANGED = "timeline_changed"
    TRAIL_MOVED = "trail_moved"
    TRAIL_SUBSCRIBED = "trail_subscribed"

    # partitions
    CLOCK_AHEAD = "clock_ahead"
    CLOCK_BEHIND = "clock_behind"
    CLOCKS_DISAGREE = "clocks_disagree"
    DEFAULT_HAS_ROWS = "default_has_rows"
    DEFAULT_PRESENT = "default_present"
    DETACH_PENDING = "detach_pending"
    FAR_FUTURE = "far_future"
    GAP = "gap"
    HORIZON = "horizon"
    INTERVAL_TOO_LONG = "interval_too_long"
    LAST_SUCCESS = "last_success"
    NO_PAST = "no_past"
    NO_TAIL = "no_tail"
    NOT_GUARDED = "not_guarded"
    PAST_HAS_ROWS = "past_has_rows"
    RECORD_DIFFERS = "record_differs"
    RENAMED = "renamed"
    TAIL_CAPPED = "tail_capped"
    TAIL_HAS_ROWS = "tail_has_rows"
    UNATTACHED = "unattached"
    UNMANAGED = "unmanaged"

    # consumers of the trail
    CONSUMER_STUCK = "consumer_stuck"
    DEAD_LETTERS = "dead_letters"
    PUBLICATION_CHANGED = "publication_changed"
    PUBLICATION_MISSING = "publication_missing"

    # capture from the WAL
    NOT_FROM_WAL = "not_from_wal"
    PARTITION_NOT_IN_WAL = "partition_not_in_wal"
    PARTITION_NOT_READY = "partition_not_ready"
    REPLICA_IDENTITY_CHANGED = "replica_identity_changed"
    SLOT_LOST = "slot_lost"
    SLOT_MISSING = "slot_missing"
    SLOT_UNUSED = "slot_unused"
    WAL_LEVEL = "wal_level"
    WAL_RETAINED = "wal_retained"
    WAL_UNLIMITED = "wal_unlimited"
    WORKER_BEHIND = "worker_behind"
    WORKER_STOPPED = "worker_stopped"

    # indexes
    INDEX_BUILDING = "index_building"
    INDEX_CANCELLED_DROP = "index_cancelled_drop"
    INDEX_CCNEW = "index_ccnew"
    INDEX_CCOLD = "index_ccold"
    INDEX_DUPLICATE = "index_duplicate"
    INDEX_FAILED_CREATE = "index_failed_create"
    INDEX_INVALID_EXCLUSION = "index_invalid_exclusion"
    INDEX_INVALID_UNDER_VALID_PARENT = "index_invalid_under_valid_parent"
    INDEX_PARENT_INVALID = "index_parent_invalid"
    INDEX_REDUNDANT = "index_redundant"
    INDEX_REPACK_LEFTOVER = "index_repack_leftover"
    INDEX_SOME_LEAVES_ONLY = "index_some_leaves_only"
    INDEX_UNFINISHED = "index_unfinished"
    INDEX_UNSAFE_SERVER = "index_unsafe_server"
    INDEX_UNUSED = "index_unused"

    # the archive
    ARCHIVE_CHAIN_BROKEN = "archive_chain_broken"
    ARCHIVE_DAMAGED = "archive_damaged"
    ARCHIVE_DIFFERS = "archive_differs"
    ARCHIVE_MISSING = "archive_missing"
    ARCHIVE_STRAY_FILE = "archive_stray_file"
    ARCHIVE_UNKNOWN = "archive_unknown"
    ARCHIVE_UNREACHABLE = "archive_unreachable"
    DROPPED_NOT_ARCHIVED = "dropped_not_archived"
    DROPPED_UNARCHIVED = "dropped_unarchived"
    ICEBERG_DIFFERS = "iceberg_differs"
    NOT_ARCHIVED = "not_archived"

    # seals
    CHECKPOINT_INVALID = "checkpoint_invalid"
    CHECKPOINT_NOT_KEPT = "checkpoint_not_kept"
    EVENT_CHANGED = "event_changed"
    EVENT_DOUBLED = "event_doubled"
    DROP_RECORD_CHANGED = "drop_record_changed"
    DROP_UNANNOUNCED = "drop_unannounced"
    EVENT_INSERTED = "event_inserted"
    EVENT_REMOVED = "event_removed"
    REDACTION_UNANNOUNCED = "redaction_unannounced"
    REDACTION_UNSIGNED = "redaction_unsigned"
    ROOT_DIFFERS = "root_differs"
    SALTS_MISSING = "salts_missing"
    SEAL_KEY_MISSING = "seal_key_missing"
    SEAL_KEY_UNKNOWN = "seal_key_unknown"
    SEAL_OLD = "seal_old"
    SEAL_RECORD_CHANGED = "seal_record_changed"
    TRAIL_DISGUISED = "trail_disguised"
    TILE_CHANGED = "tile_changed"
    TRAIL_BEHIND = "trail_behind"
    TRAIL_FORKED = "trail_forked"

    # the witness: the trail against the WAL
    CHANGE_WITHOUT_EVENT = "change_without_event"
    EVENT_DIFFERS = "event_differs"
    EVENT_WITHOUT_CHANGE = "event_without_change"
    WITNESS_BLIND = "witness_blind"
    WITNESS_STOPPED = "witness_stopped"

    # the trail against the tables, and what guards capture
    CHANGED_IN_GAP = "changed_in_gap"
    EVENT_OUT_OF_LINE = "event_out_of_line"
    GUARD_MISSING = "guard_missing"
    NOT_RECONCILED = "not_reconciled"
    ROW_DIFFERS = "row_differs"
    ROW_MISSING = "row_missing"
    ROW_REAPPEARED = "row_reappeared"
    ROW_UNKNOWN = "row_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be, and what to do about it."""

    kind: FindingKind
    severity: Severity
    subject: str
    """What it is about: a table, a partition, an index, a role, a file."""
    message: str
    """What is the matter, without a final period."""
    remedy: str
    """The command that mends it, or in words what to do; empty where there is nothing to do."""
    accepted: str | None = None
    """Why somebody decided to leave it so; such a finding is shown, and is no failure."""
    notes: tuple[str, ...] = ()
    """More lines for people."""
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """More keys of the JSON, which the docs of its command explain."""

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return {
            "kind": self.kind.value,
            "severity": self.severity.value,
            "subject": self.subject,
            "message": self.message,
            "remedy": self.remedy,
            "accepted": self.accepted,
            **self.details,
            # What these were called before every command had the same shape.
            "object": self.subject,
            "detail": self.message,
            "code": self.kind.value,
        }

    def lines(self) -> Iterator[str]:
        """The finding for people."""
        if self.accepted is not None:
            yield f"accepted: {self.subject}: {self.message}"
            yield f"  {self.kind}; because: {self.accepted}"
            return
        yield f"{self.severity}: {self.subject}: {self.message}"
        yield f"  {self.kind}; remedy: {self.remedy}" if self.remedy else f"  {self.kind}"
        yield from (f"  {note}" for note in self.notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A number beside the findings: performance data of Nagios."""

    name: str
    value: float
    limits: str = ""
    """`warning;critical;minimum;maximum` as the Nagios plug-in guidelines write them."""

    def __str__(self) -> str:
        number = f"{self.name}={self.value:.15g}"
        return f"{number};{self.limits}" if self.limits else number


def labels_of_all() -> dict[str, str]:
    """Labels that every metric gets, `AUDIT_METRIC_LABELS=database=orders,team=shop`; none by default.

    They tell the databases of one machine apart, whose node_exporter refuses a sample that two files have.
    Raises `UsageError`.
    """
    said = os.environ.get(LABELS_VARIABLE, "")
    labels = dict(pair.strip().partition("=")[::2] for pair in said.split(",") if pair.strip())
    for name, text in labels.items():
        if not re.fullmatch(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", name) or not text:
            raise UsageError(
                f"{LABELS_VARIABLE}: {said!r} is not a list of labels",
                hint="write NAME=VALUE, separated by commas, such as database=orders",
            )
    return labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric of Prometheus with its samples: labels and value."""

    name: str
    help: str
    samples: Sequence[tuple[Mapping[str, str], float]]
    type: str = "gauge"

    def lines(self) -> Iterator[str]:
        """The metric in the text format."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.type}"
        everywhere = labels_of_all()
        for labels, value in self.samples:
            named = {**everywhere, **labels}
            pairs = ",".join(f'{name}="{_escaped(text)}"' for name, text in named.items())
            yield f"{self.name}{{{pairs}}} {value:.15g}" if pairs else f"{self.name} {value:.15g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a command found, and how it is shown."""

    command: str
    """The words after `audit`: `partitions check`."""
    findings: tuple[Finding, ...]
    heading: str = ""
    """What was looked at, in a few words."""
    verdict: str = ""
    """The last line for people."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """More keys of the JSON."""
    measures: tuple[Measure, ...] = ()
    gauges: tuple[Metric, ...] = ()

    @property
    def severity(self) -> Severity:
        """That of the worst finding that nobody accepted."""
        return worst(self.findings)

    def failing(self, severity: Severity = Severity.WARNING) -> bool:
        """Whether a finding is as bad as that, or worse."""
        return self.severity.rank >= severity.rank

    def as_dict(self, fail_on: Severity = Severity.WARNING) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "ok": not self.failing(fail_on),
            "severity": self.severity.value,
            **self.details,
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def as_lines(self) -> Iterator[str]:
        """The report for people; what it names may hold what a terminal would obey."""
        if self.heading:
            yield self.heading
        for finding in self.findings:
            yield from finding.lines()
        if self.verdict:
            yield self.verdict

    @property
    def nagios_code(self) -> int:
        """0 OK, 1 WARNING, 2 CRITICAL."""
        return {Severity.WARNING: 1, Severity.ERROR: 2}.get(self.severity, 0)

    def as_nagios(self) -> str:
        """One line: the state, what was found, and performance data."""
        state = self.severity.alarm.upper() if self.nagios_code else "OK"
        text = ", ".join(filter(None, (self.heading, self._in_one_line())))
        # A bar would end the text and begin performance data.
        line = " ".join(f"{_service(self.command)} {state} - {text}".split()).replace("|", "/")
        return f"{line} | {' '.join(map(str, self.measures))}" if self.measures else line

    def _in_one_line(self) -> str:
        wrong = [f for f in _open(self.findings) if f.severity.rank >= Severity.WARNING.rank]
        shown = [f"{f.kind} {f.subject}: {f.message}" for f in wrong[:_SHOWN_IN_ONE_LINE]]
        if len(wrong) > len(shown):
            shown.append(f"and {len(wrong) - len(shown)} more")
        return f"{counted(len(wrong), 'finding')}: {'; '.join(shown)}" if wrong else "no findings"

    def as_prometheus(self) -> str:
        """Gauges in the text format, for node_exporter's textfile collector."""
        check = self.command.partition(" ")[0]
        counts = Counter(finding.severity for finding in _open(self.findings))
        shared = (
            Metric(
                name="audit_check_success",
                help="1 if the check itself could run",
                samples=[({"check": check}, 1)],
            ),
            Metric(
                name="audit_findings",
                help="findings of the check by severity",
                samples=[
                    ({"check": check, "severity": severity.alarm}, counts[severity])
                    for severity in list(Severity)[1:]
                ],
            ),
        )
        return "".join(f"{line}\n" for gauge in (*shared, *self.gauges) for line in gauge.lines())


def nagios_unknown(command: str, message: str) -> str:
    """The line of a check that could not run."""
    return f"{_service(command)} UNKNOWN - {' '.join(message.split()).replace('|', '/')}"


def worst(findings: Iterable[Finding]) -> Severity:
    """The highest severity among those that nobody accepted; `OK` without any."""
    return max((f.severity for f in _open(findings)), key=lambda s: s.rank, default=Severity.OK)


def _open(findings: Iterable[Finding]) -> Iterator[Finding]:
    return (finding for finding in findings if finding.accepted is None)


def _service(command: str) -> str:
    name = command.partition(" ")[0]
    return "AUDIT_" + "".join(c if c.isalnum() else "_" for c in name.upper())


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
