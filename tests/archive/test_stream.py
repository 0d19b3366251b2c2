"""What has left the trail for an archive and what is in it, as one stream: each event once, by rising id."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from audit_toolkit import stream
from audit_toolkit.archive import Store, archived_events, restore_leaf
from audit_toolkit.archive.full_images import Whole
from audit_toolkit.archive.manifest import find_manifest
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.stream import FormatName, Terms, Wanted
from audit_toolkit.stream.archived import with_past
from audit_toolkit.stream.run import find_origin
from audit_toolkit.trail import Action, Batch, Event, Position
from tests.archive.detaching import archive, unarchived
from tests.cli.made import make_event
from tests.plugins.rotating import START, Rotating, months
from tests.plugins.trail import SCHEMA
from tests.stream.delivery import Memory

MIXED = """
    insert into audit.logged_actions (action_tstamp, schema_name, table_name, action, row_key, new_row, context)
    select %s::timestamptz + (number + mod(number * 7, 40)) * interval '2 hours', 'public', 'orders' || mod(number, 2),
        'I', mod(number, 7)::text, jsonb_build_object('n', 1.50), jsonb_build_object('actor', 'ann' || mod(number, 2))
    from generate_series(1, 1200) as number
"""


@pytest.fixture
def partly_archived(rotating: Rotating, local: Store) -> list[int]:
    """A trail of 1200 events whose oldest partitions are archived and gone; the ids of all events."""
    rotating.execute(MIXED, [rotating.read().bounded[0].lower])
    everything = ids_of(rotating)
    rotating.run(START + timedelta(days=90), retention=months(2), drop=False)
    for entry in unarchived(rotating):
        archive(rotating, local, entry)
    rotating.run(START + timedelta(days=91), drop=True, quarantine=months(0))
    left = ids_of(rotating)
    assert 200 < len(left) < 1000
    assert left[0] < max(set(everything) - set(left)), "near the bound ids of both are mixed"
    return sorted({*everything, *left})  # what was dropped is said by events


def bodies(sink: Memory) -> dict[int, bytes]:
    """What was delivered of rows: what is said of dropped partitions is left out."""
    return {m.event.event_id: m.body for m in sink.taken if m.event.action is not Action.DDL}


def ids_of(rotating: Rotating) -> list[int]:
    return [n for (n,) in rotating.execute("select event_id from audit.logged_actions order by 1")]


def deliver(rotating: Rotating, sink: Memory, store: Store | None, **terms: Any) -> None:
    with rotating.database.connect() as connection:
        past = archived_events(connection, store, SCHEMA) if store else None
        form = stream.find_format(FormatName.EVENT, find_origin(connection))
        chosen = Terms(once=True, past=past, **terms)
        list(stream.run(connection, "c", sink, form, chosen, sleep=lambda _: None))


class TestOneStream:
    def test_each_event_once_in_order(
        self,
        rotating: Rotating,
        local: Store,
        partly_archived: list[int],
    ) -> None:
        sink = Memory()
        deliver(rotating, sink, local)
        assert sink.ids == partly_archived
        rotating.execute(
            "insert into audit.logged_actions (schema_name, table_name, action) values ('public', 'orders0', 'T')"
        )
        deliver(rotating, sink, None)
        assert sink.ids == ids_of_all(partly_archived, rotating)

    def test_it_goes_on_where_it_was(
        self,
        rotating: Rotating,
        local: Store,
        partly_archived: list[int],
    ) -> None:
        sink = Memory()
        stops = [partly_archived[n] for n in (3, 400, 1100)]
        sink.judge = lambda m: "error no" if stops and m.event.event_id == stops[0] else None
        while stops:
            with pytest.raises(AuditError, match="took nothing"):
                deliver(rotating, sink, local, batch=7, patience=0.0)
            if stops[0] == partly_archived[400]:
                with pytest.raises(UsageError, match="--from-archive"):
                    deliver(rotating, sink, None)
            stops.pop(0)
        deliver(rotating, sink, local)
        assert list(dict.fromkeys(sink.ids)) == partly_archived

    def test_filters_are_those_of_the_trail(
        self,
        rotating: Rotating,
        local: Store,
        partly_archived: list[int],
    ) -> None:
        odd = [n for place, n in enumerate(partly_archived[:1200], 1) if place % 2]
        for wanted in (
            Wanted(tables=("orders1",)),
            Wanted(actor="ann1"),
            Wanted(context=(("actor", "ann1"),), changed="n", actions=frozenset({Action.INSERT})),
        ):
            sink = Memory()
            deliver(rotating, sink, local, wanted=wanted)
            assert sink.ids == odd
            stream.drop(rotating.connection, "c")

    def test_what_was_restored_comes_once(
        self,
        rotating: Rotating,
        local: Store,
        partly_archived: list[int],
    ) -> None:
        [name] = rotating.execute(
            "select leaf_name from audit.partition_lifecycle where state = 'dropped' and archive is not null limit 1"
        )
        manifest = find_manifest(local, name[0])
        restore_leaf(rotating.connection, local, SCHEMA, manifest, now=rotating.now)
        sink = Memory()
        deliver(rotating, sink, local)
        assert sink.ids == partly_archived

    def test_what_is_neither_here_nor_there(self, rotating: Rotating, local: Store) -> None:
        rotating.execute(MIXED, [rotating.read().bounded[0].lower])
        rotating.run(START + timedelta(days=120), retention=months(2), drop=False)
        with pytest.raises(AuditError, match="is detached, and not archived yet"):
            archived_events(rotating.connection, local, SCHEMA)


CHANGES = """
    insert into audit.logged_actions (action_tstamp, schema_name, table_name, action, row_key, old_row, new_row)
    select
        moment, 'public', 'orders', case when number <= 7 then 'I' else 'U' end, mod(number, 7)::text,
        case when number > 7 then old || case when is_first then rest else '{}' end end,
        new || case when is_first then rest else '{}' end
    from (
        select
            number, moment,
            jsonb_build_object('n', number - 6.50) as old, jsonb_build_object('n', number + 0.50) as new,
            jsonb_build_object('id', mod(number, 7), 'note', 'long ' || mod(number, 7), 'a', null) as rest,
            row_number() over (
                partition by mod(number, 7), date_trunc('month', moment) order by number) = 1 as is_first
        from (
            select number, %s::timestamptz + number * interval '2 hours' as moment
            from generate_series(1, 1200) as number
        ) as numbered
    ) as made
    order by number
