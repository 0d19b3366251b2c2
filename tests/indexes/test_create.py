"""New indexes on all leaves: kept exactly as written, resumed after any failure, no write in the way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from audit_toolkit.indexes import IndexRequest, Listener, Timeouts, create
from audit_toolkit.plan import Step
from tests.indexes import breakage
from tests.indexes.breakage import LEAVES, definitions, flags
from tests.indexes.conftest import AuditIndexes
from tests.plugins.database import Database, MakeDatabase
from tests.plugins.proofs import ShowFigures
from tests.plugins.trail import Trail

Findings = Callable[..., list[dict[str, Any]]]
ACTOR = "create index events_actor_idx on events (actor)"

# As somebody writes it, and as the server prints it, for the partitioned table and each leaf.
KINDS = {
    "plain": ("create index concurrently if not exists i_x on events (actor)", "btree (actor)"),
    "unique": ("create unique index I_X on EVENTS (id, at)", "btree (id, at)"),
    "expression": (
        "create index i_x on events (lower(actor), (id % 7))",
        "btree (lower(actor), ((id % (7)::bigint)))",
    ),
    "partial": (
        "create index i_x on public.events (actor) where body is not null and actor <> ') where ;'",
        "btree (actor) WHERE ((body IS NOT NULL) AND (actor <> ') where ;'::text))",
    ),
    "include": (
        "create index i_x on events (id desc nulls last) include (actor, body);",
        "btree (id DESC NULLS LAST) INCLUDE (actor, body)",
    ),
    "method and options": (
        "create index i_x on events using brin (at) with (pages_per_range = 16)",
        "brin (at) WITH (pages_per_range='16')",
    ),
    "operator class and collation": (
        'create index i_x on events (actor collate "C" text_pattern_ops, body)',
        'btree (actor COLLATE "C" text_pattern_ops, body)',
    ),
    "tablespace": (
        "create index i_x on events (actor) tablespace pg_default where id > 5",
        "btree (actor) WHERE (id > 5)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_definition_is_kept_exactly(
    kind: str, stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    statement, using = KINDS[kind]
    result = audit_indexes("create", statement, "--format", "json")
    assert result.exit_code == 0, result.output
    did = json.loads(result.stdout)
    assert (did["index"], did["steps"], did["valid"]) == ("i_x", len(did["plan"]["steps"]), True)
    assert (
        did["plan"]["steps"][0]["why"]
        == "Declare public.i_x on public.events, without its partitions"
    )
    unique = "UNIQUE " if kind == "unique" else ""
    made = {name: text for name, text in definitions(stocked).items() if "i_x" in name}
    expected = {"i_x": f"CREATE {unique}INDEX i_x ON ONLY public.events USING {using}"}
    for leaf in LEAVES:
        expected[f"{leaf}_i_x"] = f"CREATE {unique}INDEX {leaf}_i_x ON public.{leaf} USING {using}"
    assert made == expected
    assert findings() == []
    again = json.loads(audit_indexes("create", statement, "--format", "json").stdout)
    assert (again["steps"], again["valid"], again["plan"]["steps"]) == (0, True, [])


@pytest.mark.pg(">= 15")
def test_nulls_not_distinct_is_kept(stocked: Database, audit_indexes: AuditIndexes) -> None:
    assert (
        audit_indexes(
            "create", "create unique index i_x on events (at, actor, id) nulls not distinct"
        ).exit_code
        == 0
    )
    assert all(
        "NULLS NOT DISTINCT" in text for name, text in definitions(stocked).items() if "i_x" in name
    )


def test_a_tablespace_is_kept_on_every_leaf(stocked: Database, audit_indexes: AuditIndexes) -> None:
    # In-place tablespaces need no directory outside the server's own (PostgreSQL 15, hidden option).
    space = f"{stocked.name}_space"
    if stocked.connection.info.server_version < 150000:
        pytest.skip("tablespaces inside the data directory came with PostgreSQL 15")
    stocked.execute("set allow_in_place_tablespaces = on")
    stocked.execute(f"create tablespace {space} location ''")
    try:
        result = audit_indexes(
            "create", f"create index i_x on events (actor) tablespace {space} where id > 5"
        )
        assert result.exit_code == 0, result.output
        used = stocked.execute(
            "select c.relname from pg_class c join pg_tablespace t on t.oid = c.reltablespace"
            " where t.spcname = %s",
            [space],
        )
        assert len(used) == len(LEAVES) + 1
    finally:
        stocked.execute("drop index i_x")
        stocked.execute(f"drop tablespace {space}")


def test_an_ordinary_table(stocked: Database, audit_indexes: AuditIndexes) -> None:
    breakage.stopped_before_build(
        stocked, "create index concurrently people_email_idx on people (email)", "people"
    )
    assert audit_indexes("create", "create index people_email_idx on people (email)").exit_code == 0
    assert flags(stocked)["people_email_idx"] == "vrl"
    assert (
        audit_indexes("create", "create index people_both_idx on people (email, name)").exit_code
        == 0
    )
    assert flags(stocked)["people_both_idx"] == "vrl"


def test_leaves_added_later_have_the_index(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    assert audit_indexes("create", ACTOR).exit_code == 0
    stocked.execute(
        "create table events_2024 partition of events for values from ('2024-01-01') to ('2025-01-01')"
    )
    assert findings() == []
    assert audit_indexes("create", ACTOR, "--dry-run").stdout == "nothing to do\n"


def test_a_leaf_added_meanwhile_is_covered(stocked: Database) -> None:
    def add_a_leaf(step: Step) -> None:
        if step.why == "Build public.events_2026_actor_idx":
            stocked.execute(
                "create table events_old partition of events for values from ('2020-01-01') to ('2025-01-01')"
            )

    with stocked.connect() as connection:
        create(IndexRequest.parse(ACTOR), connection, Timeouts(), Listener(on_step=add_a_leaf))
    assert len([i for i, bits in flags(stocked).items() if bits == "vrl" and "actor" in i]) == 5


class InterruptedRunError(Exception):
    """What stops a run between two steps."""


def test_interrupted_at_every_step_it_goes_on_from_there(
    make_database: MakeDatabase, stocked_template: str
) -> None:
    request = IndexRequest.parse(ACTOR)
    stops = 0
    while True:
        database = make_database(template=stocked_template)
        seen = 0

        def stop(step: Step, at: int = stops) -> None:
            nonlocal seen
            if seen == at:
                raise InterruptedRunError(step.why)
            seen += 1

        with database.connect() as connection:
            try:
                create(request, connection, Timeouts(), Listener(on_step=stop))
            except InterruptedRunError:
                stops += 1
            else:
                break
            create(request, connection, Timeouts(), Listener())
        assert len(flags(database)) == 6  # nothing twice: two of people, one here, three on leaves
        assert set(flags(database).values()) == {"vrl"}
    assert stops == 1 + 2 * len(LEAVES)


def test_a_build_that_failed_is_named_and_taken_up_again(
    stocked: Database, audit_indexes: AuditIndexes, findings: Findings
) -> None:
    stocked.execute("insert into events select * from events where id = 5")
    result = audit_indexes("create", "create unique index events_key on events (id, at)")
    assert result.exit_code == 1
    assert "Key (id, at)=(5, 2025-01-06) is duplicated" in result.stderr
    (found,) = findings()
    assert (
        "missing on public.events_2025" in found["message"]
    )  # nothing invalid was left on the leaf
    stocked.execute("delete from events where ctid = (select max(ctid) from events where id = 5)")
    assert (
        audit_indexes("create", "create unique index events_key on events (id, at)").exit_code == 0
    )
    assert findings() == []


def test_the_script_of_a_new_index_runs_in_psql(
    stocked: Database, audit_indexes: AuditIndexes
) -> None:
    script = audit_indexes("create", ACTOR, "--sql", "--lock-timeout", "500ms").stdout
    assert "set local lock_timeout = '500ms'" in script
    assert flags(stocked).keys() == {"people_name_idx", "people_pkey"}
    done = stocked.psql(script)
    assert done.returncode == 0, done.stderr
    assert audit_indexes("create", ACTOR, "--dry-run").stdout == "nothing to do\n"


def test_a_lock_that_is_not_to_be_had_is_busy_and_can_be_taken_up(
    stocked: Database, audit_indexes: AuditIndexes
) -> None:
    with breakage.writer(stocked, "events"):
        result = audit_indexes("create", ACTOR, "--lock-timeout", "10ms")
        assert result.exit_code == 5
        assert "attempt 4" in result.stderr
    assert audit_indexes("create", ACTOR).exit_code == 0


def test_the_trail_gets_an_index_of_its_own(trail: Trail, audit_indexes: AuditIndexes) -> None:
    dsn = trail.database.dsn
    statement = (
        "create index logged_actions_who_idx on audit.logged_actions (session_user_name, event_id)"
    )
    assert audit_indexes("check", dsn=dsn).exit_code == 0
    result = audit_indexes("create", statement, dsn=dsn)
    assert result.exit_code == 0, result.output
    trail.execute("select audit.ensure_partitions(12)")
    assert audit_indexes("create", statement, "--dry-run", dsn=dsn).stdout == "nothing to do\n"
    assert audit_indexes("check", dsn=dsn).exit_code == 0


WRITERS = 4


@contextmanager
def writing(database: Database) -> Iterator[dict[str, Any]]:
    """Sessions that write to every leaf all the time; each write may wait at most five seconds."""
    figures: dict[str, Any] = {"writes": 0, "longest": 0.0, "errors": []}
    ending, guard = threading.Event(), threading.Lock()

    def write(number: int) -> None:
        connection = database.connect()
        connection.execute("set lock_timeout = '5s'")
        while not ending.is_set():
            began = time.monotonic()
            try:
                connection.execute(
                    "insert into events select %s, date '2025-01-01' + n * 300, 'writer' from generate_series(0, 3) n",
                    [-number],
                )
            except psycopg.Error as error:
                figures["errors"].append(str(error))
            with guard:
                figures["writes"] += 1
                figures["longest"] = max(figures["longest"], time.monotonic() - began)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(1, WRITERS + 1)]
    for thread in threads:
        thread.start()
    yield figures
    ending.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("command", ["create", "fix"])
def test_writers_go_on(
    command: str,
    stocked: Database,
    audit_indexes: AuditIndexes,
    findings: Findings,
    show_figures: ShowFigures,
) -> None:
    stocked.execute(
        "insert into events select n, date '2025-01-01' + (n % 900), 'actor ' || n % 7, repeat('y', 50)"
        " from generate_series(1, 200000) n"
    )
    if command == "fix":
        stocked.execute("create index events_actor_idx on only events (actor)")
        breakage.stopped_before_build(
            stocked, "create index concurrently by_actor on events_2025 (actor)", "events_2025"
        )
    arguments = [ACTOR] if command == "create" else ["--schema", "public"]
    with writing(stocked) as figures:
        result = audit_indexes(command, *arguments, "--lock-timeout", "500ms")
    assert result.exit_code == 0, result.output
    assert figures["errors"] == []
    assert figures["writes"] > WRITERS
    rows = stocked.execute("select count(*) from events where id < 0")
    assert rows == [(4 * figures["writes"],)]
    assert findings() == []
    show_figures(
        f"{WRITERS} writers, {figures['writes']} writes, none failed, "
        f"the longest took {figures['longest'] * 1000:.0f} ms"
    )


def test_the_owner_needs_no_superuser(stocked: Database, audit_indexes: AuditIndexes) -> None:
    owner = f"{stocked.name}_owner"
    stocked.execute(f"create role {owner} login")
    stocked.execute(f"grant create on schema public to {owner}")
    for table in ("events", *LEAVES):
        stocked.execute(f"alter table {table} owner to {owner}")
    try:
        host = urlsplit(stocked.dsn)
        dsn = host._replace(netloc=f"{owner}@{host.netloc.rpartition('@')[2]}").geturl()
        stocked.execute("create index broken on only events (body)")
        for arguments in (["create", ACTOR], ["fix", "--table", "events"], ["check", "--all"]):
            result = audit_indexes(*arguments, dsn=dsn)
            assert result.exit_code == 0, result.output
        refused = audit_indexes("create", "create index i on people (email)", dsn=dsn)
        assert refused.exit_code == 1
        assert "permission denied for table people" in refused.stderr
    finally:
        stocked.execute(f"drop owned by {owner}; drop role {owner}")
