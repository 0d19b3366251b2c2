"""Django within the process of the tests, which can be configured once, and its connection to any database."""

from __future__ import annotations

import django  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-untyped]
from django.db import connection  # type: ignore[import-untyped]
from psycopg.conninfo import conninfo_to_dict

VIEWS = "tests.context.test_django"


def configure() -> None:
    """Set Django up, with the views of its tests."""
    if settings.configured:
        return
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}},
        MIDDLEWARE=[f"{VIEWS}.audit_middleware"],
        ROOT_URLCONF=VIEWS,
    )
    django.setup()


def point_to(dsn: str) -> None:
    """Let Django's connection be one to that database, from now on."""
    connection.close()
    parameters = conninfo_to_dict(dsn)
    connection.settings_dict.update(
        NAME=parameters["dbname"],
        HOST=parameters.get("host", ""),
        PORT=parameters.get("port", ""),
        USER=parameters.get("user", ""),
    )
