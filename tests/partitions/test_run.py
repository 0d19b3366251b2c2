from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from audit_toolkit.config import Interval
from audit_toolkit.errors import UsageError
from audit_toolkit.partitions import (
    Policy,
    Span,
    Stage,
    plan_attach,
    plan_default,
    plan_end_of_hold,
    plan_hold,
)
from audit_toolkit.partitions.planning import plan_stage
from audit_toolkit.plan import apply
from tests.plugins.rotating import START, Rotating, at, months


def attach_at(rotating: Rotating, name: str, bounds: str) -> None:
    rotating.execute(f"create table audit.{name} (like audit.logged_actions including all)")
    rotating.execute(f"alter table audit.logged_actions attach partition audit.{name} {bounds}")


def test_a_year_of_months_keeps_the_horizon_and_lets_old_leaves_go(rotating: Rotating) -> None:
    rotating.policy = Policy(retention=months(3))
    for month in range(1, 13):
        now = at(1, month, 15)
        rotating.fill(now, now, "1 day")
        outcomes = rotating.run(now)
        assert all(outcome.result == "done" for outcome in outcomes), outcomes
        assert rotating.read().horizon > timedelta(days=60)
        assert rotating.findings() == {}
    first = f"{at(1, 9):%Y-%m-%d} 00:00:00+00"
    assert rotating.leaves()[:2] == [
        f"MINVALUE to {first}",
        f"{first} to {at(1, 10):%Y-%m-%d} 00:00:00+00",
    ]


def test_a_second_run_has_nothing_to_do(rotating: Rotating) -> None:
    rotating.run(at(1, 6, 15), retention=months(3))
    while rotating.did():
        pass
    assert rotating.did() == []


def test_leaves_are_made_rarely_and_then_several(rotating: Rotating) -> None:
    made = [len(rotating.read().leaves) for month in range(1, 13) if rotating.run(at(1, month, 2))]
    assert 2 <= len(made) <= 4


def test_the_new_leaf_is_like_the_others(rotating: Rotating) -> None:
    rotating.execute(
        "create role parts_reader; create role parts_owner; grant parts_owner to current_user;"
        "grant select on audit.logged_actions to parts_reader with grant option"
    )
    try:
        newest = rotating.read().bounded[-1].name
        rotating.execute(f"alter table {newest} set (fillfactor = 90, autovacuum_enabled = false)")
        rotating.run(rotating.now + timedelta(days=150))
        leaf = rotating.read().bounded[-1]
        assert leaf.name != newest
        assert leaf.guarded
        [[options, grants]] = rotating.execute(
            "select reloptions, relacl::text from pg_class where oid = %s", [leaf.oid]
        )
        assert options == ["fillfactor=90", "autovacuum_enabled=false"]
        assert grants is None, "the trail is read through its parent"
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            rotating.execute(f"truncate {leaf.name}")
    finally:
        rotating.execute("drop owned by parts_reader; drop role parts_reader, parts_owner")


def test_row_security_of_the_trail_is_not_bypassed_through_a_leaf(rotating: Rotating) -> None:
    rotating.execute("alter table audit.logged_actions enable row level security")
    rotating.run(rotating.now + timedelta(days=150))
    leaf = rotating.read().bounded[-1]
    assert rotating.execute("select relrowsecurity from pg_class where oid = %s", [leaf.oid]) == [
        (True,)
    ]


def test_dead_for_a_year_then_one_run(rotating: Rotating) -> None:
    start = rotating.now
    rotating.fill(start, start + timedelta(days=500))
    rotating.now += timedelta(days=500)
    before = rotating.count()
    assert rotating.findings()["tail_has_rows"] == "error"
    assert rotating.findings()["horizon"] == "error"
    scans = rotating.execute("select oid from pg_class where relname = 'logged_actions_tail'")[0][0]
    assert ("create", "done") in rotating.did()
    assert rotating.count() == before
    assert rotating.read().horizon > timedelta(days=150)
    assert rotating.findings() == {}
    # The very table that was the tail is now a leaf: no row was moved.
    relabelled = next(leaf for leaf in rotating.read().leaves if leaf.oid == scans)
    assert not relabelled.is_tail
    assert not relabelled.capped


def test_an_event_of_a_far_future_keeps_the_tail_and_says_so(rotating: Rotating) -> None:
    rotating.fill(at(90, 1), at(90, 1))
    [outcome] = rotating.run(rotating.now + timedelta(days=150))
    assert outcome.result == "done", outcome
    tail = rotating.read().tail
    assert tail
    assert not tail.capped
    assert rotating.count(tail.name.name) == 1
    assert rotating.read().horizon > timedelta(days=150)
    assert rotating.findings() == {"far_future": "warning"}
    assert rotating.did() == []
    rotating.fill(at(90, 2), at(90, 2))


