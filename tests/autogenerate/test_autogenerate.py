"""`alembic revision --autogenerate` and `alembic check` see what the models and the file declare."""

from __future__ import annotations

import pytest

from tests.autogenerate.conftest import CUSTOMERS, MODELS, ORDERS, Declared, MakeDeclared
from tests.plugins.project import TEMPLATES

pytestmark = pytest.mark.thorough

INSERT = (
    "insert into customers values (1, 'a@example.com'); insert into orders values (1, 1, 'new', 10)"
)
INVOICES = """
Table(
    "invoices",
    Base.metadata,
    Column("region", sa.Text, primary_key=True),
    Column("number", sa.Integer, primary_key=True),
    Column("issued", sa.DateTime(timezone=True)),
    info={"audit": Audit(exclude=["issued"])},
)
"""


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_declared_table_is_audited_after_one_revision(
    template: str, make_declared: MakeDeclared
) -> None:
    declared = make_declared(template)
    assert "New upgrade operations detected" in declared.check().text
    declared.apply()
    assert declared.captured() == ["orders"]
    declared.database.execute(INSERT)
    assert declared.events() == [("orders", "I", "1")]


def test_the_revision_is_frozen_sql_that_the_command_line_can_read(declared: Declared) -> None:
    text = declared.apply()
    assert "audit_toolkit" not in text
    assert "run_sql(CAPTURE_PUBLIC__ORDERS)" in text
    again = declared.shop.audit("install", "--table", "orders")
    assert "public.orders is already audited, with no options (revision" in again.err


def test_a_downgrade_takes_it_back_and_an_upgrade_brings_it_again(declared: Declared) -> None:
    declared.apply()
    declared.shop.alembic("downgrade", "-1")
    assert declared.captured() == []
    assert declared.database.execute("select to_regnamespace('audit')") == [(None,)]
    declared.shop.alembic("upgrade", "head")
    declared.check_clean()


def test_a_table_made_in_the_same_revision(declared: Declared) -> None:
    declared.models(MODELS + INVOICES)
    text = declared.apply()
    assert "TableRule" not in text
    assert text.index("op.create_table('invoices'") < text.index("run_sql(CREATE_TRAIL)")
    assert declared.captured() == ["invoices", "orders"]
    declared.database.execute("insert into invoices values ('eu', 42, now())")
    assert declared.events() == [("invoices", "I", '["eu", 42]')]
    declared.shop.alembic("downgrade", "-1")
    assert declared.captured() == []


def test_a_table_dropped_in_the_same_revision(declared: Declared) -> None:
    declared.models(MODELS + INVOICES)
    declared.apply()
    declared.models(MODELS)
    text = declared.apply()
    assert text.index("run_sql(RELEASE_PUBLIC__INVOICES)") < text.index("op.drop_table('invoices'")
    assert declared.captured() == ["orders"]
    declared.undo()
    assert declared.captured() == ["invoices", "orders"]
    declared.models(MODELS + INVOICES)
    declared.check_clean()


def test_a_renamed_table_keeps_being_audited(declared: Declared) -> None:
    declared.apply()
    declared.models(MODELS.replace('"orders"', '"purchases"'))
    declared.apply()
    assert declared.captured() == ["purchases"]


def test_another_rule_is_a_change_and_the_downgrade_restores_the_former(declared: Declared) -> None:
    declared.apply()
    declared.models(
        MODELS.replace("Audit()", 'Audit(mask={"note": "sha256"}, capture="statement")')
    )
    text = declared.apply()
    assert "Changes the capture of public.orders from no options to" in text
    assert "FORMER_PUBLIC__ORDERS" in text
    declared.undo()
    declared.models(MODELS)
    declared.check_clean()


def test_a_key_that_a_hand_written_revision_changed(declared: Declared) -> None:
    declared.apply()
    declared.database.execute(
        "alter table orders drop constraint orders_pkey, add primary key (customer_id, id)"
    )
    assert "Reinstalls the capture of public.orders" in declared.check().text
    declared.apply()
    declared.database.execute(INSERT)
    assert declared.events() == [("orders", "G", None), ("orders", "I", "[1, 1]")]


