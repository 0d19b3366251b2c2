"""How a command ends that cannot or must not go on: what it says on stderr, and its exit code."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from types import FrameType
from typing import Any, NoReturn

import typer

from audit_toolkit.errors import AuditError

USAGE = 2
UNKNOWN = 3
NOBODY_READS = 128 + 13
"""As if SIGPIPE had ended the command, which is how git and others end when a pipe is closed."""
TERMINATED = 128 + signal.SIGTERM
"""What a command exits with that SIGTERM has interrupted, as shells say it."""

_TyperUsageError: Any = typer.BadParameter.__mro__[1]
_NoArgsIsHelpError: Any = next(
    c for c in _TyperUsageError.__subclasses__() if c.__name__ == "NoArgsIsHelpError"
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
_MISSING = ("3F000", "42703", "42704", "42883", "42P01", "42P10")
"""What the server says where a schema, column, object, function, table or unique constraint is not there."""
# Behind the name come the others of an option, and the variable that it has.
_INVALID = re.compile(
    r"Invalid value(?: for '?(?P<name>[^:']+)'?(?: / '[^']+')*(?: \(env var: '[^']+'\))?)?: (?P<why>.*)",
    re.DOTALL,
)

_NUMBER = re.compile(r"^no such option: -\.?\d")
_AFTER_DASHES = "a key that starts with a dash comes last, after --: orders -- -5"
_SAID_OF_OPTION = {
    "requires an argument": "needs a value",
    "does not take a value": "takes no value",
}
_NOT_DECODED = re.compile("[\udc80-\udcff]")
"""What Python makes of bytes of the command line that are no UTF-8."""
_OF_OPTION = re.compile(rf"Option '([^']+)' ({'|'.join(_SAID_OF_OPTION)})")


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Whoever ends in order on Ctrl-C does so now."""


@contextmanager
def ending(
    typed: Sequence[str] = (), command: Callable[[], str] = lambda: "audit"
) -> Iterator[None]:
    """Turn what a command raises into text and an exit code; `command` is what was being read.

    For Nagios whatever goes wrong, a line that cannot be read included, is UNKNOWN: one line on stdout and code 3.
    """
    try:
        yield
        sys.stdout.flush()
    except AuditError as error:
        _for_nagios(typed, error.message)
        _say(error.message, error.hint)
        raise typer.Exit(error.exit_code) from error
    except _TyperUsageError as error:
        if isinstance(error, _NoArgsIsHelpError):
            print(error.format_message(), file=sys.stderr)
            raise typer.Exit(USAGE) from error
        message = _in_our_words(error.format_message())
        _for_nagios(typed, message)
        where = error.ctx.command_path if error.ctx else command()
        is_number = _NUMBER.search(message)
        _say(message, _AFTER_DASHES if is_number else f"{where} --help")
        raise typer.Exit(USAGE) from error
    except BrokenPipeError as error:
        _silence_stdout()
        raise typer.Exit(NOBODY_READS) from error
    except Terminated as error:
        raise typer.Exit(TERMINATED) from error
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _silence_stdout()
        _say(f"could not write the output: {os.strerror(error.errno)}", None)
        raise typer.Exit(1) from error
    except Exception as error:
        said = _explained(error, typed)
        if said is None:
            raise
        message, hint, code = said
        _say(message, hint)
        raise typer.Exit(code) from error


def _explained(error: Exception, typed: Sequence[str]) -> tuple[str, str | None, int] | None:
    """What to say of an error that is not ours, a hint and the exit code; None for one of the program."""
    if _is_of_server(error):
        hint = "to see whether something of the trail is missing: audit check"
        is_missing = str(getattr(error, "sqlstate", "")) in _MISSING
        message = f"the database refused: {str(error).partition(chr(10))[0]}"
        return message, hint if is_missing else None, 1
    wrong = [word for word in typed if _NOT_DECODED.search(word)]
    if wrong and isinstance(error, UnicodeEncodeError):
        return f"{wrong[0]!a} is not valid UTF-8", "give names and values in UTF-8", USAGE
    return None


@contextmanager
def unwound_by_sigterm() -> Iterator[None]:
    """A program in which SIGTERM raises `Terminated`; the second one kills.

    Without a handler nothing would be undone, and in a container, where the command is process 1, the kernel would
    not even deliver it. A program that could not end in order dies by the signal in the end, so that systemd knows why.
    A handler that is there already stays, and so does an ignored signal.
    """
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _unwind)
    try:
        yield
    except SystemExit as ended:
        if ended.code == TERMINATED:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):
                    stream.flush()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)  # process 1 survives that, and exits with the code
        raise


def _unwind(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def open_closed_streams() -> None:
    """Give a process that was started without stdin, stdout or stderr something in their place.

    Otherwise the next connection would get their numbers, and Python would print on stdout what was for
    stderr. To write on such a stdout is an error, as for GNU's programs; what was for stderr is lost.
    """
    for number, name, flags in (
        (0, "stdin", os.O_RDONLY),
        (1, "stdout", os.O_RDONLY),
        (2, "stderr", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, buffering=1, closefd=False))  # noqa: SIM115


def _is_of_server(error: Exception) -> bool:
    psycopg = sys.modules.get("psycopg")
    return psycopg is not None and isinstance(error, psycopg.Error)


def _for_nagios(typed: Sequence[str], message: str) -> None:
    asked = "--format=nagios" in typed or ("--format", "nagios") in pairwise(typed)
    if asked:
        from audit_toolkit.cli.values import visible
        from audit_toolkit.findings import nagios_unknown

        print(nagios_unknown(typed[0], visible(message)))
        raise typer.Exit(UNKNOWN)


def _say(message: str, hint: str | None) -> None:
    from audit_toolkit.cli.values import visible

    for name, text in (("error", message), ("hint", hint)):
        if text:
            # Text of the server may hold what a terminal would obey.
            print(f"{name}: " + "\n".join(map(visible, text.split("\n"))), file=sys.stderr)


def _in_our_words(message: str) -> str:
    """What Typer says, as the rest of our errors: `--limit: should be a valid integer`."""
    if found := _INVALID.fullmatch(message):
        why = found["why"].removeprefix("Input ").partition(", unable to parse")[0]
        why = why.removeprefix("Value error, ")
        message = f"{found['name']}: {why}" if found["name"] else why
    message = _OF_OPTION.sub(lambda m: f"{m[1]} {_SAID_OF_OPTION[m[2]]}", message.rstrip("."))
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _silence_stdout() -> None:
    # What is left in the buffer would raise again when Python ends.
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # no file at all
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