"""
"""Of each row in each partition the first event has all of it, the others only what they changed."""


class TestChangesOnly:
    """Tables with `--store delta`."""

    @pytest.fixture
    def whole(self, rotating: Rotating, local: Store) -> dict[int, bytes]:
        """What was delivered before the oldest partitions left the trail."""
        rotating.execute(CHANGES, [rotating.read().bounded[0].lower])
        sink = Memory()
        deliver(rotating, sink, None)
        stream.drop(rotating.connection, "c")
        rotating.run(START + timedelta(days=90), retention=months(2), drop=False)
        for entry in unarchived(rotating):
            archive(rotating, local, entry)
        rotating.run(START + timedelta(days=91), drop=True, quarantine=months(0))
        assert 200 < rotating.count() < 1000
        assert b'"old_row": {"a": null, "n": 1.50, "id": 1, "note": "long 1"}' in sink.taken[7].body
        return {message.event.event_id: message.body for message in sink.taken}

    @pytest.mark.thorough
    def test_consumers_get_the_same_rows(
        self,
        rotating: Rotating,
        local: Store,
        whole: dict[int, bytes],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for rows, most in (2000, 64 << 20), (60, 0), (3, 500):
            monkeypatch.setattr("audit_toolkit.archive.events.ROWS_AT_ONCE", rows)
            monkeypatch.setattr("audit_toolkit.archive.full_images.MOST_BYTES", most)
            sink = Memory()
            deliver(rotating, sink, local)
            assert bodies(sink) == whole, (rows, most)
            stream.drop(rotating.connection, "c")

    def test_it_goes_on_in_the_middle(
        self, rotating: Rotating, local: Store, whole: dict[int, bytes]
    ) -> None:
        stop = sorted(whole)[250]
        sink = Memory(judge=lambda m: "error no" if m.event.event_id == stop else None)
        with pytest.raises(AuditError, match="took nothing"):
            deliver(rotating, sink, local, batch=7, patience=0.0)
        again = Memory()
        deliver(rotating, again, local)
        assert bodies(sink) | bodies(again) == whole

    def test_without_the_whole_row(self) -> None:
        part = make_event(event_id=9, old_row={"n": 1}, new_row={"n": 2})
        with pytest.raises(AuditError, match="the whole row before it is not in the archive"):
            list(Whole(lambda *_: []).complete([part]))

    def test_that_a_redacted_value_changed_is_said_once(self) -> None:
        mark = {"audit:redacted": 3}
        first = make_event(
            event_id=1, old_row={"n": 0, "s": mark}, new_row={"n": 0, "s": mark | {"changed": True}}
        )
        part = make_event(event_id=2, old_row={"n": 0}, new_row={"n": 2})
        *_, last = Whole(lambda *_: [first]).complete([part])
        assert (last.old_row, last.new_row) == ({"n": 0, "s": mark}, {"n": 2, "s": mark})


def ids_of_all(before: list[int], rotating: Rotating) -> list[int]:
    return sorted({*before, *ids_of(rotating)})


def test_command(
    rotating: Rotating,
    local: Store,
    partly_archived: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from typer.testing import CliRunner

    from audit_toolkit.cli.app import app

    monkeypatch.setenv("AUDIT_DATABASE_URL", rotating.database.dsn)
    file = tmp_path / "out.jsonl"
    command = ["stream", "run", "c", "--to", f"file:{file}", "--once", "--from-archive", local.url]
    noted = CliRunner().invoke(app, [*command[:-2], "--table", "orders1"]).stderr
    assert re.search(
        r"note: \d partitions? ha(s|ve) left the database; to deliver archived events", noted
    )
    again = CliRunner().invoke(app, command[:-2]).stderr
    assert "left the database" not in again
    stream.drop(rotating.connection, "c")
    file.unlink()
    refused = CliRunner().invoke(app, [*command, "--from", "now"])
    assert "--from-archive cannot be combined with --from now" in refused.stderr
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [e["event_id"] for e in events] == partly_archived
    live = Memory()
    deliver(rotating, live, None, wanted=Wanted(actor="ann1"))
    assert {type(e["transaction_id"]) for e in events} == {int}
    assert '"n": 1.50' in file.read_text()


@pytest.mark.parametrize("seed", range(40))
def test_any_mixture(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any past and any tail: each event once, by rising id outside of runs, and no part that ends too early."""
    monkeypatch.setattr("audit_toolkit.stream.archived.WINDOW", 3)
    chance = random.Random(seed)
    ids = sorted(chance.sample(range(1, 90), 40))
    past = [n for n in ids if chance.random() < 0.5]
    live = [n for n in ids if n not in past]
    again = [n for n in live if chance.random() < 0.1]
    batches = list(tail(live, chance))
    found: list[int] = []
    for batch in with_past(iterate(batches), events(sorted([*past, *again])), lambda _: True):
        found += [one.event_id for one in batch.events]
        place = batch.position.event_id
        if batch.events:
            assert {n for n in ids if n <= place} <= set(found)
    assert sorted(found) == ids
    assert [n for n in found if n in past] == past
    assert [n for n in found if n in live] == [one.event_id for b in batches for one in b.events]


def tail(live: list[int], chance: random.Random) -> Iterator[Batch]:
    """The batches of a tail, in which two neighbours may have changed places; at last nothing more."""
    rest = list(live)
    position = Position(event_id=0, trail="audit", table="all tables")
    while rest:
        size = chance.randint(1, 8)
        some, rest = rest[:size], rest[size:]
        position = replace(position, event_id=max(some))
        if len(some) > 2 and chance.random() < 0.5:
            some[0], some[1] = some[1], some[0]
        yield Batch(events=tuple(events(some)), position=position)
    yield Batch(position=position)


def iterate(batches: list[Batch]) -> Any:
    return (batch for batch in batches)


def events(ids: list[int]) -> list[Event]:
    return [make_event(event_id=n) for n in ids]
