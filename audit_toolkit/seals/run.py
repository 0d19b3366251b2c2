"""One run of the sealer: how far the trail is certain, the batches, and the checkpoint to its sinks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.seals.checkpoints import Checkpoint, read_checkpoint
from audit_toolkit.seals.keys import Signer, keys_of
from audit_toolkit.seals.leaves import read_reach
from audit_toolkit.seals.seal import read_newest, read_tree, seal
from audit_toolkit.seals.sinks import Delivered, Sink, deliver, require_continued
from audit_toolkit.templates import render
from audit_toolkit.tracing import span
from audit_toolkit.trail.history.follow import Blocker
from audit_toolkit.trail.history.watermark import Mark, find_watermark

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealRun:
    """What a run did."""

    events: int
    checkpoint: Checkpoint | None
    """The last one, whether of this run or of an earlier one."""
    note: str | None
    held_by: tuple[Blocker, ...] = ()
    delivered: tuple[Delivered, ...] = ()

    @property
    def failed(self) -> tuple[Delivered, ...]:
        """The sinks that did not take the checkpoint."""
        return tuple(one for one in self.delivered if one.failed)


@dataclass(slots=True)
class State:
    """What runs note for the next one."""

    origin: str = ""
    marks: tuple[Mark, ...] = ()
    sinks: dict[str, Delivered] = field(default_factory=dict)


def read_state(connection: Connection, schema: str) -> State:
    """What the last run noted."""
    (row,) = fetch(connection, render("seals/state", schema=schema))
    try:
        return _noted(row["summary"], row["origin"])
    except (TypeError, AttributeError, KeyError):
        return State(origin=row["origin"])  # nobody of ours noted that: nothing is known


def _noted(summary: Any, origin: str) -> State:
    if not isinstance(summary, dict):
        return State(origin=origin)
    same = summary.get("origin") == origin
    marks = tuple(Mark(**mark) for mark in summary.get("marks", ())) if same else ()
    sinks = {one["address"]: Delivered(**one) for one in summary.get("sinks", ())}
    return State(origin=origin, marks=marks, sinks=sinks)


def run_seal(
    connection: Connection,
    schema: str,
    signer: Signer,
    *,
    sinks: Sequence[Sink] = (),
    timestamp: str | None = None,
    wait: float = 10,
    progress: Callable[[int], None] = lambda _: None,
) -> SealRun:
    """Seal what is certain, waiting so many seconds for open transactions, and hand the last checkpoint to the sinks.

    Raises what `seal` raises. A sink that fails is no error: the run says so, and the next one tries again.
    """
    with span("seal", schema=schema) as sealing:
        run = _run_seal(connection, schema, signer, sinks, timestamp, wait, progress)
        sealing.note(events=run.events, held_by=len(run.held_by))
        if failed := sum(bool(one.failed) for one in run.delivered):
            sealing.fail(f"{failed} checkpoints were not stored")
    return run


def _run_seal(
    connection: Connection,
    schema: str,
    signer: Signer,
    sinks: Sequence[Sink],
    timestamp: str | None,
    wait: float,
    progress: Callable[[int], None],
) -> SealRun:
    state = read_state(connection, schema)
    newest = read_newest(connection, schema)
    kept: dict[str, int | None] = {}
    if newest or sinks:
        size = newest["tree_size"] if newest else 0
        tree = read_tree(connection, schema)
        # A tree that is not the sealed one any more is refused below, and says nothing of the places.
        is_sealed = newest is not None and tree.root(size) == bytes(newest["root"])
        kept = require_continued(
            sinks, signer.public.name, size, keys_of(signer), tree if is_sealed else None
        )
    found = find_watermark(
        connection, schema, state.marks, wait=wait, known=read_reach(connection, schema)[1]
    )
    events = 0
    if found.event_id is not None:
        for sealed in seal(connection, schema, signer, found.event_id, progress):
            events += sealed.events
    newest = read_newest(connection, schema)
    checkpoint, delivered = None, []
    if newest:
        checkpoint = read_checkpoint(newest["note"], keys_of(signer))
        # A place is asked what it has. What the database says is believed of those that cannot be asked, and of nothing
        # new: or whoever writes there could have no checkpoint get outside any more.
        noted = {} if events else {address: one.size for address, one in state.sinks.items()}
        delivered = deliver(sinks, checkpoint, newest["note"], noted | kept, timestamp)
    _note(connection, schema, State(state.origin, found.marks), delivered)
    return SealRun(
        events=events,
        checkpoint=checkpoint,
        note=newest["note"] if newest else None,
        held_by=found.held_by,
        delivered=tuple(delivered),
    )


def _note(connection: Connection, schema: str, state: State, delivered: list[Delivered]) -> None:
    summary = {
        "origin": state.origin,
        "marks": [asdict(mark) for mark in state.marks],
        "sinks": [asdict(one) for one in delivered],
    }
    values = {
        "succeeded": not any(one.failed for one in delivered),
        "summary": json.dumps(summary),
    }
    connection.execute(render("seals/note", schema=schema), values)
