"""Fixtures of projects that are not Alembic's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migrations.django_site import MANAGE, MODELS, SETTINGS, manage
from tests.plugins.database import Database
from tests.plugins.project import Shop


@pytest.fixture
def site(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A Django project with one app, migrated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database.dsn)
    (tmp_path / "settings.py").write_text(SETTINGS.format(dsn=database.dsn))
    (tmp_path / "manage.py").write_text(MANAGE)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "models.py").write_text(MODELS)
    shop = Shop(tmp_path, database)
    manage("makemigrations", "shop")
    manage("migrate")
    return shop
