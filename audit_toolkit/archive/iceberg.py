"""The archive as an Apache Iceberg table: its files are registered, not copied.

What the manifests name is what the table has to have; `register` makes it so in one commit, whatever was done or
interrupted before. The files have no field ids: the table's name mapping gives them, so that columns can be added. Each
file is of one month and one table, and so are the table's partitions.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from audit_toolkit.archive.columns import arrow_schema
from audit_toolkit.archive.manifest import Manifest, newest, read_manifests
from audit_toolkit.archive.optional_packages import iceberg
from audit_toolkit.archive.origin import read_origin
from audit_toolkit.archive.store import EVENTS, Store
from audit_toolkit.connection import normalise_dsn
from audit_toolkit.errors import AuditError, UsageError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

ATTEMPTS = 5
"""So often a commit is tried again that another program's commit came before."""
PROPERTIES = {
    # The files are the archive's: no DROP TABLE PURGE and no expiry of snapshots may delete them.
    "gc.enabled": "false",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Which table of which catalogue."""

    catalog: str = field(repr=False)
    """A URL, or a name in pyiceberg's configuration. It may hold a password."""
    table: str

    @classmethod
    def parse(cls, text: str, trail: str) -> Target:
        """`CATALOG` or `CATALOG#NAMESPACE.TABLE`; without a table, the trail's name and `logged_actions`."""
        catalog, _, table = text.partition("#")
        table = table or f"{trail}.logged_actions"
        if not catalog or not all(table.split(".")) or "." not in table:
            raise UsageError(
                "an Iceberg table must be given as CATALOG or CATALOG#NAMESPACE.TABLE",
                hint="CATALOG is sqlite:////srv/catalog.db, postgresql://…, the https:// address "
                "of a REST catalog, or a name in pyiceberg's configuration",
            )
        return cls(catalog, table)

    @contextmanager
    def open(self, store: Store) -> Iterator[Any]:
        """Its catalogue; raises `AuditError` for whatever it, the table or the store fail with."""
        catalogs = iceberg("catalog")
        with _errors(self), closing(self._load(catalogs, store)) as catalog:
            yield catalog

    def _load(self, catalogs: Any, store: Store) -> Any:
        found = re.match(r"([a-z][a-z0-9]*)(?:\+[a-z0-9]+)?://", self.catalog)
        if not found:
            return catalogs.load_catalog(self.catalog)
        # Reaches the store in the same way, and with the same credentials, as the archive itself.
        values = {} if store.is_local else {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"}
        match found[1]:
            case "http" | "https":
                values |= {"type": "rest", "uri": self.catalog}
            case "sqlite":
                values |= {"type": "sql", "uri": self.catalog}
            case _:
                address = normalise_dsn(self.catalog).removeprefix("postgresql://")
                values |= {"type": "sql", "uri": f"postgresql+psycopg://{address}"}
        return catalogs.load_catalog("audit", **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """How a table differs from the archive: paths of files, as it has them."""

    missing: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    """What the archive no longer has."""
    foreign: tuple[str, ...] = ()
    """What never was in the archive."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.left or self.foreign)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What a registration changed."""

    added: int
    """Files."""
    removed: int
    metadata: str
    """The address of the table's metadata, for engines that take a file instead of a catalogue."""


def register(store: Store, place: str, manifests: Sequence[Manifest], target: Target) -> Registered:
    """Make the table have exactly the files of that database's archive; returns what was changed.

    Makes the table where there is none, and adds columns that it lacks. One commit: whoever reads it has each event
    once before and after. Raises `AuditError` when the table has files of others, or the catalogue fails.
    """
    conflict = iceberg("exceptions").CommitFailedException
    _require_files(store, place, manifests)
    with target.open(store) as catalog:
        for attempt in range(1, ATTEMPTS + 1):
            table = _table(catalog, store, target)
            found = _compare(table, store, place, manifests)
            _refuse_foreign(found, target)
            try:
                _commit(table, found)
            except conflict:
                if attempt == ATTEMPTS:
                    raise
                continue
            break
        return Registered(
            added=len(found.missing),
            removed=len(found.left),
            metadata=catalog.load_table(target.table).metadata_location,
        )


def register_own(connection: Connection, store: Store, schema: str, iceberg: str) -> Registered:
    """`register` what the archive has of the database of a connection."""
    place = read_origin(connection, schema).place
    return register(store, place, read_manifests(store), Target.parse(iceberg, schema))


def differences(
    store: Store, place: str, manifests: Sequence[Manifest], target: Target
) -> Differences:
    """How the table differs from that database's archive; changes nothing."""
    with target.open(store) as catalog:
        if not catalog.table_exists(target.table):
            return Differences(missing=tuple(sorted(_wanted(store, place, manifests))))
        return _compare(catalog.load_table(target.table), store, place, manifests)


def _wanted(store: Store, place: str, manifests: Sequence[Manifest]) -> set[str]:
    counting = [m for m in newest(list(manifests)) if m.place in ("", place)]
    return {store.address(file.path) for manifest in counting for file in manifest.files}


def _require_files(store: Store, place: str, manifests: Sequence[Manifest]) -> None:
    """An archive whose manifests are gone must not empty the table that analysts read."""
    if store.files(posixpath.join(EVENTS, place).rstrip("/")) and not _wanted(
        store, place, manifests
    ):
        raise AuditError(
            f"the archive {store.url} has files, and no manifest that names one of them",
            hint="nothing was registered or removed; bring its manifests back from a backup: audit "
            "archive verify",
        )


def _compare(table: Any, store: Store, place: str, manifests: Sequence[Manifest]) -> Differences:
    wanted = _wanted(store, place, manifests)
    present = {task.file.file_path for task in table.scan().plan_files()}
    roots = (
        store.address(posixpath.join(EVENTS, place).rstrip("/")) + "/",
        store.address("relation="),
    )
    more = present - wanted
    ours = {path for path in more if path.startswith(roots)}
    return Differences(
        missing=tuple(sorted(wanted - present)),
        left=tuple(sorted(ours)),
        foreign=tuple(sorted(more - ours)),
    )


def _refuse_foreign(found: Differences, target: Target) -> None:
    if found.foreign:
        raise AuditError(
            f"the Iceberg table {target.table} has files that are not in this archive: "
            f"{found.foreign[0]}",
            hint="another program wrote or compacted it, or it belongs to another archive: give "
            "this archive a table of its own, CATALOG#NAMESPACE.TABLE",
        )


def _table(catalog: Any, store: Store, target: Target) -> Any:
    if catalog.table_exists(target.table):
        return catalog.load_table(target.table)
    catalog.create_namespace_if_not_exists(target.table.rpartition(".")[0])
    return catalog.create_table_if_not_exists(
        target.table,
        schema=_schema(),
        location=store.address(f"iceberg/{target.table}"),
        partition_spec=_partitions(),
        properties=PROPERTIES,
    )


def _schema() -> Any:
    """Our columns, with field ids in their order."""
    types = iceberg("types")
    kinds = {
        "int64": types.LongType(),
        "timestamp[us, tz=UTC]": types.TimestamptzType(),
        "string": types.StringType(),
    }
    fields = [
        types.NestedField(number, column.name, kinds[str(column.type)], required=False)
        for number, column in enumerate(arrow_schema(), start=1)
    ]
    return iceberg("schema").Schema(*fields)


def _partitions() -> Any:
    partitioning, transforms = iceberg("partitioning"), iceberg("transforms")
    schema, same = _schema(), transforms.IdentityTransform()
    chosen = (
        ("action_tstamp", transforms.MonthTransform(), "month"),
        ("schema_name", same, "schema_name"),
        ("table_name", same, "table_name"),
    )
    return partitioning.PartitionSpec(
        *(
            partitioning.PartitionField(
                schema.find_field(column).field_id, 1000 + number, how, name
            )
            for number, (column, how, name) in enumerate(chosen)
        )
    )


def _commit(table: Any, found: Differences) -> None:
    known = {column.name for column in table.schema().fields}
    lacks = any(column.name not in known for column in arrow_schema())
    if not (found.missing or found.left or lacks):
        return
    # pyiceberg would send the same additions again on top of what came between, and so twice what was added meanwhile.
    own = {**table.metadata.properties, "commit.retry.num-retries": "0"}
    table.metadata = table.metadata.model_copy(update={"properties": own})
    left = [task.file for task in table.scan().plan_files() if task.file.file_path in found.left]
    with table.transaction() as transaction:
        if lacks:
            with transaction.update_schema() as update:
                update.union_by_name(arrow_schema())
        if left:
            with transaction.update_snapshot().overwrite() as snapshot:
                for file in left:
                    snapshot.delete_data_file(file)
        if found.missing:
            transaction.add_files(list(found.missing))


@contextmanager
def _errors(target: Target) -> Iterator[None]:
    """Turn what pyiceberg and its drivers raise, which share no base but Exception, into an `AuditError`."""
    try:
        yield
    except AuditError:
        raise
    except ImportError as error:
        raise AuditError(
            f"the Iceberg catalog needs a package: {error}",
            hint="install the package that it names",
        ) from error
    except Exception as error:
        lines = str(error).replace(target.catalog, "its catalogue").splitlines()
        raise AuditError(
            f"the Iceberg table {target.table} failed: {lines[0] if lines else type(error).__name__}",
            hint="the archive is unchanged; make sure that the catalog can be reached, then run: "
            "audit archive register",
        ) from error
