"""Is every event what was sealed, and every checkpoint that is kept outside one of this tree?

Everything is computed anew from the events: their leaves, the tiles above them, the root. What the tables of
the seals say is compared with that, and the root with what was signed. Checkpoints that are kept elsewhere have
to be roots of the beginning of this very tree: a trail that was cut off, put back to an earlier state or
written anew has others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import connect, fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.merkle import root_of
from audit_toolkit.plurals import counted
from audit_toolkit.schema.install import SLOTS
from audit_toolkit.seals.checkpoints import Checkpoint, NoteError, PublicKey, read_checkpoint
from audit_toolkit.seals.drops import Drops
from audit_toolkit.seals.findings import REMEDY, error, of_events
from audit_toolkit.seals.ids import describe, expand, read_ranges, size_of
from audit_toolkit.seals.keys import trusted_keys
from audit_toolkit.seals.leaves import next_id, read_block, read_relations, read_seeds
from audit_toolkit.seals.pin import pinned
from audit_toolkit.seals.redaction import Slot, require_signed, slot_bytes
from audit_toolkit.seals.salts import IDS, block_of
from audit_toolkit.seals.seal import read_known_keys, read_newest, read_tree
from audit_toolkit.seals.tiles import HASH, WIDTH, Growth, Tree, split, widths
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

TILES_AT_ONCE = 64
PARALLEL_FROM = 256 * WIDTH
"""Events from which several processes are worth it."""
_MOST_MISSING = 10_000
"""Tiles at the end that may be missing for the rest to be verified all the same."""
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoneEvents:
    """Events that were sealed and left with their partition."""

    partition: str
    events: int
    archive: str | None
    dropped_at: str | None
    event: int | None = None
    """The event that says so."""
    by: str | None = None
    by_hand: bool = False


@dataclass(slots=True, kw_only=True)
class Report:
    """What was verified, and what is wrong."""

    checkpoint: Checkpoint | None = None
    verified: int = 0
    """Events that match their seals."""
    outside: int = 0
    """Checkpoints kept outside that this tree agrees with."""
    unsealed: int = 0
    redacted: int = 0
    """Slots of events whose values were erased, announced by R events."""
    signed: list[int] = field(default_factory=list)
    """Redactions, by their R events, of which a sealer signed what they left."""
    unsigned: list[int] = field(default_factory=list)
    """Redactions that are announced, but not signed by a sealer."""
    gone: list[GoneEvents] = field(default_factory=list)
    keys_from: str = "outside"
    findings: list[Finding] = field(default_factory=list)

    @property
    def alarms(self) -> list[Finding]:
        """The findings that say that something is wrong."""
        return [one for one in self.findings if one.severity is not Severity.INFO]

    @property
    def what_matches(self) -> str:
        """Of how many events the seals are right, for people."""
        return counted(self.verified, "event") + (
            " matches its seal" if self.verified == 1 else " match their seals"
        )

    def details(self) -> dict[str, Any]:
        """All but the findings, as JSON values."""
        checkpoint = self.checkpoint
        return {
            "sealed": checkpoint.size if checkpoint else 0,
            "up_to_event": checkpoint.up_to_id if checkpoint else None,
            "sealed_at": checkpoint.sealed_at if checkpoint else None,
            "root": checkpoint.root.hex() if checkpoint else None,
            "verified": self.verified,
            "unsealed": self.unsealed,
            "redacted": self.redacted,
            "redactions_signed": self.signed,
            "redactions_unsigned": self.unsigned,
            "checkpoints_outside": self.outside,
            "keys_from": self.keys_from,
            "gone": [
                {
                    "partition": one.partition,
                    "events": one.events,
                    "archive": one.archive,
                    "dropped_at": one.dropped_at,
                    "event": one.event,
                    "by": one.by,
                    "by_hand": one.by_hand,
                }
                for one in self.gone
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Some tiles of level 0, with all ids from those of the first to before those of the one that follows."""

    first_tile: int
    last_tile: int
    first_id: int
    last_id: int
    skip: int = 0
    """Entries at the beginning whose events are not read."""


