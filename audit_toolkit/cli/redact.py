"""`audit redact`: erase values from the trail for good."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from audit_toolkit import exact_json
from audit_toolkit.archive import Archives
from audit_toolkit.attribution.current import nested
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.cli.seal_options import KEY_VARIABLE, SignerCommand, find_signer
from audit_toolkit.cli.undo_output import actor_of
from audit_toolkit.errors import UsageError
from audit_toolkit.plurals import counted
from audit_toolkit.seals import RedactionSigner
from audit_toolkit.trail import Erasure, Redaction
from audit_toolkit.trail import redact as run


def redact(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The audited table.")],
    key: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY]...",
            help="Primary keys, a JSON array for a key of several columns. Without any: every row.",
            show_default=False,
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="COLUMN", help="Erase its values. Repeatable."),
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Reason to record in the trail.")
    ] = "",
    ticket: Annotated[
        str | None,
        typer.Option("--ticket", metavar="TEXT", help="Ticket to record in the trail."),
    ] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="Also replace the primary keys of the rows.")
    ] = False,
    context: Annotated[
        list[str] | None,
        typer.Option("--context", metavar="KEY", help="Erase a key of the context. Repeatable."),
    ] = None,
    query: Annotated[
        bool, typer.Option("--query", help="Also erase the text of the statements.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also erase in partitions on hold.")
    ] = False,
    leave_archives: Annotated[
        bool,
        typer.Option(
            "--leave-archives",
            help="Erase only in the database, even if archives may hold the values.",
        ),
    ] = False,
    archive: Annotated[
        str | None,
        typer.Option(
            "--archive",
            metavar="URL",
            envvar="AUDIT_ARCHIVE",
            help="Where the archive is now, if it was moved.",
            show_default=False,
        ),
    ] = None,
    seal_key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            envvar=KEY_VARIABLE,
            help="Sign what is left of sealed events with this private key; with --signer, FILE is the public key.",
            show_default=False,
        ),
    ] = None,
    signer: SignerCommand = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it, in one transaction.")] = False,
    actor: Annotated[
        str | None,
        typer.Option(
            "--as",
            "--actor",
            metavar="WHO",
            help="Actor to record in the trail. [default: os:USER, as in audit psql]",
            show_default=False,
        ),
    ] = None,
    output: OutputFormat = Format.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Erase values from the trail permanently.

    Shows what would be erased; --apply erases it, in every event of the rows, under all keys and names that they
    had, in the database and in archives. An event records who did it, when and why. The table itself is not changed.
    """
    erasure = Erasure(
        table=table,
        rows=tuple(key or ()),
        columns=tuple(column or ()),
        reason=reason,
        ticket=ticket,
        keys=keys,
        context_keys=tuple(context or ()),
        query=query,
        force=force,
        leave_archives=leave_archives,
    )
    if not reason.strip():
        raise UsageError("no reason given", hint="add --reason TEXT; it is recorded in the trail")
    with nested({"actor": actor_of(actor)}), open_database(dsn, config) as connection:
        archives = Archives(connection=connection, schema=audit_schema, url=archive)
        signed_by = None
        if seal_key:
            found = find_signer(seal_key, signer)
            signed_by = RedactionSigner(connection=connection, schema=audit_schema, signer=found)
        done = run(
            connection,
            erasure,
            apply=apply,
            schema=audit_schema,
            archives=archives,
            signer=signed_by,
        )
    if output is Format.JSON:
        print(exact_json.dumps(done.as_dict() | {"applied": apply}, ascii_only=True))
    else:
        _print(done, erasure, applied=apply)


def _print(done: Redaction, erasure: Erasure, *, applied: bool) -> None:
    if not done.events and not done.files:
        print(f"{visible(str(done.table))}: no event has such a value")
        return
    verb = "redacted" if applied else "would be redacted"
    print(
        f"{visible(str(done.table))}: {counted(done.events, 'event')} of {counted(done.keys, 'key')} "
        f"in {counted(len(done.partitions), 'partition')} {verb}"
    )
    names = [
        ("columns", done.columns),
        ("context", done.context_keys),
        ("partitions", done.partitions),
        ("archived files", done.files),
    ]
    for what, some in names:
        if some:
            print(f"  {what}: {visible(', '.join(some))}")
    if applied:
        print(f"  recorded as event {', '.join(map(str, done.redactions))}: who, when and why")
        if done.signed:
            print("  signed: what is left of sealed events")
        print(
            "note: deleted versions stay in the files of the server until VACUUM FULL (docs/gdpr.md)",
            file=sys.stderr,
        )
        if done.files:
            print(
                "note: where the archive is an Iceberg table, run: audit archive register (docs/gdpr.md)",
                file=sys.stderr,
            )
        if erasure.leave_archives:
            _print_left(done)
        return
    if done.held and not erasure.force:
        print(
            f"note: held, so that --apply needs --force: {visible(', '.join(done.held))}",
            file=sys.stderr,
        )
    _print_left(done)
    if done.with_query:
        print(
            f"note: {counted(done.with_query, 'event')} of these rows have the text of the statement, "
            "which may hold values; --query erases it",
            file=sys.stderr,
        )
    print("nothing was changed; --apply does it", file=sys.stderr)


def _print_left(done: Redaction) -> None:
    """Name the archives that were not looked into."""
    if done.archived and not done.reached:
        print(
            f"note: archives may hold such events, and were not looked into: "
            f"{visible(', '.join(done.archived))}",
            file=sys.stderr,
        )
