"""Audit Toolkit: a transactional, provable, replay-exact audit trail for PostgreSQL."""

from typing import TYPE_CHECKING

from audit_toolkit.version import __version__

if TYPE_CHECKING:
    from audit_toolkit.attribution.asgi import ContextMiddleware
    from audit_toolkit.attribution.attach import apply_context, attach
    from audit_toolkit.attribution.current import context, current_context, set_actor
    from audit_toolkit.attribution.events import record
    from audit_toolkit.attribution.wsgi import WsgiContextMiddleware
    from audit_toolkit.declaration import Audit
    from audit_toolkit.migrations.tenants import capture_schema
    from audit_toolkit.trail.orm import LoggedAction, row_history
else:
    # Imported when first asked for: `import audit_toolkit` needs no driver, and takes no time.
    _HOMES = {
        "Audit": "declaration",
        "ContextMiddleware": "attribution.asgi",
        "LoggedAction": "trail.orm",
        "WsgiContextMiddleware": "attribution.wsgi",
        "apply_context": "attribution.attach",
        "attach": "attribution.attach",
        "capture_schema": "migrations.tenants",
        "context": "attribution.current",
        "current_context": "attribution.current",
        "record": "attribution.events",
        "row_history": "trail.orm",
        "set_actor": "attribution.current",
    }

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return globals()[name]


__all__ = [
    "Audit",
    "ContextMiddleware",
    "LoggedAction",
    "WsgiContextMiddleware",
    "__version__",
    "apply_context",
    "attach",
    "capture_schema",
    "context",
    "current_context",
    "record",
    "row_history",
    "set_actor",
]
