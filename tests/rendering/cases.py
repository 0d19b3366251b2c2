"""Tables and rules whose rendered SQL is kept."""

from __future__ import annotations

from typing import Any

from audit_toolkit.config import (
    Capture,
    Mask,
    MaskMethod,
    OnOversize,
    Store,
    Truncate,
)

ORDERS = """
    create table orders (
        id bigint generated always as identity primary key,
        customer_id bigint not null,
        status text not null default 'new',
        total numeric not null,
        placed_at timestamptz not null default now()
    )
"""
PEOPLE = "create table people (id int primary key, name text, email text, card text, note text)"
LINES = """
    create table order_lines (
        order_id bigint, line int, weight float8, period daterange, primary key (order_id, line)
    )
"""
EVENTS = """
    create table visits (at timestamptz, page text) partition by range (at);
    create table visits_2026 partition of visits for values from ('2026-01-01') to ('2027-01-01')
"""
ODD_NAME = "\"O'Brien's $$ 100% :x {{ tab }}\nle\""
ODD = f"""
    create schema "Wei""rd.Schema";
    create table "Wei""rd.Schema".{ODD_NAME} (
        "Key ""1" text, "select" text, primary key ("Key ""1", "select")
    )
"""
FILES = "create table files (id int primary key, name text, body text, raw bytea, meta json)"
PLAIN_LOG = "create table readings (sensor text, value real, taken timestamp)"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "row": (ORDERS, "orders", {}),
    "statement": (ORDERS, "orders", {"capture": Capture.STATEMENT}),
    "composite_key": (LINES, "order_lines", {}),
    "composite_key_statement": (LINES, "order_lines", {"capture": Capture.STATEMENT}),
    "no_key": (PLAIN_LOG, "readings", {}),
    "hidden_columns": (
        PEOPLE,
        "people",
        {
            "exclude": ("note",),
            "mask": (Mask(column="card"), Mask(column="email", method=MaskMethod.SHA256)),
        },
    ),
    "hidden_columns_statement": (
        PEOPLE,
        "people",
        {"capture": Capture.STATEMENT, "exclude": ("note",), "mask": (Mask(column="card"),)},
    ),
    "only": (PEOPLE, "people", {"only": ("name",)}),
    "changes_when": (ORDERS, "orders", {"store": Store.CHANGES, "when": "new.status <> 'draft'"}),
    "delta": (ORDERS, "orders", {"store": Store.DELTA}),
    "delta_hidden_when": (
        PEOPLE,
        "people",
        {
            "store": Store.DELTA,
            "exclude": ("note",),
            "mask": (Mask(column="card"),),
            "when": "name <> 'test'",
        },
    ),
    "everything_else": (
        ORDERS,
        "orders",
        {
            "truncate": Truncate.ROWS,
            "require_context": "actor",
            "capture_query": True,
            "log_unchanged": True,
        },
    ),
    "oversize": (FILES, "files", {"on_oversize": OnOversize.MARK, "exclude": ("name",)}),
    "truncate_forbidden": (ORDERS, "orders", {"truncate": Truncate.FORBID}),
    "partitioned": (EVENTS, "visits", {}),
    "wal": (
        PEOPLE,
        "people",
        {
            "capture": Capture.WAL,
            "mask": (Mask(column="card"),),
            "when": "name <> 'nobody'",
            "store": Store.CHANGES,
        },
    ),
    "odd_names": (ODD, f'"Wei""rd.Schema".{ODD_NAME}', {}),
}
