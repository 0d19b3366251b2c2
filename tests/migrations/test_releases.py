"""What released versions installed, upgraded to this one: no difference from a fresh installation."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from audit_toolkit.config import TrailSettings
from audit_toolkit.migrations import init_project
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from audit_toolkit.schema.install import READER_FUNCTIONS, plan_trail_upgrade
from tests.plugins.catalogue import Entry, catalogue
from tests.plugins.database import Database, MakeDatabase
from tests.plugins.project import Shop
from tests.plugins.seeds import some_quick
from tests.plugins.trail import Trail
from tests.rendering.cases import CASES, ODD_NAME

RELEASES = Path(__file__).parents[1] / "releases"
CAPTURES = sorted(RELEASES.glob("*/capture_*.sql"))
QUICK = [RELEASES / release / f"capture_{case}.sql" for release, case in (
    ("0.1.0", "row"), ("0.2.0", "odd_names"), ("0.2.0", "partitioned"), ("0.2.0", "hidden_columns"),
)]  # fmt: skip

WRITES = {
    "orders": ("insert into orders (customer_id, total) values (1, 9.90)", "update orders set total = 1"),
    "order_lines": ("insert into order_lines values (1, 1, 0.5)", "update order_lines set weight = 2"),
    "people": ("insert into people values (1, 'Ann', 'a@b.c', '42')", "update people set name = 'Bea'"),
    "visits": ("insert into visits values ('2026-05-05', '/')", "truncate visits_2026"),
    "odd": (
        f'insert into "Wei""rd.Schema".{ODD_NAME} values (\'a\', \'b\')',
        f'delete from "Wei""rd.Schema".{ODD_NAME}',
    ),
}  # fmt: skip
"""A change of before and one of after the upgrade."""


class Installed:
    """A database with a table that is audited, and what changes it."""

    def __init__(self, database: Database, script: Path) -> None:
        self.database = database
        self.ddl, self.table, self.rule = CASES[script.stem.removeprefix("capture_")]
        self.first, self.second = WRITES.get(self.table, WRITES["odd"])
        database.execute(self.ddl)

    def events(self) -> list[tuple[object, ...]]:
        """The trail, whole."""
        columns = "event_id, action_tstamp, transaction_id::text, action, row_key, old_row, new_row"
        return list(self.database.execute(f"select {columns} from audit.logged_actions order by 1"))


MakeInstalled = Callable[[Path], Installed]


@pytest.fixture
def released(make_database: MakeDatabase) -> MakeInstalled:
    """Call it with the file of a capture for a database as that release left it."""

    def make(script: Path) -> Installed:
        installed = Installed(make_database(), script)
        installed.database.execute((script.parent / "trail.sql").read_text("utf-8"))
        installed.database.execute(script.read_text("utf-8"))
        installed.database.execute(installed.first)
        assert installed.events()
        return installed

    return make


@pytest.fixture
def fresh(make_database: MakeDatabase) -> MakeInstalled:
    """Call it with the file of a capture for a database as this version installs it."""

    def make(script: Path) -> Installed:
        installed = Installed(make_database(), script)
        apply(plan_trail(TrailSettings()), installed.database.connection)
        Trail(installed.database).audit(installed.table, **installed.rule)
        return installed

    return make


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Database], Shop]:
    """Call it with a database for a new project that has it."""

    def make(database: Database) -> Shop:
        monkeypatch.setattr(sys, "path", sys.path[:])
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DATABASE_URL", database.dsn)
        init_project(Path("migrations"))
        return Shop(tmp_path, database)

    return make


def without_versions(entries: Iterable[Entry]) -> list[Entry]:
    """Comments say which version made a thing; what is alike is not made anew to say another."""
    return [_unversioned(entry) if entry[0] == "comment" else entry for entry in entries]


def _unversioned(entry: Entry) -> Entry:
    kind, name, comment, *rest = entry
    if not comment.startswith("{"):
        return entry
    values = {key: value for key, value in json.loads(comment).items() if key != "version"}
    return (kind, name, json.dumps(values), *rest)


def release_and_case(script: Path) -> str:
    return f"{script.parent.name}-{script.stem.removeprefix('capture_')}"


@pytest.mark.parametrize("script", some_quick(CAPTURES, QUICK), ids=release_and_case)
def test_a_release_becomes_what_this_version_installs(
    script: Path,
    released: MakeInstalled,
    fresh: MakeInstalled,
    project: Callable[[Database], Shop],
) -> None:
    old, wanted = released(script), without_versions(catalogue(fresh(script).database))
    before, events = catalogue(old.database), old.events()
    assert without_versions(before) != wanted
    shop = project(old.database)

    answer = shop.audit("upgrade", "--upgrade")
    assert answer.code == 0, answer.err
    assert answer.err.endswith("applied; next:\n  audit check\n")
    assert shop.audit("indexes", "fix").code == 0
    assert without_versions(catalogue(old.database)) == wanted
    assert shop.audit("check").text == (
        "OK: everything installed is present, unchanged and enabled\n"
    )
    assert old.events() == events
    old.database.execute(old.second)
    assert old.events()[: len(events)] == events
    assert len(old.events()) > len(events)
    assert shop.audit("upgrade").err == "already up to date\n"

    shop.downgrade("base")
    # The limit of a context stays, as all that an upgrade adds to the table; and events may lack the login.
    lost = set(before) - set(catalogue(old.database))
    changed = {entry[1].split(" ")[-1] for entry in lost if entry[0] == "column"}
    assert changed <= {"context", "session_user_name"}
    constraints = [entry[1] for entry in lost if entry[0] == "constraint"]  # since PostgreSQL 18
    assert all("session_user_n" in name for name in constraints)
    assert {entry[0] for entry in lost} <= {"column", "constraint"}


FORMER = {
    "moved": "alter table orders rename to purchases; create schema sales; alter table purchases set schema sales",
    "another has the name": "alter table orders rename to purchases; create table orders (id int)",
    "another key": "alter table orders rename to purchases; alter table purchases rename id to number",
}


@pytest.mark.parametrize("kind", some_quick(FORMER, ["another has the name", "another key"]))
def test_a_table_that_was_renamed_before_the_upgrade_keeps_its_events(
    kind: str, released: MakeInstalled
) -> None:
    ddl = FORMER[kind]
    old = released(RELEASES / "0.2.0" / "capture_row.sql")
    old.database.execute(ddl)
    table = "sales.purchases" if "sales" in ddl else "purchases"
    old.database.execute(f"update {table} set total = 2")  # recorded under its former name
    apply(plan_trail_upgrade("audit"), old.database.connection)
    Trail(old.database).audit(table)
    old.database.execute(f"update {table} set total = 3")
    told = "".join(str(event[3]) for event in old.events())
    if "number" in ddl:
        assert told == "IUMGU"
        return
    assert told == "IUMU"
    [(present,)] = old.database.execute(f"select to_jsonb(x) from {table} as x")
    [(known,)] = old.database.execute(
        f"select to_jsonb(x) from audit.table_at(null::{table}, clock_timestamp()) as x"
    )
    assert known == present
    versions = f"select row_image ->> 'total' from audit.history('{table}', '1')"
    assert [total for (total,) in old.database.execute(versions)] == ["9.90", "2", "3"]


@pytest.mark.parametrize("script", some_quick(CAPTURES, QUICK[1:2]), ids=release_and_case)
def test_without_a_project_it_is_a_script_for_psql(
    script: Path,
    released: MakeInstalled,
    fresh: MakeInstalled,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, wanted = released(script), without_versions(catalogue(fresh(script).database))
    monkeypatch.chdir(tmp_path)
    shop = Shop(tmp_path, old.database)
    answer = shop.audit("upgrade", "--sql", "--dsn", old.database.dsn)
    assert (answer.code, answer.err) == (0, "")
    done = old.database.psql(answer.out)
    assert done.returncode == 0, done.stderr
    assert shop.audit("indexes", "fix", "--dsn", old.database.dsn).code == 0
    assert without_versions(catalogue(old.database)) == wanted
    again = shop.audit("upgrade", "--sql", "--dsn", old.database.dsn)
    assert (again.out, again.err) == ("", "already up to date\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "index", some_quick(["row", "old_key", "transaction", "time"], ["old_key"])
)
def test_an_index_that_is_new_is_built_while_writes_go_on(
    index: str,
    released: MakeInstalled,
    fresh: MakeInstalled,
    project: Callable[[Database], Shop],
) -> None:
    script = RELEASES / "0.1.0" / "capture_row.sql"
    old, wanted = released(script), without_versions(catalogue(fresh(script).database))
    name = f"audit.logged_actions_{index}_idx"
    old.database.execute(f"drop index if exists {name}")
    partitions = (
        "array(select inhrelid from pg_inherits where inhparent = 'audit.logged_actions'::regclass)"
    )
    [(before,)] = old.database.execute(f"select {partitions}")
    shop = project(old.database)
    assert shop.audit("upgrade", "--upgrade").code == 0
    children = f"""
        select count(*) from pg_inherits join pg_index on indexrelid = inhrelid
        where inhparent = '{name}'::regclass and indrelid = any (%s)
    """
    assert old.database.execute(children, [before]) == [(0,)]
    found = shop.audit("check")
    assert found.code == 3
    assert "index_parent_invalid; remedy: audit indexes fix\n" in found.out
    assert shop.audit("indexes", "fix").code == 0
    assert without_versions(catalogue(old.database)) == wanted
    assert shop.audit("check").code == 0


def test_a_reader_goes_on_to_travel(
    released: MakeInstalled, project: Callable[[Database], Shop]
) -> None:
    old = released(RELEASES / "0.1.0" / "capture_row.sql")
    role = f"reader_{old.database.name}"
    old.database.execute(f"create role {role}; grant usage on schema audit to {role}")
    old.database.execute(f"grant select on orders, audit.logged_actions to {role}")
    for (function,) in old.database.execute(
        "select oid::regprocedure::text from pg_proc where pronamespace = 'audit'::regnamespace"
        " and proname = any (%s)",
        [list(READER_FUNCTIONS)],
    ):
        old.database.execute(f"grant execute on function {function} to {role}")
    ask = f"set role {role}; select count(*) from audit.table_at(null::orders, now()); reset role"
    try:
        assert project(old.database).audit("upgrade", "--upgrade").code == 0
        old.database.execute(ask)
    finally:
        old.database.execute(f"drop owned by {role}; drop role {role}")