def test_events_of_now_and_of_a_far_future_in_the_tail_keep_it_and_say_so(
    rotating: Rotating,
) -> None:
    rotating.now += timedelta(days=400)
    rotating.fill(at(90, 1), at(90, 1))
    rotating.fill(rotating.now, rotating.now)
    [outcome] = rotating.run()
    assert outcome.result == "failed"
    assert "audit_relabel_cap" in outcome.message
    # The cap is gone, or it would refuse writes.
    assert rotating.read().tail
    assert not rotating.read().tail.capped  # type: ignore[union-attr]
    assert rotating.findings()["tail_has_rows"] == "error"
    rotating.fill(at(90, 2), at(90, 2))


def test_the_interval_changes_from_the_next_boundary_on(rotating: Rotating) -> None:
    now = rotating.now + timedelta(days=200)
    rotating.run(now, interval=Interval.WEEK)
    leaves = rotating.read()
    assert leaves.interval is Interval.WEEK
    assert leaves.gaps == ()
    lengths = [leaf.upper - leaf.lower for leaf in leaves.bounded if leaf.upper and leaf.lower]
    # Months as they were, at most one bridge to the next Monday, then weeks.
    weeks = [length for length in lengths if length == timedelta(days=7)]
    assert lengths[-len(weeks) :] == weeks
    assert len(weeks) > 3
    assert len([length for length in lengths if length < timedelta(days=7)]) <= 1
    # The server-side function follows.
    rotating.execute("select audit.ensure_partitions(80)")
    assert rotating.read().gaps == ()


def test_a_gap_ahead_is_closed_and_a_past_one_reported(rotating: Rotating) -> None:
    ahead = rotating.read().bounded[3]
    rotating.execute(f"alter table audit.logged_actions detach partition {ahead.name}")
    rotating.execute(f"drop table {ahead.name}")
    assert rotating.findings()["gap"] == "error"
    assert rotating.did() == [("create", "done")]
    assert rotating.read().gaps == ()
    past = rotating.read().bounded[1]
    rotating.now += timedelta(days=70)
    rotating.execute(f"alter table audit.logged_actions detach partition {past.name}")
    assert rotating.did() == []
    assert rotating.findings() == {"gap": "warning", "unattached": "warning"}


def test_a_missing_leaf_of_now_is_made_at_once(rotating: Rotating) -> None:
    for leaf in rotating.read().bounded[:3]:
        rotating.execute(f"alter table audit.logged_actions detach partition {leaf.name}")
        rotating.execute(f"drop table {leaf.name}")
    with pytest.raises(psycopg.errors.CheckViolation):
        rotating.fill(rotating.now, rotating.now)
    assert rotating.did() == [("create", "done")]
    rotating.fill(rotating.now, rotating.now)


def test_without_any_leaf_or_tail(rotating: Rotating) -> None:
    for leaf in rotating.read().leaves:
        rotating.execute(f"drop table {leaf.name}")
    assert rotating.findings()["no_tail"] == "error"
    assert rotating.did() == [("create", "done")] * 2
    rotating.fill(rotating.now, rotating.now)
    assert rotating.findings() == {}


def test_one_partition_for_all_time_becomes_a_leaf(rotating: Rotating) -> None:
    for leaf in rotating.read().leaves:
        rotating.execute(f"drop table {leaf.name}")
    attach_at(rotating, "everything", "for values from (minvalue) to (maxvalue)")
    rotating.fill(rotating.now - timedelta(days=900), rotating.now, "10 days")
    before = rotating.count()
    assert rotating.did() == [("create", "done")]
    assert rotating.leaves()[0].startswith("MINVALUE to ")
    assert rotating.count() == before
    assert rotating.read().horizon > timedelta(days=150)


def test_a_hold_keeps_a_leaf_and_its_release_lets_it_go(rotating: Rotating) -> None:
    oldest = rotating.read().bounded[0].name.name
    rotating.now += timedelta(days=200)
    apply(plan_hold(rotating.read(), oldest, "case 4711").plan, rotating.connection)
    rotating.run(retention=months(2))
    assert oldest in [leaf.name.name for leaf in rotating.read().bounded]
    assert len(rotating.read().bounded) > 2
    assert "gap" not in rotating.findings()
    apply(plan_end_of_hold(rotating.read(), oldest).plan, rotating.connection)
    rotating.run()
    assert oldest not in [leaf.name.name for leaf in rotating.read().bounded]
    # A hold during the quarantine prevents the drop.
    apply(plan_hold(rotating.read(), oldest, "case 4712").plan, rotating.connection)
    rotating.run(rotating.now + timedelta(days=30))
    assert rotating.tables()[oldest][0] == "detached"
    with pytest.raises(UsageError, match="needs a reason"):
        plan_hold(rotating.read(), oldest, " ")
    with pytest.raises(UsageError, match="no partition"):
        plan_hold(rotating.read(), "nothing", "why")


