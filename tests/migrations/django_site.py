"""A site of Django with an audited table."""

from __future__ import annotations

import os
import subprocess
import sys

SETTINGS = """\
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

dsn = conninfo_to_dict({dsn!r})
SECRET_KEY = "made up"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.postgresql",
        "NAME": dsn["dbname"],
        "USER": dsn["user"],
        "PASSWORD": dsn.get("password", ""),
        "HOST": dsn["host"],
        "PORT": dsn["port"],
    }}
}}
"""
MANAGE = """\
import os
import sys

from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""
MODELS = """\
from django.db import models


class Order(models.Model):
    status = models.TextField()
    note = models.TextField(null=True)
"""


def manage(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-B", "manage.py", *arguments, "--no-color"],
        env=os.environ | {"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
