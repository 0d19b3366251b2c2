"""The page: what happened to a row, in plain words, for people who never open a terminal.

    from audit_toolkit.web import Viewer, create_app

    app.mount("/audit", create_app(dsn, authorize=viewer_of))

It needs the extra `ui`.
"""

from audit_toolkit.errors import MissingExtraError

try:
    import starlette as _starlette  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        "the page needs Starlette", hint="pip install 'audit-toolkit[ui]'"
    ) from error

from audit_toolkit.web.app import as_wsgi, create_app
from audit_toolkit.web.settings import ColumnLabel, Settings, TableLabel
from audit_toolkit.web.viewer import Viewer

__all__ = ["ColumnLabel", "Settings", "TableLabel", "Viewer", "as_wsgi", "create_app"]
