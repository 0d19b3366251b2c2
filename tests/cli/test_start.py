"""What a short command imports and does before it asks the database: counted, as times differ by the minute."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import psycopg.conninfo
import typer.core

from audit_toolkit.cli.app import COMMANDS, app
from audit_toolkit.cli.coercion import _LEFT_TO_TYPER, _Plain
from tests.plugins.trail import Trail

VALUES = (None, "", "x", "5", "-5", "text", "json", " JSON", True, ("a", "b"), ("a",), ())


def loaded_by(trail: Trail, *typed: str, outside: Path) -> list[str]:
    """The modules that a command imports where there is no project, and libpq's environment names the database."""
    command = [sys.executable, "-X", "importtime", "-m", "audit_toolkit", *typed]
    known = psycopg.conninfo.conninfo_to_dict(trail.database.dsn)
    variables = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    named = {variables[key]: str(value) for key, value in known.items() if key in variables}
    done = subprocess.run(
        command, env=os.environ | named, cwd=outside, capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return [line.rsplit("|", 1)[-1].strip() for line in lines]


def test_the_history_of_a_row_imports_what_it_needs(trail: Trail, tmp_path: Path) -> None:
    trail.execute("create table orders (id int primary key)")
    trail.audit("orders")
    trail.execute("insert into orders values (1)")
    loaded = loaded_by(trail, "history", "orders", "1", "--format", "json", outside=tmp_path)
    brought = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert not brought & {
        "alembic",
        "mako",
        "opentelemetry",
        "pydantic",
        "pydantic_core",
        "sqlalchemy",
        "rich",
    }
    ours = [name for name in loaded if name.startswith("audit_toolkit")]
    assert "audit_toolkit.trail.history.read" in ours
    parts = ("revert", "redaction", "time_travel", "attribution", "capture.render", "plan")
    assert [name for name in ours if any(part in name for part in parts)] == []
    assert len(ours) < 65, ours


def test_a_check_imports_no_validator(trail: Trail, tmp_path: Path) -> None:
    loaded = loaded_by(trail, "check", outside=tmp_path)
    assert "audit_toolkit.findings" in loaded
    assert not {name.partition(".")[0] for name in loaded} & {"pydantic", "rich"}


def test_what_is_coerced_plainly_is_what_typer_makes_of_it() -> None:
    """Over every parameter of every command, each kind of them once."""
    kinds, compared = set(), 0
    group = typer.main.get_command(app)
    for entry in COMMANDS:
        command: object = group
        for word in entry.words.split():
            command = command.commands[word]  # type: ignore[attr-defined]
        for parameter in command.load().params:  # type: ignore[attr-defined]
            descriptor = getattr(parameter, "type_descriptor", None)
            if descriptor is None:
                continue  # a release of Typer that needs no Pydantic
            is_list = bool(parameter.multiple) or parameter.nargs == -1
            kind = (str(descriptor.annotation), is_list, repr(parameter.default))
            if kind in kinds:
                continue
            kinds.add(kind)
            plain, context = _Plain(parameter, descriptor), typer.Context(group)
            choices = [one.value for one in descriptor.choices or ()]
            for value in (*VALUES, parameter.default, *choices, *(descriptor.choices or ())):
                found = plain._plain(value, is_list=is_list)
                if found is not _LEFT_TO_TYPER:
                    typers = type(parameter).get_runtime_param(parameter)
                    expected = typers.coerce(value, param=parameter, ctx=context)
                    assert (type(found), found) == (type(expected), expected), (entry.words, value)
                    compared += 1
    assert not kinds or compared > 100
