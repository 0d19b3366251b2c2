"""What the shell offers behind `audit …`, asked as the scripts of Typer ask."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from audit_toolkit.cli.app import app
from tests.plugins.trail import Trail

PROGRAM = f"""#!{sys.executable}
import sys
sys.argv[0] = "audit"
from audit_toolkit.cli.app import main
main()
"""


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute("""
        create schema sales;
        create table orders (id int primary key, status text, "Total sum" numeric);
        create table "Odd Name" (id text primary key);
        create table sales.stock (place text, no int, pieces int, primary key (place, no));
        create table others (id int primary key)
    """)
    for table in ("orders", '"Odd Name"', "sales.stock"):
        trail.audit(table)
    trail.execute("insert into orders select i, 'new' from generate_series(4, 42) i")
    trail.execute("update orders set status = 'paid'; delete from orders where id = 41")
    trail.execute("insert into sales.stock values ('eu', 1, 1), ('eu', 12, 1), ('us east', 7, 1)")
    trail.execute("""insert into "Odd Name" values ('it''s'), ('x y')""")
    return trail


@pytest.fixture
def program(tmp_path: Path, trail: Trail, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command `audit`, first on the path."""
    path = tmp_path / "bin" / "audit"
    path.parent.mkdir()
    path.write_text(PROGRAM)
    path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("AUDIT_DATABASE_URL", trail.database.dsn)
    return path


def offered(*words: str, asker: str = "zsh", **environment: str) -> list[str]:
    """What is offered for the last of these words."""
    asked = {
        "_AUDIT_COMPLETE": f"complete_{asker}",
        "_TYPER_COMPLETE_ARGS": " ".join(["audit", *words]),
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": " ".join(["audit", *words]),
        "COMP_CWORD": str(len(words)),
    }
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in (asked | environment).items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            app([], prog_name="audit")
    assert (end.value.code, err.getvalue()) == (0, "")
    said = out.getvalue()
    if asker != "zsh":
        return said.splitlines()
    return [line.strip('"') for line in said.partition("((")[2].rpartition("))")[0].splitlines()]


@pytest.mark.usefixtures("program", "shop")
def test_what_is_offered() -> None:
    cases: list[tuple[list[str], list[str]]] = [
        (["history", "or"], ["orders"]),
        (["history", "sales."], ["sales.stock"]),
        (["install", "--table", "o"], ["orders", "others"]),
        (["history", "--changed", "stat"], ["status"]),
        (["table-at", "orders", "--at", "now", "--hide", ""], ["Total sum", "id", "status"]),
        (["history", "orders", "--action", "de"], ["delete"]),
        (["history", "orders", "4"], ["4", "40", "41", "42"]),
        (["restore", "sales.stock", ""], ["eu", "us east"]),
        (["blame", "sales.stock", "eu", "1"], ["1", "12"]),
        (["revert", "--last", "orders", "42"], ["42"]),
        (["revert", "--last", "ord"], ["orders"]),
        (["history", "nothing", ""], []),
        (["show", "--format", "j"], ["json"]),
    ]
    for words, values in cases:
        assert sorted(offered(*words)) == values, words


@pytest.mark.usefixtures("program")
def test_marks_and_partitions(shop: Trail) -> None:
    shop.execute("""
        insert into audit.logged_actions (schema_name, table_name, action, row_key, new_row)
        values ('audit', 'logged_actions', 'V', 'before-import', '{"mark": "before-import"}')
    """)
    assert offered("revert", "--to-mark", "be") == ["before-import"]
    partitions = offered("partitions", "hold", "logged_actions_2")
    assert len(partitions) > 1
    assert all(name.startswith("logged_actions_2") for name in partitions)


@pytest.mark.usefixtures("program", "shop")
def test_a_database_that_does_not_answer_offers_nothing() -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    assert offered("history", "o", AUDIT_DATABASE_URL=nowhere) == []
    assert offered("history", "o", AUDIT_DATABASE_URL="postgresql://a@b@c:x/") == []
    assert offered("history", "--dsn", nowhere, "o") == []
    [history] = offered("his", asker="fish", AUDIT_DATABASE_URL=nowhere)
    assert history.startswith("history\t")


@pytest.mark.usefixtures("program", "shop")
def test_in_bash() -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    script = """
        eval "$(_AUDIT_COMPLETE=source_bash audit)"
        offer() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _audit_completion audit
            printf '%s\\n' "$*: ${COMPREPLY[*]}"; }
        offer audit history or
        offer audit history '"Odd'
        offer audit restore sales.stock us
        offer audit history --act
        complete -p audit
    """
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "audit history or: orders"
    assert lines[2] == "audit restore sales.stock us: 'us east'"
    assert "--action" in lines[3].split(": ")[1].split()
    assert "_audit_completion" in lines[-1]


def test_nothing_of_it_is_loaded_without_the_shell() -> None:
    code = "import sys; from audit_toolkit.cli import app; print('audit_toolkit.cli.completion' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "False\n"
