"""What stands in a revision: SQL as it was rendered, whatever the names, templates and formatters."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audit_toolkit import __version__
from audit_toolkit.migrations import find_project, recorded_state
from audit_toolkit.migrations.revision.text import literal, sql_literal
from audit_toolkit.names import QualifiedName, quote_identifier
from tests.plugins.golden import Golden
from tests.plugins.project import Shop
from tests.plugins.seeds import some_quick


def normalised(file: Path) -> str:
    """A revision without what differs from run to run."""
    text = re.sub(r"Create Date: .*", "Create Date: 2026-01-02 03:04:05", file.read_text("utf-8"))
    for number, identifier in enumerate(dict.fromkeys(re.findall(r"\b[0-9a-f]{12}\b", text)), 1):
        text = text.replace(identifier, f"{number:012d}")
    # As the template of Alembic has it since 1.16.2.
    text = text.replace(
        "down_revision: Union[str, None]", "down_revision: Union[str, Sequence[str], None]"
    )
    return text.replace(__version__, "VERSION")


def without_bodies(text: str) -> str:
    """A revision without the statements of several lines, which other golden files have."""
    return re.sub(r'r"""\n.*?\n"""', 'r"""…"""', text, flags=re.DOTALL)


def test_the_file_of_each_kind_of_revision(shop: Shop, golden: Golden) -> None:
    shop.audit("install", "--table", "orders")
    shop.audit("install", "--table", "orders", "--exclude", "note", "--mask", "status=sha256")
    shop.audit("uninstall", "--table", "orders")
    trail, capture, change, release = shop.revisions()
    golden("revision/capture.py.txt", normalised(capture))
    golden("revision/trail.py.txt", without_bodies(normalised(trail)))
    golden("revision/change.py.txt", without_bodies(normalised(change)))
    golden("revision/release.py.txt", without_bodies(normalised(release)))


def test_several_tables_share_a_revision(shop: Shop, golden: Golden) -> None:
    shop.audit("install", "--table", "orders", "--table", "customers")
    golden("revision/two_tables.py.txt", without_bodies(normalised(shop.revisions()[-1])))


def test_nothing_of_this_package_is_imported(shop: Shop) -> None:
    shop.audit("install", "--table", "orders")
    for file in shop.revisions():
        imported = [
            name.name if isinstance(node, ast.Import) else str(node.module)
            for node in ast.walk(ast.parse(file.read_text("utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in node.names
        ]
        assert set(imported) <= {"typing", "alembic", "sqlalchemy", "logging"}


HOSTILE = [
    'quo"te',
    '"""',
    "back\\slash \\d \\",
    "100%s %I %%",
    ":x :name ::jsonb \\:",
    "{{ x }} {% y %} ${z} $$ $capture$ #",
    "line\nbreak\ttab\r",
    "émoji 🙂 \u202eright to left",
    "'''; drop table orders; --",
    "select",
    "Upper.dotted",
    "x" * 63,
    'ends with "',
]


# Every run has all of them in the one revision of the next test.
@pytest.mark.parametrize("name", some_quick(HOSTILE, HOSTILE[:4]))
def test_hostile_names(name: str, shop: Shop) -> None:
    table = QualifiedName(name[:60], name)
    column = quote_identifier(f"c{name[:50]}")
    shop.database.execute(f"create schema {quote_identifier(table.schema)}")
    shop.database.execute(f"create table {table.sql} ({column} int primary key, v text)")
    answer = shop.audit("install", "--table", f'"{name.replace(chr(34), chr(34) * 2)}"')
    assert answer.code == 0, answer.err

    shop.upgrade()
    shop.database.execute(f"insert into {table.sql} values (7, 'x')")
    shop.database.execute(f"update {table.sql} set v = 'y'")
    query = (
        "select schema_name, table_name, action, row_key from audit.logged_actions order by 1, 3"
    )
    assert shop.database.execute(query) == [
        (table.schema, name, "I", "7"),
        (table.schema, name, "U", "7"),
    ]
    again = shop.audit("install", "--table", f'"{name.replace(chr(34), chr(34) * 2)}"')
    assert "already" in again.err
    shop.downgrade("000000000003")


def test_hostile_names_offline(shop: Shop) -> None:
    for number, name in enumerate(HOSTILE):
        shop.database.execute(f"create schema s{number}")
        shop.database.execute(
            f"create table s{number}.{quote_identifier(name)} (id int primary key)"
        )
    names = [f's{n}."{name.replace(chr(34), chr(34) * 2)}"' for n, name in enumerate(HOSTILE)]
    arguments = [part for name in names for part in ("--table", name)]
    assert shop.audit("install", *arguments).code == 0
    script = shop.upgrade("000000000003:head", sql=True).out
    answer = shop.database.psql(script)
    assert answer.returncode == 0, answer.stderr
    for number, name in enumerate(HOSTILE):
        shop.database.execute(f"insert into s{number}.{quote_identifier(name)} values (1)")
    events = shop.database.execute("select table_name from audit.logged_actions order by event_id")
    assert events == [(name,) for name in HOSTILE]


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "comment on \"x\" is 'y'",
        'alter table "x" enable always trigger "y"',
        "select '\\d'",
        "a\nb",
        'a """ b\n\\',
        'ends with "',
        "carriage\rreturn\u202e",
        '\\"""" \\u0041',
    ],
)
def test_a_python_literal_means_its_sql(sql: str) -> None:
    assert ast.literal_eval(sql_literal(sql)).strip("\n") == sql


