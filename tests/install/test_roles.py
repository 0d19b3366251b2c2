"""Cron, developers and the archive without the rights of the owner: what `audit grants` gives is enough."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from audit_toolkit.cli.app import app
from audit_toolkit.config import TrailSettings
from audit_toolkit.connection import connect
from audit_toolkit.errors import AuditError
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from tests.plugins.database import Database
from tests.plugins.trail import Trail

ROLES = ("rol_audit", "rol_cron", "rol_archiver", "rol_dev", "rol_deployer")
PAST = """
    set role rol_audit;
    drop table audit.logged_actions_past;
    select audit.make_leaf('logged_actions_2020_01');
    alter table audit.logged_actions attach partition audit.logged_actions_2020_01
        for values from ('2020-01-01 00:00+00') to ('2020-02-01 00:00+00');
    select audit.make_leaf('logged_actions_since');
    do $$ begin execute format(
        'alter table audit.logged_actions attach partition audit.logged_actions_since'
        ' for values from (''2020-02-01 00:00+00'') to (%L)',
        (select min(lower_bound) from audit.leaves() where lower_bound > '2021-01-01')); end $$;
    insert into audit.logged_actions (action_tstamp, schema_name, table_name, action, row_key, new_row)
    select '2020-01-15', 'public', 'orders', 'I', n, '{"id": 1}' from generate_series(1, 100) as n;
    insert into audit.logged_actions (schema_name, table_name, action) values ('public', 'orders', 'T');
    select audit.ensure_past();
    reset role
"""
OLD = """
    update audit.partition_lifecycle set detached_at = clock_timestamp() - interval '8 days'
    where state = 'detached'
