"""What the project's own revisions call its tables, as far as their text says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from alembic.script import Script, ScriptDirectory

from audit_toolkit.errors import ProjectError
from audit_toolkit.migrations.changes import Change, Rename
from audit_toolkit.migrations.revision.record import RECORD_NAME, RecordedState
from audit_toolkit.names import NamePattern, QualifiedName

_NAME = r'(?:"(?:[^"]|"")+"|\w+)(?:\.(?:"(?:[^"]|"")+"|\w+))?'
_RENAME = re.compile(
    rf"""
      \brename_table\(\s*["'](?P<old>[^"']+)["']\s*,\s*(?:new_table_name\s*=\s*)?["'](?P<new>[^"']+)["']
        (?:\s*,\s*schema\s*=\s*["'](?P<of>[^"']+)["'])?
    | \balter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?(?P<table>{_NAME})\s+
        (?:rename\s+to\s+(?P<to>{_NAME})|set\s+schema\s+(?P<moved>{_NAME}))
    | \balter\s+schema\s+(?P<schema>{_NAME})\s+rename\s+to\s+(?P<called>{_NAME})
    """,
    re.IGNORECASE | re.VERBOSE,
)


class LaterNames:
    """What later revisions call tables: each file is read once, as hundreds of tables ask for it."""

    def __init__(self, scripts: ScriptDirectory) -> None:
        self._scripts = scripts
        self._after: dict[str, tuple[re.Match[str], ...]] = {}

    def of(self, table: QualifiedName, revision: str) -> QualifiedName:
        """What `table` of a revision is called at the heads, where later revisions say that they rename it."""
        if revision not in self._after:
            later = list(self._scripts.walk_revisions(revision, "heads"))
            scripts = [script for script in reversed(later) if script.revision != revision]
            self._after[revision] = tuple(chain.from_iterable(map(_renames_of, scripts)))
        for found in self._after[revision]:
            table = _renamed(table, found)
        return table


def _renames_of(script: Script) -> Iterator[re.Match[str]]:
    return _RENAME.finditer(_text(script).partition("\ndef downgrade")[0])


def renamed_by_hand(
    scripts: ScriptDirectory, changes: Iterable[Change], state: RecordedState | None = None
) -> list[Rename]:
    """The tables that were renamed since they were captured, though no revision of the project does so.

    A database that its revisions make has such a table under its old name, or the one that they gave it since (which
    `state` helps to find), and a revision for the new one would stop there for ever after.
    """
    renames, later = [], LaterNames(scripts)
    for change in changes:
        made_for = change.former.made_for if change.former else change.table
        recorded = state.captures.get(made_for) if state else None
        last = later.of(made_for, recorded.revision) if recorded else made_for
        if change.table not in (made_for, last):
            renames.append(Rename(table=last, to=change.table))
    return [rename for rename in renames if not _is_told(scripts, rename)]


def require_no_rename_by_hand(scripts: ScriptDirectory, changes: Iterable[Change]) -> None:
    """Raise `ProjectError` for the first of them."""
    for rename in renamed_by_hand(scripts, changes):
        raise ProjectError(
            f"{rename.to} was called {rename.table} when capture was installed, and no "
            "revision of the project renames it",
            hint="write the revision that does, including its capture: audit install --table "
            f"{rename.to.plain}",
        )


def _is_told(scripts: ScriptDirectory, rename: Rename) -> bool:
    """Whether a revision of the project itself has the words that the table is called by now."""
    table, to = rename.table, rename.to
    words = [
        now for now, before in ((to.schema, table.schema), (to.name, table.name)) if now != before
    ]
    texts = list(_own_texts(scripts.walk_revisions()))
    return any(all(_has_word(text, word) for word in words) for text in texts)


def _own_texts(scripts: Iterable[Script]) -> Iterator[str]:
    """What people wrote: of a revision with our SQL what comes after that."""
    for script in scripts:
        text = _text(script)
        yield text.partition("\ndef upgrade")[2] if hasattr(script.module, RECORD_NAME) else text


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def _renamed(table: QualifiedName, found: re.Match[str]) -> QualifiedName:
    if found["schema"]:
        return (
            _in_schema(table, found["called"]) if _part(found["schema"]) == table.schema else table
        )
    if found["old"]:
        meant = NamePattern(found["of"] or "public", found["old"])
        return (
            QualifiedName(table.schema, found["new"]) if meant.matches(table, fold=False) else table
        )
    meant = NamePattern.parse(found["table"])
    if not (meant.schema or table.schema == "public") or not meant.matches(table, fold=True):
        return table
    if found["moved"]:
        return _in_schema(table, found["moved"])
    return QualifiedName(table.schema, _part(found["to"]))


def _in_schema(table: QualifiedName, schema: str) -> QualifiedName:
    return QualifiedName(_part(schema), table.name)


def _part(word: str) -> str:
    """A name as the catalogue has it."""
    return NamePattern.parse(word).name if word.startswith('"') else word.lower()


def _text(script: Script) -> str:
    path = Path(script.path)
    return _read(path) if path.suffix == ".py" else ""


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
