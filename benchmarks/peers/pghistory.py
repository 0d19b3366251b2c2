"""django-pghistory: one event table a model with its typed columns; the new row only, the old of a delete.

Django is configured once a process, so this runs as `python -m benchmarks.peers.pghistory DSN LEVEL`.
"""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit

CONTEXT = """perform set_config('pghistory.context_id', '7c3f3d52-5c2e-4a52-8b1a-0d7f3a0c9b11', true);
    perform set_config('pghistory.context_metadata', '{"user": 42, "request_id": "abc-123"}', true)"""


def install_row(dsn: str) -> None:
    """Put it on the table `orders`, in row mode, its default."""
    _in_own_process(dsn, "row")


def install_statement(dsn: str) -> None:
    """Put it on the table `orders`, in statement mode."""
    _in_own_process(dsn, "statement")


def _in_own_process(dsn: str, level: str) -> None:
    subprocess.run([sys.executable, "-m", __name__, dsn, level], check=True)


def _configure(dsn: str) -> None:
    import django  # type: ignore[import-untyped]
    from django.conf import settings  # type: ignore[import-untyped]

    address = urlsplit(dsn)
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "pgtrigger", "pghistory"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": address.path.removeprefix("/"),
                "USER": address.username,
                "HOST": address.hostname,
                "PORT": address.port,
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()


def _install(level: str) -> None:
    import pghistory
    import pgtrigger
    from django.apps import apps  # type: ignore[import-untyped]
    from django.core.management import call_command  # type: ignore[import-untyped]
    from django.db import connection, models  # type: ignore[import-untyped]

    how = pgtrigger.Statement if level == "statement" else pgtrigger.Row

    @pghistory.track(
        pghistory.InsertEvent(level=how),
        pghistory.UpdateEvent(level=how),
        pghistory.DeleteEvent(level=how),
        app_label="pghistory",
        model_name="OrderEvent",
    )
    class Order(models.Model):  # type: ignore[misc]  # the columns of benchmarks.shapes.ORDERS
        customer_id = models.BigIntegerField(null=True)
        status = models.TextField(null=True)
        total = models.DecimalField(null=True, max_digits=20, decimal_places=2)
        currency = models.TextField(null=True)
        email = models.TextField(null=True)
        note = models.TextField(null=True)
        items = models.JSONField(null=True)
        created_at = models.DateTimeField(null=True)
        updated_at = models.DateTimeField(null=True)

        class Meta:
            app_label = "pghistory"
            db_table = "orders"
            managed = False

    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(apps.get_model("pghistory", "OrderEvent"))
    pgtrigger.install()


if __name__ == "__main__":
    _configure(sys.argv[1])
    _install(sys.argv[2])
