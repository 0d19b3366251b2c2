"""The command `audit`, and the one place where an error becomes text and an exit code."""

from __future__ import annotations

import os
from typing import Any

import typer
import typer.core

from audit_toolkit.cli.exits import ending, open_closed_streams
from audit_toolkit.cli.lazy import Entry, lazy_commands
from audit_toolkit.version import __version__

_TYPED = "audit_toolkit.typed"

COMMANDS = (
    Entry(
        "install",
        "install:install",
        "Audit a table: write the revision that puts capture on it into your Alembic project.",
    ),
    Entry(
        "uninstall",
        "install:uninstall",
        "Stop auditing a table: write the revision that takes capture off it. Its events stay.",
    ),
    Entry(
        "init",
        "init:init",
        "Create an Alembic project here, with Alembic's own template; env.py takes DATABASE_URL.",
    ),
    Entry(
        "upgrade",
        "upgrade:upgrade_toolkit",
        "Bring the trail and all capture to this version of the toolkit: write the revision that does it.",
    ),
    Entry(
        "sync",
        "sync:sync",
        "Give a database the capture that the project's revisions record, where it lacks it.",
    ),
    Entry(
        "baseline",
        "capture:baseline",
        "Snapshot the rows that the trail does not know yet, while the application goes on writing.",
    ),
    Entry(
        "pause",
        "capture:pause",
        "Switch capture of a table off; the trail records the gap, with who and why.",
    ),
    Entry(
        "resume",
        "capture:resume",
        "Switch capture of a table on again; the trail records the end of the gap.",
    ),
    Entry(
        "check",
        "check:check",
        "Compare what the database has with what was installed; exit code 3 when something is off.",
    ),
    Entry(
        "status",
        "status:status",
        "Show every table with its rule, since when, events, size and last event; what is not audited; who may read.",
    ),
    Entry(
        "access",
        "access:access",
        "Show who can read, write, alter or silence the trail, and by which way.",
    ),
    Entry(
        "history",
        "history:history",
        "Show who changed what, when, and from what to what; the oldest event first.",
    ),
    Entry("show", "events:show", "Show one event: who, when, from what to what."),
    Entry(
        "transaction",
        "events:transaction",
        "Show everything that one transaction changed, in all audited tables.",
    ),
    Entry(
        "row-at",
        "time_travel:row_at",
        "Show a row as it was at a moment, in the columns that the table has now.",
    ),
    Entry(
        "table-at",
        "time_travel:table_at",
        "Print all rows that a table had at a moment, in no order, in the columns that it has now.",
    ),
    Entry(
        "diff",
        "time_travel:diff",
        "Show the rows of a table that were others at the end of a time than at its beginning.",
    ),
    Entry(
        "blame",
        "time_travel:blame",
        "Show for each column of a row its present value, and who gave it that and when.",
    ),
    Entry("restore", "revert:restore", "Show what makes a row what it was, or do it with --apply."),
    Entry(
        "revert",
        "revert:revert",
        "Show what takes events back, or do it with --apply; a revert can be reverted.",
    ),
    Entry(
        "mark",
        "revert:mark",
        "Give this moment a name in the trail, to which `audit revert --to-mark` goes back.",
    ),
    Entry(
        "context",
        "context:context",
        "Try the context: what a connection would send, and what the server sees of it.",
    ),
    Entry(
        "psql",
        "context:psql",
        "Open psql; every change made in it carries your login, the reason and an id of the console.",
    ),
    Entry(
        "partitions plan",
        "partitions:plan",
        "Show what `run` would do, as things are now; changes nothing.",
    ),
    Entry(
        "partitions run",
        "partitions:run",
        "Finish what was interrupted, create ahead, archive, detach, drop. Run it as often as you like.",
    ),
    Entry(
        "partitions check",
        "partitions:check",
        "Tell what is wrong, or soon will be: the horizon, gaps, the tail, interrupted work, leaves that were touched.",
    ),
    Entry(
        "partitions hold",
        "partitions:hold",
        "Keep a leaf, attached or detached, from retention until it is released.",
    ),
    Entry("partitions release", "partitions:release", "End the hold of a leaf."),
    Entry(
        "partitions attach",
        "partitions:attach",
        "Bring a detached leaf back into the trail, and hold it there.",
    ),
    Entry(
        "partitions list",
        "partitions:list_leaves",
        "List the leaves: their bounds, sizes, states, holds and archives.",
    ),
    Entry(
        "partitions convert-default",
        "partitions:convert_default",
        "Turn a DEFAULT partition into a leaf with bounds, with leaves ahead and a tail behind it; moves no row.",
    ),
    Entry(
        "archive run",
        "archive:run",
        "Archive every detached leaf now, and read it back; drops nothing.",
    ),
    Entry(
        "archive export",
        "archive:export",
        "Write what is new of the partitions in use, each event once, up to where no open transaction can add any.",
    ),
    Entry(
        "archive register",
        "archive:register",
        "Make an Apache Iceberg table of the archive, or bring it in line: its files are registered, not copied.",
    ),
    Entry(
        "archive verify",
        "archive:verify",
        "Read the archive back, every byte, and compare it with its manifests and with what the database archived.",
    ),
    Entry(
        "archive query",
        "archive:query",
        "Ask the archive in SQL (DuckDB's): the events are the view logged_actions; relation and month prune files.",
    ),
    Entry(
        "archive restore",
        "archive:restore",
        "Bring a leaf back into PostgreSQL, compared with its digest: detached, and on hold.",
    ),
    Entry(
        "archive adopt",
        "archive:adopt",
        "Say that this database, after a failover or a restore, goes on with the archive that another one wrote.",
    ),
    Entry(
        "archive list",
        "archive:list_archive",
        "List the archived leaves: their ranges, events and sizes.",
    ),
    Entry(
        "indexes check",
        "indexes:check",
        "Find invalid, unfinished, missing, duplicate and unused indexes, with the cause and the remedy.",
    ),
    Entry(
        "indexes fix",
        "indexes:fix",
        "Mend what `check` finds, while reads and writes go on; run it again after any failure.",
    ),
    Entry(
        "indexes create",
        "indexes:create",
        "Create an index on a table and every leaf of it, while reads and writes go on.",
    ),
    Entry(
        "indexes progress",
        "indexes:progress",
        "Show the builds that are running: phase, per cent, rate, and which session they wait for.",
    ),
    Entry(
        "maintain",
        "maintain:maintain",
        "Do all regular work: partitions, archive, then `audit check`. One line in cron.",
    ),
    Entry("ui", "ui:ui", "Show the trail as a page in your browser."),
    Entry("reconcile", "reconcile:reconcile", "Compare tables with what their trail says."),
    Entry("seal", "seal:seal", "Seal new events, so that nobody can change them unseen."),
    Entry("verify", "verify:verify", "Verify that no sealed event was changed."),
    Entry("prove", "prove:prove", "Write a proof that an event is sealed, as JSON."),
    Entry("verify-proof", "prove:verify_proof", "Verify a proof without a database."),
    Entry("keys new", "keys:new", "Make a new key to seal with."),
    Entry("keys rotate", "keys:rotate", "Replace the key; the former one signs the new one."),
    Entry("keys list", "keys:list_keys", "List the public keys that sealed this trail."),
    Entry(
        "adopt",
        "adopt:adopt",
        "Make a trail that was restored or copied go on in this cluster and database.",
    ),
    Entry("stream run", "stream:run", "Deliver events to a sink, from where it stopped."),
    Entry("stream list", "stream:list_consumers", "List consumers and where they stand."),
    Entry("stream lag", "stream:lag", "Show how far consumers are behind."),
    Entry("stream reset", "stream:reset", "Let a consumer go on from another place."),
    Entry("stream drop", "stream:drop", "Forget a consumer, its place and its dead letters."),
    Entry("stream dead-letters list", "stream:list_letters", "List what its sink refused."),
    Entry("stream dead-letters retry", "stream:retry_letters", "Deliver dead letters again."),
    Entry("stream dead-letters drop", "stream:drop_letters", "Give up dead letters."),
    Entry(
        "grants",
        "grants:grants",
        "Print the GRANTs that a role needs. Nothing is run: read them, then pipe them into psql.",
    ),
    Entry(
        "demo",
        "demo:demo",
        "Show what an audit trail is, on a throwaway PostgreSQL that is gone afterwards.",
    ),
)
"""Every command: what is typed, where it is, and the first line of its help."""