@dataclass(slots=True, kw_only=True)
class Checked:
    """What became of a segment."""

    roots: list[bytes] = field(default_factory=list)
    """Of its whole tiles."""
    last: list[bytes] = field(default_factory=list)
    """The hashes of a last tile that is not full."""
    first_read: int = -(2**63)
    """The id behind the entries whose events are not read."""
    verified: int = 0
    changed: list[int] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    inserted: list[int] = field(default_factory=list)
    doubled: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def verify(
    connection: Connection,
    schema: str,
    *,
    keys: Sequence[PublicKey] = (),
    outside: Sequence[tuple[str, str]] = (),
    since: int = 0,
    jobs: int = 1,
    dsn: str = "",
    progress: Progress = lambda _: None,
) -> Report:
    """Compare all events with the tree, and the tree with what was signed.

    `keys` are those that are trusted; without any, those that the database itself names, which proves less.
    `outside` has checkpoints kept elsewhere, as (where, note). Events before entry `since` of the tree are not
    read. With several `jobs`, each has a connection of its own to `dsn`.
    """
    with connection.transaction():
        # One snapshot, so that a sealer that runs meanwhile changes nothing.
        connection.execute("set transaction isolation level repeatable read, read only")
        return verify_within(
            connection,
            schema,
            keys=keys,
            outside=outside,
            since=since,
            jobs=jobs,
            dsn=dsn,
            progress=progress,
        )


def verify_within(
    connection: Connection,
    schema: str,
    *,
    keys: Sequence[PublicKey] = (),
    outside: Sequence[tuple[str, str]] = (),
    since: int = 0,
    jobs: int = 1,
    dsn: str = "",
    progress: Progress = lambda _: None,
) -> Report:
    """Like `verify`, in the transaction that the connection is in."""
    with pinned(connection):
        return _verify(connection, schema, keys, outside, since, jobs, dsn, progress)


def _verify(
    connection: Connection,
    schema: str,
    keys: Sequence[PublicKey],
    outside: Sequence[tuple[str, str]],
    since: int,
    jobs: int,
    dsn: str,
    progress: Progress,
) -> Report:
    report = Report(keys_from="outside" if keys else "database")
    for row in fetch(connection, render("seals/disguises", schema=schema)):
        report.findings.append(
            error(
                FindingKind.TRAIL_DISGUISED,
                row["name"],
                f"{row['why']}: what is read from it is not what is stored",
                "audit check shows what else differs from an installation; find out who made it",
            )
        )
    if report.findings:
        return report  # nothing else that is read there can be believed
    known = _known_keys(connection, schema, report)
    trusted = trusted_keys(keys or [key for key, _ in known], [note for _, note in known if note])
    report.checkpoint = _newest(connection, schema, trusted, report)
    tree = read_tree(connection, schema)
    if report.checkpoint is not None:
        checkpoint = report.checkpoint
        checked = _check(connection, schema, checkpoint, since, jobs, dsn, progress)
        report.verified = sum(one.verified for one in checked)
        report.findings += [finding for one in checked for finding in one.findings]
        report.findings += _check_tree(connection, schema, tree, checkpoint, checked)
        gone = _judge_events(connection, schema, checked, report)
        _check_redactions(connection, schema, trusted, gone, report)
        if not _MISCOUNTED & {finding.kind for finding in report.findings}:
            report.findings += _check_counts(connection, schema, checkpoint.up_to_id)
    agreeing = _check_outside(outside, trusted, tree, report)
    report.findings += _check_stored(connection, schema, agreeing)
    up_to_id = report.checkpoint.up_to_id if report.checkpoint else -(2**63)
    (row,) = fetch(connection, render("seals/unsealed", schema=schema), {"up_to_id": up_to_id})
    report.unsealed = row["events"]
    return report


def _known_keys(
    connection: Connection, schema: str, report: Report
) -> tuple[tuple[PublicKey, str | None], ...]:
    """The keys that the database names; one that is none is a finding, and keeps nobody from verifying."""
    try:
        return read_known_keys(connection, schema)
    except UsageError as wrong:
        report.findings.append(
            error(
                FindingKind.CHECKPOINT_INVALID,
                "the keys that the database names",
                wrong.message,
                "find out who wrote it there, and remove it",
            )
        )
        return ()


