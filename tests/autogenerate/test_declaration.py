"""Declarations: one vocabulary for models, files and the command line; what is wrong says where."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from audit_toolkit import Audit
from audit_toolkit.config import Interval, Mask, MaskMethod, TableRule
from audit_toolkit.declaration import Options, Style, find_declarations, read_declarations
from audit_toolkit.errors import RuleError, UsageError


def test_an_option_has_one_name_everywhere() -> None:
    assert set(Options.__annotations__) == {field.name for field in fields(TableRule)}


def test_a_model_declares_what_the_command_line_would() -> None:
    expected = TableRule(
        exclude=("note",), mask=(Mask(column="iban", method=MaskMethod.SHA256), Mask(column="name"))
    )
    assert Audit(exclude=["note"], mask={"iban": "sha256", "name": "redact"}) == expected
    assert Audit(exclude=("note",), mask=["name", "iban=sha256"]) == expected


def test_a_file_declares_tables_and_the_trail(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.audit_toolkit]\naudit_schema = "trail"\ninterval = "week"\n'
        'autogenerate = "directives"\n[tool.audit_toolkit.tables."sales.orders"]\nstore = "changes"\n'
    )
    found = find_declarations(tmp_path)
    assert found is not None
    assert (found.source, found.audit_schema, found.interval, found.autogenerate) == (
        "pyproject.toml",
        "trail",
        Interval.WEEK,
        Style.DIRECTIVES,
    )
    assert found.tables == {"sales.orders": Audit(store="changes")}


def test_no_file_and_a_file_of_others_declare_nothing(tmp_path: Path) -> None:
    assert find_declarations(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'shop'\n")
    assert find_declarations(tmp_path) is None


def test_two_files_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text("")
    (tmp_path / "pyproject.toml").write_text("[tool.audit_toolkit]\n")
    with pytest.raises(UsageError, match=r"both audit.toml and \[tool.audit_toolkit\]"):
        find_declarations(tmp_path)


def test_a_broken_file_says_where(tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text("tables = [")
    with pytest.raises(UsageError, match=r"audit.toml cannot be read: Invalid value"):
        find_declarations(tmp_path)


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"table": {}}, "there is no option 'table'", "did you mean 'tables'?"),
        ({"tables": {"orders": {"capture-query": True}}}, "tables.orders", "'capture_query'?"),
        ({"tables": {"orders": {"exclude": "note"}}}, "not a list", '["column"]'),
        ({"tables": {"orders": {"mask": {"a": "md5"}}}}, "md5", "audit install --help"),
        ({"tables": {"orders": {"mask": ["a=md5"]}}}, "md5", "sha256"),
        ({"tables": {"orders": {"mask": {"a": 1}}}}, "MaskMethod", "audit install --help"),
        ({"tables": {"orders": {"capture": "rows"}}}, "'rows'", "audit install --help"),
        ({"tables": {"orders": {"log_unchanged": 1}}}, "log_unchanged is 1", "true or false"),
        ({"tables": {"orders": {"when": 1}}}, "when is 1", '"text"'),
        ({"tables": {"orders": {"only": ["a"], "exclude": ["b"]}}}, "contradict", "--only"),
        ({"tables": {"orders": 1}}, "1 is not a rule", "options"),
        ({"tables": []}, "not a table of tables", "[tables.NAME]"),
        ({"interval": "year"}, "interval cannot be 'year'", "day, week, month"),
        ({"autogenerate": "op"}, "autogenerate cannot be 'op'", "sql, directives"),
        ({"audit_schema": 1}, "not a text", '"text"'),
        ({"models": 1}, "models is 1", '"package.module:Base"'),
        ({"models": ["shop.models"]}, "'shop.models' does not say where", '"package.module:Base"'),
        ({"models": "../shop:Base"}, "'../shop:Base' does not say where", '"package.module:Base"'),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(RuleError) as refused:
        read_declarations(values, source="audit.toml")
    assert message in refused.value.message
    assert "audit.toml" in refused.value.message
    assert hint in str(refused.value.hint)


def test_an_unknown_option_of_a_model_is_refused() -> None:
    options: dict[str, Any] = {"exlude": ["note"]}
    with pytest.raises(RuleError, match="Audit: there is no option 'exlude'"):
        Audit(**options)
