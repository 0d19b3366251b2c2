"""`audit check` holds what is declared against what is audited; its remedies make both agree."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from tests.autogenerate.conftest import CUSTOMERS, HEAD, MODELS, Declared

CUSTOMERS_AUDITED = CUSTOMERS.rstrip().removesuffix(")") + '    info={"audit": Audit()},\n)\n'


def findings(declared: Declared) -> list[dict[str, Any]]:
    """Those that are about declarations."""
    answer = declared.shop.audit("check", "--format", "json")
    found: list[dict[str, Any]] = json.loads(answer.out)["findings"]
    assert answer.code == (3 if found else 0)
    return [one for one in found if "declared" in one["kind"]]


@pytest.mark.parametrize(
    ("installed", "file", "kind", "severity"),
    [
        pytest.param(
            ["customers"],
            "[tables.orders]\nexclude = ['note']\n[tables.customers]",
            "declared_not_audited",
            "error",
            marks=pytest.mark.thorough,
        ),
        (
            ["orders"],
            "[tables.orders]\nmask = {note = 'sha256-plain'}",
            "declared_otherwise",
            "error",
        ),
        pytest.param(
            ["orders", "customers"],
            "[tables.orders]",
            "audited_not_declared",
            "warning",
            marks=pytest.mark.thorough,
        ),
    ],
)
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
    assert found["detail"] == "audit.toml declares it, but the table does not exist"


def test_a_file_without_tables_leaves_it_to_the_models(declared: Declared) -> None:
    declared.shop.audit("install", "--table", "orders")
    declared.shop.upgrade()
    declared.file('[tool.audit_toolkit]\ninterval = "month"\n', "pyproject.toml")
    assert findings(declared) == []


@pytest.mark.thorough
class TestModels:
    """The file names where models are; they are imported by the command, from the working directory."""

    @pytest.fixture
    def modelled(self, declared: Declared) -> Declared:
        """A project whose models declare `orders`, as its file says, and nothing is audited."""
        declared.file('[tool.audit_toolkit]\nmodels = "models:Base"\n', "pyproject.toml")
        return declared

    def check(self, modelled: Declared) -> list[dict[str, Any]]:
        """The findings that are about declarations."""
        answer = modelled.shop.run("audit_toolkit", "check", "--format", "json")
        found: list[dict[str, Any]] = json.loads(answer.out)["findings"]
        return [one for one in found if "declared" in one["kind"]]

    @pytest.mark.parametrize(
        ("installed", "kind", "object_", "detail"),
        [
            (["customers"], "declared_not_audited", "public.orders", "models:Base declares it"),
            (["orders", "--mask", "note"], "declared_otherwise", "public.orders", "models:Base"),
            (["orders", "-t", "customers", "--capture", "row"], "audited_not_declared",
                "public.customers", "models:Base does not declare it"),
        ],
    )  # fmt: skip
    def test_a_finding_and_its_remedy(
        self, installed: list[str], kind: str, object_: str, detail: str, modelled: Declared
    ) -> None:
        modelled.shop.audit("install", "-t", *installed)
        modelled.shop.upgrade()
        found, *more = self.check(modelled)
        assert (found["kind"], found["object"]) == (kind, object_)
        assert detail in found["detail"]
        for each in (found, *more):
            assert modelled.shop.audit(*shlex.split(each["remedy"])[1:]).code == 0
        assert self.check(modelled) == []

    def test_autogenerate_and_check_agree(self, modelled: Declared) -> None:
        modelled.apply()
        assert self.check(modelled) == []

    def test_a_table_that_no_migration_has_made_yet(self, modelled: Declared) -> None:
        modelled.models(MODELS.replace('"orders"', '"Orders"').replace("orders", "Orders"))
        (found,) = self.check(modelled)
        assert found["object"] == '"Orders"'
        assert found["detail"] == "models:Base declares it, but the table does not exist"
        assert found["remedy"] == "alembic upgrade head"

    def test_several_models_and_a_file(self, modelled: Declared) -> None:
        (modelled.shop.directory / "more.py").write_text(HEAD + CUSTOMERS_AUDITED)
        places = 'models = ["models:Base.metadata", "more:Base"]'
        modelled.file(
            f"[tool.audit_toolkit]\n{places}\n[tool.audit_toolkit.tables.orders]\n",
            "pyproject.toml",
        )
        assert [one["object"] for one in self.check(modelled)] == [
            "public.orders",
            "public.customers",
        ]
        modelled.file(f"{places}\n[tables.orders]\nexclude = ['note']\n")
        (modelled.shop.directory / "pyproject.toml").unlink()
        answer = modelled.shop.run("audit_toolkit", "check")
        assert answer.code == 2
        assert answer.err == (
            "error: public.orders is declared with one set of options in audit.toml, and with another in "
            "models:Base.metadata\n"
            "hint: keep one of them\n"
        )

    @pytest.mark.parametrize(
        ("place", "message", "hint"),
        [
            ("modls:Base", "there is no module 'modls'", "as it is imported from"),
            ("models.orders:Base", "there is no module 'models.orders'", "python -c 'import models.orders'"),
            ("models:Bas", "models has no 'Bas'", "did you mean Base?"),
            ("models:Base.tables", "type has no 'tables'", "package.module:Base"),
            ("models:Audit", "is a function, and has no metadata", "the base class of the models"),
            ("broken:Base", "KeyError: 'DATABASE_URL_OF_THE_SHOP'", "python -c 'import broken'"),
            ("missing:Base", "No module named 'nothing_like_it'", "python -c 'import missing'"),
            ("ends:Base", "SystemExit: no settings", "python -c 'import ends'"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_imported(
        self, place: str, message: str, hint: str, modelled: Declared
    ) -> None:
        directory = modelled.shop.directory
        (directory / "broken.py").write_text("import os\nos.environ['DATABASE_URL_OF_THE_SHOP']\n")
        (directory / "missing.py").write_text("import nothing_like_it\n")
        (directory / "ends.py").write_text("raise SystemExit('no settings')\n")
        modelled.file(f'models = "{place}"\n')
        (directory / "pyproject.toml").unlink()
        answer = modelled.shop.run("audit_toolkit", "check", "--format", "json")
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith("error: audit.toml: models: ")
        assert message in answer.err
        assert hint in answer.err

    def test_what_models_print_is_no_part_of_the_findings(self, modelled: Declared) -> None:
        modelled.models(MODELS + "print('loading models')\n")
        answer = modelled.shop.run("audit_toolkit", "check", "--format", "json")
        assert json.loads(answer.out)["ok"] is False
        assert "loading models" in answer.err

    def test_maintenance_imports_nothing(self, modelled: Declared) -> None:
        modelled.shop.audit("install", "-t", "orders", "-t", "customers")
        modelled.shop.upgrade()
        modelled.models("raise RuntimeError('the application is not for cron')\n")
        answer = modelled.shop.run("audit_toolkit", "maintain", "--format", "json")
        assert answer.code == 0, answer.text
        assert json.loads(answer.out)["findings"] == []
