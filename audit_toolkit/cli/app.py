"""The command `audit`, and the one place where an error becomes text and an exit code."""

from __future__ import annotations

import os
from typing import Any

import typer
import typer.core

from audit_toolkit.cli import (
    access,
    adopt,
    archive,
    capture,
    check,
    context,
    demo,
    events,
    examples,
    grants,
    indexes,
    init,
    install,
    maintain,
    partitions,
    revert,
    status,
    stream,
    sync,
    time_travel,
    trail,
    upgrade,
)
from audit_toolkit.cli.ending import ending, open_closed_streams
from audit_toolkit.version import __version__

_TYPED = "audit_toolkit.typed"


class AuditGroup(typer.core.TyperGroup):
    """Runs a command; what it raises ends as two lines on stderr and an exit code."""

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

    def _main_shell_completion(
        self, ctx_args: Any, prog_name: str, complete_var: Any = None
    ) -> None:
        # Typer ends here at once where the shell asks nothing.
        if any(name.endswith("_COMPLETE") and name.startswith("_") for name in os.environ):
            from audit_toolkit.cli.completion import complete_values

            complete_values(self)
        super()._main_shell_completion(ctx_args, prog_name, complete_var)


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


for commands in (
    install,
    init,
    upgrade,
    sync,
    capture,
    check,
    status,
    access,
    trail,
    events,
    time_travel,
    revert,
    context,
    partitions,
    archive,
    indexes,
    maintain,
    adopt,
    stream,
    grants,
    demo,
):
    commands.add_to(app)
examples.add_to(app)


def main() -> None:
    """Run the command line."""
    open_closed_streams()
    app()
