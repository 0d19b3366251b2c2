"""What a redaction leaves is signed by the holder of the key: nobody else changes a value beside it unseen."""

from __future__ import annotations

import pytest

from audit_toolkit.connection import connect
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.findings import Severity
from audit_toolkit.schema import render_grants
from audit_toolkit.seals import RedactionSigner, new_key, read_key
from audit_toolkit.trail import Erasure
from audit_toolkit.trail import redact as redact_trail
from tests.plugins.command import Audit
from tests.seals.words import Sealed, forge_redaction, redact, redact_signed

BESIDE = """audit.redacted(new_row, '{note}', noted) || '{"status": "forged"}'"""
LIAR = """
    create function audit.erase_events(
        events bigint[], columns text[], context_keys text[], erase_keys boolean, erase_query boolean,
        despite_hold boolean
    ) returns jsonb language plpgsql as $$
    declare
        said jsonb := audit.honest(events, columns, context_keys, erase_keys, erase_query, despite_hold);
    begin
        insert into audit.redactions values ((said -> 'redaction')::bigint, pg_current_xact_id());
        {0}
        delete from audit.redactions;
        return said;
    end $$
"""
FORGE = """
    update audit.logged_actions set new_row = new_row || '{"status": "forged"}' where event_id = 301;
"""
COMMIT = """
    update audit.redacted_slots as r
    set remaining = sha256(r.salt || convert_to(e.new_row::text, 'UTF8'))
    from audit.logged_actions as e where e.event_id = 301 and r.event_id = 301 and slot = 3;
"""


def severities(sealed: Sealed) -> list[tuple[str, str, Severity]]:
    """All that verifying finds."""
    return [(one.kind, one.subject, one.severity) for one in sealed.verify().findings]


def test_what_a_redaction_left_is_signed(sealed: Sealed) -> None:
    redact_signed(sealed, "1", "2", columns=["note", "status"], context_keys=["actor"])
    redact_signed(sealed, "2", columns=["id"], keys=True)
    sealed.seal()
    announced = [event["event_id"] for event in sealed.trail.events() if event["action"] == "R"]
    report = sealed.verify()
    assert (report.findings, report.signed, report.unsigned) == ([], announced, [])


def test_a_redaction_without_a_signature_is_told_apart(sealed: Sealed) -> None:
    first = redact(sealed, [301], ["status"])
    assert severities(sealed) == [("redaction_unsigned", f"event {first}", Severity.INFO)]
    redact_signed(sealed, "1")
    second = redact(sealed, [302], ["status"])
    assert severities(sealed) == [
        ("redaction_unsigned", f"event {first}", Severity.INFO),
        ("redaction_unsigned", f"event {second}", Severity.WARNING),
    ]


def test_on_the_command_line(sealed: Sealed, audit: Audit) -> None:
    there = ("--dsn", sealed.trail.database.dsn)
    erase = ("redact", "orders", "1", "--column", "note", "--reason", "asked to", *there)
    audit(*erase, "--key", str(sealed.folder / "none.key"), "--apply", code=2)
    assert audit("verify", *there, code=0).stdout.count("redact") == 0
    signed = audit(*erase, "--key", str(sealed.key), "--apply", code=0)
    assert "  signed: what is left of sealed events\n" in signed.stdout
    verified = audit("verify", *there, "--fail-on", "info", code=0)
    assert "1 redaction signed by a sealer" in verified.stdout


def test_without_a_key_it_is_information_on_the_command_line(sealed: Sealed, audit: Audit) -> None:
    there = ("--dsn", sealed.trail.database.dsn)
    erase = ("redact", "orders", "1", "--column", "note", "--reason", "asked to", *there)
    assert "signed" not in audit(*erase, "--apply", code=0).stdout
    assert "announced, but not signed by a sealer" in audit("verify", *there, code=0).stdout
    audit("verify", *there, "--fail-on", "info", code=3)


