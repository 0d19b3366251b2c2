"""`audit demo`: the whole story on a throwaway PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from audit_toolkit.demo.cluster import Cluster


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the server and the project to try things out.")
    ] = False,
    sealed: Annotated[
        bool,
        typer.Option(
            "--sealed", help="Also seal the trail, tamper with it, and find the tampering."
        ),
    ] = False,
    ui: Annotated[
        bool, typer.Option("--ui", help="Show the page on it at the end, until Ctrl-C.")
    ] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Also deliver the changes to a webhook.")
    ] = False,
) -> None:
    """Run a guided tour on a throwaway PostgreSQL.

    A small shop is audited with the commands that you would type. Everything is removed afterwards;
    nothing of yours is touched.
    """
    from audit_toolkit.demo.cluster import throwaway_cluster
    from audit_toolkit.demo.story import tell, tell_of_stream

    if ui:
        from audit_toolkit.cli.ui import require_extra

        require_extra()
    if stream:
        _require_webhooks()
    print("Starting a throwaway PostgreSQL ...", flush=True)
    with throwaway_cluster(keep=keep) as cluster, _project(keep=keep) as directory:
        print(f"A shop in {directory}, a server on port {cluster.port}.\n", flush=True)
        tell(cluster, directory, _say, sealed=sealed)
        if stream:
            tell_of_stream(cluster, directory, _say)
        if ui:
            _show_page(cluster)
        print(_kept(cluster, directory) if keep else _GONE)


def _say(text: str) -> None:
    print(text, flush=True)


def _require_webhooks() -> None:
    """Raise `MissingExtraError` before anything is started."""
    from importlib.util import find_spec

    from audit_toolkit.stream.sinks.base import require

    if find_spec("httpx") is None:
        raise require("httpx", "webhooks")


def _show_page(cluster: Cluster) -> None:
    from audit_toolkit.cli.ui import serve_page
    from audit_toolkit.web import create_app

    app = create_app(cluster.dsn("shop"), undo=True)
    serve_page(app, "127.0.0.1", 0, open_browser=False)


_GONE = (
    "The server and the shop are gone again. To try things out: audit demo --keep\nIn your own "
    "project, with DATABASE_URL set:\n   $ audit install --table NAME     # writes the "
    "migrations; if you have no Alembic yet: audit init\n   $ alembic upgrade head           # "
    "deploys them\n   $ audit history NAME             # who changed what"
)


def _kept(cluster: Cluster, directory: Path) -> str:
    process = (cluster.data_dir / "postmaster.pid").read_text().split("\n", 1)[0]
    return (
        f"The server is still running. Try:\n   $ cd {directory}\n   $ export "
        f'DATABASE_URL={cluster.dsn("shop")}\n   $ psql "$DATABASE_URL" -c "update orders set '
        "status = 'sent' where id = 1\"\n   $ audit history orders 1 --format json\nTo remove "
        f"everything:\n   $ kill -INT {process}; sleep 3; rm -rf {cluster.data_dir.parent} "
        f"{directory}"
    )


@contextmanager
def _project(*, keep: bool) -> Iterator[Path]:
    import shutil
    import tempfile
    from pathlib import Path

    directory = Path(tempfile.mkdtemp(prefix="audit-demo-"))
    try:
        yield directory
    finally:
        if not keep:
            shutil.rmtree(directory)
