"""Images and keys that the worker makes of what is in the WAL, against those of triggers, byte for byte."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from audit_toolkit.config import Capture, Mask
from audit_toolkit.wal import Missing
from audit_toolkit.wal.decoder import Sent
from audit_toolkit.wal.images import images_of
from audit_toolkit.wal.recorder import Recorder
from audit_toolkit.wal.slot import peek
from tests.wal.conftest import WalTrail

TYPES = {
    "bool": ["true", "false"],
    "int2": ["-3"],
    "int8": ["9007199254740993", "0"],
    "numeric": ["1.00", "-0.5", "1e40", "'NaN'", "'-Infinity'"],
    "float4": ["0.1", "1e20", "1e-30", "'NaN'"],
    "float8": ["'-0'", "0.1::float8 + 0.2", "1e300", "'Infinity'"],
    "text": [
        "''",
        "'%b' || repeat('k', 2600)",
        "'null'",
        r"E'a\"b\\c\t\n\r\b\f\u0001\u007f/'",
        "'\u00e9\U0001f600'",
    ],
    "varchar(9)": ["'t'", "'nu'"],
    "char(5)": ["'ab'", "''"],
    "name": ["'x'"],
    '"char"': ["'z'", r"'\350'", "''"],
    "bytea": [r"'\x00ff'", "''", "decode(repeat('ab', 1400), 'hex')"],
    "uuid": ["'00000000-0000-0000-0000-00000000000a'"],
    "inet": ["'10.0.0.1/8'", "'::1'"],
    "cidr": ["'10.0.0.0/8'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "date": ["'2026-01-02'", "'0044-03-15 BC'", "'infinity'", "'12345-01-01'"],
    "time": ["'03:04:05.678'"],
    "timetz": ["'03:04:05+02'"],
    "interval": ["'1 mon -2 days 03:00'"],
    "timestamp": ["'2026-01-02 03:04:05.6'", "'-infinity'", "'0044-03-15 01:00 BC'"],
    "timestamptz": ["'2026-01-02 03:04:05.6+02'", "'infinity'", "'0044-03-15 01:00+00 BC'"],
    "json": [r"""E'{"b": 1.0,\n "a": "\\u00e9 \\"q\\"", "b": [null, 1e3]}'""", "'null'"],
    "jsonb": ["""'{"bb": 1.10, "a": [{"%": "\u00e9"}]}'""", "'\"x\"'"],
    "mood": ["'so \"so\"'"],
    "euro": ["2.5"],
}
KEYS = ["bool", "int8", "text", "char(5)", "bytea", "uuid", "date", "timestamptz", "mood"]
DDL = """
    create type mood as enum ('so "so"', 'glad');
    create domain euro as numeric(10, 2)"""


@pytest.fixture
def by_the_worker(wal_trail: WalTrail, monkeypatch: pytest.MonkeyPatch) -> WalTrail:
    """No image is made by the server."""

    def refuse(*_: Any) -> None:
        pytest.fail("the server was asked for images")

    monkeypatch.setattr(Recorder, "_replay", refuse)
    wal_trail.execute(DDL)
    return wal_trail


def run_both(trail: WalTrail, *statements: str) -> None:
    for statement in statements:
        for name in ("by_row", "by_wal"):
            trail.execute(statement.replace("{}", name))


def capture_both(trail: WalTrail, columns: str) -> None:
    run_both(trail, f"create table {{}} ({columns})")
    trail.audit("by_row")
    trail.audit("by_wal", capture=Capture.WAL)
    trail.read()


def test_values_of_each_type_are_as_to_jsonb_has_them(by_the_worker: WalTrail) -> None:
    columns = ", ".join(f'"{n} %" {t}' for n, t in zip(_names(), TYPES, strict=True))
    capture_both(by_the_worker, f"id int primary key, {columns}")
    for number in range(max(map(len, TYPES.values()))):
        values = ", ".join(found[number % len(found)] for found in TYPES.values())
        run_both(by_the_worker, f"insert into {{}} values ({number}, {values})")
    nulls = ", ".join(f'"{name} %" = null' for name in _names()[::2])
    run_both(
        by_the_worker,
        "update {} set id = id + 10",
        f"update {{}} set {nulls} where id > 12",
        "update {} set id = id",
        "delete from {} where id > 11",
        "truncate {}",
    )
    by_the_worker.read()
    found = by_the_worker.rows("by_wal")
    assert found == by_the_worker.rows("by_row")
    assert [row[0] for row in found] == [*"IIIII", *"UUUUU", *"UU", *"DDD", "T"]


def _names() -> list[str]:
    return [name.replace('"', "'") for name in TYPES]


def test_keys_are_as_in_images(by_the_worker: WalTrail) -> None:
    for number, type_name in enumerate(KEYS):
        for table in ("by_row", "by_wal"):
            rule: dict[str, Any] = {} if table == "by_row" else {"capture": Capture.WAL}
            by_the_worker.execute(f"create table {table}_{number} (k {type_name} primary key)")
            by_the_worker.audit(f"{table}_{number}", **rule)
    columns = ", ".join(f"k{number} {name}" for number, name in enumerate(KEYS))
    names = ", ".join(f"k{number}" for number in range(len(KEYS)))
    capture_both(by_the_worker, f"{columns}, primary key ({names})")
    for number, type_name in enumerate(KEYS):
        for value in TYPES[type_name]:
            for table in ("by_row", "by_wal"):
                by_the_worker.execute(f"insert into {table}_{number} values ({value})")
    for at in range(5):
        values = ", ".join(TYPES[name][at % len(TYPES[name])] for name in KEYS)
        run_both(by_the_worker, f"insert into {{}} values ({values})")
    by_the_worker.read()
    for table in ("", *(f"_{number}" for number in range(len(KEYS)))):
        assert by_the_worker.rows(f"by_wal{table}") == by_the_worker.rows(f"by_row{table}") != []


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ([("id", "bigint"), ("tags", "text[]")], ["id"]),
        ([("id", "numeric")], ["id"]),
        ([("id", "double precision")], ["id"]),
        ([("id", "bigint")], ["gone"]),
        ([("id", "bigint"), ("at", "tsvector")], ["id"]),
    ],
)
def test_the_server_makes_what_is_not_text_in_json(
    columns: list[tuple[str, str]], key: list[str]
) -> None:
    assert images_of(columns, key) is None
    assert images_of([("id", "bigint")], ["id"]) is not None


ROWS: list[list[str | Missing | None]] = [
    ["1", "a", "2026-01-02 03:04:05+00", "NaN", "t"],
    ["2", "\u00e9%", "0044-03-15 01:00:00+00 BC", "-0.5", "f"],
    ["3", 'b"\\', "infinity", "Infinity", "t"],
    ["4", None, None, "1", None],
    ["5", Missing.ABSENT, None, "2", "f"],
    [Missing.UNCHANGED, "", None, "3", "t"],
    ["7", "", None, None, "t"],
]


def test_rows_at_once_are_as_each_alone() -> None:
    types = ("bigint", "text", "timestamp with time zone", "numeric", "boolean")
    columns = [(f"{'%' * number}c", name) for number, name in enumerate(types)]
    draw = random.Random(8)
    for key in (["c"], ["%c"], ["c", "%%c"], []):
        images = images_of(columns, key)
        assert images is not None
        alone = [next(iter(images.of([sent(row)]))) for row in ROWS]
        assert json.loads(alone[3][0]) == {
            "c": 4,
            "%c": None,
            "%%c": None,
            "%%%c": 1,
            "%%%%c": None,
        }
        for _ in range(60):
            places = [draw.randrange(len(ROWS)) for _ in range(draw.randrange(5))]
            made = list(images.of([sent(ROWS[place]) for place in places]))
            assert made == [alone[place] for place in places]


def sent(row: list[str | Missing | None]) -> Sent:
    """A row as the WAL has it."""
    cells = [
        len(cell.encode()).to_bytes(4, "big") + cell.encode() if isinstance(cell, str) else cell
        for cell in row
    ]
    texts = [cell for cell in cells if isinstance(cell, bytes)]
    return b"".join([b"t" + text for text in texts]) if len(texts) == len(row) else cells


def test_what_the_wal_has_of_old_rows_is_kept_where_the_replica_identity_was_changed(
    by_the_worker: WalTrail,
) -> None:
    trail = by_the_worker
    trail.execute("create table docs (id int primary key, v text, big text)")
    trail.execute("alter table docs alter big set storage external")
    trail.audit("docs", capture=Capture.WAL)
    trail.read()
    trail.execute("insert into docs values (1, 'a', repeat('y', 9000)), (2, 'b', 'c')")
    trail.read()
    trail.execute("alter table docs replica identity default")
    trail.execute("update docs set v = 'd'; update docs set id = 3 where id = 1; delete from docs")
    trail.read()
    assert sorted(trail.rows("docs")[2:]) == [
        ("D", "2", None, None, None),
        ("D", "3", None, None, None),
        ("U", "1", None, None, '{"v": "d", "id": 1}'),
        ("U", "2", None, None, '{"v": "d", "id": 2, "big": "c"}'),
        ("U", "3", "1", None, '{"v": "d", "id": 3}'),
    ]
    assert "replica identity was not FULL" in str(trail.events()[-1]["new_row"])
    trail.read()
    trail.execute("insert into docs values (4)")
    trail.execute("delete from docs")
    trail.read()
    assert trail.rows("docs")[-1] == ("D", "4", None, '{"v": null, "id": 4, "big": null}', None)


def test_a_mask_that_is_installed_meanwhile_counts_for_what_is_still_to_be_read(
    wal_trail: WalTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal_trail.execute("create table docs (id int primary key, secret text)")
    wal_trail.audit("docs", capture=Capture.WAL)
    wal_trail.read()

    def masked_first(*arguments: Any, **options: Any) -> Any:
        if not masked:
            masked.append(True)
            wal_trail.audit("docs", capture=Capture.WAL, mask=(Mask(column="secret"),))
            wal_trail.execute("insert into docs values (1, 'open')")
        return peek(*arguments, **options)

    masked: list[bool] = []
    monkeypatch.setattr("audit_toolkit.wal.worker.peek", masked_first)
    wal_trail.read()
    ((*_, image),) = wal_trail.rows("docs")
    assert "open" not in image
