"""What the project's own revisions call its tables, as far as their text says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from alembic.script import Script, ScriptDirectory

from audit_toolkit.migrations.record import RECORD_NAME
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


def name_after(scripts: ScriptDirectory, table: QualifiedName, revision: str) -> QualifiedName:
    """What `table` of a revision is called at the heads, where later revisions say that they rename it."""
    later = scripts.walk_revisions(revision, "heads")
    for script in reversed([s for s in later if s.revision != revision]):
        for found in _RENAME.finditer(_upgrade_text(script)):
            table = _renamed(table, found)
    return table


def names_table(scripts: ScriptDirectory, table: QualifiedName, former: QualifiedName) -> bool:
    """Whether a revision of the project itself says what `former` is called now."""
    words = [
        now
        for now, before in ((table.schema, former.schema), (table.name, former.name))
        if now != before
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


def _upgrade_text(script: Script) -> str:
    return _text(script).partition("\ndef downgrade")[0]


def _text(script: Script) -> str:
    path = Path(script.path)
    return path.read_text(encoding="utf-8", errors="replace") if path.suffix == ".py" else ""
