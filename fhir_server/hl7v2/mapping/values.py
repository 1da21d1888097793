"""Values of HL7 v2's simple data types as FHIR primitives. What is no value of its type is left out and reported, never guessed.

https://www.hl7.eu/refactored/ch02a.html (chapter 2.A: data types)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, time, timedelta, timezone
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

from fhir_server import fhirjson
from fhir_server.hl7v2.text.message import Repetition
from fhir_server.settings import CANON

from .context import Context

Primitive = Callable[[Repetition, Context], Any]

_TIME: Final = re.compile(r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6})\d*)?)?)?)?)?)?([+-]\d{4})?", re.ASCII)
_CLOCK: Final = re.compile(r"(\d\d)(\d\d)?(\d\d)?(?:\.(\d{1,6})\d*)?(?:[+-]\d{4})?", re.ASCII)
_NUMBER: Final = re.compile(r"(?:\+|(-))?(?=\.?\d)0*+(\d*)(?:\.(\d*))?", re.ASCII)
_PLAIN: Final = 15
_WHOLE: Final = re.compile(r"[+-]?\d{1,10}", re.ASCII)
_TEXT: Final = re.compile(r"\S")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/\s]*={0,2}\s*")
_OID: Final = re.compile(r"[0-2](\.(0|[1-9]\d*))+")
_DOTTED: Final = re.compile(r"\d+(\.\d+)+")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_MINUTES_A_DAY: Final = 24 * 60
_COMPONENTS: Final = 30


def _string(value: Repetition, _: Context) -> str | None:
    return value.whole(1).strip() or None


def _text(value: Repetition, _: Context) -> str | None:
    """All of a field, for text that was not meant to have components."""
    return value.text.strip() or None


def _line(value: Repetition, _: Context) -> str | None:
    """A line of a longer text, which may be blank, or several."""
    return value.text.rstrip(" ") or None


def _misfit(value: Repetition, context: Context) -> str | None:
    """What stands where a number should, as `>10` or `neg`: kept as it is."""
    context.warn("102", "The value is no number; it is kept as text")
    return _text(value, context)


def _strange(value: Repetition, context: Context) -> str | None:
    """A value of a data type that is none: a lab's own, or one written wrong. Kept as it is, for a result is not to be without its value."""
    context.warn("103", "The data type of the value is not known; it is kept as text")
    return _text(value, context)


def _spoken(value: Repetition, _: Context) -> str | None:
    """What its components say, with blanks between them: a name, an address or a number with who gave it out."""
    parts = (" ".join(filter(None, value.whole(number).replace("&", " ").split())) for number in range(1, _COMPONENTS + 1))
    return " ".join(filter(None, parts)) or None


def _code(value: Repetition, context: Context) -> str | None:
    text = value.component(1)
    if text.isalnum():
        return text
    text = " ".join(text.split())
    if not text and value.raw:
        context.warn("103", "The code is empty")
    return text or None


@lru_cache(maxsize=1024)
def parse_time(text: str, zone: ZoneInfo) -> tuple[str, int] | None:
    """A time stamp as FHIR writes it, and to how many digits it was given (4 for a year, 14 for seconds); None for what is none."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    date = "-".join(part for part in (year, month, day) if part is not None)
    digits = sum(len(part) for part in (year, month, day, hour, minute, second) if part is not None)
    try:
        moment = datetime(int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=zone)
        if hour is None:
            return date, digits
        if offset is not None:
            minutes = int(offset[1:3]) * 60 + int(offset[3:])
            if minutes >= _MINUTES_A_DAY:
                return None
            moment = moment.replace(tzinfo=timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))
    except ValueError:
        return None
    stamp = moment.isoformat(timespec="seconds")
    if fraction:
        stamp = f"{stamp[:19]}.{fraction}{stamp[19:]}"
    return stamp, digits


def _date_time(value: Repetition, context: Context) -> str | None:
    text = value.component(1).strip()
    if not text:
        return None
    found = parse_time(text, context.zone)
    if found is None:
        context.warn("102", "The time cannot be read")
        return None
    return found[0]


def _date(value: Repetition, context: Context) -> str | None:
    found = _date_time(value, context)
    return found[:10] if found is not None else None


def _instant(value: Repetition, context: Context) -> str | None:
    found = _date_time(value, context)
    if found is not None and "T" not in found:
        context.warn("102", "The time lacks hours and minutes, without which it is no instant")
        return None
    return found


def _birth_time(value: Repetition, context: Context) -> str | None:
    """Only where there is more than the day."""
    found = parse_time(value.component(1), context.zone)
    return found[0] if found is not None and "T" in found[0] else None


def _clock(value: Repetition, context: Context) -> str | None:
    match = _CLOCK.fullmatch(value.component(1).strip())
    try:
        if match is not None:
            return time(int(match[1]), int(match[2] or 0), int(match[3] or 0)).isoformat("seconds") + (f".{match[4]}" if match[4] else "")
    except ValueError:
        pass
    context.warn("102", "The time of day cannot be read")
    return None


def number(text: str) -> Any:
    """A JSON number of a numeric text, with its digits as they stand; None for what is no number."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    sign, whole, fraction = match.groups()
    digits = f"{sign or ''}{whole or '0'}"
    if not fraction and len(digits) <= _PLAIN:
        return int(digits)
    try:
        found = fhirjson.Number(f"{digits}.{fraction}" if fraction else digits)
    except ValueError:
        return None
    return found if fraction else int(digits)