def test_columns_that_the_same_revision_adds_changes_and_drops(declared: Declared) -> None:
    declared.apply()
    changed = (
        ORDERS.replace(
            'Column("note", sa.Text),',
            'Column("paid", sa.DateTime(timezone=True)), Column("weight", sa.Float),',
        )
        .replace("sa.Numeric(12, 2)", "sa.Float")
        .replace("Audit()", 'Audit(exclude=["paid"])')
    )
    declared.models(CUSTOMERS + changed)
    text = declared.apply()
    assert "set extra_float_digits = '1'" in text
    assert "set timezone = 'UTC'" in text
    declared.shop.alembic("downgrade", "-1")
    assert declared.captured() == ["orders"]


def test_what_is_not_declared_any_more_is_released_and_its_events_stay(declared: Declared) -> None:
    declared.models(CUSTOMERS.replace("\n)", '\n    info={"audit": Audit()},\n)') + ORDERS)
    declared.apply()
    declared.database.execute(INSERT)
    declared.models(MODELS)
    declared.apply()
    assert declared.captured() == ["orders"]
    assert declared.events() == [
        ("customers", "I", "1"),
        ("orders", "I", "1"),
        ("customers", "G", None),
    ]


def test_without_declarations_what_audit_install_made_is_left_alone(declared: Declared) -> None:
    declared.models(MODELS.replace('    info={"audit": Audit()},\n', ""))
    declared.shop.audit("install", "--table", "orders")
    declared.shop.upgrade()
    declared.check_clean()


def test_a_lost_trigger_is_seen_and_put_back_and_a_pause_is_not(declared: Declared) -> None:
    declared.apply()
    declared.database.execute('alter table orders disable trigger "00_audit_row"')
    declared.check_clean()
    declared.database.execute('drop trigger "00_audit_row" on orders')
    assert "Repairs the capture of public.orders" in declared.check().text
    declared.apply()
    assert declared.captured() == ["orders"]


def test_a_file_declares_like_the_models(declared: Declared) -> None:
    declared.models(MODELS.replace('    info={"audit": Audit()},\n', ""))
    declared.file(
        '[tables.orders]\nexclude = ["note"]\n[tables.customers]\nmask = ["email=length"]\n'
    )
    text = declared.apply()
    assert "options  --exclude note" in text
    assert declared.captured() == ["customers", "orders"]


def test_a_schema_of_its_own_and_an_interval(declared: Declared) -> None:
    declared.file('audit_schema = "trail"\ninterval = "week"\n')
    declared.configure("include_schemas=True")
    declared.apply()
    comment = "select obj_description('trail.logged_actions'::regclass)::json ->> 'interval'"
    assert declared.database.execute(comment) == [("week",)]


def test_include_schemas_leaves_the_trail_alone(declared: Declared) -> None:
    declared.configure("include_schemas=True")
    declared.apply()
    text = declared.revise()
    assert "drop_table" not in text
    assert "logged_actions" not in text


def test_a_foreign_table_in_our_schema_stays_with_its_metadata(declared: Declared) -> None:
    declared.configure("include_schemas=True")
    mine = (
        'Table("mine", Base.metadata, Column("id", sa.Integer, primary_key=True), schema="audit")'
    )
    declared.models(MODELS)
    declared.apply()
    declared.models(MODELS + mine)
    assert "op.create_table('mine'" in declared.apply()


def test_a_partitioned_table_made_in_the_same_revision(declared: Declared) -> None:
    declared.models(
        MODELS + INVOICES.replace("info=", 'postgresql_partition_by="list (region)",\n    info=')
    )
    declared.apply()
    assert "invoices" in declared.captured()


