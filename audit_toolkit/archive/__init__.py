"""Detached leaves as Parquet files, read back and compared before anything is dropped."""

from audit_toolkit.archive.dropped_partitions import archive_findings
from audit_toolkit.archive.events import ArchivedEvents, archived_events
from audit_toolkit.archive.export import LiveExport, export_live
from audit_toolkit.archive.iceberg import Differences, Registered, Target, differences, register
from audit_toolkit.archive.manifest import (
    Catalogue,
    Manifest,
    Origin,
    chain_breaks,
    find_manifest,
    newest,
    read_catalogue,
    read_manifests,
)
from audit_toolkit.archive.origin import adopt, read_expected, read_origin, record_fingerprints
from audit_toolkit.archive.person import PersonArchive
from audit_toolkit.archive.query import query_archive
from audit_toolkit.archive.redaction import Archives
from audit_toolkit.archive.restore import rehearse_restore, restore_leaf
from audit_toolkit.archive.run import archive_gate, archiver
from audit_toolkit.archive.sealed import compare_seal, read_seal, seal_note, seal_problems
from audit_toolkit.archive.store import Store
from audit_toolkit.archive.unfinished import require_finished, unfinished_findings
from audit_toolkit.archive.verify import ReadBack, check_catalogue, damaged, read_back
from audit_toolkit.archive.write import archive_leaf

__all__ = [
    "ArchivedEvents",
    "Archives",
    "Catalogue",
    "Differences",
    "LiveExport",
    "Manifest",
    "Origin",
    "PersonArchive",
    "ReadBack",
    "Registered",
    "Store",
    "Target",
    "adopt",
    "archive_findings",
    "archive_gate",
    "archive_leaf",
    "archived_events",
    "archiver",
    "chain_breaks",
    "check_catalogue",
    "compare_seal",
    "damaged",
    "differences",
    "export_live",
    "find_manifest",
    "newest",
    "query_archive",
    "read_back",
    "read_catalogue",
    "read_expected",
    "read_manifests",
    "read_origin",
    "read_seal",
    "record_fingerprints",
    "register",
    "rehearse_restore",
    "require_finished",
    "restore_leaf",
    "seal_note",
    "seal_problems",
    "unfinished_findings",
]
