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
            outcome = self._function(messages)
        except Exception as error:
            return Outcome(done=0, error=f"{type(error).__name__}: {error}")
        return Outcome(done=len(messages)) if outcome is None else outcome

    def close(self) -> None:
        """Call `close` of what it calls, where it has one."""
        getattr(self._function, "close", lambda: None)()


def open_sink(address: Address) -> FunctionSink:
    """The sink of `python:package.module:name`. Modules of the working directory are found, too."""
    module, _, name = address.path.partition(":")
    if not module or not name:
        raise UsageError("the address names no function", hint="write python:package.module:name")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{address.path} cannot be imported: {error}") from error
    function: Any = found() if inspect.isclass(found) else found
    return FunctionSink(function)