def test_a_value_that_is_changed_beside_a_redacted_one_is_found(sealed: Sealed) -> None:
    """By the owner of the trail, without DDL: all that audit redact does, but for the signature."""
    redact_signed(sealed, "5")
    forge_redaction(sealed, 1, "note", BESIDE)
    [(number,)] = sealed.execute(
        "select max(event_id) from audit.logged_actions where action = 'R'"
    )
    assert sealed.found() == [("redaction_unsigned", f"event {number}")]


@pytest.mark.parametrize(
    "lie",
    [
        FORGE,
        FORGE + COMMIT,
        "update audit.redacted_slots set commitment = sha256('x') where event_id = 301;",
        "update audit.redacted_slots set remaining = sha256('x') where event_id = 301;",
        "update audit.logged_actions set query = 'x' where event_id = 1;",
        'update audit.logged_actions set new_row = new_row || \'{"id": {"audit:redacted": 1}}\' where event_id = 1;',
    ],
    ids=["beside", "committed", "commitment", "remaining", "query", "more"],
)
def test_a_function_that_changes_more_gets_no_signature(sealed: Sealed, lie: str) -> None:
    before = sealed.trail.events()
    sealed.execute(
        "alter function audit.erase_events(bigint[], text[], text[], boolean, boolean, boolean) rename to honest"
    )
    sealed.execute(LIAR.replace("{0}", lie))
    # Event 1 made the row, and the first update was that of row 2.
    with pytest.raises(AuditError, match="not signed"):
        redact_signed(sealed, "1", "2")
    assert sealed.trail.events() == before
    assert sealed.verify().findings == []


@pytest.mark.parametrize(
    "act",
    [
        "delete from audit.redaction_notes",
        "update audit.redaction_notes set note = 'x'",
        "update audit.redaction_notes set note = replace(note, 'event ', 'event 1')",
        "update audit.redaction_notes set note = (select note from audit.seal_checkpoints limit 1)",
        "delete from audit.redacted_slots where event_id = 1",
        "update audit.redaction_notes set redaction_id = redaction_id - 1",
    ],
)
def test_whoever_changes_the_signature_is_found(sealed: Sealed, act: str) -> None:
    number = redact_signed(sealed, "1", "2")
    sealed.seal()
    sealed.tamper(act)
    found = sealed.found()
    assert {kind for kind, _ in found} & {"redaction_unsigned", "redaction_unannounced"}, found
    if "redaction_notes" in act:
        assert found == [("redaction_unsigned", f"event {number}")]


def test_a_signature_by_another_key_of_the_same_name_is_found(sealed: Sealed) -> None:
    number = redact_signed(sealed, "1", key=new_key("example.com/shop"))
    assert sealed.found() == [("redaction_unsigned", f"event {number}")]


def test_a_redaction_after_a_signed_one_of_the_same_value_needs_a_signature(sealed: Sealed) -> None:
    redact_signed(sealed, "1")
    number = redact(sealed, [1], ["status"])
    assert sealed.found() == [("redaction_unsigned", f"event {number}")]


def test_what_is_not_sealed_needs_no_signature(unsealed: Sealed) -> None:
    redact_signed(unsealed, "1")
    assert unsealed.execute("select count(*) from audit.redaction_notes") == [(0,)]
    unsealed.seal()
    assert unsealed.verify().findings == []


def test_a_redactor_has_nothing_signed(sealed: Sealed) -> None:
    """Signing reads the events, which a redactor may not."""
    role = "signing_redactor"
    sealed.execute(f"create role {role}")
    try:
        for statement in render_grants("audit", "postgres", redactor=role):
            sealed.execute(statement)
        with connect(sealed.trail.database.dsn) as connection:
            connection.execute(f"set role {role}".encode())
            signer = RedactionSigner(
                connection=connection, schema="audit", signer=read_key(sealed.key)
            )
            erasure = Erasure(table="public.orders", columns=["note"], reason="asked to")
            with pytest.raises(UsageError, match="only the owner of the trail"):
                redact_trail(connection, erasure, apply=True, signer=signer)
    finally:
        sealed.execute(f"drop owned by {role}; drop role {role}")
