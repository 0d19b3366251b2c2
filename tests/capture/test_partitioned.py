from __future__ import annotations

from contextlib import suppress

import psycopg
import pytest

from audit_toolkit.config import Capture, Truncate
from audit_toolkit.errors import RuleError
from tests.plugins.trail import Trail

PARTS = """
    create table parts (id int, region text, v int, primary key (id, region)) partition by list (region);
    create table parts_eu partition of parts for values in ('eu');
    create table parts_us partition of parts for values in ('us') partition by range (id);
    create table parts_us_low partition of parts_us for values from (0) to (100);
"""


@pytest.fixture
def parts(trail: Trail) -> Trail:
    trail.execute(PARTS)
    trail.audit("parts")
    return trail


def test_changes_anywhere_are_logged_under_the_root(parts: Trail) -> None:
    parts.execute("insert into parts values (1, 'eu', 0)")
    parts.execute("insert into parts_us_low values (2, 'us', 0)")
    parts.execute("update parts_us set v = 1; delete from parts_eu")
    names = {(e["schema_name"], e["table_name"]) for e in parts.events()}
    assert names == {("public", "parts")}
    assert parts.story() == [
        ("I", '[1, "eu"]'),
        ("I", '[2, "us"]'),
        ("U", '[2, "us"]'),
        ("D", '[1, "eu"]'),
    ]


def test_a_row_that_moves_is_deleted_and_inserted(parts: Trail) -> None:
    parts.execute("insert into parts values (1, 'eu', 0)")
    parts.execute("update parts set region = 'us'")
    assert parts.story()[1:] == [("D", '[1, "eu"]'), ("I", '[1, "us"]')]


def test_new_attached_and_detached_leaves(parts: Trail) -> None:
    parts.execute("create table parts_as partition of parts for values in ('as')")
    parts.execute("create table parts_af (like parts including all)")
    parts.execute("insert into parts_af values (9, 'af', 0)")
    parts.execute("alter table parts attach partition parts_af for values in ('af')")
    parts.execute("insert into parts values (1, 'as', 0); update parts_af set v = 1")
    parts.execute("alter table parts detach partition parts_as")
    parts.execute("insert into parts_as values (3, 'as', 0)")
    assert parts.story() == [("I", '[1, "as"]'), ("U", '[9, "af"]')]
    always = parts.execute(
        "select tgenabled::text from pg_trigger where tgrelid = 'parts_af'::regclass"
    )
    assert ("A",) in always


def test_truncating_one_leaf_logs_its_rows(parts: Trail) -> None:
    parts.execute("insert into parts values (1, 'eu', 0), (2, 'us', 0), (3, 'us', 0)")
    parts.execute("truncate parts_us")
    assert parts.story()[3:] == [("D", '[2, "us"]'), ("D", '[3, "us"]')]
    parts.execute("truncate parts")
    assert parts.story()[5:] == [("D", '[1, "eu"]'), ("T", None)]


def test_truncating_a_leaf_can_be_forbidden(trail: Trail) -> None:
    trail.execute(PARTS)
    trail.audit("parts", truncate=Truncate.FORBID)
    for table in ("parts", "parts_eu", "parts_us", "parts_us_low"):
        with pytest.raises(Exception, match="TRUNCATE is refused"):
            trail.execute(f"truncate {table}")


def test_a_truncate_that_replication_brings_is_recorded(trail: Trail) -> None:
    trail.execute(PARTS)
    trail.audit("parts", truncate=Truncate.FORBID)
    trail.execute("insert into parts values (1, 'eu', 0), (2, 'us', 0)")
    trail.execute("set session_replication_role = replica")
    trail.execute("truncate parts_us")
    assert trail.story()[2:] == [("D", '[2, "us"]')]
    trail.execute("truncate parts")
    assert trail.story()[3:] == [("D", '[1, "eu"]')]


def test_replica_mode_does_not_silence_leaves(parts: Trail) -> None:
    parts.execute("set session_replication_role = replica")
    parts.execute("insert into parts_eu values (1, 'eu', 0); truncate parts_eu")
    assert parts.story() == [("I", '[1, "eu"]'), ("D", '[1, "eu"]')]


def test_statement_capture_would_miss_changes_and_is_refused(trail: Trail) -> None:
    trail.execute(PARTS)
    with pytest.raises(RuleError, match="statement triggers miss changes"):
        trail.target("parts", capture=Capture.STATEMENT)


SECOND = {
    "before a row": "create trigger mine before insert on parts for each row execute function {}",
    "without a row": "create trigger mine after insert on parts for each statement execute function {}",
    "again": "create trigger mine after insert on parts for each row execute function {}",
    "at the end": "create constraint trigger mine after insert on parts_eu deferrable initially deferred"
    " for each row execute function {}",
    "at truncate": "create trigger mine after truncate on parts for each statement execute function {}",
}


@pytest.mark.parametrize("how", SECOND)
def test_its_owner_forges_nothing_with_a_second_trigger(parts: Trail, how: str) -> None:
    """Who may make partitions may execute the function, and so could take it for triggers of his own."""
    parts.execute(SECOND[how].format("audit.capture_public__parts()"))
    statements = ("insert into parts values (1, 'eu', 0)", "insert into parts table parts limit 0")
    for statement in (*statements, "truncate parts"):
        with suppress(psycopg.errors.InsufficientPrivilege):
            parts.execute(statement)
    rows = parts.execute("select count(*) from audit.logged_actions where action = 'I'")
    is_refused = how in ("before a row", "without a row")
    assert rows == [(0 if is_refused else 1,)]
    assert parts.story()[-1] == ("T", None)
    assert len([action for action, _ in parts.story() if action == "T"]) == 1


def test_a_renamed_trigger_of_a_partitioned_table_goes_on(parts: Trail) -> None:
    [(name,)] = parts.execute(
        "select tgname from pg_trigger where tgrelid = 'parts'::regclass and tgtype & 4 <> 0"
    )
    parts.execute(f'alter trigger "{name}" on parts rename to mine')
    parts.execute("insert into parts values (1, 'eu', 0)")
    assert parts.story() == [("I", '[1, "eu"]')]
