"""Values as the WAL prints them and as the images of the trail hold them, brought to one form. No I/O.

A cell is text as its type prints it, an image is JSON as `to_jsonb` makes it. Where one follows from the other, both
are compared here; what arrays and composite types look like as JSON, the server has to say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from enum import Enum, auto
from typing import Any

from audit_toolkit.long_keys import fitting
from audit_toolkit.wal import Cell, Missing


class Kind(Enum):
    """How a type looks as JSON."""

    TEXT = auto()
    """A string with the text of the cell; a number with the digits of the cell."""
    FLOAT = auto()
    BOOLEAN = auto()
    MOMENT = auto()
    """A string as ISO 8601 has it."""
    JSON = auto()
    SERVER = auto()
    """As the server says."""


@dataclass(frozen=True, slots=True)
class Type:
    """A type of the database."""

    kind: Kind
    name: str = ""
    """As SQL writes it; only where the server is asked."""
    is_number: bool = False


class Number(str):
    """The digits of a number of JSON, as they stood there."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Converted:
    """A cell of a type that the server made JSON of; an image may also have its text."""

    text: str
    image: str


Value = str | Converted | Missing | None
"""In the form in which a cell and a part of an image are equal if they say the same."""
Image = Mapping[str, Any]

_BUILT_IN = {
    16: Kind.BOOLEAN,
    700: Kind.FLOAT,
    701: Kind.FLOAT,
    1114: Kind.MOMENT,
    1184: Kind.MOMENT,
    114: Kind.JSON,
    3802: Kind.JSON,
}
_STAND_INS = ("audit:redacted", "audit:oversize")
_EXACT = Context(prec=200_000)


def type_of(base: int, category: str, kind: str, name: str) -> Type:
    """What a type is like; `base` is the one behind its domains, of that `typtype` and `typcategory`."""
    if category == "A" or kind == "c":
        return Type(Kind.SERVER, name)
    return Type(_BUILT_IN.get(base, Kind.TEXT), name, base in _NUMBERS)


def built_in(oid: int) -> Type | None:
    """The type, where nobody has to be asked."""
    return _KNOWN.get(oid)


_NUMBERS = frozenset({20, 21, 23, 700, 701, 1700})
_TEXTS = (17, 18, 19, 20, 21, 23, 25, 26, 650, 869, 1042, 1043, 1082, 1083, 1186, 1266, 1700, 2950)
_KNOWN = {
    oid: Type(kind, is_number=oid in _NUMBERS)
    for oid, kind in (dict.fromkeys(_TEXTS, Kind.TEXT) | _BUILT_IN).items()
}


def read_image(text: str | None) -> Image | None:
    """An image, whose numbers keep their digits."""
    if text is None:
        return None
    found = _DECODER.decode(text)
    return found if isinstance(found, dict) else {}


_DECODER = json.JSONDecoder(parse_int=Number, parse_float=Number)


def of_cell(cell: Cell, kind: Kind) -> Value:
    """A cell in the common form; of the kind `SERVER`, its text."""
    if cell is None or isinstance(cell, Missing):
        return cell
    form = _OF_CELL.get(kind)
    return form(cell) if form else cell


def of_image(image: Image, column: str, kind: Kind) -> Value:
    """What an image says of a column, in the common form; `ABSENT` where it says nothing to compare."""
    try:
        value = image[column]
    except KeyError:
        return Missing.ABSENT
    if value is None:
        return None
    if isinstance(value, dict) and any(word in value for word in _STAND_INS):
        return Missing.UNCHANGED
    return _OF_IMAGE[kind](value)


def says_the_same(cell: Value, image: Value) -> bool:
    """Whether two values in the common form are the same; what is missing on either side is not held against it."""
    if isinstance(cell, Converted):
        return isinstance(image, Missing) or image in (cell.text, cell.image)
    return cell == image or isinstance(cell, Missing) or isinstance(image, Missing)


