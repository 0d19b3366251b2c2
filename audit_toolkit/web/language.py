"""The page's language: gettext catalogues, numbers and times as people of it write them."""

from __future__ import annotations

import gettext
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from audit_toolkit.web.errors import AskedError
from audit_toolkit.web.settings import LANGUAGES

LOCALES = Path(__file__).parent / "locale"


def _(text: str) -> str:
    """Mark a text for translation."""
    return text


_DAYS = (
    _("Monday"),
    _("Tuesday"),
    _("Wednesday"),
    _("Thursday"),
    _("Friday"),
    _("Saturday"),
    _("Sunday"),
)
_MONTHS = (
    _("January"),
    _("February"),
    _("March"),
    _("April"),
    _("May"),
    _("June"),
    _("July"),
    _("August"),
    _("September"),
    _("October"),
    _("November"),
    _("December"),
)
_SEPARATORS = {"en": (",", "."), "de": (".", ",")}


class Words:
    """One language in one time zone."""

    def __init__(self, language: str, zone: ZoneInfo) -> None:
        self.language = language
        self.zone = zone
        self._translations = _catalogue(language)

    def gettext(self, text: str) -> str:
        """A text in this language."""
        return self._translations.gettext(text)

    def ngettext(self, one: str, many: str, number: int) -> str:
        """A text with a number in it, `%(num)s`."""
        return self._translations.ngettext(one, many, number) % {"num": self.number(number)}

    def number(self, value: int | Decimal) -> str:
        """A number with its digits in groups."""
        thousands, point = _SEPARATORS[self.language]
        whole, dot, rest = format(Decimal(value), ",f").partition(".")
        return whole.replace(",", thousands) + (point + rest if dot else "")

    def size(self, number: int) -> str:
        """A number of bytes."""
        size = float(number)
        for unit in ("bytes", "kB", "MB", "GB"):
            if abs(size) < 1024:
                return f"{self.number(Decimal(round(size)))} {unit}"
            size /= 1024
        return f"{self.number(Decimal(round(size)))} TB"

    def local(self, moment: datetime) -> datetime:
        """A moment in the zone of the page."""
        return moment.astimezone(self.zone)

    def moment(self, moment: datetime) -> str:
        """A moment with its day and its zone."""
        return f"{self.local(moment):%Y-%m-%d %H:%M:%S %Z}"

    def clock(self, moment: datetime) -> str:
        """The time of day."""
        return f"{self.local(moment):%H:%M}"

    def day(self, day: date) -> str:
        """A day as a headline."""
        weekday, month = self.gettext(_DAYS[day.weekday()]), self.gettext(_MONTHS[day.month - 1])
        text = self.gettext("%(weekday)s, %(day)s %(month)s %(year)s")
        return text % {"weekday": weekday, "day": day.day, "month": month, "year": day.year}

    def parse(self, text: str, name: str) -> datetime:
        """A moment that somebody typed, without a zone in that of the page.

        Raises `AskedError` for what is none.
        """
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError as error:
            raise AskedError(
                self.gettext("%(text)s is not a valid time") % {"text": repr(text[:40])},
                hint=f"{name}: 2026-11-23, 2026-11-23 07:30",
            ) from error
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self.zone)
        try:
            return moment.astimezone(UTC)
        except OverflowError as error:
            raise AskedError(
                self.gettext("%(text)s is not a valid time") % {"text": repr(text[:40])}, hint=name
            ) from error

    def typed(self, moment: datetime | None) -> str:
        """A moment as a field of a form holds it."""
        return f"{self.local(moment):%Y-%m-%dT%H:%M}" if moment else ""


def choose_language(accepted: str) -> str:
    """The language of an `Accept-Language` header that the page speaks, English if there is none."""
    wanted: list[tuple[float, str]] = []
    for part in accepted.split(",")[:20]:
        name, _, options = part.partition(";")
        quality = options.strip().removeprefix("q=") or "1"
        language = name.strip().lower().partition("-")[0]
        if language in LANGUAGES and quality.replace(".", "", 1).isdigit():
            wanted.append((-float(quality), language))
    return min(wanted, default=(0.0, "en"), key=lambda one: one[0])[1]


def joined(parts: Iterable[str], words: Words) -> str:
    """Parts as a list in a sentence: `a, b and c`."""
    *rest, last = parts
    if not rest:
        return last
    return words.gettext("%(rest)s and %(last)s") % {"rest": ", ".join(rest), "last": last}


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    if language == "en":
        return gettext.NullTranslations()
    return gettext.translation("page", LOCALES, [language])
