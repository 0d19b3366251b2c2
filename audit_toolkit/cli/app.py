"""The command `audit`, and the one place where an error becomes text and an exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import typer
import typer.core

from audit_toolkit.cli.coercion import coerced_plainly
from audit_toolkit.cli.exits import ending, open_closed_streams, unwound_by_sigterm
from audit_toolkit.cli.json_log import LogFormat, logging_as_json
from audit_toolkit.cli.lazy import Entry, lazy_commands
from audit_toolkit.version import __version__

_TYPED = "audit_toolkit.typed"
_LOG_FORMAT_VARIABLE = "AUDIT_LOG_FORMAT"

_COLLECT_AFTER = 50_000
"""Objects between two runs of the garbage collector: starting a command makes as many, and frees none of them."""

COMMANDS = (
    Entry("install", "install:install", "Start auditing a table."),
    Entry("uninstall", "uninstall:uninstall", "Stop auditing a table; its events stay."),
    Entry("init", "init:init", "Create an Alembic project that reads DATABASE_URL."),
    Entry(
        "upgrade", "upgrade:upgrade_toolkit", "Upgrade the trail and all capture to this version."
    ),
    Entry("sync", "sync:sync", "Install the capture that the project's revisions record."),
    Entry("baseline", "baseline:baseline", "Snapshot existing rows while the application runs."),
    Entry("pause", "pause:pause", "Pause capture of a table; the trail records the gap."),
    Entry("resume", "resume:resume", "Resume capture of a table; the trail records it."),
    Entry("check", "check:check", "Check that capture and the trail are as installed."),
    Entry("status", "status:status", "Show audited tables, their options, events and size."),
    Entry("access", "access:access", "Show who can read, change or disable the trail, and how."),
    Entry("history", "history:history", "Show who changed what and when, oldest event first."),
    Entry("show", "show:show", "Show one event: who, when, and what changed."),
    Entry(
        "transaction", "transaction:transaction", "Show everything that one transaction changed."
    ),
    Entry("row-at", "row_at:row_at", "Show a row as it was at a point in time."),
    Entry("table-at", "table_at:table_at", "Print all rows that a table had at a point in time."),
    Entry("diff", "diff:diff", "Show which rows changed between two points in time."),
    Entry("blame", "blame:blame", "Show who last changed each column of a row, and when."),
    Entry("restore", "restore:restore", "Show how to put a row back, or do it with --apply."),
    Entry("revert", "revert:revert", "Show how to undo events, or do it with --apply."),
    Entry("mark", "mark:mark", "Name this moment, for `audit revert --to-mark`."),
    Entry("context", "context:context", "Show the context that a connection sends."),
    Entry("psql", "psql:psql", "Open psql; changes carry your login and the reason."),
    Entry(
        "partitions plan", "partitions.plan:plan", "Show what `run` would do now; changes nothing."
    ),
    Entry(
        "partitions run",
        "partitions.run:run",
        "Create, archive, detach and drop partitions as due.",
    ),
    Entry(
        "partitions check",
        "partitions.check:check",
        "Check partition coverage, gaps and interrupted work.",
    ),
    Entry(
        "partitions hold",
        "partitions.hold:hold",
        "Protect a partition from retention until released.",
    ),
    Entry(
        "partitions release", "partitions.release:release", "Release a partition that is on hold."
    ),
    Entry(
        "partitions attach",
        "partitions.attach:attach",
        "Attach a detached partition again, and hold it.",
    ),
    Entry(
        "partitions list",
        "partitions.list:list_leaves",
        "List partitions: bounds, size, state, holds, archives.",
    ),
    Entry(
        "partitions convert-default",
        "partitions.convert_default:convert_default",
        "Turn a DEFAULT partition into one with bounds.",
    ),
    Entry(
        "archive run", "archive.run:run", "Archive all detached partitions, and verify the files."
    ),
    Entry(
        "archive export",
        "archive.export:export",
        "Export new events of partitions that are in use.",
    ),
    Entry(
        "archive register",
        "archive.register:register",
        "Create or update an Apache Iceberg table of the archive.",
    ),
    Entry("archive verify", "archive.verify:verify", "Verify every file of the archive."),
    Entry("archive query", "archive.query:query", "Query the archive with DuckDB SQL."),
    Entry(
        "archive restore",
        "archive.restore:restore",
        "Restore an archived partition into PostgreSQL.",
    ),
    Entry(
        "archive adopt",
        "archive.adopt:adopt",
        "Continue the archive of another database in this one.",
    ),
    Entry(
        "archive list",
        "archive.list:list_archive",
        "List archived partitions: ranges, events and sizes.",
    ),
    Entry(
        "indexes check",
        "indexes.check:check",
        "Find invalid, missing, duplicate and unused indexes.",
    ),
    Entry("indexes fix", "indexes.fix:fix", "Repair what `check` finds; reads and writes go on."),
    Entry(
        "indexes create",
        "indexes.create:create",
        "Create an index on a table and all its partitions.",
    ),
    Entry(
        "indexes progress",
        "indexes.progress:progress",
        "Show index builds in progress, and what they wait for.",
    ),
    Entry("ui", "ui:ui", "Serve the trail as a web page on this machine."),
    Entry("maintain", "maintain:maintain", "Run routine maintenance; intended for cron."),
    Entry("reconcile", "reconcile:reconcile", "Compare live tables with their trail."),
    Entry("witness run", "witness.run:run", "Compare the write-ahead log with the trail."),
    Entry(
        "witness status",
        "witness.status:status",
        "Show what the witness compares, and how far it is.",
    ),
    Entry(
        "witness drop", "witness.drop:drop", "Drop the slot and the publications of the witness."
    ),
    Entry("coverage", "coverage:coverage", "Show which tables were captured at a time."),
    Entry("report", "report:report", "Write a report for auditors about a period."),
    Entry("review", "review:review", "Record that somebody reviewed the trail."),
    Entry("drill", "drill:drill", "Test the archive by restoring a partition."),
    Entry("guard on", "guard.on:on", "Enable the guard."),
    Entry("guard off", "guard.off:off", "Disable the guard, and record who did it and why."),
    Entry("guard status", "guard.status:status", "Show whether the guard is on."),
    Entry("seal", "seal:seal", "Seal new events, so that later changes are detected."),
    Entry("subject", "subject:subject", "Export everything the trail has about a person."),
    Entry("redact", "redact:redact", "Erase values from the trail permanently."),
    Entry("verify", "verify:verify", "Verify that no sealed event was changed."),
    Entry("prove", "prove:prove", "Write a proof that an event is sealed, as JSON."),
    Entry("verify-proof", "verify_proof:verify_proof", "Verify a proof without a database."),
    Entry("keys new", "keys.new:new", "Create a key pair to sign seals with."),
    Entry("keys rotate", "keys.rotate:rotate", "Replace the key; the old key signs the new one."),
    Entry("keys list", "keys.list:list_keys", "List the public keys that sealed this trail."),
    Entry(
        "stream run",
        "stream.run:run",
        "Deliver events to a sink, resuming where it stopped.",
    ),
    Entry(
        "stream list",
        "stream.list:list_consumers",
        "List consumers with their positions and errors.",
    ),
    Entry("stream lag", "stream.lag:lag", "Show how far behind consumers are."),
    Entry("stream reset", "stream.reset:reset", "Move a consumer to another position."),
    Entry("stream drop", "stream.drop:drop", "Delete a consumer, its position and dead letters."),
    Entry(
        "stream dead-letters list",
        "stream.dead_letters.list:list_letters",
        "List the dead letters of a consumer, oldest first.",
    ),
    Entry(
        "stream dead-letters retry",
        "stream.dead_letters.retry:retry_letters",
        "Deliver dead letters again.",
    ),
    Entry(
        "stream dead-letters drop",
        "stream.dead_letters.drop:drop_letters",
        "Discard dead letters; their events stay in the trail.",
    ),
    Entry("capture run", "capture.run:run", "Record changes of tables captured from the WAL."),
    Entry(
        "capture status",
        "capture.status:status",
        "Show how far the worker is that reads the WAL.",
    ),
    Entry(
        "capture fallback",
        "capture.fallback:fallback",
        "Record tables captured from the WAL by triggers again.",
    ),
    Entry(
        "capture resume",
        "capture.resume:resume",
        "Let the worker read tables from the WAL again.",
    ),
    Entry(
        "publication",
        "publication:publication",
        "Publish the trail for Debezium and logical decoding.",
    ),
    Entry("adopt", "adopt:adopt", "Continue a restored or copied trail in this database."),
    Entry("grants", "grants:grants", "Print the GRANTs that a role needs; runs nothing."),
    Entry("demo", "demo:demo", "Run a guided tour on a throwaway PostgreSQL."),
)
"""Every command: what is typed, where it is, and the first line of its help."""

GROUPS = {
    "partitions": "Manage the trail's partitions without blocking writes.",
    "archive": "Archive old partitions as Parquet files, and query them.",
    "guard": "Refuse DDL that would disable or remove capture.",
    "keys": "Manage the keys that seals are signed with.",
    "indexes": "Find and repair broken indexes, and create new ones.",
    "capture": "Read changes from the WAL instead of by triggers.",
    "witness": "Compare the write-ahead log (WAL) with the trail.",
    "stream": "Deliver events to other systems, at least once each.",
    "stream dead-letters": "Events that a sink refused for good.",
}


class AuditGroup(typer.core.TyperGroup):
    """Runs a command; what it raises ends as two lines on stderr and an exit code."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update(lazy_commands(COMMANDS, GROUPS, _examples, _complete))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line, with JSON on stderr from the first word on where that is asked for."""
        given = args[0] if args else kwargs.get("args")
        log_format, command = _read_ahead(sys.argv[1:] if given is None else given)
        with logging_as_json(command) if log_format == LogFormat.JSON else nullcontext():
            return super().main(*args, **kwargs)

    def get_params(self, ctx: Any) -> Any:
        """The parameters, also those that Typer adds."""
        return coerced_plainly(super().get_params(ctx))

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