def key_text(values: list[Any]) -> str | None:
    """The key of a row as the trail writes it, from the values of its key columns in an image."""
    text = _plain(values[0]) if len(values) == 1 else _as_jsonb(values)
    return text and fitting(text)


def converted(text: str, image: str) -> Converted:
    """A cell, and what the server made of it."""
    return Converted(text, _plain_form(_DECODER.decode(image)))


def as_image_value(cell: Cell, type_: Type, made: str | None = None) -> Any:
    """The value of an image for a cell, so that the text of both is the same."""
    if cell is None or isinstance(cell, Missing):
        return None
    if made is not None or type_.kind is Kind.JSON:
        return _DECODER.decode(made or cell)
    if type_.is_number and cell[-1:].isdigit():
        return Number(format(Decimal(cell), "f") if type_.kind is Kind.FLOAT else cell)
    if type_.kind is Kind.BOOLEAN:
        return cell == "t"
    if type_.kind is Kind.MOMENT:
        return _iso(cell)
    return cell


def _iso(cell: str) -> str:
    if not cell[:1].isdigit():
        return cell
    moment, era = (cell[:-3], " BC") if cell.endswith(" BC") else (cell, "")
    moment = moment.replace(" ", "T", 1)
    return (f"{moment}:00" if moment.endswith("+00") else moment) + era


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _plain_form(value)


def _float(value: Any) -> str:
    # No negative zero: numeric, and so JSONB, has none.
    return repr(float(value) + 0.0) if isinstance(value, str) else _plain_form(value)


def _boolean(value: Any) -> str:
    return {True: "t", False: "f"}[value] if isinstance(value, bool) else _text(value)


def _moment(value: Any) -> str:
    text = _text(value)
    if not text[:1].isdigit():
        return text
    return text.replace("T", " ", 1).replace("+00:00", "+00")


def _of_json(cell: str) -> str | None:
    # The null of JSON and that of SQL are one in an image.
    value = _DECODER.decode(cell)
    return None if value is None else _plain_form(value)


def _text_or_form(value: Any) -> str:
    """As text where the trail keeps the type as text."""
    return value if type(value) is str else _plain_form(value)


def _plain_form(value: Any) -> str:
    """JSON in one spelling: keys in order, numbers without zeros that say nothing."""
    return json.dumps(_plain_numbers(value), ensure_ascii=False, sort_keys=True)


def _plain_numbers(value: Any) -> Any:
    match value:
        case Number():
            number = Decimal(value)
            return {"number": "0" if number == 0 else str(number.normalize(_EXACT))}
        case dict():
            return {name: _plain_numbers(inner) for name, inner in value.items()}
        case list():
            return [_plain_numbers(inner) for inner in value]
    return value


def _plain(value: Any) -> str | None:
    """As `->>` gives it."""
    return value if value is None or isinstance(value, str) else _as_jsonb(value)


def image_text(image: Image) -> str:
    """The JSON of an image."""
    return _as_jsonb(dict(image))


def _as_jsonb(value: Any) -> str:
    """JSON as PostgreSQL prints JSONB; the keys of objects, which it orders, stay as they are."""
    match value:
        case Number():
            return str(value)
        case list():
            return f"[{', '.join(map(_as_jsonb, value))}]"
        case dict():
            return f"{{{', '.join(f'{_as_jsonb(k)}: {_as_jsonb(v)}' for k, v in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)


_OF_CELL: dict[Kind, Callable[[str], Value]] = {Kind.FLOAT: _float, Kind.JSON: _of_json}
_OF_IMAGE: dict[Kind, Callable[[Any], Value]] = {
    Kind.TEXT: _text,
    Kind.FLOAT: _float,
    Kind.BOOLEAN: _boolean,
    Kind.MOMENT: _moment,
    Kind.JSON: _plain_form,
    Kind.SERVER: _text_or_form,
}
