from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_toolkit.errors import UsageError
from audit_toolkit.names import (
    MAX_NAME_BYTES,
    NamePattern,
    QualifiedName,
    capture_function,
    comment_text,
    dollar_quote,
    quote_identifier,
    quote_literal,
)
from tests.plugins.database import Database

HOSTILE = [
    "orders",
    "Orders",
    "select",
    'Wei"rd',
    "with.dot",
    "new\nline; drop table canary; --",
    "tab\tand\rreturn",
    "$$",
    "$capture$ $body$",
    "100%",
    "%s %(name)s %I",
    ":x :: \\:y",
    "{{ schema }} {% raw %}",
    "it's",
    "back\\slash\\",
    "/* comment */",
    "-- comment",
    "\u202egnirts",
    "zero\u200bwidth",
    "naïve 🙂 名前",
    "1st",
    " ",
    'u&"x"',
    "x" * 63,
    "é" * 31,
]

stored_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
shared_database = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@pytest.mark.parametrize("name", HOSTILE)
def test_quoted_identifier_is_read_as_the_same_name(database: Database, name: str) -> None:
    database.execute("create table " + quote_identifier(name) + " (id int)")
    assert database.execute("select relname from pg_class where relname = %s", [name]) == [(name,)]


@shared_database
@given(value=stored_text)
def test_quoted_literal_is_read_as_the_same_text(database: Database, value: str) -> None:
    for conforming in ("on", "off"):
        database.execute(f"set standard_conforming_strings = {conforming}")
        database.execute("set escape_string_warning = off")
        assert database.execute("select " + quote_literal(value)) == [(value,)]


@shared_database
@given(name=stored_text.filter(lambda name: 0 < len(name.encode()) <= MAX_NAME_BYTES))
def test_any_storable_identifier_survives_quoting(database: Database, name: str) -> None:
    database.execute("set standard_conforming_strings = on")
    columns = database.connection.execute("select 1 as " + quote_identifier(name)).description
    assert columns is not None
    assert columns[0].name == name


@given(value=stored_text)
def test_comment_and_identifier_stay_on_their_line(value: str) -> None:
    assert len(comment_text(value).splitlines() or [""]) == 1
    assert len(quote_literal(value).splitlines()) == 1


@shared_database
@given(body=stored_text | st.text("$body2\n"))
def test_dollar_quotes_cannot_be_closed_from_within(database: Database, body: str) -> None:
    [(read,)] = database.execute("select " + dollar_quote(body))
    assert read.strip("\n") == body.strip("\n")


@pytest.mark.parametrize("value", ["a\x00b", "lone \ud800 surrogate"])
def test_what_postgresql_cannot_store_is_refused(value: str) -> None:
    for quote in (quote_identifier, quote_literal):
        with pytest.raises(UsageError) as refused:
            quote(value)
        assert str(refused.value.hint).startswith("remove the")


def test_plain_names_give_readable_functions() -> None:
    assert capture_function(QualifiedName("public", "orders")) == "capture_public__orders"
    assert (
        capture_function(QualifiedName("sales_eu", "order_lines"))
        == "capture_sales_eu__order_lines"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b__c"), ("a__b", "c")),
        (("a_b", "c"), ("a", "b_c")),
        (("public", "x" * 63), ("public", "x" * 62 + "y")),
        (("public", "Orders"), ("public", "orders")),
        (("public", "ORDERS"), ("public", "Orders")),
        (("a.b", "c"), ("a", "b.c")),
        (("public", "é" * 31), ("public", "é" * 30 + "è")),
        (("_", "orders"), ("", "orders")),
    ],
)
def test_two_tables_never_share_a_function(one: tuple[str, str], other: tuple[str, str]) -> None:
    names = {capture_function(QualifiedName(*one)), capture_function(QualifiedName(*other))}
    assert len(names) == 2


@given(st.tuples(stored_text, stored_text), st.tuples(stored_text, stored_text))
def test_function_names_fit_and_differ(one: tuple[str, str], other: tuple[str, str]) -> None:
    names = [capture_function(QualifiedName(*pair)) for pair in (one, other)]
    assert all(len(name.encode()) <= MAX_NAME_BYTES for name in names)
    assert (names[0] == names[1]) == (one == other)


@pytest.mark.parametrize(
    ("typed", "schema", "name"),
    [
        ("orders", None, "orders"),
        ("public.orders", "public", "orders"),
        ('"Wei.rd"."Tab""le"', "Wei.rd", 'Tab"le'),
        ('public."x.y"', "public", "x.y"),
        ("Público.Ñandú", "Público", "Ñandú"),
    ],
)
def test_typed_names_are_split_at_the_dot_outside_quotes(
    typed: str, schema: str | None, name: str
) -> None:
    assert NamePattern.parse(typed) == NamePattern(schema, name)


@pytest.mark.parametrize("typed", ["", ".", "a.", ".a", "a.b.c", '"a', 'a"', '""'])
def test_what_is_no_name_is_refused(typed: str) -> None:
    with pytest.raises(UsageError):
        NamePattern.parse(typed)


@pytest.mark.parametrize("name", ["orders", "Weird \u00df"])
def test_the_functions_of_several_tables_of_one_name_differ(name: str) -> None:
    table = QualifiedName("public", name)
    assert len({capture_function(table, number) for number in (1, 2, 3)}) == 3
