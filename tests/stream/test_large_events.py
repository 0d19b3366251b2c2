"""Large events come in small batches: what a consumer holds is bounded by bytes, and by their number."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from audit_toolkit.stream import Message, Outcome
from audit_toolkit.trail import Filter
from audit_toolkit.trail.history import follow
from audit_toolkit.trail.rows.lookup import find_tables
from tests.plugins.trail import Trail
from tests.stream.delivery import deliver

ROOM = 100_000
LARGE = 20_000
FEWEST = follow.FEWEST
RANDOM = "(select string_agg(md5(random()::text), '') from generate_series(1, 625) where n > 0)"
"""So many characters, which cannot be compressed."""
EVEN = f"repeat('x', {LARGE})"


@dataclass
class Sizes:
    """A sink that notes how much it gets at a time."""

    ids: list[int] = field(default_factory=list)
    each: list[int] = field(default_factory=list)

    def send(self, messages: Sequence[Message]) -> Outcome:
        self.ids += [message.event.event_id for message in messages]
        self.each.append(sum(message.event.size for message in messages))
        return Outcome(done=len(messages))

    def close(self) -> None:
        pass


@pytest.fixture
def documents(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> Trail:
    monkeypatch.setattr(follow, "MOST_BYTES", ROOM)
    trail.execute("create table documents (id int primary key, title text, body text)")
    return trail


@pytest.mark.parametrize("body", [RANDOM, EVEN], ids=["stored as large", "compressed"])
def test_a_batch_is_bounded_by_bytes(documents: Trail, body: str) -> None:
    documents.audit("documents")
    documents.execute(
        f"insert into documents select n, 'new', {body} from generate_series(1, 40) n"
    )
    documents.execute(
        "insert into documents select n, 'small', '' from generate_series(41, 1300) n"
    )
    sink = Sizes()
    deliver(documents, sink)
    assert sink.ids == list(range(1, 1301))
    assert max(sink.each) <= ROOM + FEWEST * LARGE + 1000
    assert len(sink.each) < 40


def test_what_is_put_together_counts_as_a_whole(documents: Trail) -> None:
    """What is stored of an update of another column is small."""
    documents.audit("documents", store="delta")
    documents.execute(
        f"insert into documents select n, 'new', {EVEN} from generate_series(1, 20) n"
    )
    documents.execute("update documents set title = 'old'")
    sink = Sizes()
    deliver(documents, sink)
    assert sink.ids == list(range(1, 41))
    assert max(sink.each) <= ROOM + FEWEST * 2 * LARGE + 1000


def test_the_order_of_what_changed_places_stays(documents: Trail) -> None:
    """Where a trigger changed a row again, its event has the lower number, in however small a part."""
    documents.audit("documents")
    documents.execute(
        "create function again() returns trigger language plpgsql as $$ begin"
        " if new.title = 'first' then update documents set title = 'second' where id = new.id; end if;"
        " return null; end $$"
    )
    documents.execute(
        "create trigger a_again after update on documents for each row execute function again()"
    )
    documents.execute(
        f"insert into documents select n, 'new', {EVEN} from generate_series(1, 12) n"
    )
    documents.execute("update documents set title = 'first'")
    scope = find_tables(documents.connection, (), schema="audit")
    with documents.database.connect() as connection:
        seen = []
        with closing(follow.follow_subject(connection, scope, Filter())) as batches:
            for batch in batches:
                seen += [(e.row_key, (e.new_row or {})["title"]) for e in batch.events]
                if not batch.events:
                    break
    for key in map(str, range(1, 13)):
        assert [title for of, title in seen if of == key] == ["new", "first", "second"]
