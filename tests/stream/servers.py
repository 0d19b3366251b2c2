"""Real servers for the sinks: NATS and Redis where they are installed, an HTTP server that fails as it is told."""

from __future__ import annotations

import ctypes
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def nats_server(directory: Path, *options: str, jetstream: bool = True) -> Iterator[str]:
    """The address of a NATS server; a skip where it is not installed."""
    program = _require("nats-server")
    stores = ["-js", "-sd", str(directory / "js")] if jetstream else []
    command = [program, *stores, *options, "-a", "127.0.0.1", "-p", "-1"]
    with _running([*command, "--ports_file_dir", str(directory)]) as process:
        file = directory / f"nats-server_{process.pid}.ports"
        _until(lambda: file.exists() and file.read_text() != "")
        yield json.loads(file.read_text())["nats"][0]


@contextmanager
def redis_server(directory: Path, *options: str | Path, tls: bool = False) -> Iterator[str]:
    """Host and port of a Redis server; a skip where it is not installed."""
    program = _require("redis-server")
    port = _free_port()
    ports = ["--port", "0", "--tls-port", str(port)] if tls else ["--port", str(port)]
    usual = ["--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    with _running([program, *ports, *usual, *map(str, options)]):
        _until(lambda: _answers(port))
        yield f"127.0.0.1:{port}"


@dataclass(frozen=True)
class Request:
    """What came in."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """An HTTP server: what it got, and how it answers each (a status, or "drop" and "hang up")."""

    url: str = ""
    answer: Callable[[Request], int | str] = lambda _: 204
    headers: dict[str, str] = field(default_factory=dict)
    """Of its answers."""
    requests: list[Request] = field(default_factory=list)
    taken: list[Request] = field(default_factory=list)


def _end(handler: BaseHTTPRequestHandler, how: str) -> None:
    """Answer by half, without end, or not at all."""
    if how == "half":
        handler.wfile.write(b"HTTP/1.1 200")
    elif how == "half a body":
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthanks")
    elif how == "not HTTP":
        handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")
    elif how == "drip":
        with suppress(OSError):  # until the client has enough
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(200):
                handler.wfile.write(b"X-%d: drip\r\n" % number)
                time.sleep(0.02)
    elif how == "endless":
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 40))
        handler.end_headers()
        with suppress(OSError):  # until the client has enough
            while True:
                handler.wfile.write(b"x" * 65_536)


def _send_headers(handler: BaseHTTPRequestHandler, headers: dict[str, str]) -> None:
    for name, value in headers.items():
        handler.send_header(name, value)


@contextmanager
def http_server() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            request = Request({k.lower(): v for k, v in self.headers.items()}, body)
            receiver.requests.append(request)
            answer = receiver.answer(request)
            if isinstance(answer, str):
                _end(self, answer)
                self.close_connection = True
                self.connection.close()
                return
            if answer < 300:
                receiver.taken.append(request)
            self.send_response(answer)
            _send_headers(self, receiver.headers)
            if 300 <= answer < 400:
                self.send_header("Location", receiver.url + "/elsewhere")
            if answer not in (204, 304):
                self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class MockKafka:
    """librdkafka's mock cluster, which answers requests to produce as it is told."""

    library: Any
    cluster: Any
    brokers: str

    def answer(self, *codes: int) -> None:
        """Answer the next requests with these codes; 0 takes the messages."""
        errors = (ctypes.c_int * len(codes))(*codes)
        self.library.rd_kafka_mock_push_request_errors_array(self.cluster, 0, len(codes), errors)


@contextmanager
def mock_kafka() -> Iterator[MockKafka]:
    """A cluster of one broker; Python has no calls for what it answers, the library within confluent-kafka has."""
    kafka = pytest.importorskip("confluent_kafka")
    beside = Path(kafka.__file__).parent.parent / "confluent_kafka.libs"
    file = next(beside.glob("librdkafka*"), None)
    if file is None:
        pytest.skip("librdkafka is not beside confluent-kafka")
    library = ctypes.CDLL(str(file))
    pointer = ctypes.c_void_p
    library.rd_kafka_new.restype = library.rd_kafka_mock_cluster_new.restype = pointer
    library.rd_kafka_mock_cluster_new.argtypes = [pointer, ctypes.c_int]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    library.rd_kafka_mock_push_request_errors_array.argtypes = [
        *(pointer, ctypes.c_int16),
        *(ctypes.c_size_t, pointer),
    ]
    for name in ("rd_kafka_mock_cluster_destroy", "rd_kafka_destroy"):
        getattr(library, name).argtypes = [pointer]
    client = library.rd_kafka_new(0, None, ctypes.create_string_buffer(200), ctypes.c_size_t(200))
    cluster = library.rd_kafka_mock_cluster_new(client, 1)
    try:
        brokers = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()
        yield MockKafka(library, cluster, brokers)
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(client)


def certificate(directory: Path) -> tuple[Path, Path]:
    """A key, and a certificate for localhost that nobody signed; a skip without openssl."""
    key, made = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(
        [
            *(
                _require("openssl"),
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-nodes",
                "-subj",
                "/CN=localhost",
            ),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", key, "-out", made),
        ],
        check=True,
        capture_output=True,
    )
    return key, made


@contextmanager
def tls_server(directory: Path) -> Iterator[str]:
    """The address of a server whose certificate nobody signed; a skip without openssl."""
    key, own = certificate(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            with suppress(OSError):  # the client's refusal, or the end of the test
                client, _ = listening.accept()
                context.wrap_socket(client, server_side=True).close()

        thread = threading.Thread(target=refuse)
        thread.start()
        try:
            yield f"https://localhost:{listening.getsockname()[1]}/"
        finally:
            listening.close()
            thread.join()


@contextmanager
def dripping_tls() -> Iterator[tuple[str, list[int]]]:
    """The address of a server that goes on answering the beginning of TLS, and what it sent: at most 200 bytes."""
    sent: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            client, _ = listening.accept()
            with client, suppress(OSError):  # until the client has enough
                client.sendall(b"\x16\x03\x03\x40\x00")  # 16 kB of handshake are to come
                for _ in range(200):
                    client.sendall(b"x")
                    sent.append(1)
                    time.sleep(0.02)

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield f"https://localhost:{listening.getsockname()[1]}/", sent
        finally:
            thread.join()


def _require(program: str) -> str:
    for place in (None, "/usr/sbin:/usr/local/sbin"):
        if found := shutil.which(program, path=place):
            return found
    pytest.skip(f"{program} is not installed")


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def _until(what: Callable[[], bool]) -> None:
    for _ in range(1200):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("the server did not start")
