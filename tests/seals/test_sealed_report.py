"""A report that was reviewed is sealed with the review: whoever edits it is found without the database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugins.command import Audit, audit
from tests.seals.words import Sealed

__all__ = ["audit"]


def test_a_report_that_was_edited_is_found(
    unsealed: Sealed, audit: Audit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", unsealed.trail.database.dsn)
    report, proof, key = tmp_path / "october.html", tmp_path / "proof.json", str(unsealed.key)
    audit("report", "--from", "1 hour ago", "--format", "html", "-o", str(report))
    said = audit(
        *("review", "--by", "jo", "--note", "ok", "--file", str(report), "--format", "json")
    ).stdout
    audit("seal", "--key", key)
    event = str(json.loads(said)["event_id"])
    proof.write_text(audit("prove", event).stdout, "utf-8")
    monkeypatch.delenv("AUDIT_DATABASE_URL")
    words = ("verify-proof", str(proof), "--key", f"{key}.pub", "--file", str(report))
    assert f"proved: {report} is the file that it names" in audit(*words, code=0).stdout
    report.write_text(report.read_text("utf-8").replace("orders", "order5"), "utf-8")
    answer = audit(*words, "--format", "json", code=3)
    assert json.loads(answer.stdout)["problem"] == f"{report} is not the file that the event names"
    audit(*words[:-1], str(tmp_path / "nowhere"), code=2)


def test_an_event_that_names_no_file_proves_none(
    sealed: Sealed, audit: Audit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", sealed.trail.database.dsn)
    proof = tmp_path / "proof.json"
    proof.write_text(audit("prove", "5").stdout, "utf-8")
    words = ("verify-proof", str(proof), "--key", f"{sealed.key}.pub", "--file", str(proof))
    assert "the event names no file" in audit(*words, code=3).stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot read the proof 'proof.json': No such file"), (b"\xff", "it is not UTF-8")],
)
def test_a_file_that_is_no_proof(
    audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("proof.json").write_bytes(content)
    result = audit("verify-proof", "proof.json", "--key", "key", code=2)
    assert said in result.stderr
    assert "hint: name the file that audit prove wrote" in result.stderr