GROUPS = {
    "partitions": "The leaves of the trail: create ahead, detach, archive, drop; no write ever waits for it.",
    "archive": "Old leaves as Parquet files: written, read back, listed, queried, restored.",
    "keys": "Manage the keys that seals are signed with.",
    "stream": "Deliver events to somewhere else, each at least once.",
    "stream dead-letters": "Events that a sink refused for good.",
    "indexes": "Indexes: which are broken and why, how to mend them, new ones without blocking a write.",
}


class AuditGroup(typer.core.TyperGroup):
    """Runs a command; what it raises ends as two lines on stderr and an exit code."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update(lazy_commands(COMMANDS, GROUPS, _examples, _complete))

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the command line as far as the name of the command."""
        typed = tuple(args[1]) if len(args) > 1 else tuple(kwargs.get("args") or ())
        with ending(typed):
            context = super().make_context(*args, **kwargs)
        context.meta[_TYPED] = typed
        return context

    def invoke(self, ctx: Any) -> Any:
        """Run the command that `ctx` names."""
        with ending(
            ctx.meta.get(_TYPED, ()),
            lambda: " ".join(filter(None, (ctx.command_path, ctx.invoked_subcommand))),
        ):
            return super().invoke(ctx)


def _examples(words: str) -> str:
    from audit_toolkit.cli.examples import EXAMPLES

    # \b keeps the lines as they are.
    lines = (f"  {example}" for example in EXAMPLES.get(words, ()))
    return "\n".join(["\b", "Examples:", *lines])


def _complete(words: str, command: Any) -> None:
    """Where the shell asks, let the parameters of a command offer values of the database."""
    if any(name.endswith("_COMPLETE") and name.startswith("_") for name in os.environ):
        from audit_toolkit.cli.completion import complete_values

        complete_values(words.rpartition(" ")[2], command)


app = typer.Typer(
    name="audit",
    cls=AuditGroup,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold connection strings
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="The audit trail for PostgreSQL: who changed which row, when, from what to what.",
    epilog="Exit codes: 0 fine, 1 failed, 2 usage, 3 findings, 4 cannot connect, 5 busy.",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"audit-toolkit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    open_closed_streams()
    app()
