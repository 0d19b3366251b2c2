"""Seals in daily work: maintenance seals, checks see what is wrong, a time-stamping authority signs the time."""

from __future__ import annotations

import http.server
import io
import json
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from audit_toolkit.connection import connect
from audit_toolkit.errors import AuditError
from audit_toolkit.seals import new_key, open_sink, read_key, run_seal, write_key
from audit_toolkit.seals.health import seal_findings
from audit_toolkit.seals.sinks import time_stamp
from tests.seals.words import MORE, Sealed


def kinds(sealed: Sealed, key: Path | None) -> list[str]:
    with connect(sealed.trail.database.dsn) as connection:
        return [finding.kind.value for finding in seal_findings(connection, "audit", key)]


def test_what_check_says(sealed: Sealed, tmp_path: Path) -> None:
    assert kinds(sealed, sealed.key) == kinds(sealed, None) == []
    assert kinds(sealed, tmp_path / "no.key") == ["seal_key_missing"]
    other = tmp_path / "other.key"
    write_key(other, new_key("example.com/shop"))
    assert kinds(sealed, other) == ["seal_key_unknown"]
    sinks = [open_sink("command:false")]
    run_seal(sealed.connection, "audit", read_key(sealed.key), sinks=sinks)
    assert kinds(sealed, sealed.key) == ["checkpoint_not_kept"]
    run_seal(sealed.connection, "audit", read_key(sealed.key), sinks=[open_sink("command:true")])
    assert kinds(sealed, sealed.key) == []
    sealed.execute(MORE.format(2))
    assert kinds(sealed, sealed.key) == []
    sealed.tamper(
        "update audit.logged_actions set action_tstamp = action_tstamp - '2 days'::interval where event_id > 462"
    )
    assert kinds(sealed, sealed.key) == ["seal_old"]


def test_a_trail_that_nobody_seals_has_no_findings(unsealed: Sealed) -> None:
    assert kinds(unsealed, None) == []
    assert kinds(unsealed, unsealed.key) == []


def test_maintenance_seals_and_check_looks(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", sealed.trail.database.dsn)
    monkeypatch.setenv("AUDIT_SEAL_KEY", str(sealed.key))
    monkeypatch.chdir(sealed.folder)
    sealed.execute(MORE.format(3))
    Path("audit.toml").write_text(f'checkpoint_to = ["{sealed.kept}"]\n')
    answer = CliRunner().invoke(app, ["maintain"])
    assert "done      seal      Seal new events: 3\n" in answer.output
    assert sealed.verify().outside == 2
    monkeypatch.setenv("AUDIT_SEAL_KEY", "nowhere.key")
    answer = CliRunner().invoke(app, ["check", "--format", "json"])
    assert answer.exit_code == 3
    assert "seal_key_missing" in [one["kind"] for one in json.loads(answer.stdout)["findings"]]


CONFIG = """
[tsa]
default_tsa = this
[this]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
accuracy = secs:1
"""


def certificates(folder: Path, *, valid_until: datetime) -> None:
    """A root, an authority below it, and below that the certificate `tsa.pem` of one that stamps times."""
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "between", "tsa")}
    for name, by in (("root", "root"), ("between", "root"), ("tsa", "between")):
        stamps = name == "tsa"
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]))
            .public_key(keys[name].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(valid_until if stamps else begin + timedelta(days=9999))
            .add_extension(x509.BasicConstraints(ca=not stamps, path_length=None), critical=True)
        )
        if stamps:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
            certificate = certificate.add_extension(usage, critical=True)
        written = certificate.sign(keys[by], hashes.SHA256()).public_bytes(Encoding.PEM)
        (folder / f"{name}.pem").write_bytes(written)
    private = keys["tsa"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "tsa.key").write_bytes(private)


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[str]:
    """A real time-stamping authority: OpenSSL's, behind HTTP."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    config = tmp_path / "tsa.cnf"
    config.write_text(CONFIG.format(folder=tmp_path))
    (tmp_path / "serial").write_text("01")
    certificates(tmp_path, valid_until=datetime.now(UTC) + timedelta(days=2))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = tmp_path / "question.tsq"
            question.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            reply = ["openssl", "ts", "-reply", "-config", str(config), "-queryfile", str(question)]
            answer = subprocess.run(reply, check=False, capture_output=True)
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            self.wfile.write(answer.stdout)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_checkpoints_are_time_stamped(sealed: Sealed, authority: str, tmp_path: Path) -> None:
    sealed.execute(MORE.format(2))
    sinks = [open_sink(str(tmp_path / "stamped")), open_sink("command:true")]
    for address, failed in (("http://127.0.0.1:1/", 1), (authority, 0)):
        run = run_seal(
            sealed.connection, "audit", read_key(sealed.key), sinks=sinks, timestamp=address
        )
        assert len(run.failed) == failed
    [note] = (tmp_path / "stamped").rglob("*.checkpoint")
    stamp = note.with_suffix(".tsr")
    chain = ["-CAfile", str(tmp_path / "root.pem"), "-untrusted", str(tmp_path / "between.pem")]
    check = ["openssl", "ts", "-verify", "-in", str(stamp), *chain]
    verified = subprocess.run(
        [*check, "-data", str(note)], check=False, capture_output=True, text=True
    )
    assert "Verification: OK" in verified.stdout + verified.stderr
    note.write_text(note.read_text().replace("464", "463"))
    verified = subprocess.run(
        [*check, "-data", str(note)], check=False, capture_output=True, text=True
    )
    assert verified.returncode != 0


def test_an_answer_to_a_former_question_is_none(
    authority: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = time_stamp(authority, "the same\n")
    assert time_stamp(authority, "the same\n") != former
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(former))
    with pytest.raises(AuditError, match="answered another question"):
        time_stamp(authority, "the same\n")
    with pytest.raises(AuditError, match="refused the time stamp"):
        time_stamp(authority, "another\n")


def test_an_authority_whose_certificate_has_expired(
    sealed: Sealed, authority: str, tmp_path: Path
) -> None:
    """OpenSSL's signs all the same; the checkpoint is kept, and the run says what is wrong."""
    certificates(tmp_path, valid_until=datetime(2021, 2, 3, tzinfo=UTC))
    sealed.execute(MORE.format(2))
    words = ["seal", "--key", str(sealed.key), "--checkpoint-to", str(tmp_path / "stamped")]
    words += ["--timestamp", authority, "--dsn", sealed.trail.database.dsn]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 1
    assert "signed with a certificate that expired on 2021-02-03" in answer.output
    [note] = (tmp_path / "stamped").rglob("*.checkpoint")
    assert not note.with_suffix(".tsr").exists()


def test_an_authority_that_does_not_speak_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(9999)
                connection.sendall(b"SSH-2.0-x\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(AuditError, match="the time-stamping authority"):
            time_stamp(f"http://127.0.0.1:{server.getsockname()[1]}/", "text\n")
        thread.join()


def test_an_authority_that_fails_keeps_no_checkpoint_back(sealed: Sealed, tmp_path: Path) -> None:
    sinks = [open_sink(str(tmp_path / "stamped"))]
    run = run_seal(
        sealed.connection,
        "audit",
        read_key(sealed.key),
        sinks=sinks,
        timestamp="http://127.0.0.1:9/",
    )
    assert [one.address for one in run.failed] == ["http://127.0.0.1:9/"]
    assert len(list((tmp_path / "stamped").rglob("*.checkpoint"))) == 1