def _newest(
    connection: Connection, schema: str, trusted: Sequence[PublicKey], report: Report
) -> Checkpoint | None:
    row = read_newest(connection, schema)
    if row is None:
        return None
    subject = f"the checkpoint of {row['tree_size']} events"
    remedy = "name the public key that you kept (--key FILE); audit keys list shows who signed"
    try:
        checkpoint = read_checkpoint(row["note"], trusted)
    except NoteError as wrong:
        report.findings.append(
            error(FindingKind.CHECKPOINT_INVALID, subject, wrong.message, remedy)
        )
        try:
            checkpoint = Checkpoint.parse(row["note"].rpartition("\n\n")[0] + "\n")
        except NoteError:
            return None
    signed = (checkpoint.size, checkpoint.up_to_id, checkpoint.root)
    if (row["tree_size"], row["up_to_id"], bytes(row["root"])) != signed:
        report.findings.append(
            error(
                FindingKind.CHECKPOINT_INVALID, subject, "its row says other than its note", remedy
            )
        )
    (found,) = fetch(connection, render("seals/last_tile", schema=schema))
    if checkpoint.size // WIDTH > found["last"] + _MOST_MISSING:
        # Each tile that is missing would be named, and there is nothing to compare events with.
        report.findings.append(
            error(
                FindingKind.TILE_CHANGED,
                f"tiles of level 0 from {found['last'] + 1} on",
                f"the tree ends long before the {checkpoint.size} events that its checkpoint names",
                "put the tables of the seals back from a backup of after the last checkpoint",
            )
        )
        return None
    return checkpoint