def test_retention_waits_for_a_consumer_that_asks_for_it_but_not_for_ever(
    rotating: Rotating,
) -> None:
    oldest = rotating.read().bounded[0]
    assert oldest.upper is not None
    rotating.fill(oldest.upper - timedelta(days=2), oldest.upper - timedelta(days=1))
    rotating.fill(oldest.upper + timedelta(days=70), oldest.upper + timedelta(days=71))
    rotating.execute(
        "insert into audit.consumers (name, event_id, hold_for) values ('c', 0, '60 days')"
    )

    def is_there() -> bool:
        return oldest.name.name in [leaf.name.name for leaf in rotating.read().bounded]

    rotating.run(oldest.upper + timedelta(days=75), retention=months(2))
    assert is_there()
    rotating.execute(
        "update audit.consumers set event_id = (select max(event_id) from audit.logged_actions)"
    )
    rotating.run()
    assert not is_there()


def test_a_consumer_that_never_comes_holds_no_longer_than_it_may(rotating: Rotating) -> None:
    oldest = rotating.read().bounded[0]
    assert oldest.upper is not None
    rotating.fill(oldest.upper - timedelta(days=2), oldest.upper - timedelta(days=1))
    rotating.fill(oldest.upper + timedelta(days=70), oldest.upper + timedelta(days=71))
    rotating.execute(
        "insert into audit.consumers (name, event_id, hold_for) values ('c', 0, '10 days')"
    )
    rotating.run(oldest.upper + timedelta(days=75), retention=months(2))
    assert oldest.name.name not in [leaf.name.name for leaf in rotating.read().bounded]


def test_a_detached_leaf_comes_back_and_stays(rotating: Rotating) -> None:
    rotating.fill(rotating.now, rotating.now)
    leaf = next(p for p in rotating.read().bounded if p.upper and p.upper > rotating.now)
    rotating.run(rotating.now + timedelta(days=120), retention=months(2))
    assert rotating.count() == 1  # the newest event is never taken off
    rotating.fill(rotating.now, rotating.now)
    rotating.run()
    assert rotating.count() == 1
    apply(plan_attach(rotating.read(), leaf.name.name, "still needed").plan, rotating.connection)
    assert rotating.count() == 2
    rotating.run()
    rotating.run(rotating.now + timedelta(days=30))
    assert rotating.count() == 2
    assert rotating.leaves()[0].startswith("MINVALUE to ")


def test_a_leaf_whose_range_is_taken_is_refused_before_anything_ran(rotating: Rotating) -> None:
    leaf = rotating.read().bounded[0]
    rotating.run(rotating.now + timedelta(days=120), retention=months(2))
    past = rotating.read().past
    assert past
    assert past.upper
    rotating.execute(f"alter table audit.logged_actions detach partition {past.name.sql}")
    attach_at(rotating, "instead", f"for values from (minvalue) to ('{past.upper.isoformat()}')")
    with pytest.raises(UsageError, match="overlaps instead") as refused:
        plan_attach(rotating.read(), leaf.name.name, "still needed")
    assert "instead must be detached" in str(refused.value.hint)


def test_a_leaf_detached_by_hand_is_never_dropped_even_when_it_was_held(
    rotating: Rotating,
) -> None:
    oldest = rotating.read().bounded[0].name.name
    apply(plan_hold(rotating.read(), oldest, "case 4711").plan, rotating.connection)
    rotating.execute(f"alter table audit.logged_actions detach partition audit.{oldest}")
    apply(plan_end_of_hold(rotating.read(), oldest).plan, rotating.connection)
    rotating.policy = Policy(retention=months(2))
    for days in (60, 90, 120, 150):
        rotating.run(START + timedelta(days=days))
    assert rotating.tables()[oldest][0] == "stray"
    assert "unattached" in rotating.findings()


def test_the_quarantine_lasts_its_days_and_the_drop_is_pinned(rotating: Rotating) -> None:
    rotating.run(rotating.now + timedelta(days=120), retention=months(2), most_at_once=1)
    [name] = [name for name, (state, _) in rotating.tables().items() if state == "detached"]
    rotating.policy = Policy()  # nothing more is detached
    assert rotating.did(rotating.now + timedelta(days=6)) == []
    # Another table under the same name is not the one that was planned.
    rotating.execute(f"alter table audit.{name} rename to kept_elsewhere")
    rotating.execute(f"create table audit.{name} (like audit.logged_actions)")
    assert rotating.did(rotating.now + timedelta(days=2)) == []
    assert rotating.findings()["renamed"] == "warning"
    rotating.execute(f"drop table audit.{name}")
    rotating.execute(f"alter table audit.kept_elsewhere rename to {name}")
    assert rotating.did() == [("drop", "done")]
    assert rotating.execute("select to_regclass(%s)", [f"audit.{name}"]) == [(None,)]


