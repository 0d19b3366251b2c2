"""Audit Toolkit: a transactional, provable, replay-exact audit trail for PostgreSQL."""

from typing import TYPE_CHECKING

from audit_toolkit.lazy_names import lazy_names
from audit_toolkit.version import __version__

if TYPE_CHECKING:
    from audit_toolkit import trail
    from audit_toolkit.attribution.asgi import ContextMiddleware
    from audit_toolkit.attribution.attach import apply_context, attach
    from audit_toolkit.attribution.current import context, current_context, set_actor
    from audit_toolkit.attribution.events import record
    from audit_toolkit.attribution.wsgi import WsgiContextMiddleware
    from audit_toolkit.declaration import Audit
    from audit_toolkit.errors import (
        AuditError,
        BusyError,
        ConnectError,
        ContextError,
        LostError,
        MissingExtraError,
        PermissionDeniedError,
        ProjectError,
        RedactedError,
        RuleError,
        ServerStartError,
        ServerVersionError,
        TemplateError,
        UnknownTableError,
        UnsupportedTableError,
        UsageError,
    )
    from audit_toolkit.migrations.tenants import capture_schema
    from audit_toolkit.trail.orm import LoggedAction, row_history
else:
    # Imported when first asked for: `import audit_toolkit` needs no driver, and takes no time.
    _HOMES = {
        "Audit": "declaration",
        "AuditError": "errors",
        "BusyError": "errors",
        "ConnectError": "errors",
        "ContextError": "errors",
        "ContextMiddleware": "attribution.asgi",
        "LoggedAction": "trail.orm",
        "LostError": "errors",
        "MissingExtraError": "errors",
        "PermissionDeniedError": "errors",
        "ProjectError": "errors",
        "RedactedError": "errors",
        "RuleError": "errors",
        "ServerStartError": "errors",
        "ServerVersionError": "errors",
        "TemplateError": "errors",
        "UnknownTableError": "errors",
        "UnsupportedTableError": "errors",
        "UsageError": "errors",
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

    _find = lazy_names(__name__, _HOMES)

    def __getattr__(name):
        if name == "trail":
            from importlib import import_module

            return import_module(f"{__name__}.trail")
        return _find(name)


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "Audit",
    "AuditError",
    "BusyError",
    "ConnectError",
    "ContextError",
    "ContextMiddleware",
    "LoggedAction",
    "LostError",
    "MissingExtraError",
    "PermissionDeniedError",
    "ProjectError",
    "RedactedError",
    "RuleError",
    "ServerStartError",
    "ServerVersionError",
    "TemplateError",
    "UnknownTableError",
    "UnsupportedTableError",
    "UsageError",
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
    "trail",
]