def test_offline_sql_is_what_runs(declared: Declared) -> None:
    declared.models(MODELS + INVOICES)
    declared.revise()
    script = declared.shop.alembic("upgrade", "000000000003:head", "--sql").out
    done = declared.database.psql(script)
    assert done.returncode == 0, done.stderr
    declared.check_clean()


class TestDirectives:
    FILE = 'autogenerate = "directives"\n'

    def test_they_do_the_same(self, declared: Declared) -> None:
        declared.file(self.FILE)
        declared.models(MODELS.replace("Audit()", 'Audit(exclude=["note"])') + INVOICES)
        text = declared.apply()
        assert "import audit_toolkit.alembic  # noqa: F401" in text
        assert "op.create_audit_trail()" in text
        assert 'op.audit_table("public.orders", exclude=["note"])' in text
        assert declared.captured() == ["invoices", "orders"]

        declared.models(MODELS.replace("Audit()", 'Audit(mask=["note"])') + INVOICES)
        text = declared.apply()
        assert 'op.audit_table("public.orders", mask={"note": "redact"})' in text
        assert 'op.audit_table("public.orders", exclude=["note"])' in text

        declared.models(MODELS.replace("Audit()", 'Audit(mask=["note"])'))
        text = declared.apply()
        assert text.index('op.unaudit_table("public.invoices")') < text.index("op.drop_table")
        declared.shop.alembic("downgrade", "base")
        assert declared.captured() == []

    def test_offline_they_say_that_they_cannot(self, declared: Declared) -> None:
        declared.file(self.FILE)
        declared.revise()
        answer = declared.shop.run("alembic", "upgrade", "000000000003:head", "--sql")
        assert answer.code != 0
        assert "let autogenerate write frozen SQL" in answer.text


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (MODELS.replace("Audit()", 'Audit(exclude=["nope"])'), "has no column 'nope'"),
        (MODELS.replace("Audit()", 'Audit(exclude=["id"])'), "is part of the primary key"),
        (MODELS.replace("Audit()", '{"exlude": []}'), "did you mean 'exclude'?"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(
    models: str, said: str, declared: Declared
) -> None:
    declared.models(models)
    answer = declared.check()
    assert answer.code != 0
    assert said in answer.text


def test_a_file_that_names_no_table_is_refused(declared: Declared) -> None:
    declared.file("[tables.ordres]\n")
    assert (
        "audit.toml declares public.ordres, but that table does not exist" in declared.check().text
    )


def test_two_rules_for_a_table_are_refused(declared: Declared) -> None:
    declared.file("[tables.orders]\nlog_unchanged = true\n")
    assert "public.orders is declared with one set of options on its model" in declared.check().text


def test_it_only_reads_beside_writers_and_ddl(declared: Declared) -> None:
    # Stronger locks would stop Alembic's own reflection.
    holder = declared.database.connect(autocommit=False)
    holder.execute("lock table orders in share row exclusive mode")
    declared.database.execute(
        "do $$ begin execute format('alter database %I set default_transaction_read_only = on',"
        " current_database()); end $$"
    )
    assert "Starts auditing public.orders" in declared.check().text
    holder.rollback()


def test_one_declaration_ends_no_capture_that_a_command_installed(declared: Declared) -> None:
    assert declared.shop.audit("install", "--table", "customers").code == 0
    declared.shop.alembic("upgrade", "head")
    declared.apply()
    assert declared.captured() == ["customers", "orders"]

    # Once it was declared, the declaration is what keeps it.
    declared.models(
        CUSTOMERS.replace("\n)", '\n    info={"audit": Audit(mask=["email"])},\n)') + ORDERS
    )
    declared.apply()
    declared.models(MODELS)
    declared.apply()
    assert declared.captured() == ["orders"]


def test_with_managed_declared_declarations_are_all(declared: Declared) -> None:
    assert declared.shop.audit("install", "--table", "customers").code == 0
    declared.shop.alembic("upgrade", "head")
    declared.file('managed = "declared"')
    declared.apply()
    assert declared.captured() == ["orders"]
