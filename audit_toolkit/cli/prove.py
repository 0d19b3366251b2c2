"""`audit prove`: write a proof that an event is sealed, as JSON."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.seals.prove import prove as make_proof


def prove(
    event: Annotated[int, typer.Argument(metavar="EVENT", help="The number of the event.")],
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Write a proof that an event is sealed, as JSON.

    The proof shows the event and nothing of any other. Whoever has it and the public key verifies it without the
    database: audit verify-proof, or the script verify_proof.py, which needs nothing but Python.
    """
    with open_database(dsn, config) as connection:
        proof = make_proof(connection, audit_schema, event)
    print(json.dumps(proof, indent=1, ensure_ascii=False))
