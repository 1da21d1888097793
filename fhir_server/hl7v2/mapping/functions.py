"""Maps of values that no table of rows can describe: what is computed of several components at once."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from fhir_server.hl7v2.text.message import Repetition
from fhir_server.settings import CANON

from .context import Context
from .tables import Table
from .values import authority, number, parse_time

Json = dict[str, Any]
Function = Callable[[Repetition, Context, Mapping[str, Table]], Any]

# What is bounded cannot be tried in more ways than there are digits; `1..1..` without an end took minutes.
_DIGITS: Final = r"([+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20}))"
_RANGE: Final = re.compile(rf"{_DIGITS}\s*(?:-|–|to|\.\.)\s*{_DIGITS}\s*", re.ASCII)
_BOUND: Final = re.compile(rf"(<=?|>=?|≤|≥)\s*{_DIGITS}\s*", re.ASCII)
_SHORT: Final = 80
"""Characters that a range of numbers, or the name of an application, may have."""
_MAGIC: Final[Mapping[str, bytes]] = {
    "application/pdf": b"%PDF",
    "image/png": b"\x89PNG",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "application/zip": b"PK\x03\x04",
}
_TYPES: Final[Mapping[str, str]] = {
    "PDF": "application/pdf",
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "JPG": "image/jpeg",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "TIF": "image/tiff",
    "RTF": "text/rtf",
    "HTML": "text/html",
    "XML": "text/xml",
    "PLAIN": "text/plain",
    "TXT": "text/plain",
    "TEXT": "text/plain",
    "DICOM": "application/dicom",
    "MP3": "audio/mpeg",
    "WAV": "audio/wav",
}
_MAINS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("AP", "NS", "SD"), "application"),
    **dict.fromkeys(("IM", "SI"), "image"),
    **dict.fromkeys(("TX", "FT", "TEXT"), "text"),
    "AU": "audio",
}
"""The codes of HL7 table 0191 as the first half of a media type."""
_SECONDS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
"""How long a unit of durations is."""
_MINUTE: Final = 60
_MONTH: Final = 31 * 24 * 60
_SPANS: Final[Mapping[str, tuple[int, int]]] = {"SCH": (11, 10), "AIS": (4, 8), "AIG": (8, 12), "AIL": (6, 10), "AIP": (6, 10), "PR1": (5, 0)}
"""By segment the fields of the start and of the unit of its duration, 0 where it is minutes."""
READ: Final = frozenset((name, number) for name, numbers in _SPANS.items() for number in numbers if number)
"""Fields that functions go by, without a row that says so."""
_ABSENT: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_QUANTITY: Final = 10
_PHYSICAL: Final = "http://terminology.hl7.org/CodeSystem/location-physical-type"
_SCHEMES: Final = ("http", "https")
# Parts of a PL: component, code of the physical type, word.
_PARTS: Final = ((4, "si"), (7, "bu"), (8, "lvl"), (1, "wi"), (2, "ro"), (3, "bd"))


def _authority(component: int | None) -> Function:
    """The system of identifiers that an HD gives out: the value itself, one component of it, or for an EI what stands behind its first."""

    def system(value: Repetition, context: Context, tables: Mapping[str, Table]) -> str:
        hd, first = (value, 2) if component is None else (value if component == 0 else value.part(component), 1)
        namespace, universal, kind = hd.component(first).strip(), hd.component(first + 1).strip(), hd.component(first + 2).strip()
        return authority(namespace, universal, kind, tables["authority"].codes, context.facility)

    return system


def _coding_system(value: Repetition, context: Context, tables: Mapping[str, Table]) -> str:
    """The third component of a CWE as a URI: known names by table, `HL7nnnn` and `99…`, else the sender's own."""
    name = value.whole(1).strip()
    target = tables["coding-system"].find(name) or tables["coding-system"].find(name.upper())
    if target is not None:
        return target.code
    if match := re.fullmatch(r"HL7(\d{4})", name):
        return f"http://terminology.hl7.org/CodeSystem/v2-{match[1]}"
    if re.fullmatch(r"[0-2](\.\d+)+", name):
        return f"urn:oid:{name}"
    if re.fullmatch(r"[a-z][a-z0-9+.-]*:\S+", name, re.IGNORECASE):
        return name
    return f"{CANON}/sid/coding-system/{_word(context.facility)}{_word(name)}".removesuffix("/")


def _word(text: str) -> str:
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")
    return f"{kept}/" if kept else ""