def _read_ahead(typed: Sequence[str]) -> tuple[str, str]:
    """The log format that is asked for and the command, `audit stream run`, of a line that may be wrong."""
    log_format, words = os.environ.get(_LOG_FORMAT_VARIABLE, ""), [*typed]
    while words and words[0].startswith("-"):
        name, equals, value = words.pop(0).partition("=")
        if name == "--log-format" and (equals or words):
            log_format = value if equals else words.pop(0)
    known = {entry.words for entry in COMMANDS} | GROUPS.keys()
    names = (" ".join(words[:number]) for number in (3, 2, 1))
    return log_format, f"audit {next((name for name in names if name in known), '')}".rstrip()


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
    help="Record, query and undo changes to PostgreSQL tables.",
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 findings, 4 cannot connect, 5 busy.",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"audit-toolkit {__version__}")
        raise typer.Exit


_LogFormat = Annotated[
    LogFormat,
    typer.Option(
        "--log-format",
        envvar=_LOG_FORMAT_VARIABLE,
        help="What goes on and what went wrong, on stderr: text, or one JSON object a line.",
    ),
]


@app.callback()
def _options(
    log_format: _LogFormat = LogFormat.TEXT,
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    gc.set_threshold(_COLLECT_AFTER)
    open_closed_streams()
    try:
        with unwound_by_sigterm():
            app()
    finally:
        # All memory goes back with the process: Python need not look for cycles in it first.
        gc.freeze()
