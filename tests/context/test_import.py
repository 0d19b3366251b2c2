"""The top-level names: few, light, and all there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import audit_toolkit
from audit_toolkit import errors

HEAVY = {"alembic", "jinja2", "psycopg", "sqlalchemy", "typer"}


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(told.stdout.split())


def test_claiming_needs_no_driver() -> None:
    used = (
        "import audit_toolkit\nwith audit_toolkit.context(actor='a'): audit_toolkit.set_actor('b')"
    )
    assert "audit_toolkit.attribution.current" in loaded_after(used)
    assert not loaded_after(used) & HEAVY


def test_the_middlewares_need_no_driver() -> None:
    used = (
        "import audit_toolkit\naudit_toolkit.ContextMiddleware, audit_toolkit.WsgiContextMiddleware"
    )
    assert "audit_toolkit.attribution.wsgi" in loaded_after(used)
    assert not loaded_after(used) & HEAVY


def test_attaching_to_psycopg_needs_no_sqlalchemy() -> None:
    used = "import audit_toolkit, psycopg\naudit_toolkit.attach, audit_toolkit.apply_context"
    assert not loaded_after(used) & (HEAVY - {"psycopg"})


def test_the_trail_needs_neither_until_it_is_asked() -> None:
    loaded = loaded_after("import audit_toolkit.trail\naudit_toolkit.trail.history")
    assert "audit_toolkit.trail.sources.dispatch" in loaded
    assert not loaded & (HEAVY - {"jinja2"} | {"asyncio", "greenlet"})


def test_every_name_is_there() -> None:
    for name in audit_toolkit.__all__:
        assert getattr(audit_toolkit, name) is not None
    assert not hasattr(audit_toolkit, "nothing")
    homes = set(vars(audit_toolkit)["_HOMES"])
    assert homes | {"__version__", "trail"} == set(audit_toolkit.__all__)
    assert dir(audit_toolkit) == sorted(audit_toolkit.__all__)


def test_the_door_has_every_error() -> None:
    own = {name for name, one in vars(errors).items() if inspect.isclass(one)} - {"ClassVar"}
    assert own <= set(audit_toolkit.__all__)
    assert all(issubclass(getattr(audit_toolkit, name), audit_toolkit.AuditError) for name in own)


def test_the_trail_is_behind_it() -> None:
    loaded = "import audit_toolkit\nassert audit_toolkit.trail.history"
    assert "audit_toolkit.trail.verbs.events" in loaded_after(loaded)
    assert not loaded_after("import audit_toolkit\ndir(audit_toolkit)") & HEAVY


def test_the_docs_list_what_is_there() -> None:
    text = (Path(__file__).parents[2] / "docs" / "python.md").read_text("utf-8")
    table = text[text.index("## What `import audit_toolkit` has") :]
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.+?) \|", table, re.M)))
    assert sorted(listed) == sorted(audit_toolkit.__all__)


def test_the_function_is_not_hidden_by_a_module() -> None:
    from audit_toolkit.cli import context as _  # noqa: F401 - imports what could hide it

    assert callable(audit_toolkit.context)