def _bound(value: Repetition, context: Context, _tables: Mapping[str, Table]) -> Json | None:
    """What stands where a number should and bounds it, as `<0.5` where less cannot be measured."""
    text = value.component(1).strip()
    comparator = text[: 2 if text[1:2] == "=" else 1]
    bound = number(text.removeprefix(comparator))
    context.inform("102", "The value is no number but a bound of one; it is taken as that")
    return {"comparator": comparator, "value": bound} if bound is not None else None


def _reference_range(value: Repetition, context: Context, _tables: Mapping[str, Table]) -> Json | None:
    """OBX-7 as it stands, and as numbers where it is two of them or a bound, with the unit of OBX-6 behind it or none."""
    text = value.text.strip()
    if not text:
        return None
    bare = text
    for unit in context.segment.repetitions(6)[:1] if context.segment is not None else ():
        for word in (unit.component(1), unit.component(2)):
            bare = bare.removesuffix(word) if word and not word[-1].isdigit() else bare
    found: Json = {name: {"value": bound} for name, bound in _bounds(bare)} if len(bare) <= _SHORT else {}
    found["text"] = text
    return found


@lru_cache(maxsize=1024)
def _bounds(text: str) -> tuple[tuple[str, Any], ...]:
    """The numbers of a range by the names of its elements; none where it is no range of numbers."""
    if match := _RANGE.fullmatch(text):
        low, high = number(match[1]), number(match[2])
        return (("low", low), ("high", high)) if low is not None and high is not None and low <= high else ()
    if match := _BOUND.fullmatch(text):
        bound = number(match[2])
        return (("high" if match[1][0] in "<≤" else "low", bound),) if bound is not None else ()
    return ()


def _attachment(value: Repetition, context: Context, _tables: Mapping[str, Table]) -> Json | None:
    """ED: decoded, checked against what it says it is, and given with its size. What cannot be decoded is refused, never stored as text."""
    main, sub, encoding = value.component(2).strip(), value.component(3).strip(), value.component(4).strip().lower()
    data = value.whole(5)
    kind = _TYPES.get(sub.upper(), "") or (
        f"{_MAINS.get(main.upper(), main.lower())}/{sub.lower()}" if "/" not in sub and main and sub else sub.lower()
    )
    if not data:
        if len(value.component(1)) > _SHORT:
            # No name of an application is as long: it is what should stand in the fifth component.
            context.refuse("102", "The data are not in the component that is for them, the fifth")
            return None
        context.warn("101", "There are no data in it")
        return {"contentType": kind} if kind else None
    try:
        if encoding == "base64":
            decoded = base64.b64decode("".join(data.split()), validate=True)
        elif encoding == "hex":
            decoded = bytes.fromhex(data)
        else:
            decoded = data.encode()
    except (binascii.Error, ValueError):
        context.refuse("102", "The data are not in the encoding that is named")
        return None
    for type_, magic in _MAGIC.items():
        if kind == type_ and not decoded.startswith(magic):
            context.refuse("102", f"The data are not {type_}, which they are said to be")
            return None
        if decoded.startswith(magic) and not kind.startswith(("application/", "image/")):
            kind = type_
    return {"contentType": kind or "text/plain", "data": base64.b64encode(decoded).decode(), "size": len(decoded)}


def _pointer(value: Repetition, context: Context, _tables: Mapping[str, Table]) -> Json | None:
    """RP: the address is kept and never fetched; only that of the web is one that people may open."""
    address = value.whole(1).strip()
    scheme = address.partition(":")[0].lower()
    if scheme not in _SCHEMES or re.search(r"\s", address):
        context.warn("102", "The pointer is no address of the web; it is left out")
        return None
    kind = _TYPES.get(value.component(4).strip().upper()) or _TYPES.get(value.component(3).strip().upper())
    return {"url": address, **({"contentType": kind} if kind else {})}


def _samples(_value: Repetition, context: Context, _tables: Mapping[str, Table]) -> Json | None:
    """NA: all repetitions of OBX-5 as samples; more than one are points in time, whose components are measured at once.

    HL7 v2 does not say how long it is from one sample to the next, and the element says that it is not known.
    """
    segment = context.segment
    rows = (
        [[part.strip() for part in each.text.split(segment.separators.component)] for each in segment.repetitions(5)] if segment is not None else []
    )
    width = max(map(len, rows), default=0)
    samples = [text for row in rows for text in row + [""] * (width - len(row))]
    if not samples or any(text and number(text) is None for text in samples):
        context.warn("102", "The samples are no numbers; they are left out")
        return None
    return {
        "origin": {"value": 0},
        "_period": {"extension": [{"url": _ABSENT, "valueCode": "unknown"}]},
        "dimensions": width if len(rows) > 1 else 1,
        "data": " ".join(text or "E" for text in samples),
    }