def test_what_changed_after_the_plan_stops_the_drop(rotating: Rotating) -> None:
    rotating.run(rotating.now + timedelta(days=120), retention=months(2), most_at_once=1)
    [name] = [name for name, (state, _) in rotating.tables().items() if state == "detached"]
    rotating.now += timedelta(days=8)
    [task] = plan_stage(Stage.DROP, rotating.read(), rotating.policy)
    apply(plan_hold(rotating.read(), name, "in the last second").plan, rotating.connection)
    with pytest.raises(
        psycopg.errors.ObjectNotInPrerequisiteState, match="not the detached partition"
    ):
        apply(task.plan, rotating.connection)
    assert name in rotating.tables()


def test_a_leaf_dropped_by_hand_is_noted(rotating: Rotating) -> None:
    rotating.run(rotating.now + timedelta(days=120), retention=months(2), most_at_once=1)
    [name] = [name for name, (state, _) in rotating.tables().items() if state == "detached"]
    rotating.execute(f"drop table audit.{name}")
    rotating.policy = Policy()
    assert rotating.did() == [("finalize", "done")]
    assert rotating.did() == []


def test_policies_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="at least one partition"):
        Policy(ahead=0)


def test_a_retention_shorter_than_a_leaf_is_refused(rotating: Rotating) -> None:
    with pytest.raises(UsageError, match="shorter than a partition"):
        rotating.run(retention=Span(days=30))
    rotating.run(retention=Span(days=31))


def default_partition(rotating: Rotating) -> None:
    rotating.execute("drop table audit.logged_actions_tail, audit.logged_actions_past")
    attach_at(rotating, "brought_along", "default")


def test_a_default_partition_is_reported_and_leaves_are_made_beside_it(rotating: Rotating) -> None:
    default_partition(rotating)
    assert rotating.findings()["default_present"] == "warning"
    assert rotating.did(rotating.now + timedelta(days=120), retention=months(2)) == [
        ("create", "done"),
        *[("detach", "deferred")] * 3,
    ]
    assert rotating.did(blocking_detach=True) == [("detach", "done")] * 3


@pytest.mark.parametrize("filled", [False, True])
def test_a_default_partition_becomes_a_leaf(rotating: Rotating, filled: bool) -> None:
    default_partition(rotating)
    if filled:
        rotating.now += timedelta(days=400)
        rotating.fill(rotating.now - timedelta(days=90), rotating.now)
        assert rotating.findings()["default_has_rows"] == "error"
    before = rotating.count()
    task = plan_default(rotating.connection, rotating.read(), rotating.policy)
    apply(task.plan, rotating.connection)
    after = rotating.read()
    assert after.default is None
    assert after.tail is not None
    assert after.gaps == ()
    assert rotating.count() == before
    assert set(rotating.findings()) <= {"last_success", "no_past"}


def test_what_only_the_default_took_gets_leaves_when_it_is_converted(rotating: Rotating) -> None:
    default_partition(rotating)
    later = rotating.now + timedelta(days=240)
    rotating.run(later)  # leaves beside the DEFAULT begin after the present month
    assert rotating.read().gaps
    apply(
        plan_default(rotating.connection, rotating.read(), rotating.policy).plan,
        rotating.connection,
    )
    assert [gap for gap in rotating.read().gaps if gap[1] > rotating.now] == []
    rotating.fill(later, later + timedelta(days=300), "10 days")


def test_a_default_with_events_on_both_sides_of_a_leaf_is_refused(rotating: Rotating) -> None:
    default_partition(rotating)
    rotating.fill(rotating.now - timedelta(days=900), rotating.now - timedelta(days=900))
    rotating.fill(rotating.now + timedelta(days=900), rotating.now + timedelta(days=900))
    with pytest.raises(UsageError, match="on both sides"):
        plan_default(rotating.connection, rotating.read(), rotating.policy)


def test_ensure_partitions_on_the_server(rotating: Rotating) -> None:
    assert rotating.execute("select audit.ensure_partitions()") == [(0,)]
    assert rotating.execute("select audit.ensure_partitions(9)") == [(3,)]
    assert rotating.read().gaps == ()
    assert rotating.read().tail is not None
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        rotating.execute("select audit.ensure_partitions(0)")
