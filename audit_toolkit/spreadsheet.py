"""CSV that a spreadsheet opens without running what a cell says."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def guard_cell(cell: str) -> str:
    """The cell with an apostrophe before what a spreadsheet would take for a formula.

    Plain numbers stay as they are. This is the advice of OWASP on CSV injection.
    """
    if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def guard_lines(parts: Iterable[str]) -> Iterator[str]:
    """CSV as COPY writes it, a row at a time, with its cells guarded.

    NULL becomes an empty cell, as a spreadsheet has no other.
    """
    for row in csv.reader(_lines(parts)):
        yield csv_line([guard_cell(cell) for cell in row])


def csv_line(cells: Sequence[str]) -> str:
    """One line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _lines(parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        yield from io.StringIO(part, newline="")