def _segments(
    connection: Connection, schema: str, checkpoint: Checkpoint, since: int, jobs: int
) -> list[Segment]:
    """The tree in parts of about the same size, cut between tiles."""
    tiles = -(-checkpoint.size // WIDTH)
    parts = max(1, min(jobs * 4 if jobs > 1 else 1, tiles // 16))
    starts = sorted({tiles * part // parts for part in range(parts)})
    firsts = {0: -(2**63)}
    for start in starts[1:]:
        asked = {"level": 0, "first": start, "last": start}
        rows = fetch(connection, render("seals/tiles", schema=schema), asked)
        ranges = read_ranges(rows[0]["ids"]) if rows else ()
        if ranges:
            firsts[start] = ranges[0][0]
    starts = sorted(firsts)
    ends = [*starts[1:], tiles]
    return [
        Segment(
            first_tile=start,
            last_tile=end - 1,
            first_id=firsts[start],
            last_id=firsts[end] - 1 if end in firsts else checkpoint.up_to_id,
            skip=max(0, min(since, end * WIDTH) - start * WIDTH),
        )
        for start, end in zip(starts, ends, strict=True)
    ]


def _check(
    connection: Connection,
    schema: str,
    checkpoint: Checkpoint,
    since: int,
    jobs: int,
    dsn: str,
    progress: Progress,
) -> list[Checked]:
    segments = _segments(connection, schema, checkpoint, since, jobs)
    if jobs == 1 or len(segments) == 1 or checkpoint.size < PARALLEL_FROM:
        return [
            check_segment(connection, schema, segment, checkpoint, progress) for segment in segments
        ]
    (row,) = fetch(connection, "select pg_export_snapshot() as snapshot")
    tasks = [(dsn, schema, segment, checkpoint, row["snapshot"]) for segment in segments]
    found = []
    with get_context("spawn").Pool(min(jobs, len(tasks))) as pool:
        for checked in pool.imap(_check_apart, tasks):
            progress(checked.verified)
            found.append(checked)
    return found


def _check_apart(task: tuple[str, str, Segment, Checkpoint, str]) -> Checked:
    """A segment, in a process and on a connection of its own, as the first connection sees it."""
    dsn, schema, segment, checkpoint, snapshot = task
    with connect(dsn, purpose="verify") as connection, connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        connection.execute(
            f"set transaction snapshot '{snapshot}'".encode()
        )  # hex digits and dashes
        with pinned(connection):
            return check_segment(connection, schema, segment, checkpoint, lambda _: None)


def check_segment(
    connection: Connection,
    schema: str,
    segment: Segment,
    checkpoint: Checkpoint,
    progress: Progress,
) -> Checked:
    """Read the events of some tiles and compare them with these."""
    checked = Checked()
    relations = read_relations(connection, schema)
    expected = _expected(connection, schema, segment, checkpoint, checked)
    reader = _Reader(connection, schema, relations, checked, progress)
    position = segment.first_id
    for number, pairs in groupby(expected, key=lambda pair: block_of(pair[0])):
        start, end = number * IDS, number * IDS + IDS - 1
        ids, hashes = map(list, zip(*pairs, strict=True))
        position = max(position, checked.first_read)
        reader.between(position, min(start, ids[0]) - 1)
        reader.compare(max(start, position), min(end, segment.last_id), ids, hashes)
        position = end + 1
    reader.between(max(position, checked.first_read), segment.last_id)
    return checked


def _expected(
    connection: Connection,
    schema: str,
    segment: Segment,
    checkpoint: Checkpoint,
    checked: Checked,
) -> Iterator[tuple[int, bytes]]:
    """Id and hash of each entry of the tiles, whose roots are noted on the way."""
    statement = render("seals/tiles", schema=schema)
    skip, after = segment.skip, segment.first_id - 1
    for start in range(segment.first_tile, segment.last_tile + 1, TILES_AT_ONCE):
        last = min(start + TILES_AT_ONCE - 1, segment.last_tile)
        rows = fetch(connection, statement, {"level": 0, "first": start, "last": last})
        found = {row["tile"]: row for row in rows}
        for tile in range(start, last + 1):
            row = found.get(tile)
            width = min(WIDTH, checkpoint.size - tile * WIDTH)
            content = bytes(row["hashes"]) if row else b""
            ranges = read_ranges(row["ids"]) if row else ()
            ids = expand(ranges) if size_of(ranges) == width else []
            if ids and not after < ids[0] <= ids[-1] <= segment.last_id:
                ids = []  # forged: tiles are in the order of ids
            after = ids[-1] if ids else after
            hashes = split(content)
            if len(content) != width * HASH or not ids:
                checked.findings.append(_tile_changed(0, tile))
            if len(hashes) == WIDTH:
                checked.roots.append(root_of(hashes))
            else:
                checked.last = hashes
            pairs = list(zip(ids, hashes, strict=False))
            if skip and ids:
                checked.first_read = ids[min(skip, width) - 1] + 1
            yield from pairs[skip:]
            skip = max(0, skip - width)


def _tile_changed(level: int, tile: int) -> Finding:
    return error(
        FindingKind.TILE_CHANGED,
        f"tile {tile} of level {level}",
        "the tree of the seals was changed, or a part of it removed",
        "put the tables of the seals back from a backup of after the last checkpoint",
    )


@dataclass(slots=True)
class _Reader:
    """Reads events and compares them with what is expected."""

    connection: Connection
    schema: str
    relations: Sequence[str]
    checked: Checked
    progress: Progress

    def between(self, first: int, last: int) -> None:
        """Where no event is sealed: all that are there were inserted."""
        if first > last:
            return
        found = next_id(self.connection, self.relations, first)
        while found is not None and found <= last:
            end = min(block_of(found) * IDS + IDS - 1, last)
            self.compare(found, end, [], [])
            found = next_id(self.connection, self.relations, end + 1)

    def compare(self, first: int, last: int, ids: list[int], hashes: list[bytes]) -> None:
        """The events with these ids, all of one block, against those that are expected."""
        number = block_of(first)
        seeds = read_seeds(self.connection, self.schema, number, number).get(number, {})
        there = read_block(self.connection, self.schema, self.relations, first, last, seeds)
        self.progress(len(ids))
        checked = self.checked
        if there.ids == ids and there.hashes == hashes and not there.doubled:
            checked.verified += len(ids)
            return
        expected = dict(zip(ids, hashes, strict=True))
        present = dict(zip(there.ids, there.hashes, strict=True))
        checked.doubled += there.doubled
        checked.inserted += present.keys() - expected.keys()
        checked.removed += expected.keys() - present.keys() - set(there.doubled)
        changed = {n for n in expected.keys() & present.keys() if expected[n] != present[n]}
        checked.verified += len(expected.keys() & present.keys()) - len(changed)
        if changed and not seeds:
            checked.findings.append(
                error(
                    FindingKind.SALTS_MISSING,
                    f"events {describe(changed)}",
                    "the seed of their salts is gone, so that nothing can be verified of them",
                    "put audit.seal_seeds back from a backup",
                )
            )
        else:
            checked.changed += changed


def _check_tree(
    connection: Connection,
    schema: str,
    tree: Tree,
    checkpoint: Checkpoint,
    checked: Sequence[Checked],
) -> list[Finding]:
    """Build the tree anew above level 0, and compare it with what is stored and signed."""
    growth = Growth()
    findings = []
    for part in checked:
        for root in part.roots:
            growth.add_root(root)
    last = checked[-1].last if checked else []
    tiles = growth.take_full()
    tiles += [
        (level, tile, b"".join(growth.edge[level]))
        for level, tile, _ in widths(growth.size)
        if level
    ]
    for level, tile, hashes in tiles:
        if b"".join(tree.fetch(level, tile)) != hashes:
            findings.append(_tile_changed(level, tile))
    behind = fetch(
        connection, render("seals/tiles_behind", schema=schema), {"size": checkpoint.size}
    )
    findings += [_tile_changed(row["level"], row["tile"]) for row in behind]
    size = growth.size + len(last)
    if size != checkpoint.size or growth.root(last) != checkpoint.root:
        findings.append(
            error(
                FindingKind.ROOT_DIFFERS,
                f"the checkpoint of {checkpoint.size} events",
                "the tree in the database has another root than the one that was signed",
                "put the tables of the seals back from a backup of after that checkpoint",
            )
        )
    return findings


def _judge_events(
    connection: Connection, schema: str, checked: Sequence[Checked], report: Report
) -> set[int]:
    """Which of the events that are missing left with their partition, which are returned, and which were removed."""
    removed = {number for one in checked for number in one.removed}
    all_gone: set[int] = set()
    left: list[tuple[dict[str, Any], int]] = []
    drops = Drops.read(connection, schema)
    report.findings += drops.findings()
    for row in fetch(connection, render("seals/partitions", schema=schema)):
        if row["is_there"] or row["state"] != "dropped":
            continue
        gone = {number for number in removed if row["first_id"] <= number <= row["last_id"]}
        if len(gone) > row["events"]:
            continue  # more is missing than the partition had
        removed -= gone
        all_gone |= gone
        if gone:
            left.append((row, len(gone)))
    for row, events in left:
        if not drops.announces(row["dropped_as"], row["drop_event"], all_gone):
            report.findings.append(
                error(
                    FindingKind.DROP_UNANNOUNCED,
                    row["leaf_name"],
                    f"{counted(events, 'sealed event')} are gone, and no event says that it was dropped",
                    REMEDY,
                )
            )
        else:
            told = drops.events.get(row["drop_event"])
            report.gone.append(
                GoneEvents(
                    partition=row["leaf_name"],
                    events=events,
                    archive=row["archive"],
                    dropped_at=row["dropped_at"].isoformat() if row["dropped_at"] else None,
                    event=row["drop_event"],
                    by=told.by if told else None,
                    by_hand=told.by_hand if told else False,
                )
            )
    report.findings += of_events(FindingKind.EVENT_REMOVED, list(removed))
    for kind, attribute in (
        (FindingKind.EVENT_CHANGED, "changed"),
        (FindingKind.EVENT_INSERTED, "inserted"),
        (FindingKind.EVENT_DOUBLED, "doubled"),
    ):
        ids = [number for one in checked for number in getattr(one, attribute)]
        report.findings += of_events(kind, ids)
    return all_gone


_MISCOUNTED = {
    FindingKind.EVENT_REMOVED,
    FindingKind.EVENT_INSERTED,
    FindingKind.EVENT_DOUBLED,
    FindingKind.EVENT_CHANGED,
}


def _check_counts(connection: Connection, schema: str, up_to_id: int) -> Iterator[Finding]:
    """What is recorded of the sealed events of partitions, from which their drops will be judged."""
    relations = read_relations(connection, schema)
    statement = render("seals/counted", schema=schema, relations=relations)
    for row in fetch(connection, statement, {"up_to_id": up_to_id}):
        yield error(
            FindingKind.SEAL_RECORD_CHANGED,
            row["leaf_name"],
            f"{counted(row['recorded'], 'sealed event')} of it are recorded, and it has {row['events']}, from "
            f"event {row['first_id']} to {row['last_id']}: its drop would hide that others are missing",
            "compare audit.seal_partitions with a backup, and find out who changed it",
        )


def _check_outside(
    outside: Iterable[tuple[str, str]],
    trusted: Sequence[PublicKey],
    tree: Tree,
    report: Report,
) -> list[Checkpoint]:
    """Every checkpoint that is kept elsewhere has to be of a beginning of this tree; those that are."""
    size = report.checkpoint.size if report.checkpoint else 0
    agreeing: list[Checkpoint] = []
    ahead: list[tuple[str, Checkpoint]] = []
    for where, note in outside:
        try:
            checkpoint = read_checkpoint(note, trusted)
        except NoteError as wrong:
            report.findings.append(
                error(
                    FindingKind.CHECKPOINT_INVALID,
                    where,
                    wrong.message,
                    "name the public key that you kept (--key FILE), or remove what is not a checkpoint",
                )
            )
            continue
        if checkpoint.size > size:
            ahead.append((where, checkpoint))
        elif tree.root(checkpoint.size) != checkpoint.root:
            report.findings.append(
                error(
                    FindingKind.TRAIL_FORKED,
                    where,
                    f"the first {checkpoint.size} events had another root when it was signed",
                    "the trail was written anew, or sealed as a copy: compare it with a backup",
                )
            )
        else:
            report.outside += 1
            agreeing.append(checkpoint)
    common = max((one.size for one in agreeing), default=None)
    report.findings += [_behind(where, one, size, common) for where, one in ahead]
    return agreeing


def _behind(where: str, ahead: Checkpoint, size: int, common: int | None) -> Finding:
    """That a checkpoint is ahead of the database, and up to where others that are kept outside agree with it."""
    agrees = f" (the last one that agrees has {common})" if common else ""
    return error(
        FindingKind.TRAIL_BEHIND,
        where,
        f"it is ahead: it has {ahead.size} sealed events, and the database {size}{agrees}: "
        "the trail was cut off or put back to an earlier state, or a copy of it was sealed",
        "if the database was restored or failed over, audit adopt says so in the trail; "
        "else find out who did it",
    )


def _check_stored(
    connection: Connection, schema: str, kept: Iterable[Checkpoint]
) -> Iterator[Finding]:
    """What is kept outside was in the database before it got there, and is to be the same there.

    One that is gone is no alarm: after a failover that lost it, the same events are sealed by a later one.
    """
    by_size = {checkpoint.size: checkpoint for checkpoint in kept}
    asked = {"sizes": sorted(by_size)}
    rows = fetch(connection, render("seals/checkpoints_of", schema=schema), asked)
    stored = {row["tree_size"]: row for row in rows}
    for size, checkpoint in sorted(by_size.items()):
        row = stored.get(size)
        if row is None or not _is_row_of(row, checkpoint):
            yield Finding(
                kind=FindingKind.CHECKPOINT_INVALID,
                severity=Severity.ERROR if row else Severity.INFO,
                subject=f"the checkpoint of {size} events",
                message="it is kept outside, and the database "
                + ("says other than it" if row else "does not have it"),
                remedy="the events themselves are as they were sealed; find out who changed its row",
            )


def _is_row_of(row: dict[str, Any], checkpoint: Checkpoint) -> bool:
    try:
        noted = Checkpoint.parse(row["note"].rpartition("\n\n")[0] + "\n")
    except NoteError:
        return False
    said = (checkpoint.up_to_id, checkpoint.root)
    return said == (noted.up_to_id, noted.root) == (row["up_to_id"], bytes(row["root"]))


def redaction_digest(rows: Iterable[tuple[int, int, bytes, bytes | None]]) -> str:
    """What an R event says of the slots that it announces.

    Given in order, as (event id, slot, commitment, commitment to what is left).
    """
    digest = hashlib.sha256()
    for event_id, slot, commitment, remaining in rows:
        digest.update(slot_bytes(event_id, slot, commitment, remaining))
    return digest.hexdigest()


def _check_redactions(
    connection: Connection,
    schema: str,
    trusted: Sequence[PublicKey],
    gone: set[int],
    report: Report,
) -> None:
    relations = read_relations(connection, schema)
    sql = render("seals/redactions", schema=schema, slots=SLOTS, relations=relations)
    rows = fetch(connection, sql)
    for redaction_id, group in groupby(rows, key=lambda row: row["redaction_id"]):
        slots = list(group)
        left: list[Slot] = [
            (row["event_id"], row["slot"], bytes(row["commitment"]), row["remaining"])
            for row in slots
        ]
        # An R event that left with its partition announced it, too; what it said cannot be read any more.
        unannounced = redaction_id not in gone and (
            slots[0]["action"] != "R" or slots[0]["announced"] != redaction_digest(left)
        )
        for row in slots:
            if unannounced or not _is_what_was_left(row) or row["unmarked"]:
                report.findings.append(_not_as_announced(row, redaction_id))
            else:
                report.redacted += 1
        if not unannounced:
            _check_signature(slots[0], left, trusted, report)


def _check_signature(
    row: dict[str, Any], left: Sequence[Slot], trusted: Sequence[PublicKey], report: Report
) -> None:
    """Whether the holder of a key signed what a redaction left."""
    redaction_id, note = row["redaction_id"], row["note"]
    try:
        if note is None:
            raise NoteError("the note that it was signed with is gone")
        require_signed(note, redaction_id, left, trusted)
        report.signed.append(redaction_id)
    except NoteError as wrong:
        if note is None and not row["is_said_signed"]:
            report.unsigned.append(redaction_id)
            report.findings.append(_not_signed(redaction_id, after_signed=bool(report.signed)))
        else:
            report.findings.append(
                error(
                    FindingKind.REDACTION_UNSIGNED,
                    f"event {redaction_id}",
                    f"the signature of what this redaction left does not hold: {wrong.message}",
                    "find out who wrote it; values beside the redacted ones may have been changed",
                )
            )


def _not_signed(redaction_id: int, *, after_signed: bool) -> Finding:
    """Where redactions are signed, one without is a warning; where none is, it is for people to know."""
    return Finding(
        kind=FindingKind.REDACTION_UNSIGNED,
        severity=Severity.WARNING if after_signed else Severity.INFO,
        subject=f"event {redaction_id}",
        message="it announces a redaction that no sealer signed: values beside the redacted ones may have changed",
        remedy="compare what is left with a backup; audit redact --key FILE signs it",
    )


def _is_what_was_left(row: dict[str, Any]) -> bool:
    if not row["is_last"] or not row["is_here"]:
        return True
    if row["remaining"] is None:
        return not row["is_left"]
    return row["present"] is not None and bytes(row["present"]) == bytes(row["remaining"])


def _not_as_announced(row: dict[str, Any], redaction_id: int) -> Finding:
    slot = tuple(SLOTS)[row["slot"]]
    return error(
        FindingKind.REDACTION_UNANNOUNCED,
        f"event {row['event_id']}",
        f"{slot} was replaced, and no R event announces what is there now (event {redaction_id} should)",
        "audit redact announces what it erases; find out who wrote this",
    )