"""


@dataclass(frozen=True)
class House:
    """A trail with partitions since 2020, which belongs to a role of its own; other roles are granted little."""

    trail: Trail
    run: Callable[..., Result]
    """`audit …` as a role."""

    def partitions(self) -> dict[str, str]:
        """What is attached, and what was."""
        rows = self.trail.execute(
            "select c.relname, 'attached' from audit.leaves() as l join pg_class as c on c.oid = l.leaf"
            " union all select leaf_name, state from audit.partition_lifecycle where state <> 'attached'"
        )
        return dict(rows)


@pytest.fixture
def house(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[House]:
    monkeypatch.chdir(tmp_path)
    database.execute("create role rol_audit nologin")
    for role in ROLES[1:]:
        database.execute(f"create role {role} login")
    try:
        with connect(database.dsn) as connection:
            apply(plan_trail(TrailSettings(owner="rol_audit")), connection)
        database.execute(PAST)

        def run(role: str, *arguments: str) -> Result:
            dsn = database.dsn.replace("//postgres@", f"//{role}@")
            return CliRunner().invoke(app, list(arguments), env={"AUDIT_DATABASE_URL": dsn})

        yield House(Trail(database), run)
    finally:
        for role in ROLES:
            database.execute(f"drop owned by {role} cascade; drop role {role}")


def grant(house: House, *options: str) -> str:
    """Run what `audit grants` prints, as the owner of the trail."""
    answer = house.run("postgres", "grants", *options)
    assert answer.exit_code == 0, answer.output
    house.trail.execute("set role rol_audit;" + answer.stdout + "reset role")
    return answer.stderr


def maintained(house: House, *options: str) -> dict[str, Any]:
    """What a run of maintenance by cron says, as JSON."""
    answer = house.run("rol_cron", "maintain", *options, "--format", "json")
    assert answer.stdout, answer.exception
    found: dict[str, Any] = json.loads(answer.stdout) | {"exit_code": answer.exit_code}
    return found


def test_cron_maintains_without_owning(house: House) -> None:
    said = grant(house, "--maintainer", "rol_cron", "--retention", "24 months", "--unarchived")
    assert said == ""
    for _ in range(2):
        run = maintained(house, "--retention", "24 months")
        assert (run["exit_code"], run["findings"]) == (0, [])
        assert house.partitions()["logged_actions_2020_01"] == "detached"
        assert house.partitions()["logged_actions_since"] == "attached"
    house.trail.execute(OLD)
    assert maintained(house, "--retention", "24 months")["exit_code"] == 0
    assert house.partitions()["logged_actions_2020_01"] == "dropped"
    assert house.run("rol_cron", "check").exit_code == 0
    assert house.run("rol_cron", "partitions", "check").exit_code == 0


def test_a_plan_is_what_a_maintainer_runs(house: House) -> None:
    grant(house, "--maintainer", "rol_cron", "--retention", "24 months")
    plan = house.run("rol_cron", "partitions", "plan", "--retention", "24 months", "--sql").stdout
    assert "select audit.maintain_detach('audit.logged_actions_2020_01');" in plan
    assert "alter table" not in plan


def test_cron_makes_partitions_where_none_were_made_for_long(house: House) -> None:
    grant(house, "--maintainer", "rol_cron")
    house.trail.execute("""
        do $$ declare leaf text; begin
            for leaf in select l.leaf from audit.leaves() as l where lower_bound > '2020-02-01' loop
                execute 'drop table ' || leaf;
            end loop;
        end $$;
        alter table audit.logged_actions detach partition audit.logged_actions_since;
        alter table audit.logged_actions attach partition audit.logged_actions_since
            for values from ('2020-02-01 00:00+00') to (maxvalue);
        insert into audit.logged_actions (schema_name, table_name, action) values ('public', 'orders', 'T')
    """)
    run = maintained(house, "--interval", "week", "--ahead", "60")
    assert [outcome["result"] for outcome in run["outcomes"]] == ["done"] * 2
    assert run["findings"] == []
    bounds = house.trail.execute(
        "select lower_bound, upper_bound, is_tail from audit.leaves() order by lower_bound nulls first"
    )
    assert len(bounds) > 50
    assert [upper for _, upper, _ in bounds[:-1]] == [lower for lower, _, _ in bounds[1:]]
    assert bounds[-1][2]
    assert house.trail.execute("select count(*) from audit.logged_actions") == [(101,)]
    assert house.trail.execute("select count(*) from audit.logged_actions_tail") == [(0,)]


def test_cron_closes_a_gap_and_puts_the_last_partition_back(house: House) -> None:
    grant(house, "--maintainer", "rol_cron")
    house.trail.execute("""
        drop table audit.logged_actions_tail;
        do $$ begin execute 'drop table ' || (
            select leaf from audit.leaves() where lower_bound > clock_timestamp() order by lower_bound limit 1); end $$
    """)
    assert maintained(house)["exit_code"] == 0
    assert house.run("rol_cron", "partitions", "check").exit_code == 0


def test_the_owner_says_what_cron_may_take_away(house: House) -> None:
    """Whatever retention is on the command line of cron."""
    assert "can create partitions but neither detach nor drop" in grant(
        house, "--maintainer", "rol_cron"
    )
    outcome, *_ = maintained(house, "--retention", "24 months")["outcomes"]
    assert "has not set which partitions a maintainer may detach" in outcome["message"]

    grant(house, "--maintainer", "rol_cron", "--retention", "10 years")
    outcome, *_ = maintained(house, "--retention", "24 months")["outcomes"]
    assert "a maintainer may not detach" in outcome["message"]
    assert "not on hold" in outcome["hint"]

    grant(house, "--maintainer", "rol_cron", "--retention", "2 years", "--quarantine", "30 days")
    maintained(house, "--retention", "24 months")
    house.trail.execute(OLD)
    outcome, *_ = maintained(house, "--retention", "24 months")["outcomes"]
    assert "a maintainer may not drop" in outcome["message"]

    grant(house, "--maintainer", "rol_cron", "--retention", "2 years", "--quarantine", "7 days")
    outcome, *_ = maintained(house, "--retention", "24 months")["outcomes"]
    assert outcome["result"] == "failed"
    assert "archived if required" in outcome["hint"]
    assert house.partitions()["logged_actions_2020_01"] == "detached"


@pytest.mark.parametrize("archiver", ["rol_cron", "rol_archiver"])
def test_the_archive_without_owning(house: House, tmp_path: Path, archiver: str) -> None:
    grant(house, "--maintainer", "rol_cron", "--retention", "2 years", "--archiver", archiver)
    rotation = ("--retention", "24 months", "--archive", str(tmp_path / "archive"))
    if archiver == "rol_cron":
        assert maintained(house, *rotation)["exit_code"] == 0
    maintained(house, "--retention", "24 months")
    answer = house.run(archiver, "archive", "run", "--archive", str(tmp_path / "archive"))
    assert answer.exit_code == 0, answer.output
    house.trail.execute(OLD)
    run = maintained(house, *rotation)
    assert house.partitions()["logged_actions_2020_01"] == "dropped", run
    [(digest, acl)] = house.trail.execute("""
        select archive_digest, (select relacl from pg_class where oid = leaf)
        from audit.partition_lifecycle where leaf_name = 'logged_actions_2020_01'
    """)
    assert digest.startswith("100/sha256:")
    assert acl is None


def test_what_is_archived_is_compared_and_lent_for_a_transaction_alone(house: House) -> None:
    grant(house, "--maintainer", "rol_cron", "--retention", "2 years", "--archiver", "rol_archiver")
    maintained(house, "--retention", "24 months")
    [(leaf,)] = house.trail.execute("select 'audit.logged_actions_2020_01'::regclass::oid::bigint")
    [(since,)] = house.trail.execute("select 'audit.logged_actions_since'::regclass::oid::bigint")
    with house.trail.database.connect(user="rol_archiver") as archiver:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            archiver.execute("select from audit.logged_actions_2020_01")
        with pytest.raises(
            psycopg.errors.InsufficientPrivilege, match="not a partition to be archived"
        ):
            archiver.execute("select audit.archive_begin(%s)", [since])
        with pytest.raises(
            psycopg.errors.ObjectNotInPrerequisiteState, match="does not match the archive"
        ):
            archiver.execute("select audit.archive_note(%s, 'nowhere', '0/sha256:00', '')", [leaf])
        with archiver.transaction():
            archiver.execute("select audit.archive_begin(%s)", [leaf])
            assert archiver.execute(
                "select count(*) from audit.logged_actions_2020_01"
            ).fetchone() == (100,)
            archiver.execute("select audit.archive_end(%s)", [leaf])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            archiver.execute("select from audit.logged_actions_2020_01")


def test_what_only_the_owner_does(house: House) -> None:
    grant(house, "--maintainer", "rol_cron", "--retention", "2 years")
    held = house.run(
        "rol_cron", "partitions", "hold", "logged_actions_2020_01", "--reason", "court"
    )
    assert held.exit_code == 0, held.output
    assert maintained(house, "--retention", "24 months")["outcomes"] == []
    answer = house.run("rol_cron", "partitions", "release", "logged_actions_2020_01")
    assert answer.exit_code == 1
    assert "only the owner of the trail can do this" in answer.output
    released = house.run("postgres", "partitions", "release", "logged_actions_2020_01")
    assert released.exit_code == 0
    maintained(house, "--retention", "24 months")
    attach = house.run(
        "rol_cron", "partitions", "attach", "logged_actions_2020_01", "--reason", "x"
    )
    assert "only the owner of the trail can do this" in attach.output


def test_a_maintainer_waits_for_the_run_of_the_owner(house: House) -> None:
    grant(house, "--maintainer", "rol_cron")
    with house.trail.database.connect() as owner, owner.transaction():
        owner.execute("lock table audit.maintenance in share update exclusive mode")
        assert house.run("rol_cron", "maintain").exit_code == 5


def test_grants_say_who_can_run_them(house: House) -> None:
    answer = house.run("rol_dev", "grants", "--maintainer", "rol_cron")
    assert "run these statements as rol_audit, which owns the trail" in answer.stderr
    assert house.run("postgres", "grants", "--retention", "1 year", "--reader", "x").exit_code == 2
    assert (
        house.run("postgres", "grants", "--maintainer", "x", "--retention", "soon").exit_code == 2
    )
    assert "can do whatever it can" in house.run("postgres", "grants", "--deployer", "x").stderr


def test_an_archiver_who_reads_the_trail_exports_partitions_in_use(
    house: House, tmp_path: Path
) -> None:
    place = str(tmp_path / "archive")
    export = ("archive", "export", "--archive", place)
    grant(house, "--maintainer", "rol_cron", "--retention", "2 years", "--archiver", "rol_archiver")
    alone = house.run("rol_archiver", *export)
    assert alone.exit_code == 1
    assert "an archiver needs to read all of the trail, too" in alone.output
    assert "audit grants --archiver ROLE --reader ROLE" in alone.output
    grant(house, "--reader", "rol_archiver")
    answer = house.run("rol_archiver", *export)
    assert answer.exit_code == 0, answer.output
    assert "logged_actions_2020_01 up to event" in answer.output
    assert house.run("rol_archiver", *export).stdout == "nothing new\n"
    verified = house.run("postgres", "archive", "verify", "--archive", place)
    assert verified.exit_code == 0, verified.output
    # What was exported becomes a part of the archive.
    maintained(house, "--retention", "24 months")
    answer = house.run("rol_archiver", "archive", "run", "--archive", place)
    assert answer.exit_code == 0, answer.output
    counted = house.run(
        "postgres", "archive", "query", "select count(*) from logged_actions", "--archive", place
    )
    assert counted.stdout.split()[-1] == str(
        house.trail.execute(
            "select (select count(*) from audit.logged_actions)"
            " + (select count(*) from audit.logged_actions_2020_01)"
        )[0][0]
    )
    verified = house.run("postgres", "archive", "verify", "--archive", place)
    assert verified.exit_code == 0, verified.output


def test_an_export_that_was_killed_is_finished_by_an_archiver_after_the_detach(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(tmp_path / "archive")
    grant(house, "--maintainer", "rol_cron", "--retention", "2 years")
    grant(house, "--archiver", "rol_archiver", "--reader", "rol_archiver")

    def killed(*_: object, **__: object) -> None:
        raise AuditError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("audit_toolkit.archive.export.write_files", killed)
        answer = house.run("rol_archiver", "archive", "export", "--archive", place)
        assert answer.exit_code == 1
    maintained(house, "--retention", "24 months")
    answer = house.run("rol_archiver", "archive", "run", "--archive", place)
    assert answer.exit_code == 0, answer.output
    verified = house.run("postgres", "archive", "verify", "--archive", place)
    assert verified.exit_code == 0, verified.output


def test_row_security_leaves_no_export_with_gaps(house: House, tmp_path: Path) -> None:
    grant(house, "--archiver", "rol_archiver", "--reader", "rol_archiver")
    house.trail.execute("alter table audit.logged_actions enable row level security")
    answer = house.run("rol_archiver", "archive", "export", "--archive", str(tmp_path / "archive"))
    assert answer.exit_code == 1
    assert "an archiver needs to read all of the trail, too" in answer.output


@pytest.mark.parametrize("noted", ["{}", "[]", '{"archives": [1], "marks": [], "origin": ""}'])
def test_nonsense_noted_of_exports_is_no_traceback(
    house: House, tmp_path: Path, noted: str
) -> None:
    grant(house, "--archiver", "rol_archiver", "--reader", "rol_archiver")
    with house.trail.database.connect(user="rol_archiver") as archiver:
        if '"archives"' in noted:
            archiver.execute("select audit.archive_note_export(%s)", [noted])
        else:
            with pytest.raises(psycopg.errors.InvalidParameterValue, match="archives, marks"):
                archiver.execute("select audit.archive_note_export(%s)", [noted])
            return
    answer = house.run("postgres", "archive", "verify", "--archive", str(tmp_path))
    assert answer.exit_code == 1
    assert "what the trail has noted of exports cannot be read" in answer.output