def _end(value: Repetition, context: Context, _tables: Mapping[str, Table]) -> str | None:
    """When something ends that is said to last for so long: the start and the unit are other fields of the same segment."""
    segment = context.segment
    if segment is None or segment.name not in _SPANS:
        return None
    start_field, unit_field = _SPANS[segment.name]
    starts = segment.repetitions(start_field)
    start = parse_time(starts[0].component(4 if segment.name == "SCH" else 1), context.zone) if starts else None
    seconds = _SECONDS.get((segment.get(unit_field).strip().lower() if unit_field else "") or "min")
    length = number(value.component(1))
    if start is None or "T" not in start[0] or length is None or seconds is None:
        context.warn("102", "How long it takes cannot be told from its number and unit")
        return None
    try:
        return (datetime.fromisoformat(start[0]) + timedelta(seconds=float(str(length)) * seconds)).isoformat()
    except OverflowError:
        return None


def _minutes(value: Repetition, context: Context, _tables: Mapping[str, Table]) -> int | None:
    """SCH-9 where its unit makes whole minutes of it."""
    seconds = _SECONDS.get(context.segment.get(10).strip().lower()) if context.segment is not None else None
    length = number(value.component(1))
    # Whoever counts in seconds has a default there that says nothing of the appointment.
    whole = float(str(length)) * seconds / _MINUTE if length is not None and seconds is not None and seconds >= _MINUTE else 0
    return int(whole) if 1 <= whole < _MONTH and whole == int(whole) else None


def _money(value: Repetition, context: Context, _tables: Mapping[str, Table]) -> Json | None:
    """CP: an amount and its currency, without which it is the clinic's."""
    amount, currency = number(value.sub(1, 1)), value.sub(1, 2).strip().upper()
    if amount is None:
        context.warn("102", "The amount cannot be read")
        return None
    if currency and not re.fullmatch(r"[A-Z]{3}", currency):
        context.warn("103", "The currency is not one of ISO 4217")
        currency = ""
    return {"value": amount, **({"currency": currency} if currency else {})}


def _money_of_units(value: Repetition, context: Context, tables: Mapping[str, Table]) -> Json | None:
    """The price of one, times how many there are by FT1-10."""
    one = _money(value, context, tables)
    count = number(context.segment.get(_QUANTITY) or "1") if context.segment is not None else None
    if one is None or count is None:
        return None
    return {**one, "value": number(str(Decimal(str(one["value"])) * Decimal(str(count))))}


def _location(value: Repetition, context: Context, tables: Mapping[str, Table]) -> Json | None:
    """PL as one Location, the smallest part that it names, known by all its parts together."""
    parts = [(value.part(number), number, code) for number, code in _PARTS]
    named = [(part.component(1).strip(), code) for part, _, code in parts if part.component(1).strip()]
    described = value.component(9).strip()
    if not named:
        return {"resourceType": "Location", "name": described} if described else None
    facility = value.part(4)
    known = tables["authority"].codes
    system = authority(facility.component(1).strip(), facility.component(2).strip(), facility.component(3).strip(), known, context.facility)
    inner = [name for name, code in named if code != "si"] or [named[0][0]]
    return {
        "resourceType": "Location",
        "identifier": [{"system": system, "value": "^".join(inner)}],
        "status": "active",
        "name": described or " ".join(inner),
        "mode": "instance",
        "physicalType": {"coding": [{"system": _PHYSICAL, "code": named[-1][1]}]},
    }


FUNCTIONS: Final[Mapping[str, tuple[str, Function]]] = {
    "HD[uri]": ("uri", _authority(0)),
    "CX[system]": ("uri", _authority(4)),
    "XCN[system]": ("uri", _authority(9)),
    "XON[system]": ("uri", _authority(6)),
    "EI[system]": ("uri", _authority(None)),
    "CWE[system]": ("uri", _coding_system),
    "ST[referenceRange]": ("Observation.referenceRange", _reference_range),
    "ED[Attachment]": ("Attachment", _attachment),
    "RP[Attachment]": ("Attachment", _pointer),
    "PL[Location]": ("Location", _location),
    "NA[SampledData]": ("SampledData", _samples),
    "NM[bound]": ("Quantity", _bound),
    "CP[Money]": ("Money", _money),
    "CP[Money-of-units]": ("Money", _money_of_units),
    "NM[end]": ("instant", _end),
    "NM[until]": ("dateTime", _end),
    "NM[minutes]": ("positiveInt", _minutes),
}
"""By the name that a row gives as its map: the type that comes out, and how."""
