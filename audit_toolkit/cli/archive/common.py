"""What the commands of `audit archive` share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.archive import Store
from audit_toolkit.cli.output import visible
from audit_toolkit.errors import UsageError

if TYPE_CHECKING:
    from audit_toolkit.archive import Manifest


Url = Annotated[
    str,
    typer.Option(
        "--archive",
        metavar="URL",
        envvar="AUDIT_ARCHIVE",
        help="Location of the archive: a folder, s3://bucket/path, gs://bucket/path, "
        "az://container/path.",
    ),
]

From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="DATABASE",
        help="Whose events the Iceberg table holds, if several databases archive there; "
        "`audit archive list --format json` shows the names.",
        show_default=False,
    ),
]


def whose(manifests: list[Manifest], place: str | None) -> str:
    """The database whose events are meant; raises `UsageError` where it has to be said."""
    places = sorted({manifest.place for manifest in manifests if manifest.place})
    if place is None and len(places) > 1:
        raise UsageError(
            "several databases archive there, but an Iceberg table holds the events of only one",
            hint="name one of: " + ", ".join(f"--from {name}" for name in places),
        )
    if place is not None and place not in places:
        raise UsageError(
            f"the archive has nothing of {place}",
            hint="audit archive list --format json shows what it has",
        )
    return place or next(iter(places), "")


def open_store(url: str) -> Store:
    """The archive of that URL; raises `AuditError` where it cannot be reached."""
    store = Store.open(url)
    store.require_reachable()
    return store


def shown(value: object) -> str:
    """A value of the archive for a terminal, which must not take it for orders."""
    return visible(str(value))


@contextmanager
def progress_bar(total: int | None) -> Iterator[Any]:
    """A bar on stderr where somebody looks; what it yields takes the number of events done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("events", total=total)
        yield lambda events: progress.advance(task, events)


def manifest_row(manifest: Manifest) -> dict[str, Any]:
    """A manifest as `audit archive list` shows it."""
    return {
        "leaf": manifest.leaf,
        "exported_up_to": manifest.exported.reach if manifest.exported else None,
        "from": manifest.place,
        "lower": manifest.lower,
        "upper": manifest.upper,
        "events": manifest.events,
        "files": len(manifest.files),
        "bytes": sum(file.bytes for file in manifest.files),
        "digest": manifest.digest,
        "created_at": manifest.created_at,
    }