def test_a_literal_is_as_black_writes_it() -> None:
    value = {"a": ["x", 'say "hi"', "it's"], "b": {"c": None}, "d": [], "e": "y" * 80}
    text = literal(value)
    assert ast.literal_eval(text) == value
    assert text.splitlines()[1] == """    "a": ["x", 'say "hi"', "it's"],"""


def test_formatters_change_no_sql(shop: Shop) -> None:
    shop.audit("install", "--table", "orders", "--exclude", "note")
    for file in shop.revisions():
        before = file.read_text("utf-8")
        ruff(file, "check", "--select", "E4,E7,E9,F,W,B,UP032", "--ignore", "W291")
        ruff(file, "format")
        after = file.read_text("utf-8")
        assert own_part(after) == own_part(before)
    state = recorded_state(find_project().scripts, find_project().head())
    assert len(state.captures) == 1


def own_part(text: str) -> str:
    """What is not from the template: the header and all that follows it up to `revision`."""
    return text[text.index("# Written by") : text.index("# revision identifiers")]


def ruff(file: Path, *arguments: str) -> None:
    program = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if program is None:
        pytest.skip("ruff is not installed")
    done = subprocess.run(
        [program, arguments[0], "--isolated", *arguments[1:], file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_file_template_and_post_write_hooks_are_honoured(shop: Shop) -> None:
    configure(shop, "alembic", "file_template = year_%%(year)d_%%(rev)s")
    add_hook(shop, "sh", "-c \"echo '# hooked' >> REVISION_SCRIPT_FILENAME\"")
    assert shop.audit("install", "--table", "orders").code == 0
    files = shop.revisions()
    assert [file.name[:7] for file in files] == ["year_20", "year_20"]
    assert all(file.read_text().endswith("# hooked\n") for file in files)


def test_the_message_may_be_anything(shop: Shop) -> None:
    message = 'say """hi"""\\N{x} {{ %s ${y}\n\nand "bye"'
    assert shop.audit("install", "--table", "orders", "-m", message).code == 0
    doc = ast.get_docstring(ast.parse(shop.revisions()[-1].read_text("utf-8")))
    assert doc is not None
    assert doc.splitlines()[0] == 'say """hi"""\\N{x} {{ %s ${y} and "bye"'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('${imports if imports else ""}', "", "does not contain the SQL"),
        ('${upgrades if upgrades else "pass"}', "pass", "upgrade() of the revision would not run"),
        (
            '${downgrades if downgrades else "pass"}',
            "pass",
            "downgrade() of the revision would not",
        ),
        ("from alembic import op", "", "upgrade() of the revision would not run"),
        ("import sqlalchemy as sa", "import nothing_like_it", "nothing_like_it"),
        ("${message}", "${who}", "Template rendering failed"),
        ("def upgrade()", "def upgrade(", "SyntaxError"),
        ("def upgrade()", "def upgrade(engine_name)", "multidb"),
    ],
)
def test_a_template_that_loses_something_is_refused(
    old: str, new: str, said: str, shop: Shop
) -> None:
    template = shop.directory / "migrations" / "script.py.mako"
    text = template.read_text()
    assert old in text
    template.write_text(text.replace(old, new))
    before = shop.files()
    answer = shop.audit("install", "--table", "orders")
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert shop.files() == before


def test_a_hook_that_changes_sql_is_refused(shop: Shop) -> None:
    add_hook(shop, "sed", "-i s/returns/RETURNS/ REVISION_SCRIPT_FILENAME")
    before = shop.files()
    answer = shop.audit("install", "--table", "orders")
    assert answer.code == 2
    assert "no post-write hook may change strings" in answer.err
    assert shop.files() == before


def test_when_the_second_file_fails_the_first_goes_too(shop: Shop) -> None:
    add_hook(shop, "sed", "-i 's/^CAPTURE_.*/raise OSError(28)/' REVISION_SCRIPT_FILENAME")
    before = shop.files()
    answer = shop.audit("install", "--table", "orders")
    assert answer.code == 2
    assert shop.files() == before


def configure(shop: Shop, section: str, line: str) -> None:
    ini = shop.directory / "alembic.ini"
    text = ini.read_text()
    assert f"\n[{section}]\n" in text
    ini.write_text(text.replace(f"\n[{section}]\n", f"\n[{section}]\n{line}\n", 1))


def add_hook(shop: Shop, program: str, options: str) -> None:
    lines = ("hooks = test", "test.type = exec", f"test.executable = {program}")
    configure(shop, "post_write_hooks", "\n".join([*lines, f"test.options = {options}"]))
