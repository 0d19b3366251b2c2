"""Every type comes back from the trail byte for byte, or is on the list of losses of docs/guarantees.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from audit_toolkit.config import Capture, TableRule
from audit_toolkit.names import QualifiedName, capture_function
from tests.plugins.database import Connection
from tests.plugins.seeds import some_quick
from tests.plugins.trail import Trail
from tests.proofs.bench import PLAIN, install
from tests.proofs.matrix import EDGES, EXTENSIONS, MADE, MAKE, NOT_STORABLE
from tests.proofs.palette import HOSTILITIES, PREPARE

GUARANTEES = Path(__file__).parents[2] / "docs" / "guarantees.md"

BASE_TYPES = """
    select typname from pg_type
    where typtype in ('b', 'r', 'm') and typnamespace = 'pg_catalog'::regnamespace
        and not exists (select from pg_type as element where element.typarray = pg_type.oid)
    order by typname
"""


# What is made of a type: a column's type, and a value of it from the value `v` of the type.
FORMS = {
    "plain": ("{type}", "v"),
    "list": ("{type}[]", "array[v, null, v]"),
    "wrapped": ("matrix.d{number}", "v"),
    "list_of_wrapped": ("matrix.d{number}[]", "array_fill(v::matrix.d{number}, array[2])"),
    "inside": ("matrix.c{number}", "row(v, 'x')::matrix.c{number}"),
    "inside_list": ("matrix.c{number}[]", "array[row(v, null)::matrix.c{number}, null]"),
    "span": ("matrix.r{number}", "matrix.r{number}(v, v, '[]')"),
    "spans": ("matrix.m{number}", "matrix.m{number}(matrix.r{number}(v, v, '[]'))"),
}
RANGES = ("span", "spans")


@dataclass(frozen=True, slots=True)
class Case:
    """A type with a table of its own: a column of the type, and of each type that is made of it."""

    number: int
    type: str
    values: tuple[str | None, ...]
    forms: tuple[str, ...]
    comparison: str

    @property
    def table(self) -> str:
        """Its table."""
        return f"matrix.t{self.number}"

    def expression(self, form: str) -> str:
        """A value of one of its forms, made of `v`."""
        return FORMS[form][1].format(number=self.number)

    def same(self, form: str) -> str:
        """The condition that a live and a rebuilt value are the same bytes."""
        return f"{self.comparison.format('live.' + form)} = {self.comparison.format('rebuilt.' + form)}"

    def label(self, given: int, forms: set[str]) -> str:
        """How the list of losses names a value that is lost in some forms, which are all but `plain` or arrays."""
        value = self.values[given - 1]
        name = self.type.removeprefix('pg_catalog."').removesuffix('"')
        label = f"null::{name}" if value is None else f"'{value}'::{name}"
        if "plain" in forms:
            return label
        only_lists = forms <= {"list", "list_of_wrapped"}
        return f"array[{label}]" if only_lists else f"{label} in {sorted(forms)}"


def make_case(connection: Connection, number: int, kind: str, values: tuple[str, ...]) -> Case:
    connection.execute(f"create domain matrix.d{number} as {kind}")
    connection.execute(f"create type matrix.c{number} as (value {kind}, note text)")
    forms = tuple(form for form in FORMS if form not in RANGES)
    with suppress(psycopg.errors.UndefinedObject):  # without an order there is no range
        connection.execute(
            f"create type matrix.r{number} as range (subtype = {kind}, multirange_type_name = matrix.m{number})"
        )
        forms = tuple(FORMS)
    [(sendable,)] = connection.execute(
        "select typsend <> 0 from pg_type where oid = %s::regtype", (kind,)
    )
    if (
        not sendable
    ):  # aclitem: the server itself cannot check a domain over it in jsonb_populate_record
        forms = tuple(form for form in forms if "wrapped" not in form)
    if kind.endswith("]"):  # there are no arrays of arrays
        forms = tuple(form for form in forms if form != "list")
    columns = ", ".join(f"{f} {FORMS[f][0].format(type=kind, number=number)}" for f in forms)
    comparison = "record_send(row({}))" if sendable else "row({})::text"
    case = Case(number, kind, (*values, None), forms, comparison)
    connection.execute(
        f"create table {case.table} (id int generated always as identity primary key, given int, {columns})"
    )
    return case


def make_cases(connection: Connection) -> list[Case]:
    """The tables of all types that this server can store."""
    types = {f'pg_catalog."{name}"': values for name, values in EDGES.items()} | MADE
    if not has_xml(connection):
        del types['pg_catalog."xml"']
    connection.execute("create schema matrix")
    connection.execute(MAKE)
    return [make_case(connection, n, kind, types[kind]) for n, kind in enumerate(types)]


def has_xml(connection: Connection) -> bool:
    """Whether the server was built with XML."""
    try:
        connection.execute("select '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


def store(connection: Connection, case: Case) -> None:
    """Store all values of a case in every hostile session; the large ones in the first only."""
    names = ", ".join(case.forms)
    expressions = ", ".join(case.expression(form) for form in case.forms)
    for number, hostility in enumerate(HOSTILITIES):
        connection.execute(f"reset all; {hostility.statements}")
        connection.execute(
            f"insert into {case.table} (given, {names}) select given, {expressions}"
            " from jsonb_array_elements_text(%s::jsonb) with ordinality as texts (text, given)"
            f" cross join lateral (select text::{case.type} as v) as made"
            " where %s or text is null or length(text) < 10000",
            (json.dumps(case.values), number == 0),
        )


def losses(connection: Connection, case: Case) -> set[str]:
    """The values of a case that do not come back from the trail."""
    [(rows, events)] = connection.execute(
        f"select (select count(*) from {case.table}), count(*) from audit.logged_actions"
        " where schema_name = 'matrix' and table_name = %s and action = 'I'",
        (f"t{case.number}",),
    )
    assert rows == events >= len(case.values)
    found: dict[int, set[str]] = {}
    for form in case.forms:
        for given in lost(connection, case, form):
            found.setdefault(given, set()).add(form)
    return {case.label(given, forms) for given, forms in found.items()}


def varying(connection: Connection, case: Case) -> list[int]:
    """The places of values of which the trail has different images, by the session that stored them."""
    query = f"""
        select given
        from {case.table} as live
        join audit.logged_actions
            on schema_name = 'matrix' and table_name = 't{case.number}' and row_key = live.id::text and action = 'I'
        group by given
        having count(distinct (new_row - 'id')::text) > 1
    """
    return [given for (given,) in connection.execute(query)]


def lost(connection: Connection, case: Case, form: str) -> set[int]:
    """The places of the values that do not come back in one form."""
    query = f"""
        select live.given
        from {case.table} as live
        join audit.logged_actions
            on schema_name = 'matrix' and table_name = 't{case.number}' and row_key = live.id::text and action = 'I'
        cross join lateral jsonb_populate_record(
            null::{case.table}, jsonb_build_object('{form}', new_row -> '{form}')) as rebuilt
        where live.given = any (%s) and not ({case.same(form)})
    """
    every = list(range(1, len(case.values) + 1))
    try:
        return {given for (given,) in connection.execute(query, (every,))}
    except psycopg.Error:
        return {place for place in every if not readable(connection, query, place)}


def readable(connection: Connection, query: str, place: int) -> bool:
    """Whether PostgreSQL can read a value from its JSON, and it is the same."""
    try:
        return not connection.execute(query, ([place],)).fetchall()
    except psycopg.Error:
        return False


def documented_losses() -> set[str]:
    """The values in the table of losses of docs/guarantees.md."""
    text = GUARANTEES.read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([^`]*'::[^`]+)` \|", text, re.MULTILINE))


@pytest.fixture
def matrix(trail: Trail) -> Iterator[Trail]:
    trail.execute(PREPARE)
    trail.execute(PLAIN)
    yield trail
    trail.execute("drop owned by audit_app; drop role audit_app")


def losses_of_all(trail: Trail, rule: TableRule, *, pinned: bool = True) -> set[str]:
    """The losses of all types, with the settings of the capture functions pinned as they are installed, or not."""
    found: set[str] = set()
    with trail.database.connect() as writer:
        for case in make_cases(trail.connection):
            install(trail.connection, case.table, rule)
            if not pinned:
                function = f"audit.{capture_function(QualifiedName('matrix', f't{case.number}'))}()"
                trail.execute(f"alter function {function} reset all")
            store(writer, case)
            if pinned:
                assert varying(trail.connection, case) == [], (
                    f"sessions print {case.type} differently"
                )
            found |= losses(trail.connection, case)
    return found


@pytest.mark.parametrize("capture", some_quick([Capture.ROW, Capture.STATEMENT], [Capture.ROW]))
def test_every_type_comes_back_or_is_a_documented_loss(matrix: Trail, capture: Capture) -> None:
    assert losses_of_all(matrix, TableRule(capture=capture)) == documented_losses()


@pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_types_of_extensions_come_back(matrix: Trail, extension: str, capture: Capture) -> None:
    try:
        matrix.execute(f"create schema ext; create extension {extension} schema ext")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip(f"the server comes without {extension}")
    matrix.execute("create schema matrix; set search_path = ext, public")
    with matrix.database.connect() as writer:
        for number, (name, values) in enumerate(EXTENSIONS[extension].items()):
            if matrix.execute("select to_regtype(%s)", [f"ext.{name}"]) == [(None,)]:
                continue  # of a later version of the extension
            case = make_case(matrix.connection, number, f"ext.{name}", values)
            install(matrix.connection, case.table, TableRule(capture=capture))
            store(writer, case)
            assert varying(matrix.connection, case) == []
            assert losses(matrix.connection, case) == set()


@pytest.mark.thorough
def test_control_settings_that_are_not_pinned_lose_more(matrix: Trail) -> None:
    more = losses_of_all(matrix, TableRule(), pinned=False) - documented_losses()
    assert more >= {
        "'0.30000000000000004'::float8",
        "'[2026-02-01,2026-03-04)'::daterange",
        "'(0.30000000000000004,1)'::point",
    }


def test_every_base_type_of_the_server_is_in_the_matrix(matrix: Trail) -> None:
    on_server = {name for (name,) in matrix.execute(BASE_TYPES)}
    assert on_server == set(EDGES) | set(NOT_STORABLE)


@pytest.mark.parametrize("name", NOT_STORABLE)
def test_no_application_can_store_the_types_left_out(trail: Trail, name: str) -> None:
    with pytest.raises(
        psycopg.errors.FeatureNotSupported, match=r"cannot accept a value|not implemented"
    ):
        trail.execute(f"select '1'::pg_catalog.{name}")
