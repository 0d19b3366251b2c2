"""`audit prove`: write a proof that an event is sealed, as JSON."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.seals.prove import prove as make_proof


def prove(
    event: Annotated[int, typer.Argument(metavar="EVENT", help="The event's id.")],
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Write a proof that an event is sealed, as JSON.

    The proof contains this event only, and nothing of any other. It is verified with the public key and without
    the database: with `audit verify-proof`, or with the script verify_proof.py, which needs only Python.
    """
    with open_database(dsn, config) as connection:
        proof = make_proof(connection, audit_schema, event)
    print(json.dumps(proof, indent=1, ensure_ascii=False))
