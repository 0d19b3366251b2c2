"""Changes to the project of a test."""

from __future__ import annotations

from pathlib import Path

from tests.plugins.project import Shop


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text, f"{file} has no {old!r}"
    file.write_text(text.replace(old, new, 1), "utf-8")


def ini(shop: Shop, *lines: str) -> None:
    edit(shop.directory / "alembic.ini", "[alembic]\n", "\n".join(["[alembic]", *lines, ""]))