def _decimal(value: Repetition, context: Context) -> Any:
    found = number(value.component(1))
    if found is None and value.raw:
        context.warn("102", "The number cannot be read")
    return found


def _integer(least: int) -> Primitive:
    def convert(value: Repetition, context: Context) -> int | None:
        text = value.component(1).strip()
        if _WHOLE.fullmatch(text) and least <= int(text) <= 2**31 - 1:
            return int(text)
        context.warn("102", "The whole number cannot be read")
        return None

    return convert


def _boolean(value: Repetition, context: Context) -> bool | None:
    text = value.component(1).strip().upper()
    if text in {"Y", "YES", "N", "NO"}:
        return text[0] == "Y"
    context.warn("103", "Y or N is expected")
    return None


def _base64(value: Repetition, context: Context) -> str | None:
    text = "".join(value.component(1).split())
    if not text or len(text) % 4 or not _BASE64.fullmatch(text):
        if text:
            context.warn("102", "The data are not base64")
        return None
    return text


def _uri(value: Repetition, context: Context) -> str | None:
    text = value.whole(1).strip()
    if text and not re.search(r"\s", text):
        return text
    context.warn("102", "The address has blanks in it")
    return None


def authority(namespace: str, universal: str, kind: str, known: Mapping[str, str], facility: str) -> str:
    """The system of identifiers that an authority gives out: the URI it is known under, else one that stands for its name at this server.

    Where it has no name either, it is the sending facility's own.
    """
    for name in (namespace, universal):
        if name in known:
            return known[name]
    return _system(namespace, universal, kind, facility)


@lru_cache(maxsize=1024)
def _system(namespace: str, universal: str, kind: str, facility: str) -> str:
    if _OID.fullmatch(universal) or (kind in {"ISO", "OID"} and _DOTTED.fullmatch(universal)):
        return f"urn:oid:{universal}"
    if kind in {"UUID", "GUID"} and universal:
        return f"urn:uuid:{universal.lower()}"
    if _URI.fullmatch(universal):
        return universal
    name = namespace or universal
    if name:
        return f"{CANON}/sid/authority/{quote(name, safe='')}"
    return f"{CANON}/sid/facility/{quote(facility or 'unknown', safe='')}"


WORDS: Final = frozenset({"string", "code"})
"""Those of PRIMITIVES for which a word of letters and digits is a value as it stands."""
PRIMITIVES: Final[Mapping[str, Primitive]] = {
    "string": _string,
    "text": _text,
    "line": _line,
    "misfit": _misfit,
    "strange": _strange,
    "spoken": _spoken,
    "markdown": _text,
    "code": _code,
    "dateTime": _date_time,
    "date": _date,
    "instant": _instant,
    "birthTime": _birth_time,
    "time": _clock,
    "decimal": _decimal,
    "integer": _integer(-(2**31)),
    "positiveInt": _integer(1),
    "unsignedInt": _integer(0),
    "boolean": _boolean,
    "base64Binary": _base64,
    "uri": _uri,
}
"""What a row may name as its map for a primitive; each gives None for what is no such value."""
