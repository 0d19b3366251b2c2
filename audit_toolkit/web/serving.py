"""The page on an address of this machine, until somebody ends it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from audit_toolkit.errors import UsageError


@contextmanager
def listen(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens there, and its URL. Raises `UsageError` where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()  # so that requests to the printed URL are accepted while the server starts
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise UsageError(
                f"cannot listen on {host} port {port}: {error.strerror}",
                hint="--port 0 takes a free one"
                if taken
                else "leave out --host, or name 127.0.0.1",
            ) from error
        name = f"[{host}]" if ":" in host else host
        yield listener, f"http://{name}:{listener.getsockname()[1]}/"


def serve(config: uvicorn.Config, listener: socket.socket) -> None:
    """Serve until a signal ends it."""
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        return
