"""A TCP proxy that counts round trips: how often the server begins to answer."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

# Holding answers back for a moment keeps what the client sends at once together.
ANSWER_DELAY = 0.003


@dataclass
class Proxy:
    """A proxy that runs."""

    dsn: str
    _trips: int = 0
    _client_spoke: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Count from nought."""
        with self._lock:
            self._trips, self._client_spoke = 0, False

    @property
    def trips(self) -> int:
        """Round trips since the last `reset`: each time the server answered what the client had sent."""
        return self._trips

    def saw(self, *, client: bool) -> None:
        """Note who spoke."""
        with self._lock:
            if not client and self._client_spoke:
                self._trips += 1
            self._client_spoke = client


@contextmanager
def running_proxy(dsn: str) -> Iterator[Proxy]:
    """A proxy before the server of that address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(_redirected(dsn, listener.getsockname()[1]))
        thread = threading.Thread(target=_accept, args=(listener, dsn, proxy), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _redirected(dsn: str, port: int) -> str:
    parts = urlsplit(dsn)
    user = parts.netloc.rpartition("@")[0]
    address = f"{user + '@' if user else ''}127.0.0.1:{port}"
    return parts._replace(netloc=address, query="").geturl()


def server_socket(dsn: str) -> tuple[int, Any]:
    """Family and address of the server of a connection string."""
    parameters: dict[str, Any] = conninfo_to_dict(dsn)
    host, port = str(parameters.get("host", "127.0.0.1")), int(parameters.get("port") or 5432)
    if host.startswith("/"):
        return socket.AF_UNIX, str(Path(host) / f".s.PGSQL.{port}")
    return socket.AF_INET, (host, port)


def _accept(listener: socket.socket, dsn: str, proxy: Proxy) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # shut down
            return
        family, address = server_socket(dsn)
        server = socket.socket(family)
        server.connect(address)
        threading.Thread(target=_relay, args=(client, server, proxy), daemon=True).start()


def _relay(client: socket.socket, server: socket.socket, proxy: Proxy) -> None:
    with client, server, selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ)
        selector.register(server, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                is_client = key.fileobj is client
                source, target = (client, server) if is_client else (server, client)
                if not (data := source.recv(1 << 16)):
                    return
                proxy.saw(client=is_client)
                if not is_client:
                    threading.Event().wait(ANSWER_DELAY)
                target.sendall(data)
