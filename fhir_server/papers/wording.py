"""The words of papers in the languages that they are printed in, and dates, numbers and money as these write them.

https://babel.pocoo.org/en/latest/, https://unicode.org/reports/tr35/

Words are rows of `data/words.csv`, a language a column: another language is another column.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Final
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal

Json = Mapping[str, Any]
DEFAULT: Final = "en"
_DAY: Final = 10
_MONTH: Final = 7
_MOST_DIGITS: Final = 12


@cache
def languages() -> Mapping[str, Mapping[str, str]]:
    """The words of each language, by the language's code."""
    rows = list(csv.DictReader(files(__package__).joinpath("data/words.csv").read_text(encoding="utf-8").splitlines()))
    return {code: {row["key"]: row[code] for row in rows} for code in rows[0] if code != "key"}


def language_of(patient: Json | None, asked: str | None = None) -> str:
    """The code of the language to print in, as `de-AT`: as `asked`, else as the patient prefers or speaks, of those with words."""
    spoken = sorted((patient or {}).get("communication", ()), key=lambda each: each.get("preferred") is not True)
    codes = [coding.get("code", "") for each in spoken for coding in each.get("language", {}).get("coding", ())]
    for code in (asked or "", *codes):
        if code.replace("_", "-").split("-")[0].lower() in languages():
            return str(code).replace("_", "-")
    return DEFAULT


@dataclass(frozen=True)
class Wording:
    """What a paper says in one language; `zone` is where its times are."""

    language: str
    zone: ZoneInfo

    def __call__(self, key: str, *values: str) -> str:
        """The words of a key, with values in their places. Raises KeyError for a key that is no row."""
        text = self._words[key]
        return text % values if values else text

    def has(self, key: str) -> bool:
        """Whether there are words for a key."""
        return key in self._words

    @property
    def _words(self) -> Mapping[str, str]:
        return languages()[self.language.split("-")[0].lower()]

    @property
    def locale(self) -> Locale:
        """The locale, that of the bare language where the region is not known."""
        return _locale(self.language)

    def money(self, value: Decimal | int, currency: str) -> str:
        """An amount with its currency; a currency that is not known stands as its code."""
        return format_currency(value, currency, locale=self.locale, currency_digits=True)

    def amount(self, value: Decimal | int, currency: str) -> str:
        """An amount without its currency, with all digits of it: what stands in a column."""
        return format_currency(value, currency, "#,##0.00", locale=self.locale, currency_digits=True)

    def number(self, value: Any) -> str:
        """A number with as many digits as it has; 1.10 stays 1.10. What is no number stays as it is."""
        if isinstance(value, bool) or not isinstance(value, Decimal | int):
            return str(value)
        number = Decimal(value)
        exponent = number.as_tuple().exponent
        places = -exponent if isinstance(exponent, int) else 0
        if not number.is_finite() or places > _MOST_DIGITS or number.adjusted() > _MOST_DIGITS:
            return str(value)
        pattern = "#,##0" + ("." + "0" * places if places > 0 else "")
        return format_decimal(number, pattern, locale=self.locale)

    def percent(self, factor: Decimal) -> str:
        """A factor as per cent."""
        return f"{self.number((factor * 100).normalize() + 0)} %"

    def date(self, text: Any) -> str:
        """A date of FHIR of any precision, or the day of a time in the clinic's zone. What is no date stays as it is."""
        try:
            if len(text) > _DAY:
                return format_date(self.moment(text).date(), "medium", locale=self.locale)
            if len(text) == _DAY:
                return format_date(date.fromisoformat(text), "medium", locale=self.locale)
            if len(text) == _MONTH:
                return format_date(date.fromisoformat(f"{text}-01"), "yMMM" if self.language == DEFAULT else "MM.y", locale=self.locale)
        except (TypeError, ValueError):
            return str(text)
        return str(text)

    def time(self, text: Any, *, weekday: bool = False) -> str:
        """A time of FHIR in the clinic's zone, its day alone where it has no more; with `weekday` the day is written out."""
        if not isinstance(text, str) or len(text) <= _DAY:
            return self.date(text)
        try:
            at = self.moment(text)
            day = format_date(at.date(), "full" if weekday else "medium", locale=self.locale)
            return f"{day}, {format_datetime(at, 'short', locale=self.locale).rpartition(', ')[2]}"
        except ValueError:
            return text

    def moment(self, text: str) -> datetime:
        """A time of FHIR in the clinic's zone. Raises ValueError."""
        at = datetime.fromisoformat(text)
        try:
            return at.replace(tzinfo=self.zone) if at.tzinfo is None else at.astimezone(self.zone)
        except OverflowError:
            raise ValueError(f"{text} is beyond the calendar") from None

    def joined(self, parts: Iterable[str]) -> str:
        """Those of the parts that say something, with commas."""
        return ", ".join(part for part in parts if part)


@cache
def _locale(language: str) -> Locale:
    for code in (language, language.split("-", maxsplit=1)[0]):
        try:
            return Locale.parse(code, sep="-")
        except (UnknownLocaleError, ValueError):
            continue
    return Locale.parse(DEFAULT)
