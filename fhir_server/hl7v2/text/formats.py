"""How the primitive data types of HL7 v2 are written. https://www.hl7.eu/refactored/dt.html"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from typing import Final

Format = Callable[[str], bool]

_OFFSET: Final = r"(?:[+-](?:0\d|1[0-4])[0-5]\d)?"
_CLOCK: Final = r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d(?:\.\d{1,4})?)?)?"
_DAY: Final = r"\d{4}(?:(?:0[1-9]|1[0-2])(?:(?:0[1-9]|[12]\d|3[01])"
_NUMBER: Final = re.compile(r" *[+-]?(?:\d+(?:\.\d*)?|\.\d+) *")
_SET_ID: Final = re.compile(r" *\d{1,9} *")
_DATE: Final = re.compile(rf"{_DAY})?)?")
_TIME: Final = re.compile(_CLOCK + _OFFSET)
_MOMENT: Final = re.compile(rf"{_DAY}(?:{_CLOCK})?)?)?{_OFFSET}")
_SHORTEST_MONTH: Final = 28
_WHOLE_DAY: Final = 8


def number(text: str) -> bool:
    """NM: digits with a sign or a point."""
    return _NUMBER.fullmatch(text) is not None


def set_id(text: str) -> bool:
    """SI: a number of segments."""
    return _SET_ID.fullmatch(text) is not None


def date(text: str) -> bool:
    """DT: a year, a month, or a day that there was."""
    return _DATE.fullmatch(text) is not None and _exists(text)


def time(text: str) -> bool:
    """TM: an hour, with more of it or not, and an offset."""
    return _TIME.fullmatch(text) is not None


def moment(text: str) -> bool:
    """TS and DTM: a date that there was, with a time or not, and an offset."""
    return _MOMENT.fullmatch(text) is not None and _exists(text)


FORMATS: Final[dict[str, Format]] = {"NM": number, "SI": set_id, "DT": date, "TM": time, "DTM": moment, "TS": moment}
"""By data type. ID and IS have none without their tables, and text has none."""


def _exists(text: str) -> bool:
    if len(text) < _WHOLE_DAY or not text[6:8].isdecimal() or int(text[6:8]) <= _SHORTEST_MONTH:
        return True
    year = int(text[:4])
    return year > 0 and int(text[6:8]) <= monthrange(year, int(text[4:6]))[1]
