"""A drill: an archived partition restored and compared, which says whether it can be when it has to."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.archive import (
    Manifest,
    Store,
    find_manifest,
    newest,
    read_expected,
    read_manifests,
    rehearse_restore,
    seal_problems,
)
from audit_toolkit.connection import first_line, import_psycopg
from audit_toolkit.errors import (
    AuditError,
    MissingExtraError,
    PermissionDeniedError,
    UsageError,
)
from audit_toolkit.evidence.drills_and_reviews import note
from audit_toolkit.names import quote_identifier

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.seals import PublicKey

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """What came of a drill."""

    partition: str
    archive: str
    events: int
    ok: bool
    problem: str | None
    seconds: float
    sealed: bool
    """Whether the archive has a seal of it, which was verified, too."""
    event_id: int | None = None
    """The event that records it."""

    def as_dict(self) -> dict[str, Any]:
        """The drill as JSON values."""
        return asdict(self)


def drill(
    connection: Connection,
    store: Store,
    schema: str,
    *,
    clock: Callable[[], datetime],
    partition: str | None = None,
    scratch: str | None = None,
    keys: Sequence[PublicKey] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Drill:
    """Restore an archived partition into a schema of its own, compare it, drop it, and record what came of it.

    Without a name, any of those that this database archived. A failure is recorded like a success, and is no error.
    Raises `UsageError` where this database archived nothing, or not that, or the schema `scratch` is there, and what
    psycopg raises where this role lacks a right, or the connection is lost.
    """
    began = clock()
    chosen = partition or _any_of(connection, store, schema)
    place = scratch or f"{schema[:40]}_drill_{secrets.token_hex(4)}"
    events, sealed, problem = 0, False, None
    errors = import_psycopg().errors
    try:
        manifest = _manifest(connection, store, schema, chosen)
        events, sealed = manifest.events, manifest.seal is not None
        rehearse_restore(connection, store, schema, manifest, place, progress=progress)
        problem = next(iter(seal_problems(store, manifest, keys)), None)
    except (UsageError, PermissionDeniedError, MissingExtraError):
        raise
    except (errors.InsufficientPrivilege, errors.ReservedName, errors.QueryCanceled):
        raise
    except AuditError as error:
        problem = error.message
    except (errors.DataError, errors.IntegrityError, *_OF_FILES) as error:
        problem = f"the archive could not be read: {first_line(error)}"
    except errors.Error as error:
        if connection.closed:
            raise
        problem = f"the server refused the restore: {first_line(error)}"
    done = Drill(
        partition=chosen,
        archive=store.url,
        events=events,
        ok=problem is None,
        problem=problem,
        seconds=round((clock() - began).total_seconds(), 3),
        sealed=sealed,
    )
    said = {name: value for name, value in done.as_dict().items() if name != "event_id"}
    return replace(done, event_id=note(connection, schema, "drill", said))


_OF_FILES = (OSError, ValueError, TypeError, KeyError, NotImplementedError)
"""What pyarrow raises at files that are not what a manifest says; its errors are these."""


def _any_of(connection: Connection, store: Store, schema: str) -> str:
    """A partition that this database trusts the archive to have."""
    expected = read_expected(connection, schema)
    known = sorted({record.leaf for record in expected.recorded})
    if not known:
        raise UsageError(
            f"{quote_identifier(schema)}.logged_actions has no archived partition yet",
            hint=f"audit archive run --archive {store.url} archives detached partitions",
        )
    return secrets.choice(known)


def _manifest(connection: Connection, store: Store, schema: str, partition: str) -> Manifest:
    expected = read_expected(connection, schema)
    recorded = [record for record in expected.recorded if record.leaf == partition]
    there = {m.name for m in newest(read_manifests(store)) if m.leaf == partition}
    if recorded and not there:
        places = sorted({record.archive or "" for record in recorded})
        raise AuditError(
            f"the archive has no manifest of {partition}, which was archived at {', '.join(places)}"
        )
    manifest = find_manifest(store, partition, None, {record.name for record in recorded})
    if not recorded:
        raise UsageError(
            f"this database has no record of archiving {partition}: {manifest.place or 'another one'} wrote it",
            hint="audit drill tests what this database archived; audit partitions list shows that",
        )
    return manifest
