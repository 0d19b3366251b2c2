"""Batches of changes become events, within the transaction of the worker.

Where the text of the values is their JSON, images are made here and events copied into the trail. Else the rows are
staged, and the server makes events of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg

from audit_toolkit.names import replay_function, wal_tables
from audit_toolkit.templates import render
from audit_toolkit.wal.batch import Batch, Part
from audit_toolkit.wal.changes import lsn_text
from audit_toolkit.wal.columns import called_by_name, called_then, places_of
from audit_toolkit.wal.context import NOBODY, Who, who_of
from audit_toolkit.wal.images import Images, images_of
from audit_toolkit.wal.messages import Column, Relation
from audit_toolkit.wal.staging import (
    COPIED,
    HEADER,
    STAGED,
    TRAILER,
    event_lines,
    is_wide,
    made_line,
    staged_lines,
)
from audit_toolkit.wal.statements import Statements
from audit_toolkit.wal.tables import Rule, Table


class Recorder:
    """Makes events of batches."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql
        self._staged: dict[str, tuple[Column, ...]] = {}
        """The columns that the table of staged rows has, by the capture function."""
        self._filled: set[str] = set()
        """The tables of which rows are staged in this transaction."""
        self._called: dict[tuple[str, str, Relation], dict[str, list[str]]] = {}
        """What columns were called in rows of a table, by its function, what the trail knows of it, and their form."""
        self._images: dict[tuple[tuple[Column, ...], tuple[str, ...]], Images | None] = {}
        """What makes the images of rows, by their columns and key; None where the server does."""

    def who_of(self, message: bytes | None) -> Who:
        """Who wrote, by that message; nobody where the database cannot store what it says."""
        who = who_of(message)
        is_utf8 = self._sql.connection.info.parameter_status("server_encoding") == "UTF8"
        return who if who is NOBODY or is_utf8 or self._may_store(who) else NOBODY

    def _may_store(self, who: Who) -> bool:
        names = [who.session_user_name, who.role_name, who.application_name]
        try:
            with self._sql.connection.transaction():
                self._sql.fetch("storable", context=who.context, names=names)
        except psycopg.DataError:
            return False
        return True

    def committed(self) -> None:
        """Note that the transaction has ended: staged rows are gone with it (ON COMMIT DELETE ROWS)."""
        self._filled.clear()

    def forget(self) -> None:
        """Note that the transaction was rolled back."""
        self._staged.clear()
        self._filled.clear()

    def record(self, batch: Batch) -> None:
        """Have events made of the changes of a batch; ids go by their order, whichever table is first."""
        if not batch.count:
            return
        ids, rules = self._next_ids(batch)
        events = [
            made_line(place, stamped, made, rules[table.function_name].called, ids)
            for place, stamped, table, made in batch.made
            if table.function_name in rules
        ]
        if events:
            self._copy_events(events)
        copied = {
            id(part): images for part in batch.parts if (images := self._images_of(part, rules))
        }
        events = [
            line
            for part in batch.parts
            if (images := copied.get(id(part)))
            for line in event_lines(part.rows, images, rules[part.table.function_name], ids)
        ]
        if events and not self._may_copy_events(events):
            copied = {}
        for part in batch.parts:
            if id(part) not in copied:
                self._replay(part, rules.get(part.table.function_name), ids)
            if part.incomplete_lsn is not None:
                lsn = lsn_text(part.incomplete_lsn)
                self._sql.run("incomplete", function=part.table.function_name, lsn=lsn)
        batch.clear()

    def _next_ids(self, batch: Batch) -> tuple[bytes, dict[str, Rule]]:
        """The ids of its events, and the rules of its tables by their functions; none where capture has ended."""
        tables = [part.table for part in batch.parts] + [table for *_, table, _ in batch.made]
        functions = sorted({table.function_name for table in tables})
        (given,) = self._sql.fetch("next_ids", count=batch.count, functions=functions)
        return given["ids"], {
            function: Rule(**{**rule, "called": tuple(rule["called"]), "key": tuple(rule["key"])})
            for function, rule in (given["rules"] or {}).items()
        }

    def _images_of(self, part: Part, rules: Mapping[str, Rule]) -> Images | None:
        """What makes the images of these rows; None where the server does."""
        rule, columns = rules.get(part.table.function_name), part.relation.columns
        if rule is None or not rule.is_whole or part.table.virtual_columns:
            return None
        called = self._called_then(part, rule)
        known = (columns, tuple(called.get(name, [name])[0] for name in rule.key))
        if known not in self._images:
            types = self.types(part.relation)
            named = [(c.name, types[c.type_oid, c.type_modifier][1]) for c in columns]
            self._images[known] = images_of(named, known[1])
        return self._images[known]

    def _called_then(self, part: Part, rule: Rule) -> dict[str, list[str]]:
        """What the columns that the rule means were called when rows of this form were written."""
        table, relation = part.table, part.relation
        form = (table.function_name, rule.version, relation)
        if form not in self._called:
            self._called[form] = self._read_called_then(table, relation)
        return self._called[form]

    def _read_called_then(self, table: Table, relation: Relation) -> dict[str, list[str]]:
        (found,) = self._sql.fetch(
            "places",
            function=table.function_name,
            relation=relation.oid,
            unread=[*table.virtual_columns, *table.unpublished_columns],
        )
        installed, noted = (
            {int(number): name for number, name in found[columns].items()}
            for columns in ("installed", "noted")
        )
        present = [(number, name) for number, name in found["present"]]
        is_known = present and all(number or name is None for number, name in present)
        # Of a partition that is gone the order is not known.
        read = called_then if is_known or found["is_table"] else called_by_name
        if not is_known:
            present = sorted(noted.items())
        names = [column.name for column in relation.columns]
        return read(names, places_of(installed, noted, present))

    def _may_copy_events(self, events: Iterable[bytes]) -> bool:
        """Whether the trail took them: not where JSON cannot hold a value, for which the server has stand-ins."""
        try:
            with self._sql.connection.transaction():
                self._copy_events(events)
        except psycopg.errors.QueryCanceled:
            raise
        except psycopg.Error:
            return False
        return True

    def _copy_events(self, events: Iterable[bytes]) -> None:
        self._copy(events, "copy_events", columns=COPIED)

    def _copy(self, lines: Iterable[bytes], template: str, **names: Any) -> None:
        text = render(f"wal/{template}", **self._sql.names, **names)
        with self._sql.connection.cursor() as cursor, cursor.copy(text) as copy:
            copy.write(b"".join((HEADER, *lines, TRAILER)))

    def _replay(self, part: Part, rule: Rule | None, ids: bytes) -> None:
        """Have images made of changes of one table, all of one form, and events of them."""
        function = part.table.function_name
        self._stage(part.table, part.relation)
        rows_table = wal_tables(function)[1]
        if function in self._filled:
            self._sql.run("empty", rows_table=rows_table, parameters={})
        self._filled.add(function)
        columns = len(part.relation.columns)
        self._copy(staged_lines(part.rows, columns, ids), "copy", rows_table=rows_table)
        if rule is not None:
            self._sql.fetch("called_then", called=json.dumps(self._called_then(part, rule)))
        self._sql.run("replay", replay=replay_function(function), parameters={})

    def _stage(self, table: Table, relation: Relation) -> None:
        if self._staged.get(table.function_name) == relation.columns:
            return
        columns_table, rows_table, changes_view = wal_tables(table.function_name)
        types = self.types(relation)
        self._sql.run(
            "stage",
            columns_table=columns_table,
            rows_table=rows_table,
            changes_view=changes_view,
            staged=STAGED,
            columns=[
                (column.name, types[column.type_oid, column.type_modifier][1])
                for column in relation.columns
            ],
            is_wide=is_wide(len(relation.columns)),
            virtual_columns=table.virtual_columns,
            parameters={},
        )
        self._staged[table.function_name] = relation.columns

    def types(self, relation: Relation) -> dict[tuple[int, int], tuple[str, str]]:
        """What the types of the columns are called, and in which types their values are put."""
        rows = self._sql.fetch(
            "staged_types",
            oids=[column.type_oid for column in relation.columns],
            modifiers=[column.type_modifier for column in relation.columns],
        )
        return {
            (row["type_oid"], row["modifier"]): (row["type_name"], row["staged"]) for row in rows
        }
