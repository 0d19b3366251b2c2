"""What `check` prints for people, programs, Nagios and Prometheus, and its exit codes."""

from __future__ import annotations

import json
import re

import pytest

from tests.indexes import breakage
from tests.indexes.conftest import AuditIndexes
from tests.plugins.database import Database
from tests.plugins.golden import Golden


@pytest.fixture
def broken(stocked: Database) -> Database:
    """One index of each kind of finding."""
    stocked.execute("create index events_actor_idx on only events (actor)")
    stocked.execute("create index people_name_again_idx on people (name)")
    stocked.execute("create index people_name_email_idx on people (name, email)")
    breakage.stopped_before_build(
        stocked, "reindex index concurrently people_name_email_idx", "people"
    )
    breakage.stopped_in_validation(stocked, "create index concurrently mail on people (email desc)")
    return stocked


@pytest.mark.parametrize("form", ["text", "json", "nagios", "prometheus"])
def test_every_format(
    form: str, broken: Database, audit_indexes: AuditIndexes, golden: Golden
) -> None:
    assert broken.execute("select 1")
    result = audit_indexes("check", "--schema", "public", "--format", form)
    assert result.exit_code == (2 if form == "nagios" else 3)
    steady = re.sub(r'"oid": \d+', '"oid": 0', result.stdout)
    golden(f"indexes/check.{form}", steady)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_plan_is_shown_and_nothing_done(
    form: str, broken: Database, audit_indexes: AuditIndexes, golden: Golden
) -> None:
    before = breakage.flags(broken)
    result = audit_indexes("fix", "--schema", "public", "--dry-run", "--format", form)
    assert result.exit_code == 0
    golden(f"indexes/plan.{form}", result.stdout)
    golden("indexes/plan.sql", audit_indexes("fix", "--schema", "public", "--sql").stdout)
    assert breakage.flags(broken) == before


def test_nagios_is_ok_without_findings(audit_indexes: AuditIndexes) -> None:
    # Two of its own, and one for each of four TOAST tables.
    result = audit_indexes("check", "--schema", "public", "--format", "nagios")
    assert result.exit_code == 0
    assert (
        result.stdout == "AUDIT_INDEXES OK - 6 indexes, no findings | broken=0;0;;0; building=0\n"
    )


def test_a_check_that_could_not_run_is_unknown_to_nagios(audit_indexes: AuditIndexes) -> None:
    unreachable = "postgresql://nobody@127.0.0.1:1/nothing"
    result = audit_indexes("check", "--format", "nagios", dsn=unreachable)
    assert result.exit_code == 3
    assert result.stdout.startswith("AUDIT_INDEXES UNKNOWN - cannot connect")
    assert audit_indexes("check", dsn=unreachable).exit_code == 4


def test_advice_is_an_exit_code_only_where_it_was_asked_for(
    stocked: Database, audit_indexes: AuditIndexes
) -> None:
    stocked.execute("create index again on people (name)")
    result = audit_indexes("check", "--schema", "public")
    assert result.exit_code == 0
    assert "DROP INDEX CONCURRENTLY public.people_name_idx" not in result.stdout
    assert "DROP INDEX CONCURRENTLY public.again" in result.stdout
    assert audit_indexes("check", "--schema", "public", "--fail-on", "info").exit_code == 3


def test_unused_indexes_and_those_that_are_never_judged(
    stocked: Database, audit_indexes: AuditIndexes
) -> None:
    stocked.execute(
        "create index events_body_idx on events (body);"
        "create unique index people_email_key on people (email);"
        "create index used_idx on people (email, id);"
        "set enable_seqscan = off; set enable_bitmapscan = off"
    )
    stocked.execute("select id from people where email = 'mail 7' and id = 7")
    stocked.execute("select pg_stat_force_next_flush()")
    stocked.connection.close()  # its counters are published at the latest now

    def unused(*days: str) -> set[str]:
        result = audit_indexes("check", "--schema", "public", "--format", "json", *days)
        found = json.loads(result.stdout)["findings"]
        return {f["subject"] for f in found if f["state"] == "unused"}

    assert unused("--unused-after", "0") >= {"public.events_body_idx"}
    assert not unused("--unused-after", "0") & {"public.people_email_key", "public.people_pkey"}
    assert not any("events_2025" in name for name in unused("--unused-after", "0"))
    assert unused() == set()  # the server has not counted for thirty days


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["check", "--schema", "nowhere"], 2, "schema 'nowhere'"),
        (["check", "--table", "nothing"], 2, "table 'nothing'"),
        (["check", "--all", "--schema", "public"], 2, "cannot be combined"),
        (["create", "drop table people"], 2, "not a CREATE INDEX statement"),
        (["create", "create index on people (name)"], 2, "not a CREATE INDEX statement"),
        (["create", "create index i on nothing (name)"], 2, "table 'nothing'"),
        (["create", "create index i on people (nothing)"], 2, 'column "nothing" does not exist'),
        (["create", "create index people on people (name)"], 2, "something else is already named"),
        (["create", "create index people_name_idx on people (email)"], 2, "another definition"),
        (["create", "create index i on people (name); drop table people"], 2, "not a CREATE INDEX"),
    ],
)
def test_bad_input(
    arguments: list[str], code: int, text: str, stocked: Database, audit_indexes: AuditIndexes
) -> None:
    result = audit_indexes(*arguments)
    assert result.exit_code == code, result.output
    assert text in result.stderr
    assert stocked.execute("select count(*) from people") == [(1000,)]
