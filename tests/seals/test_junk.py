"""What somebody left where seals are read keeps nobody from verifying: it is a finding, and never the end of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from audit_toolkit.connection import connect
from audit_toolkit.errors import UsageError
from audit_toolkit.seals import read_public
from audit_toolkit.seals.prove import prove
from audit_toolkit.seals.verify_proof import ProofError, read_proof, verify
from tests.seals.words import Sealed


@pytest.mark.parametrize(
    ("what", "instead", "why"),
    [
        ('{"format"', '{"event": {"new_row": "forged"}, "format"', "is there twice"),
        ('"new_row":', '"new_row": "forged", "new_row":', "is there twice"),
        ('"index":', '"index": 99, "index":', "is there twice"),
        ('"index":', '"actor": "user:2", "index":', "does not know its member 'actor'"),
        ('"index":', '"index": ' + "[" * 9999, "not JSON"),
        ('"index":', '"index": ' + "9" * 9999, "not JSON|not a number"),
    ],
)
def test_a_proof_that_readers_may_take_otherwise(
    sealed: Sealed, what: str, instead: str, why: str
) -> None:
    """Who looks into the file may see the first of two members, and a verifier the last."""
    keys = [str(key) for key in read_public(sealed.key)]
    with connect(sealed.trail.database.dsn) as connection:
        text = json.dumps(prove(connection, "audit", 5))
    verify(read_proof(text), keys)
    with pytest.raises(ProofError, match=why):
        verify(read_proof(text.replace(what, instead, 1)), keys)


def test_other_things_among_the_checkpoints(sealed: Sealed) -> None:
    [folder] = sealed.kept.iterdir()
    for number, target in enumerate(("/dev/zero", "/nowhere", "."), 1):
        Path(folder, f"link{number}.checkpoint").symlink_to(target)
    Path(folder, "long.checkpoint").write_bytes(b"x" * 2**21)
    Path(folder, "folder.checkpoint").mkdir()
    report = sealed.verify()
    assert {finding.kind for finding in report.findings} == {"checkpoint_invalid"}
    assert (len(report.findings), report.outside, report.verified) == (5, 1, 462)


@pytest.mark.parametrize(
    ("act", "kinds"),
    [
        ("insert into audit.seal_keys values ('junk')", {"checkpoint_invalid"}),
        (
            "update audit.seal_checkpoints set note = replace(note, E'\\n462\\n', E'\\n1000000000000000000\\n')",
            {"checkpoint_invalid", "tile_changed", "trail_behind"},
        ),
        ("update audit.seal_tiles set ids = '{(,)}'", {"tile_changed", "event_inserted"}),
        ("update audit.maintenance set summary = '{\"sinks\": 5}' where command = 'seal'", set()),
        ("update audit.maintenance set summary = '[[]]' where command = 'seal'", set()),
    ],
)
def test_junk_in_the_tables_of_the_seals(sealed: Sealed, act: str, kinds: set[str]) -> None:
    where = " where level = 0" if "seal_tiles" in act else ""
    sealed.tamper(act + where)
    assert {kind for kind, _ in sealed.found()} == kinds
    if not kinds:
        sealed.execute("insert into orders values (5001, 'late', null)")
        assert sealed.seal().events == 1


def test_a_file_of_keys_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")
    said = {}
    for name in ("absent", ".", "bytes"):
        with pytest.raises(UsageError) as raised:
            read_public(tmp_path / name)
        said[name] = raised.value.message.rpartition(": ")[2]
    assert said == {
        "absent": "No such file or directory",
        ".": "Is a directory",
        "bytes": "it is not UTF-8 text",
    }


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (
            ("verify", "--checkpoints", "kept"),
            "there is no folder or file kept",
            "audit seal --checkpoint-to makes the folder with the first checkpoint",
        ),
        (
            ("keys", "new", "--key", "etc/audit/seal.key"),
            "cannot write etc/audit/seal.key: No such file or directory",
            "create its folder: mkdir -p etc/audit",
        ),
        (
            ("keys", "new", "--key", "here/seal.key"),
            "cannot write here/seal.key: Not a directory",
            "name a file that you may write: --key FILE",
        ),
    ],
)
def test_what_is_not_there_is_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").touch()
    answer = CliRunner().invoke(app, [*words])
    assert answer.exit_code == (2 if words[0] == "verify" else 1)
    assert answer.stderr.startswith(f"error: {message}\nhint: {hint}")


def test_since_what_was_not_sealed(sealed: Sealed, tmp_path: Path) -> None:
    """No event is found that is not wrong, and the checkpoint that is named has to be of the tree, too."""
    assert (sealed.verify(since=462).verified, sealed.verify(since=10**9).verified) == (0, 0)
    assert sealed.verify(since=10**9).findings == []
    dsn = sealed.trail.database.dsn

    def since(what: str) -> tuple[int, str]:
        words = ["verify", "--key", f"{sealed.key}.pub", "--since", what, "--dsn", dsn]
        answer = CliRunner().invoke(app, words)
        return answer.exit_code, answer.output

    [kept] = sealed.kept.rglob("*.checkpoint")
    forged = tmp_path / "forged"
    forged.write_text(kept.read_text().replace("462", "461"))
    refused = "error: --since: 463 is more than what is sealed, 462 events"
    for what, code, said in (
        ("463", 2, refused),
        (str(kept), 0, "1 checkpoint kept outside agrees"),
        (str(forged), 3, "checkpoint_invalid"),
        (str(sealed.key), 2, "is not a checkpoint"),
    ):
        answer = since(what)
        assert answer[0] == code, answer
        assert said in answer[1]
