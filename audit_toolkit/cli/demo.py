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
        bool, typer.Option("--keep", help="Leave the server and the project there to play with.")
    ] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Also deliver the changes to a webhook.")
    ] = False,
) -> None:
    """Show what an audit trail is, on a throwaway PostgreSQL that is gone afterwards.

    A small shop gets the trail by the commands that you would type; nothing of yours is touched.
    """
    from audit_toolkit.demo.cluster import throwaway_cluster
    from audit_toolkit.demo.story import tell, tell_of_stream

    if stream:
        _require_webhooks()
    print("Starting a throwaway PostgreSQL ...", flush=True)
    with throwaway_cluster(keep=keep) as cluster, _project(keep=keep) as directory:
        print(f"A shop in {directory}, a server on port {cluster.port}.\n", flush=True)
        tell(cluster, directory, _say)
        if stream:
            tell_of_stream(cluster, directory, _say)
        print(_kept(cluster, directory) if keep else _GONE)


def _say(text: str) -> None:
    print(text, flush=True)


def _require_webhooks() -> None:
    """Raise `MissingExtraError` before anything is started."""
    from importlib.util import find_spec

    from audit_toolkit.stream.sinks.base import require

    if find_spec("httpx") is None:
        raise require("httpx", "webhooks")


_GONE = """\
The server and the shop are gone again. To play with them: audit demo --keep
In a project of yours, with an address in DATABASE_URL:
   $ audit install --table NAME     # writes the migrations; without Alembic so far: audit init
   $ alembic upgrade head           # deploys them
   $ audit history NAME             # who changed what"""


def _kept(cluster: Cluster, directory: Path) -> str:
    process = (cluster.data_dir / "postmaster.pid").read_text().split("\n", 1)[0]
    return f"""\
The server goes on running. Type next:
   $ cd {directory}
   $ export DATABASE_URL={cluster.dsn("shop")}
   $ psql "$DATABASE_URL" -c "update orders set status = 'sent' where id = 1"
   $ audit history orders 1 --format json
To be rid of it all:
   $ kill -INT {process}; sleep 3; rm -rf {cluster.data_dir.parent} {directory}"""


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
