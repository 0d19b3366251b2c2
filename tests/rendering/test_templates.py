from __future__ import annotations

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_toolkit import templates
from audit_toolkit.errors import TemplateError
from audit_toolkit.names import Sql, dollar_quote, quote_identifier, quote_literal

# One literal of a regular expression: in parts, nobody could compare it with Unicode's list.
LONG_LINES = {"parts/require_context.sql.j2": 1}


def printed(source: str, **values: object) -> str:
    return templates._environment().from_string(source).render(values)


def test_a_plain_string_is_refused() -> None:
    with pytest.raises(jinja2.TemplateRuntimeError, match="without a quoting filter"):
        printed("drop table {{ table }}", table="orders; drop table canary")


def test_a_number_is_refused() -> None:
    with pytest.raises(jinja2.TemplateRuntimeError, match="without a quoting filter"):
        printed("limit {{ limit }}", limit=1)


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(jinja2.UndefinedError):
        printed("drop table {{ table | ident }}")


def test_a_failing_template_is_named() -> None:
    with pytest.raises(TemplateError, match=r"sql_templates/triggers/comment\.sql\.j2"):
        templates.render("triggers/comment", schema="audit")


def test_quoted_values_are_printed() -> None:
    assert printed("{{ a | ident }} {{ b | literal }}", a="Or", b="it's") == "\"Or\" 'it''s'"


@given(
    st.lists(st.sampled_from(["select 1", "a ';' b", "$x$ ; $x$", '";"', "-- ;\nx", "/* ; */ y"]))
)
def test_statements_are_split_at_their_own_semicolons_only(statements: list[str]) -> None:
    assert templates.split_statements(";\n".join(statements)) == statements


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1))
def test_no_name_or_value_splits_a_statement(text: str) -> None:
    statement = Sql(f"x {quote_identifier(text)} {quote_literal(text)} {dollar_quote(text)}")
    assert templates.split_statements(f"{statement};\n{statement};") == [statement, statement]


def test_a_comment_alone_is_no_statement() -> None:
    assert templates.split_statements("select 1;\n-- that was all\n") == ["select 1"]


def test_a_comment_behind_a_statement_stays_with_it() -> None:
    script = "select 1;  -- the first\nselect 2;\n-- the third\nselect 3;-- at the end"
    assert templates.split_statements(script) == [
        "-- the first\nselect 1",
        "select 2",
        "-- at the end\n-- the third\nselect 3",
    ]


def test_a_dollar_inside_a_name_begins_no_text() -> None:
    assert templates.split_statements("select a$b$; select c$b$, $1;") == [
        "select a$b$",
        "select c$b$, $1",
    ]


def test_lines_have_at_most_110_characters() -> None:
    directory = templates.template_directory()
    long_lines = {
        path.relative_to(directory).as_posix(): count
        for path in (*directory.rglob("*.sql"), *directory.rglob("*.sql.j2"))
        if (count := sum(len(line) > 110 for line in path.read_text(encoding="utf-8").splitlines()))
    }
    assert long_lines == LONG_LINES


def test_columns_are_listed_each_quoted() -> None:
    assert printed('{{ c | idents(of="t.") }}', c=["Or", "der"]) == 't."Or", t.der'
