"""`audit verify-proof`: verify a proof without a database."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from audit_toolkit.cli.options import Format, OutputFormat
from audit_toolkit.cli.output import visible
from audit_toolkit.errors import UsageError
from audit_toolkit.findings import FINDINGS, SCHEMA_VERSION
from audit_toolkit.seals import PublicKey, read_public
from audit_toolkit.seals.verify_proof import (
    ProofError,
    left_line,
    left_of,
    not_shown,
    read_proof,
    verify,
)


def verify_proof(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File of the proof; - for standard input.")
    ],
    key: Annotated[
        str,
        typer.Option(
            metavar="PUBLIC_KEY", help="The public key that you trust: a file, or the key itself."
        ),
    ],
    reviewed: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="Also verify that this is the file that the event names, as audit review recorded it.",
            show_default=False,
        ),
    ] = None,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Verify a proof without a database.

    Exits with code 3 if the proof is invalid: the event or the checkpoint is not what was signed, or the file is
    not the one that the event names.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot read the proof {str(file)!a}: {error.strerror}",
            hint="name the file that audit prove wrote",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{str(file)!a} is not a proof: it is not UTF-8",
            hint="name the file that audit prove wrote",
        ) from error
    keys = [str(one) for one in _keys(key)]
    proof, problem, when = None, "", ""
    try:
        proof = read_proof(text)
        when = verify(proof, keys)
        problem = _difference(proof, reviewed) if reviewed else ""
    except ProofError as error:
        problem = str(error)
    if output is Format.JSON:
        shown = None if problem or proof is None else proof["event"]
        print(
            json.dumps(
                {
                    "schema_version": SCHEMA_VERSION,
                    "ok": not problem,
                    "problem": problem or None,
                    "event": shown,
                    "not_shown": [] if problem or proof is None else not_shown(proof),
                    "left": {} if problem or proof is None else _left(proof),
                },
                indent=2,
            )
        )
    elif problem:
        print(f"NOT proved: {problem}")
    else:
        event = proof["event"] if proof else {}
        print(visible(json.dumps(event, indent=2, ensure_ascii=False), keep="\n"))
        if proof and not_shown(proof):
            print(f"not shown: {', '.join(not_shown(proof))} (redacted, or left out of this proof)")
        for slot, (redaction, left) in left_of(proof or {}).items():
            print(left_line(slot, redaction, left))
        print(f"proved: this event is in the sealed trail ({when})")
        if reviewed:
            print(f"proved: {visible(str(reviewed))} is the file that it names")
    if problem:
        raise typer.Exit(FINDINGS)


def _left(proof: dict[str, Any]) -> dict[str, Any]:
    """What signed redactions left, as JSON values."""
    return {
        slot: {"redaction": redaction, "text": text}
        for slot, (redaction, text) in left_of(proof).items()
    }


def _difference(proof: Mapping[str, Any], file: Path) -> str:
    """Why a file is not the one that an event names; nothing where it is."""
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(
            f"--file: cannot read {str(file)!a}: {error.strerror}",
            hint="name the file that the event is about",
        ) from error
    said = json.loads(proof["event"]["new_row"] or "null")
    named = said.get("sha256") if isinstance(said, dict) else None
    if named is None:
        return "the event names no file: audit review --file records one"
    return "" if found == named else f"{visible(str(file))} is not the file that the event names"


def _keys(key: str) -> list[object]:
    path = Path(key)
    return list(read_public(path)) if path.is_file() else [PublicKey.parse(key)]
