"""The top-level names: few, light, and all there."""

from __future__ import annotations

import subprocess
import sys

import audit_toolkit

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
    loaded = loaded_after("import audit_toolkit.trail\naudit_toolkit.trail.history.read")
    assert "audit_toolkit.trail.sources.calling" in loaded
    assert not loaded & (HEAVY - {"jinja2"} | {"asyncio", "greenlet"})


def test_every_name_is_there() -> None:
    for name in audit_toolkit.__all__:
        assert getattr(audit_toolkit, name) is not None
    assert not hasattr(audit_toolkit, "nothing")
    assert set(vars(audit_toolkit)["_HOMES"]) | {"__version__"} == set(audit_toolkit.__all__)


def test_the_function_is_not_hidden_by_a_module() -> None:
    from audit_toolkit.cli import context as _  # noqa: F401 - imports what could hide it

    assert callable(audit_toolkit.context)
