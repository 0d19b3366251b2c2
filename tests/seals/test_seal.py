"""What was sealed verifies, whatever runs beside it, and every change of it is found and named."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from audit_toolkit.errors import AuditError, BusyError, UsageError
from audit_toolkit.seals import Checkpoint, open_sink, read_key, rotate_key, run_seal
from audit_toolkit.seals.checkpoints import write_note
from audit_toolkit.seals.tiles import WIDTH
from tests.seals.words import MORE, Sealed, detach, drop


def test_what_is_sealed_verifies(sealed: Sealed) -> None:
    report = sealed.verify()
    assert report.findings == []
    assert report.checkpoint is not None
    assert (report.verified, report.checkpoint.size, report.outside) == (462, 462, 1)
    assert (report.unsealed, report.keys_from) == (0, "outside")


def test_sealing_goes_on_behind(sealed: Sealed) -> None:
    for rows in (1, 49, 1, 700, 0):
        if rows:
            sealed.execute("delete from orders where id >= 1000")
            sealed.execute(MORE.format(rows))
        before = sealed.verify().unsealed
        assert sealed.seal().events == before
    assert sealed.found() == []
    assert sealed.verify().outside == 5
    [(sizes,)] = sealed.execute(
        "select array_agg(tree_size order by 1) from audit.seal_checkpoints"
    )
    assert len(sizes) == 5  # type: ignore[arg-type]


def test_an_empty_trail_has_nothing_to_seal(unsealed: Sealed) -> None:
    unsealed.tamper("truncate audit.logged_actions")
    run = unsealed.seal()
    assert (run.events, run.checkpoint) == (0, None)


def test_gaps_and_large_jumps_in_ids(sealed: Sealed) -> None:
    sealed.execute("begin")
    sealed.execute(MORE.format(40))
    sealed.execute("rollback")
    sealed.execute(MORE.format(10))
    sealed.execute("select setval('audit.logged_actions_event_id_seq', 1000000000000)")
    sealed.execute("update orders set status = 'late' where id = 1000")
    assert sealed.seal().events == 11
    assert sealed.found() == []
    sealed.tamper(
        "insert into audit.logged_actions (event_id, schema_name, table_name, action) values (5000000, 'a', 'b', 'I')"
    )
    assert sealed.found() == [("event_inserted", "event 5000000")]


def test_settings_of_a_session_change_no_byte(sealed: Sealed) -> None:
    before = sealed.verify()
    for setting in (
        "timezone = 'Asia/Tokyo'",
        "datestyle = 'SQL, DMY'",
        "bytea_output = 'escape'",
        "client_encoding = 'LATIN1'",
        "extra_float_digits = 0",
        "intervalstyle = 'sql_standard'",
        "standard_conforming_strings = off",
        "quote_all_identifiers = on",
    ):
        name = sealed.trail.database.name
        sealed.execute(f"alter database {name} set {setting}")
    assert sealed.verify() == before
    sealed.execute("update orders set status = 'x' where id < 5")
    sealed.seal()
    assert sealed.found() == []


TAMPERING = {
    "a column is changed": (
        "update audit.logged_actions set session_user_name = 'mallory' where event_id = 77",
        [("event_changed", "event 77")],
    ),
    "a payload is changed": (
        'update audit.logged_actions set new_row = new_row || \'{"status": "x"}\' where event_id = 77',
        [("event_changed", "event 77")],
    ),
    "only the order of what is in a row's JSON would be the same": (
        "update audit.logged_actions set new_row = jsonb_build_object('status', new_row -> 'status', "
        "'id', new_row -> 'id', 'note', new_row -> 'note') where event_id = 77",
        [],
    ),
    "a payload goes": (
        "update audit.logged_actions set context = null where event_id = 77",
        [("event_changed", "event 77")],
    ),
    "a payload comes": (
        "update audit.logged_actions set query = '' where event_id = 77",
        [("event_changed", "event 77")],
    ),
    "a microsecond": (
        "update audit.logged_actions set action_tstamp = action_tstamp + '1 us' where event_id = 77",
        [("event_changed", "event 77")],
    ),
    "text moves from a column to the next one": (
        "update audit.logged_actions set schema_name = 'publi', table_name = 'corders' where event_id = 77",
        [("event_changed", "event 77")],
    ),
    "an event is removed": (
        "delete from audit.logged_actions where event_id in (1, 77, 256)",
        [
            ("event_removed", "event 1"),
            ("event_removed", "event 77"),
            ("event_removed", "event 256"),
        ],
    ),
    "the last event is removed": (
        "delete from audit.logged_actions where event_id = 462",
        [("event_removed", "event 462")],
    ),
    "an event is inserted before all": (
        "insert into audit.logged_actions (event_id, schema_name, table_name, action) values (-3, 'a', 'b', 'I')",
        [("event_inserted", "event -3")],
    ),
    "two events change places": (
        "update audit.logged_actions set event_id = case event_id when 77 then 78 else 77 end where event_id in (77, 78)",
        [("event_changed", "event 77"), ("event_changed", "event 78")],
    ),
    "an event gets another number": (
        "update audit.logged_actions set event_id = 462 + 10 where event_id = 77",
        [("event_removed", "event 77")],
    ),
    "an event is there twice": (
        "insert into audit.logged_actions select event_id, action_tstamp + '1 s', transaction_id, schema_name, table_name, "
        "action from audit.logged_actions where event_id = 77",
        [("event_doubled", "event 77")],
    ),
    "an event moves to another partition": (
        "update audit.logged_actions set action_tstamp = action_tstamp + '40 days' where event_id = 77",
        [("event_changed", "event 77")],
    ),
    "a tile is changed": (
        "update audit.seal_tiles set hashes = set_byte(hashes, 3, get_byte(hashes, 3) # 1) where level = 0 and tile = 1",
        [("event_changed", "event 257"), ("root_differs", "the checkpoint of 462 events")],
    ),
    "a tile claims events that are not there": (
        "update audit.seal_tiles set ids = '{[1000000,1000256)}' where level = 0 and tile = 0",
        [("tile_changed", "tile 0 of level 0")],
    ),
    "a tile claims more events than there can be": (
        "update audit.seal_tiles set ids = '{[1,1000000000000)}' where level = 0 and tile = 0",
        [("tile_changed", "tile 0 of level 0")],
    ),
    "two tiles claim the same events": (
        "update audit.seal_tiles set ids = '{[1,207)}' where level = 0 and tile = 1",
        [("tile_changed", "tile 1 of level 0")],
    ),
    "a tile above is changed": (
        "update audit.seal_tiles set hashes = set_byte(hashes, 3, get_byte(hashes, 3) # 1) where level = 1",
        [("tile_changed", "tile 0 of level 1")],
    ),
    "a tile is removed": (
        "delete from audit.seal_tiles where level = 1",
        [("tile_changed", "tile 0 of level 1")],
    ),
    "the salts are removed": (
        "delete from audit.seal_seeds",
        [("salts_missing", "events 1-462")],
    ),
    "a salt is changed": (
        "update audit.seal_seeds set seed = set_byte(seed, 0, get_byte(seed, 0) # 1)",
        [("event_changed", "event 1")],
    ),
    "a checkpoint's row is changed": (
        "update audit.seal_checkpoints set up_to_id = up_to_id + 1",
        [("checkpoint_invalid", "the checkpoint of 462 events")],
    ),
    "a checkpoint's text is changed": (
        "update audit.seal_checkpoints set note = replace(note, '462', '461')",
        [("checkpoint_invalid", "the checkpoint of 462 events")],
    ),
    "all seals are removed": (
        "truncate audit.seal_checkpoints, audit.seal_tiles, audit.seal_keys, audit.seal_partitions, audit.seal_seeds",
        [("trail_behind", "kept")],
    ),
    "a slot is said to have been redacted": (
        "insert into audit.redacted_slots (event_id, slot, redaction_id, commitment) values (77, 3, 400, sha256('x'))",
        [("event_changed", "event 77"), ("redaction_unannounced", "event 77")],
    ),
    "a partition is dropped": (
        "do $$ begin execute (select 'drop table ' || tableoid::regclass from audit.logged_actions limit 1); end $$",
        [("event_removed", "event 1")],
    ),
}


@pytest.mark.parametrize("act", TAMPERING)
def test_tampering_is_found_and_named(sealed: Sealed, act: str) -> None:
    statement, expected = TAMPERING[act]
    sealed.tamper(statement)
    found = [(kind, subject.replace(str(sealed.kept), "kept")) for kind, subject in sealed.found()]
    for kind, subject in expected:
        assert any(k == kind and s.startswith(subject) for k, s in found), found
    assert bool(found) == bool(expected)


def test_a_forged_tree_is_not_sealed_on(sealed: Sealed) -> None:
    sealed.execute(MORE.format(5))
    sealed.tamper(
        "update audit.seal_tiles set hashes = set_byte(hashes, 3, get_byte(hashes, 3) # 1)"
    )
    with pytest.raises(AuditError, match="differs from the last sealed one, of 462 events"):
        sealed.seal()


def test_who_rewrites_all_of_it_needs_the_key(sealed: Sealed, tmp_path: Path) -> None:
    """The owner of the database seals a trail of his own with a key of his own."""
    from audit_toolkit.seals import new_key, write_key

    other = tmp_path / "other.key"
    write_key(other, new_key("example.com/shop"))
    with pytest.raises(AuditError, match="is not valid for the key"):
        run_seal(sealed.connection, "audit", read_key(other))
    sealed.tamper(
        "delete from audit.logged_actions where event_id = 77",
        "truncate audit.seal_checkpoints, audit.seal_tiles, audit.seal_keys, audit.seal_partitions, audit.seal_seeds",
    )
    run_seal(sealed.connection, "audit", read_key(other))
    kinds = [kind for kind, _ in sealed.found()]
    assert kinds == ["checkpoint_invalid", "trail_behind"]
    # With the key of the sealer, too, the checkpoints outside tell.
    sealed.tamper(
        "truncate audit.seal_checkpoints, audit.seal_tiles, audit.seal_keys, audit.seal_partitions, audit.seal_seeds"
    )
    run_seal(sealed.connection, "audit", read_key(sealed.key))
    assert [kind for kind, _ in sealed.found()] == ["trail_behind"]
    sealed.execute(MORE.format(5))
    run_seal(sealed.connection, "audit", read_key(sealed.key))
    assert [kind for kind, _ in sealed.found()] == ["trail_forked"]


def test_a_trail_that_was_put_back_is_not_sealed_on(sealed: Sealed) -> None:
    sealed.execute(MORE.format(5))
    sealed.seal()
    sealed.tamper(
        "delete from audit.logged_actions where event_id > 462",
        "delete from audit.seal_checkpoints where tree_size > 462",
        "update audit.seal_tiles set hashes = substring(hashes for (462 - 256) * 32), ids = '{[257,463)}' where level = 0 and tile = 1",
        "update audit.seal_partitions set events = 462, last_id = 462",
    )
    assert [kind for kind, _ in sealed.found()] == ["trail_behind"]
    with pytest.raises(
        AuditError, match="has a checkpoint of 467 events, and the database has sealed 462"
    ):
        sealed.seal()


def test_a_place_that_a_copy_is_sealed_to_is_not_sealed_to(sealed: Sealed) -> None:
    """The copy is behind this trail by now, so that its checkpoints are of fewer events."""
    run_seal(sealed.connection, "audit", read_key(sealed.key), sinks=[open_sink(str(sealed.kept))])
    sealed.execute(MORE.format(5))
    run_seal(sealed.connection, "audit", read_key(sealed.key))
    key = read_key(sealed.key)
    other = Checkpoint(
        origin=key.public.name,
        size=464,
        root=b"r" * 32,
        up_to_id=464,
        sealed_at="2026-11-28T00:00:00Z",
    )
    copys = write_note(other.text, key.public, key.sign(other.text))
    place = f"memory://copy{os.getpid()}"
    for sink in (open_sink(str(sealed.kept)), open_sink(place)):
        sink.put(other, copys, None)
        with pytest.raises(
            AuditError, match="has a checkpoint of 464 events that is not of this trail"
        ):
            run_seal(sealed.connection, "audit", key, sinks=[sink])
    assert [kind for kind, _ in sealed.found()] == ["trail_forked"]


def test_a_copy_that_was_not_adopted_is_not_sealed(sealed: Sealed) -> None:
    home = "select database_oid from audit.home"
    [[here]] = sealed.trail.execute(home)
    sealed.trail.execute("update audit.home set database_oid = 1; " + MORE.format(1))
    with pytest.raises(AuditError, match="came from another cluster or database") as refused:
        sealed.seal()
    assert refused.value.hint == "audit adopt --reason REASON continues it here"
    assert sealed.verify().findings == []
    sealed.trail.execute("update audit.home set database_oid = %s", [here])
    assert sealed.seal().events == 1


def test_events_that_may_still_come_are_waited_for(sealed: Sealed) -> None:
    other = sealed.trail.database.connect(autocommit=False)
    other.execute("insert into orders values (5000, 'slow', null)")
    sealed.execute(MORE.format(3))
    run = sealed.seal(wait=0)
    assert (run.events, len(run.held_by)) == (0, 1)
    other.commit()
    assert sealed.seal().events == 4
    assert sealed.found() == []


@pytest.mark.thorough
def test_one_sealer_at_a_time(sealed: Sealed) -> None:
    sealed.execute(MORE.format(3))
    other = sealed.trail.database.connect(autocommit=False)
    other.execute("lock table audit.seal_checkpoints in share update exclusive mode")
    with pytest.raises(BusyError, match="another run is sealing"):
        sealed.seal()
    other.rollback()
    assert sealed.seal().events == 3


def test_keys_rotate(sealed: Sealed) -> None:
    former = (sealed.folder / "seal.key.pub").read_text()
    (sealed.folder / "old.pub").write_text(former)
    for _ in range(2):
        rotate_key(sealed.key)
        sealed.execute("update orders set status = status || '!' where id = 1")
    sealed.seal()
    assert sealed.found() == []
    from audit_toolkit.connection import connect
    from audit_toolkit.seals import read_outside, read_public, verify

    with connect(sealed.trail.database.dsn) as connection:
        outside = read_outside([str(sealed.kept)])
        report = verify(
            connection, "audit", keys=read_public(sealed.folder / "old.pub"), outside=outside
        )
    assert (report.findings, report.outside) == ([], 2)


def test_the_key_is_kept_from_others(sealed: Sealed) -> None:
    assert sealed.key.stat().st_mode & 0o777 == 0o600
    sealed.key.chmod(0o644)
    with pytest.raises(UsageError, match="can be read by others than its owner"):
        read_key(sealed.key)
    [(columns,)] = sealed.execute(
        "select count(*) from pg_attribute where attrelid = 'audit.seal_keys'::regclass and attname like '%priv%'"
    )
    assert columns == 0


def test_in_parallel_and_since(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_toolkit.seals import verify as module_verify

    sealed.execute(MORE.format(9000))
    sealed.seal()
    module = sys.modules[module_verify.__module__]
    monkeypatch.setattr(module, "PARALLEL_FROM", 0)
    assert sealed.verify(jobs=2) == sealed.verify(jobs=1)
    assert [sealed.verify(jobs, since).findings for jobs in (1, 2) for since in (9000, 9462)] == [
        []
    ] * 4
    sealed.tamper(
        "update audit.logged_actions set role_name = 'x' where event_id in (100, 9001)",
        "delete from audit.logged_actions where event_id = 4096",
    )
    one, two = sealed.verify(jobs=1), sealed.verify(jobs=2)
    assert one.findings == two.findings
    assert [f.subject for f in one.findings] == ["event 4096", "event 100", "event 9001"]
    for jobs in (1, 2):
        later = sealed.verify(jobs=jobs, since=462)
        assert [f.subject for f in later.findings] == ["event 4096", "event 9001"]
        assert later.verified == one.verified - 461
        latest = sealed.verify(jobs=jobs, since=9000)
        assert ([f.subject for f in latest.findings], latest.verified) == (["event 9001"], 461)
        counted = sealed.verify(jobs=jobs, since=9462).findings  # what is not read is counted
        assert [f.kind for f in counted] == ["seal_record_changed"]


def test_prepared_transactions_are_waited_for(sealed: Sealed, prepares: None) -> None:
    sealed.execute("begin; insert into orders values (6000, 'prepared', null)")
    sealed.execute("prepare transaction 'seal'")
    try:
        sealed.execute(MORE.format(3))
        held = sealed.seal(wait=0)
        assert (held.events, [one.prepared_name for one in held.held_by]) == (0, ["seal"])
    finally:
        sealed.execute("commit prepared 'seal'")
    assert sealed.seal().events == 4
    assert sealed.found() == []


def test_detached_and_dropped_partitions_are_no_alarm(sealed: Sealed) -> None:
    sealed.tamper("update audit.logged_actions set schema_name = schema_name")
    partition = detach(sealed)
    sealed.execute("update audit.partition_lifecycle set state = 'attached'")
    assert [kind for kind, _ in sealed.found()][:1] == ["event_removed"]
    sealed.execute("update audit.partition_lifecycle set state = 'detached'")
    assert sealed.found() == []
    sealed.tamper(f"update {partition} set role_name = 'x' where event_id = 77")
    assert sealed.found() == [("event_changed", "event 77")]
    drop(sealed, str(partition))
    report = sealed.verify()
    assert report.findings == []
    assert [(gone.partition, gone.events) for gone in report.gone] == [
        (str(partition).split(".")[1], 462)
    ]
    assert report.outside == 1


def test_mutations_are_all_found(sealed: Sealed) -> None:
    """Random bits of random columns and tables; `SEAL_MUTATIONS=10000` for the proof."""
    number = int(os.environ.get("SEAL_MUTATIONS", "12"))
    rng = random.Random(int(os.environ.get("SEAL_SEED", "4")))
    missed = []
    with psycopg.connect(sealed.trail.database.dsn) as connection:
        connection.execute("set session_replication_role = replica")
        for table, trigger in connection.execute(
            "select tgrelid::regclass::text, tgname from pg_trigger as t join pg_class as c on c.oid = tgrelid "
            "where relnamespace = 'audit'::regnamespace and not tgisinternal"
        ).fetchall():
            connection.execute(f'alter table {table} disable trigger "{trigger}"'.encode())
        connection.commit()
        from audit_toolkit.seals import read_outside, read_public
        from audit_toolkit.seals.verify import verify_within

        keys, outside = read_public(sealed.key), read_outside([str(sealed.kept)])
        assert verify_within(connection, "audit", keys=keys, outside=outside).alarms == []
        for turn in range(number):
            what = mutate(connection, rng)
            if not verify_within(connection, "audit", keys=keys, outside=outside).alarms:
                missed.append((turn, what))
            connection.rollback()
    assert missed == []
    print(f"{number} mutations, all found")


TEXTS = ("schema_name", "table_name", "action", "row_key", "old_row_key", "session_user_name", "role_name", "application_name", "query")  # fmt: skip


def mutate(connection: psycopg.Connection[tuple[object, ...]], rng: random.Random) -> str:
    """Change something of the trail or its seals."""
    event = rng.randrange(1, 463)
    tile = rng.randrange(2)
    text = rng.choice(TEXTS)
    byte = rng.randrange(32 * (WIDTH if tile == 0 else 462 - WIDTH))
    bit = 1 << rng.randrange(8)
    choices = {
        "text": f"update audit.logged_actions set {text} = coalesce({text}, '') || chr({rng.randrange(33, 0x2FFF)}) where event_id = {event}",
        "null": f"update audit.logged_actions set application_name = case when application_name is null then '' end where event_id = {event}",
        "time": f"update audit.logged_actions set {rng.choice(['action_tstamp', 'transaction_tstamp'])} = now() - '{rng.randrange(1, 999)} us'::interval where event_id = {event}",
        "transaction": f"update audit.logged_actions set transaction_id = '{rng.randrange(3, 2**60)}' where event_id = {event}",
        "address": f"update audit.logged_actions set client_addr = '10.{rng.randrange(256)}.0.1' where event_id = {event}",
        "json": f"update audit.logged_actions set {rng.choice(['old_row', 'new_row', 'context'])} = jsonb_build_object('x', {rng.random()}) where event_id = {event}",
        "delete": f"delete from audit.logged_actions where event_id = {event}",
        "insert": f"insert into audit.logged_actions (event_id, schema_name, table_name, action) values ({rng.choice([-rng.randrange(10**9), 0])}, 's', 't', 'I')",
        "swap": f"update audit.logged_actions set event_id = 463 - event_id where event_id in ({event}, 463 - {event})",
        "tile": f"update audit.seal_tiles set hashes = set_byte(hashes, {byte}, get_byte(hashes, {byte}) # {bit}) where level = 0 and tile = {tile}",
        "tile above": f"update audit.seal_tiles set hashes = set_byte(hashes, {byte % 32}, get_byte(hashes, {byte % 32}) # {bit}) where level = 1",
        "ids": f"update audit.seal_tiles set ids = ids - int8multirange(int8range({event}, {event}, '[]')) where ids @> {event}::bigint",
        "note": f"update audit.seal_checkpoints set note = overlay(note placing chr(ascii(substring(note from {1 + byte % 100} for 1)) # 1) from {1 + byte % 100} for 1)",
        "root": f"update audit.seal_checkpoints set root = set_byte(root, {byte % 32}, get_byte(root, {byte % 32}) # {bit})",
        "size": "update audit.seal_checkpoints set tree_size = tree_size + 1",
        "up to": f"update audit.seal_checkpoints set up_to_id = up_to_id - {1 + event}",
        "seed": f"update audit.seal_seeds set seed = set_byte(seed, {byte % 32}, get_byte(seed, {byte % 32}) # {bit})",
        "redacted": f"insert into audit.redacted_slots (event_id, slot, redaction_id, commitment) values ({event}, {rng.randrange(6)}, {event}, sha256('x'))",
    }
    name = rng.choice(list(choices))
    changed = connection.execute(choices[name].encode()).rowcount
    assert changed, choices[name]
    return choices[name]


def test_the_command_line(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from audit_toolkit.cli.app import app

    monkeypatch.setenv("AUDIT_DATABASE_URL", sealed.trail.database.dsn)
    monkeypatch.chdir(sealed.folder)

    def audit(*words: str) -> tuple[int, str]:
        answer = CliRunner().invoke(app, list(words))
        return answer.exit_code, answer.output

    assert audit("keys", "new", "--key", "seal.key")[0] == 2
    code, said = audit("seal", "--key", "seal.key", "--checkpoint-to", "kept")
    assert (code, said) == (0, "sealed 1 event; 463 in all, up to event 463\n")  # what is captured
    code, said = audit("seal", "--key", "seal.key", "--format", "json")
    assert (code, json.loads(said)["size"]) == (0, 463)
    coverage = sealed.execute("select action from audit.logged_actions where event_id = 463")
    assert coverage == [("M",)]
    assert "no key to sign seals with is given" in audit("seal")[1]
    code, said = audit("verify", "--checkpoints", "kept", "--key", "seal.key.pub")
    assert code == 0
    assert said.startswith("463 events sealed, up to event 463, at 20")
    assert said.endswith("OK: 463 events match their seals; 2 checkpoints kept outside agree\n")
    code, said = audit("prove", "77")
    assert code == 0
    Path("proof.json").write_text(said)
    code, said = audit("verify-proof", "proof.json", "--key", "seal.key.pub")
    assert code == 0
    assert "proved: this event is in the sealed trail (up to event 463 at" in said
    sealed.tamper("update audit.logged_actions set role_name = 'x' where event_id = 77")
    code, said = audit(
        "verify", "--checkpoints", "kept", "--key", "seal.key.pub", "--format", "json"
    )
    assert code == 3
    assert [f["subject"] for f in json.loads(said)["findings"]] == ["event 77"]
    assert audit("prove", "77")[0] == 1
    assert audit("prove", "99999")[0] == 2
    assert audit("verify", "--checkpoints", "nowhere")[0] == 2
    code, said = audit("keys", "list")
    assert "the first key" in said


def test_sinks(sealed: Sealed, tmp_path: Path) -> None:
    kept = tmp_path / "by command"
    command = f"command:{sys.executable} -c \"import sys; open({str(kept)!r}, 'a').write(sys.stdin.read())\""
    places = [command, f"memory://seals{os.getpid()}", "/proc/nowhere", "command:false"]
    sinks = [open_sink(place) for place in places]
    run = run_seal(sealed.connection, "audit", read_key(sealed.key), sinks=sinks)
    assert [one.address for one in run.failed] == places[2:]
    assert kept.read_text() == run.note
    assert sinks[1].newest("example.com/shop") == (462, run.note)
    run = run_seal(sealed.connection, "audit", read_key(sealed.key), sinks=sinks)
    assert kept.read_text() == run.note, "once is enough"
    assert [one.address for one in run.failed] == places[2:]


def test_a_place_is_asked_what_it_has(sealed: Sealed, tmp_path: Path) -> None:
    """Whoever says in the database that all is kept does not keep checkpoints from getting outside."""
    told = tmp_path / "told"
    command = f"command:{sys.executable} -c \"import sys; open({str(told)!r}, 'a').write(sys.stdin.read())\""
    sinks = [open_sink(command), open_sink(str(sealed.kept))]

    def seal() -> list[str]:
        sealed.execute(
            "update audit.maintenance set summary = jsonb_set(summary, '{sinks}', (select jsonb_agg(s ||"
            " '{\"size\": 999999}') from jsonb_array_elements(summary -> 'sinks') as s)) where command = 'seal'"
        )
        told.write_text("")
        run_seal(sealed.connection, "audit", read_key(sealed.key), sinks=sinks)
        return [file.stem[-3:] for file in sorted(sealed.kept.rglob("*.checkpoint"))]

    run_seal(sealed.connection, "audit", read_key(sealed.key), sinks=sinks)
    sealed.execute(MORE.format(3))
    assert (seal(), told.read_text().split("\n")[1]) == (["462", "465"], "465")
    shutil.rmtree(sealed.kept)
    assert (seal(), told.read_text()) == (["465"], "")


def test_a_signer_command(sealed: Sealed, tmp_path: Path) -> None:
    from audit_toolkit.seals import CommandSigner, read_public

    script = tmp_path / "sign.py"
    script.write_text(
        "import sys, base64, pathlib\n"
        "from audit_toolkit.seals import read_key\n"
        f"key = read_key(pathlib.Path({str(sealed.key)!r}))\n"
        "print(base64.b64encode(key.sign(sys.stdin.read())).decode())\n"
    )
    public = read_public(sealed.key)[0]
    sealed.execute(MORE.format(3))
    signer = CommandSigner(f"{sys.executable} {script}", public)
    assert run_seal(sealed.connection, "audit", signer).events == 3
    assert sealed.found() == []
    sealed.execute("update orders set status = 'y' where id = 1")
    for wrong in ("false", "echo nothing", "no-such-program"):
        with pytest.raises(AuditError, match="the signer"):
            run_seal(sealed.connection, "audit", CommandSigner(wrong, public))
    assert sealed.verify().unsealed == 1


def test_writers_never_wait_for_a_sealer(sealed: Sealed) -> None:
    sealed.execute(MORE.format(20))
    written = threading.Event()

    def write() -> None:
        with psycopg.connect(sealed.trail.database.dsn, autocommit=True) as connection:
            connection.execute("update orders set status = 'z' where id = 1")
            written.set()

    with sealed.connection.transaction():
        sealed.execute("lock table audit.seal_checkpoints in share update exclusive mode")
        thread = threading.Thread(target=write)
        thread.start()
        assert written.wait(20)
    thread.join()
