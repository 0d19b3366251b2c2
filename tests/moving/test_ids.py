"""Event ids rise in the order of the events, also where a restore left their sequence behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.errors import ObjectNotInPrerequisiteState
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from audit_toolkit.config import TrailSettings
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from tests.moving.words import ADOPT, boundaries, findings, kinds, mend, run
from tests.plugins.trail import Trail

BEHIND = "select setval('audit.logged_actions_event_id_seq', 1, false)"


def orders(trail: Trail) -> list[tuple[int, str]]:
    """The events of orders in the order of their ids, each with the status after it."""
    return trail.execute("""
        select event_id, coalesce(new_row ->> 'status', 'gone') from audit.logged_actions
        where table_name = 'orders' order by event_id, action_tstamp
    """)


def test_a_sequence_that_is_behind_goes_on_above(shop: Trail) -> None:
    shop.execute(BEHIND)
    [finding] = findings(shop)
    assert (finding["kind"], finding["severity"]) == ("sequence_behind", "error")
    assert "gets the id 1, and the highest is 3" in finding["detail"]
    mend(shop)
    assert findings(shop) == []
    assert boundaries(shop)[0]["next_id"] == {"from": 1, "to": 4}
    assert [event["event_id"] for event in shop.events()] == [1, 2, 3, 4]


def test_a_sequence_that_nobody_called_is_not_behind(trail: Trail) -> None:
    assert findings(trail) == []
    trail.execute("create table t (id int primary key)")
    trail.audit("t")
    trail.execute("insert into t values (1)")
    assert findings(trail) == []


def test_doubled_ids_are_found_and_given_anew_in_their_order(shop: Trail) -> None:
    shop.execute(BEHIND)
    for status in ("packed", "sent", "paid"):
        shop.execute("update orders set status = %s where id = 1", [status])
    assert kinds(shop) == ["event_ids_doubled"]
    refused = run(shop, *ADOPT)
    assert refused.exit_code == 2
    assert "--renumber" in refused.stderr
    assert orders(shop)[0] == (1, "new")
    mend(shop)
    assert findings(shop) == []
    assert orders(shop) == [(1, "new"), (2, "new"), (4, "packed"), (5, "sent"), (6, "paid")]
    assert boundaries(shop)[0]["renumbered"] == [{"from": 1, "to": 3, "by": 3, "events": 3}]
    assert shop.events()[-1]["event_id"] == 7
    assert shop.execute("select * from audit.row_at(null::orders, '1', now())") == [(1, "paid")]
    with pytest.raises(Exception, match="append-only"):
        shop.execute("update audit.logged_actions set event_id = 1")


def test_ids_that_were_given_on_are_moved_with_those_that_are_doubled(shop: Trail) -> None:
    shop.execute(BEHIND)
    for number in range(
        6
    ):  # ids 1 to 6: three are doubled, and the sequence is not behind any more
        shop.execute("update orders set status = %s where id = 1", [str(number)])
    assert kinds(shop) == ["event_ids_doubled"]
    mend(shop)
    assert [status for _, status in orders(shop)] == ["new", "new", *"012345"]
    assert findings(shop) == []


def test_ids_of_pruned_events_that_were_given_again(shop: Trail) -> None:
    """No id is doubled, as the older events are gone, yet the newer ones have lower ids."""
    shop.execute("select setval('audit.logged_actions_event_id_seq', 1000)")
    shop.execute("update orders set status = 'old' where id = 1")
    shop.execute("select setval('audit.logged_actions_event_id_seq', 100)")
    shop.execute("update orders set status = 'young' where id = 1")
    [finding] = findings(shop)
    assert finding["kind"] == "sequence_behind"
    assert "1 events have such ids" in finding["detail"]
    mend(shop)
    assert [status for _, status in orders(shop)] == ["new", "new", "old", "young"]
    assert findings(shop) == []


def test_two_moves_without_adoption(shop: Trail) -> None:
    for status in ("second", "third"):
        shop.execute(BEHIND)
        shop.execute("update orders set status = %s where id = 1", [status])
        shop.execute("insert into notes values (%s, 'y')", [len(status)])
    mend(shop)
    assert [status for _, status in orders(shop)] == ["new", "new", "second", "third"]
    assert findings(shop) == []


def test_events_of_two_trails_that_overlap_in_time_are_left_alone(shop: Trail) -> None:
    shop.execute("update orders set status = 'x' where id = 1")
    for number in range(12):
        event = f"select setval('audit.logged_actions_event_id_seq', {number % 2 * 50 + number + 1}, false)"
        shop.execute(event)
        shop.execute("update orders set status = %s where id = 1", [f"a{number}"])
        shop.execute(event)
        shop.execute("update orders set status = %s where id = 2", [f"b{number}"])
    before = orders(shop)
    answer = run(shop, *ADOPT, "--renumber")
    assert (answer.exit_code, answer.stderr[:6]) == (1, "error:")
    assert "overlap in time" in answer.stderr
    assert orders(shop) == before


@pytest.fixture
def kept_unsaid(empty: Trail) -> Iterator[Trail]:
    """A trail whose owner is not told by the server which cluster it is, as with some providers."""
    role = f"{empty.database.name}_owner"
    empty.execute(f"create role {role} login")
    try:
        apply(plan_trail(TrailSettings(owner=role)), empty.connection)
        empty.execute(
            f"create table orders (id int, status text); alter table orders owner to {role}"
        )
        empty.execute("revoke execute on function pg_control_system() from public")
        empty.audit("orders")
        yield empty
    finally:
        empty.execute(f"reset role; drop owned by {role} cascade; drop role {role}")


def test_an_owner_that_is_no_superuser_adopts(kept_unsaid: Trail) -> None:
    empty = kept_unsaid
    dsn = empty.database.dsn.replace("postgres@", f"{empty.database.name}_owner@")
    for status in ("old", "young"):
        empty.execute("insert into orders values (1, %s)", [status])
        empty.execute(BEHIND)
    adopted = CliRunner().invoke(app, [*ADOPT, "--renumber", "--dsn", dsn])
    assert (adopted.exit_code, adopted.stderr) == (
        0,
        "to see what is left to do, run: audit check\n",
    )
    assert orders(empty) == [(1, "old"), (2, "young")]
    checked = CliRunner().invoke(app, ["check", "--dsn", dsn])
    assert checked.stdout == "OK: everything installed is present, unchanged and enabled\n"
    assert "system_identifier" not in boundaries(empty)[0]


@pytest.mark.parametrize("noted", ["null", "'6900000000000000000'"], ids=["never", "no longer"])
def test_a_server_that_does_not_say_which_cluster_it_is_counts_as_the_same(
    kept_unsaid: Trail, noted: str
) -> None:
    kept_unsaid.execute(f"update audit.home set system_identifier = {noted}")
    role = f"{kept_unsaid.database.name}_owner"
    kept_unsaid.execute(f"set role {role}")
    assert kept_unsaid.execute("select audit.note_coverage()") == [(1,)]
    kept_unsaid.execute("""
        alter table orders disable trigger "00_audit_row"; alter table orders enable always trigger "00_audit_row"
    """)
    assert kept_unsaid.execute("select audit.note_coverage(), audit.is_elsewhere()") == [(1, False)]
    kept_unsaid.execute("reset role")
    assert run(kept_unsaid, "guard", "on", "--reason", "from now on").exit_code == 0
    with pytest.raises(ObjectNotInPrerequisiteState, match="the guard refuses"):
        kept_unsaid.execute('drop trigger "00_audit_row" on orders')
