"""Runs env.py as `alembic upgrade --sql` would, with nothing to upgrade; a program of its own.

    python -m audit_toolkit.migrations.env_probe ANSWER < what-to-load.json

It writes what env.py made of the project into the file ANSWER.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import coerce_resource_to_filename

from audit_toolkit.migrations.project import command_options


def main(answer: Path) -> None:
    """Load the project that stdin describes, run its env.py, write down what came of it."""
    given: dict[str, Any] = json.load(sys.stdin)
    options: dict[str, Any] = {"toml_file": given["toml"]} if given["toml"] else {}
    config = Config(
        given["ini"] or None,
        ini_section=given["section"],
        cmd_opts=command_options("--name", given["section"], "upgrade", "head", "--sql"),
        output_buffer=io.StringIO(),
        **options,
    )
    if given["script_location"]:
        config.set_main_option("script_location", given["script_location"].replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    table: dict[str, str | None] = {}

    def note(_: object, context: Any) -> list[Any]:
        table.update(name=context.version_table, schema=context.version_table_schema)
        return []

    failure = None
    try:
        with EnvironmentContext(config, scripts, fn=note, as_sql=True, destination_rev="head"):
            scripts.run_env()
    except (Exception, SystemExit) as error:
        # It is code of the user that runs here, so it can be anything.
        failure = f"{type(error).__name__}: {error}"
    where = scripts.version_locations or [str(Path(scripts.dir, "versions"))]
    found = {
        "scripts": str(Path(scripts.dir).absolute()),
        "version_locations": [str(coerce_resource_to_filename(p).absolute()) for p in where],
        "version_table": table.get("name"),
        "version_schema": table.get("schema"),
        "failure": failure,
    }
    answer.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
