"""A function of Python: `python:package.module:name`.

It is called with the messages of a batch. What it returns is an `Outcome`, or None for "all taken"; what it
raises is an error, and the batch comes again. A class is made once, and its object called.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from audit_toolkit.errors import UsageError
from audit_toolkit.stream.messages import Message, Outcome
from audit_toolkit.stream.sinks.base import Address


class FunctionSink:
    """Calls a function with each batch."""

    def __init__(self, function: Callable[[Sequence[Message]], Outcome | None]) -> None:
        self._function = function

    def send(self, messages: Sequence[Message]) -> Outcome:
        """Call the function with the messages."""
        try:
            outcome: Any = self._function(messages)
        except Exception as error:
            return Outcome(done=0, error=f"{type(error).__name__}: {error}")
        if outcome is None:
            return Outcome(done=len(messages))
        if not isinstance(outcome, Outcome) or not 0 <= outcome.done <= len(messages):
            return Outcome(
                done=0,
                error=f"the function returned {outcome!a:.100} for {len(messages)} messages",
                hint="return None for all taken, or Outcome(done=N), N of them at most",
            )
        return outcome

    def close(self) -> None:
        """Call `close` of what it calls, where it has one."""
        getattr(self._function, "close", lambda: None)()


def open_sink(address: Address) -> FunctionSink:
    """The sink of `python:package.module:name`. Modules of the working directory are found, too."""
    module, _, name = address.path.partition(":")
    if not module or not name:
        raise UsageError("the address names no function", hint="write python:package.module:name")
    address.require_known()
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module may raise anything
        raise UsageError(f"{address.path} cannot be imported: {error}") from error
    try:
        function: Any = found() if inspect.isclass(found) else found
    except Exception as error:
        raise UsageError(f"{address.path} cannot be made: {_said(error)}") from error
    if not callable(function):
        raise UsageError(
            f"{address.path} is not a function", hint="name a function, or a class with __call__"
        )
    return FunctionSink(function)


def _said(error: Exception) -> str:
    # The text of a KeyError is the key as code.
    return str(error.args[0]) if len(error.args) == 1 else str(error)
