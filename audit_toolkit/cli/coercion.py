"""What is typed, made into values of Python without Pydantic where that is plain.

Typer builds a validator of Pydantic's for each parameter of a command, also for those that nobody typed. Importing
Pydantic takes a quarter of the time of a short command. What is plain is done here and comes out the same; what is
not, and all that is wrong, is left to Typer.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, get_args, get_origin

_LEFT_TO_TYPER = object()


def coerced_plainly(parameters: Any) -> Any:
    """The parameters of a command, which ask Typer only for what is not plain."""
    for parameter in parameters:
        # Older releases of Typer have no descriptors, and need no Pydantic.
        descriptor = getattr(parameter, "type_descriptor", None)
        if descriptor is not None:
            parameter.get_runtime_param = _Plain(parameter, descriptor)
    return parameters


class _Plain:
    """Stands where Typer asks for the validator of a parameter."""

    def __init__(self, parameter: Any, descriptor: Any) -> None:
        self._parameter = parameter
        self._annotation = descriptor.annotation
        self._default = parameter.default
        self._has_parser = descriptor.parameter_info.parser is not None

    def __call__(self) -> _Plain:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the command takes it."""
        found = self._plain(value, is_list=bool(param.multiple) or param.nargs == -1)
        if found is not _LEFT_TO_TYPER:
            return found
        typers = type(self._parameter).get_runtime_param(self._parameter)
        return typers.coerce(value, param=param, ctx=ctx)

    def _plain(self, value: Any, *, is_list: bool) -> Any:
        if value is None:
            return () if is_list else None
        if value is self._default and type(value) is self._annotation:
            return value
        if self._has_parser:
            return _LEFT_TO_TYPER
        if is_list:
            is_plain = get_origin(self._annotation) is list and get_args(self._annotation) == (str,)
            if is_plain and isinstance(value, list | tuple) and set(map(type, value)) <= {str}:
                return list(value)
            return _LEFT_TO_TYPER
        return _one(value, self._annotation)


def _one(value: Any, annotation: Any) -> Any:
    if annotation is str and type(value) is str:
        return value
    if not isinstance(annotation, type) or not issubclass(annotation, Enum):
        return _LEFT_TO_TYPER
    if isinstance(value, annotation):
        return value
    return next((one for one in annotation if one.value == value), _LEFT_TO_TYPER)
