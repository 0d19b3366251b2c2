"""`audit check` holds what a file declares against what is audited; its remedies make both agree."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from tests.autogenerate.conftest import Declared


def findings(declared: Declared) -> list[dict[str, Any]]:
    """Those that are about declarations."""
    answer = declared.shop.audit("check", "--format", "json")
    found: list[dict[str, Any]] = json.loads(answer.out)["findings"]
    assert answer.code == (3 if found else 0)
    return [one for one in found if "declared" in one["kind"]]


@pytest.mark.parametrize(
    ("installed", "file", "kind", "severity"),
    [
        (["customers"], "[tables.orders]\nexclude = ['note']\n[tables.customers]", "declared_not_audited", "error"),
        (["orders"], "[tables.orders]\nmask = {note = 'sha256-plain'}", "declared_otherwise", "error"),
        (["orders", "customers"], "[tables.orders]", "audited_not_declared", "warning"),
    ],
)  # fmt: skip
def test_a_finding_and_its_remedy(
    installed: list[str], file: str, kind: str, severity: str, declared: Declared
) -> None:
    declared.shop.audit("install", *(word for table in installed for word in ("-t", table)))
    declared.shop.upgrade()
    assert findings(declared) == []
    declared.file(file)
    (found,) = findings(declared)
    assert (found["kind"], found["severity"]) == (kind, severity)
    audit, *arguments = shlex.split(found["remedy"])
    assert audit == "audit"
    assert declared.shop.audit(*arguments).code == 0
    assert findings(declared) == []


def test_a_table_that_is_not_there(declared: Declared) -> None:
    declared.file("[tables.ordres]\n")
    (found,) = findings(declared)
    assert found["detail"] == "audit.toml declares it, and there is no such table"


def test_a_file_without_tables_leaves_it_to_the_models(declared: Declared) -> None:
    declared.shop.audit("install", "--table", "orders")
    declared.shop.upgrade()
    declared.file('[tool.audit_toolkit]\ninterval = "month"\n', "pyproject.toml")
    assert findings(declared) == []
