"""What a list shows, as CSV or JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from starlette.responses import Response

from audit_toolkit import exact_json
from audit_toolkit.exact_json import Json
from audit_toolkit.spreadsheet import guard_cell
from audit_toolkit.trail import Event
from audit_toolkit.web.viewer import Seen


def as_json(seen: Iterable[Seen]) -> Response:
    """The events as `audit history --format json` prints them, as far as they are seen."""
    lines = ",\n".join(exact_json.dumps(_dict(one), ascii_only=True) for one in seen)
    text = f'{{"events": [\n{lines}\n]}}\n'
    return Response(text, media_type="application/json", headers=_attached("json"))


def as_csv(seen: Iterable[Seen]) -> Response:
    """The events as `audit history --format csv --guard-cells` prints them, as far as they are seen."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(Event.field_names())
    for one in seen:
        writer.writerow([guard_cell(_cell(value)) for value in _dict(one).values()])
    return Response(file.getvalue(), media_type="text/csv", headers=_attached("csv"))


def _dict(seen: Seen) -> dict[str, Json]:
    return seen.event.as_dict() | {"changed": dict(seen.changed)}


def _cell(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else exact_json.dumps(value)


def _attached(ending: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="audit.{ending}"'}
