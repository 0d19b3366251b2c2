"""The page in the team's language, and what it calls things."""

from __future__ import annotations

from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.web import ColumnLabel, Settings, TableLabel
from audit_toolkit.web.language import Words, choose_language
from audit_toolkit.web.settings import LANGUAGES
from tests.web.catalogue import CATALOGUES, compiled, messages
from tests.web.conftest import Browse, text_of

FILE = {
    "language": "de",
    "time_zone": "Europe/Berlin",
    "title": "Wer war's?",
    "tables": {
        "orders": {
            "label": "Bestellung",
            "link": "https://shop.example/orders/{key}",
            "columns": {
                "total": {"label": "Summe", "format": "number", "unit": "EUR"},
                "status": {"values": {"new": "neu", "paid": "bezahlt"}},
            },
        }
    },
}


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "en"])
def test_every_text_is_translated(language: str, request: pytest.FixtureRequest) -> None:
    from babel.messages.pofile import read_po

    folder = CATALOGUES / language / "LC_MESSAGES"
    with (folder / "page.po").open("rb") as file:
        catalogue = read_po(file, locale=language)
    found = {message.id: message.string for message in catalogue if message.id}
    assert set(found) == set(messages())
    for original, translated in found.items():
        many = str(original[-1] if isinstance(original, tuple) else original)
        texts = translated if isinstance(translated, tuple) else (translated,)
        assert all(texts)
        assert all(placeholders(str(text)) == placeholders(many) for text in texts), many
    if request.config.getoption("--update-golden"):
        (folder / "page.mo").write_bytes(compiled(language))
    assert (folder / "page.mo").read_bytes() == compiled(language), "pytest --update-golden"


def test_german_with_labels_units_values_and_links(browse: Browse) -> None:
    client = browse(settings=Settings.from_dict(FILE, where="audit.toml: page"))
    told = text_of(client.get("/row?table=orders&key=1", headers={"accept-language": "en"}))
    assert "support:joe hat geändert: Summe von 19,90 EUR auf 14,90 EUR und note von" in told
    assert "status von neu auf bezahlt" in told
    assert "Zeiten in Europe/Berlin" in told
    assert "Bestellung 1 öffnen" in told or "Bestellung öffnen" in told
    assert 'href="https://shop.example/orders/1"' in client.get("/row?table=orders&key=1").text
    assert '<html lang="de">' in client.get("/").text


def test_the_browser_decides_where_the_team_does_not(browse: Browse) -> None:
    client = browse()
    assert (
        "Neueste Änderungen" in client.get("/", headers={"accept-language": "de-CH,de;q=0.9"}).text
    )
    assert "What changed lately" in client.get("/", headers={"accept-language": "fr"}).text
    assert choose_language("fr, de;q=0.4, en;q=0.7") == "en"
    assert choose_language("de;q=x,,;;") == "en"


def test_numbers_sizes_and_days() -> None:
    german, english = Words("de", ZoneInfo("UTC")), Words("en", ZoneInfo("UTC"))
    assert german.number(Decimal("1234567.50")) == "1.234.567,50"
    assert english.number(-1234) == "-1,234"
    assert english.size(3_000_000) == "3 MB"
    assert german.parse("2026-11-23 07:30", "at").isoformat() == "2026-11-23T07:30:00+00:00"


def test_a_formatter_of_the_application(browse: Browse) -> None:
    label = TableLabel(columns={"total": ColumnLabel(format=lambda value: f"<{value}>")})
    response = browse(settings=Settings(tables={"public.orders": label})).get(
        "/row?table=orders&key=1"
    )
    assert "from <19.90> to <14.90>" in text_of(response)
    assert "&lt;19.90&gt;" in response.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"langage": "de"}, "there is no option 'langage'"),
        ({"language": "fr"}, "does not speak 'fr'"),
        ({"time_zone": "Mars/Base"}, "no time zone"),
        ({"time_zone": "../etc/passwd"}, "no time zone"),
        ({"tables": {"orders": {"link": "javascript:alert(1)"}}}, "is not an address"),
        ({"tables": {"orders": {"columns": {"a": {"format": "roman"}}}}}, "has no format 'roman'"),
        ({"tables": {"orders": {"columns": {"a": {"label": 1}}}}}, "label is 1"),
        ({"tables": []}, "tables"),
        ([], "not a table"),
    ],
)
def test_settings_that_cannot_be(values: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings.from_dict(values, where="audit.toml: page")


def placeholders(text: str) -> set[str]:
    import re

    return set(re.findall(r"%\((\w+)\)s", text))
