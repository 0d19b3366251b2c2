"""Which statements write."""

from __future__ import annotations

import pytest

from audit_toolkit.attribution.statements import Kind, is_script, kind_of


@pytest.mark.parametrize(
    "statement",
    [
        "insert into t values (1)",
        " \n\tUPDATE t SET a = 1",
        "-- select\n/* a 'b */ delete from t",
        "/* the service's */ delete from t",
        "(((with x as (insert into t values (1) returning a) select * from x)))",
        "with x as (select 1) merge into t using x on true when matched then delete",
        "truncate t",
        "copy t (a) from stdin",
        "explain analyze update t set a = 1",
        "execute prepared_insert(1)",
    ],
)
def test_writes(statement: str) -> None:
    assert kind_of(statement) is Kind.WRITE


@pytest.mark.parametrize(
    "statement",
    [
        "select 1",
        "SELECT * FROM deleted WHERE a = 'insert into'",
        "with x as (select 'delete from t' as \"update\" /* merge */) select * from x",
        "copy t to stdout",
        "copy (select 'from') to program 'cat'",
        "explain select 1",
        "values (1)",
        "table t",
        "show timezone",
    ],
)
def test_reads(statement: str) -> None:
    assert kind_of(statement) is Kind.READ


@pytest.mark.parametrize("statement", ["call p()", "DO $$begin end$$"])
def test_blocks(statement: str) -> None:
    assert kind_of(statement) is Kind.BLOCK


@pytest.mark.parametrize(
    "statement",
    [
        "rollback to savepoint a",
        "SAVEPOINT a",
        "begin",
        "select set_config('audit.context', '', true)",
        "set local audit.context = ''",
        "create table t (a int)",
        "",
        "-- nothing",
    ],
)
def test_others(statement: str) -> None:
    assert kind_of(statement) is Kind.OTHER


def test_scripts() -> None:
    assert is_script("insert into t values (1); insert into t values (2)")
    assert not is_script("insert into t values (';', E'\\';', $a$;$a$, \";\") /* ; */; -- ;\n")
    assert not is_script("insert into t values (1)")
