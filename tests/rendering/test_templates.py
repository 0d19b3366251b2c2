from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

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


class TestBytecode:
    """Compiled templates are kept among temporary files, where only their user can write."""

    COUNT = """\
import jinja2
from audit_toolkit.templates import render
compiled = []
compile = jinja2.Environment.compile
jinja2.Environment.compile = lambda *given, **named: compiled.append(1) or compile(*given, **named)
render("queries/captured_relations", trail_schema="audit")
print(len(compiled))
"""

    def compiled(self, place: Path) -> int:
        done = subprocess.run(
            [sys.executable, "-c", self.COUNT],
            env=os.environ | {"TMPDIR": str(place)},
            capture_output=True,
            check=True,
        )
        assert done.stderr == b""
        return int(done.stdout)

    def test_the_next_command_does_not_compile_them(self, tmp_path: Path) -> None:
        assert [self.compiled(tmp_path) for _ in range(2)] == [1, 0]
        (kept,) = tmp_path.rglob("*.cache")
        assert stat.S_IMODE(kept.parent.stat().st_mode) == stat.S_IRWXU
        for end in (-9, 0):
            kept.write_bytes(kept.read_bytes()[:end])
            assert [self.compiled(tmp_path) for _ in range(2)] == [1, 0]

    def test_what_cannot_be_kept_is_compiled_again(self, tmp_path: Path) -> None:
        (tmp_path / f"_jinja2-cache-{os.getuid()}").write_text("")
        assert [self.compiled(tmp_path) for _ in range(2)] == [1, 1]

    def test_nothing_is_read_that_others_could_have_put_there(self, tmp_path: Path) -> None:
        (theirs := tmp_path / "theirs").mkdir(mode=0o777)
        (tmp_path / f"_jinja2-cache-{os.getuid()}").symlink_to(theirs)
        assert [self.compiled(tmp_path) for _ in range(2)] == [1, 1]
        assert not list(theirs.iterdir())

    def test_what_a_template_includes_is_compiled_with_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(templates, "template_directory", lambda: tmp_path)
        monkeypatch.setattr(templates, "_environment", templates._environment.__wrapped__)
        (tmp_path / "kept").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "kept"))
        (tmp_path / "outer.sql.j2").write_text(
            '{% set x = 1 %}{% with y = 2 %}{% include "middle.sql.j2" %}{% endwith %}, {{ x | literal }}'
        )
        (tmp_path / "middle.sql.j2").write_text(
            '{% set x = 3 %}select {% include "inner.sql.j2" %}'
        )
        for inner in ("{{ x | literal }}", "{{ y | literal }}"):
            (tmp_path / "inner.sql.j2").write_text(inner)
            assert templates.render("outer") == f"select {3 if 'x' in inner else 2}, 1\n"
