"""`audit ui`: the page, for people who do not use a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from audit_toolkit.web import Settings


def ui(
    host: Annotated[
        str,
        typer.Option("--host", metavar="HOST", help="Loopback address to listen on."),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port",
            metavar="PORT",
            min=0,
            max=65535,
            help="Port to listen on; 0 picks a free one.",
        ),
    ] = 8340,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in your browser.")
    ] = False,
    allow_undo: Annotated[
        bool, typer.Option("--allow-undo", help="Allow undoing changes from the page.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Timeout of each query.")
    ] = 5.0,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Serve the trail as a web page on this machine.

    Runs until Ctrl-C, and only this machine can reach it. To give others access, mount
    audit_toolkit.web.create_app in your application, behind its login: docs/page.md. Labels, links and
    language are set in [tool.audit_toolkit.page].
    """
    from audit_toolkit.cli.database import find_address

    if not 0 < timeout < 3600:
        raise UsageError(
            f"--timeout: {timeout:g} is not a number of seconds", hint="write 5, or 0.5"
        )
    require_extra()
    from audit_toolkit.web import create_app
    from audit_toolkit.web.database import role_that_may_write
    from audit_toolkit.web.site import is_loopback

    if not is_loopback(host):
        raise UsageError(
            f"--host {host} can be reached from other machines, and the page has no login of its own",
            hint="mount audit_toolkit.web.create_app(..., authorize=...) into your application: docs/page.md",
        )
    address = find_address(dsn, config)
    role = role_that_may_write(address, audit_schema)
    if role is not None and not allow_undo:
        print(
            f"warning: the role {role} can change the trail or its tables; a role that can only read is safer\n"
            "hint: audit grants --reader ROLE prints what it needs",
            file=sys.stderr,
        )
    app = create_app(
        address,
        schema=audit_schema,
        settings=_settings(),
        undo=allow_undo,
        statement_timeout=timeout,
    )
    serve_page(app, host, port, open_browser=open_browser)


def require_extra() -> None:
    """Raise `MissingExtraError` where what the page needs is not installed."""
    from importlib.util import find_spec

    for package in ("starlette", "uvicorn", "psycopg_pool"):
        if find_spec(package) is None:
            raise MissingExtraError(
                f"the page needs {package}", hint="pip install 'audit-toolkit[ui]'"
            )


def serve_page(app: Starlette, host: str, port: int, *, open_browser: bool) -> None:
    """Serve the page there until Ctrl-C, and say where it is. Raises `UsageError` where that cannot be."""
    import uvicorn

    from audit_toolkit.web.serving import listen, serve

    with listen(host, port) as (listener, url):
        print(f"The audit trail is at {url} (press Ctrl-C to stop)", file=sys.stderr, flush=True)
        if open_browser:
            import webbrowser

            webbrowser.open(url)
        serve(uvicorn.Config(app, log_level="warning", server_header=False), listener)


def _settings() -> Settings:
    """What the project's file says of the page."""
    from audit_toolkit.declaration import find_declarations
    from audit_toolkit.web import Settings

    file = find_declarations()
    return Settings.from_dict(file.page, where=f"{file.source}: page") if file else Settings()
