"""Who may do what with the trail, as SQL to be read and run by its owner."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from audit_toolkit.schema.install import (
    ARCHIVER_FUNCTIONS,
    INSTALLER_FUNCTIONS,
    MAINTAINER_FUNCTIONS,
    READER_FUNCTIONS,
    RECORDER_FUNCTIONS,
    REDACTOR_FUNCTIONS,
    SEALER_FUNCTIONS,
)
from audit_toolkit.templates import render_statements


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Which partitions maintainers may take away: spans that PostgreSQL reads as intervals."""

    retention: str
    """How old events are before their partition is detached."""
    quarantine: str = "7 days"
    """How long it is kept then."""
    archived_only: bool = True
    """Whether only what is archived is dropped."""

    def as_json(self) -> str:
        """What the trail keeps of them, in `maintenance`."""
        return json.dumps(
            {
                "retention": self.retention,
                "quarantine": self.quarantine,
                "archived_only": self.archived_only,
            }
        )


def render_grants(
    schema: str,
    owner: str,
    *,
    reader: str | None = None,
    maintainer: str | None = None,
    archiver: str | None = None,
    installer: str | None = None,
    deployer: str | None = None,
    recorder: str | None = None,
    consumer: str | None = None,
    redactor: str | None = None,
    sealer: str | None = None,
    limits: Limits | None = None,
    captures: Sequence[str] = (),
) -> list[str]:
    """The statements that let these roles read the trail, maintain, capture, archive, record events, redact or seal.

    `limits` are those of all maintainers; `captures` the functions of tables that the installer owns. A deployer
    becomes a member of the owner, and no other does. Nothing is ever granted on leaves: a grant there would go past
    row security of the parent.
    """
    roles = {
        "reader": (reader, READER_FUNCTIONS),
        "maintainer": (maintainer, MAINTAINER_FUNCTIONS),
        "archiver": (archiver, ARCHIVER_FUNCTIONS),
        "installer": (installer, INSTALLER_FUNCTIONS),
        "deployer": (deployer, {}),
        "recorder": (recorder, RECORDER_FUNCTIONS),
        "consumer": (consumer, READER_FUNCTIONS),
        "redactor": (redactor, REDACTOR_FUNCTIONS),
        "sealer": (sealer, SEALER_FUNCTIONS),
    }
    return [
        statement
        for part, (role, functions) in roles.items()
        if role is not None
        for statement in render_statements(
            f"grants/{part}",
            schema=schema,
            owner=owner,
            role=role,
            functions=functions,
            limits=limits,
            captures=captures,
        )
    ]
