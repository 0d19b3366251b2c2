"""The optional packages of the archive, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from audit_toolkit.errors import MissingExtraError

_HINT = "pip install 'audit-toolkit[archive]'"


def arrow() -> Any:
    """pyarrow, or a `MissingExtraError`."""
    return _optional("pyarrow")


def compute() -> Any:
    """pyarrow.compute."""
    return _optional("pyarrow.compute")


def parquet() -> Any:
    """pyarrow.parquet."""
    return _optional("pyarrow.parquet")


def fsspec() -> Any:
    """Fsspec."""
    return _optional("fsspec")


def duckdb() -> Any:
    """Duckdb."""
    return _optional("duckdb")


def iceberg(module: str) -> Any:
    """A module of pyiceberg, such as `catalog`."""
    hint = "pip install 'audit-toolkit[iceberg]'"
    return _optional(f"pyiceberg.{module}", "an Iceberg table needs", hint)


def _optional(module: str, what: str = "the archive needs", hint: str = _HINT) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{what} {module.split('.')[0]}", hint=hint) from error
