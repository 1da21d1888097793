"""Laboratory reports as sheets: values, flags, reference ranges as bars, and earlier values as charts.

https://hl7.org/fhir/R4/diagnosticreport.html, https://hl7.org/fhir/R4/observation.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from .reading import Json, Record, concept, paragraphs, plain, quantity, unit
from .scales import bar_of, trend_of
from .sheets import Sheet, day_of, identifier_of, notes_of, sheet
from .wording import Wording

MAX_TRENDS: Final = 12
_OUT: Final = frozenset({"L", "LL", "H", "HH", "A", "AA", "POS", "R", "LU", "HU", "<", ">"})
_SERIOUS: Final = frozenset({"LL", "HH", "AA", "LU", "HU"})
_UNFLAGGED: Final = frozenset({"N", ""})
_BANNERS: Final = {
    "registered": "preliminary",
    "partial": "preliminary",
    "preliminary": "preliminary",
    "amended": "amended",
    "corrected": "amended",
    "appended": "amended",
    "cancelled": "withdrawn",
    "entered-in-error": "withdrawn",
}


def report(record: Record, wording: Wording) -> Sheet:
    """A DiagnosticReport with its results; `record.beside["earlier"]` are the patient's earlier Observations of the same codes, newest first."""
    main = record.main
    results = [found for each in main.get("result", ()) if (found := record.of(each)) is not None]
    number = identifier_of(main)
    banner = _BANNERS.get(str(main.get("status")))
    issued = main.get("issued") or main.get("effectiveDateTime")
    return sheet(
        "report",
        record,
        wording,
        heading=concept(main.get("code")) if _is_named(main) else wording("report"),
        number=number,
        on=day_of(issued, wording),
        facts=list(_facts(record, wording, number)),
        banners=[wording(banner)] if banner else [],
        results=[row for each in results for row in _rows(record, each, wording)],
        trends=_trends(record, results, wording),
        conclusion=[*paragraphs(main.get("conclusion")), *(concept(each) for each in main.get("conclusionCode", ()))],
        signed=[
            [name, value]
            for name, value in (
                (wording("performed-by"), wording.joined(record.named(each) for each in main.get("performer", ()))),
                (wording("validated-by"), wording.joined(record.named(each) for each in main.get("resultsInterpreter", ()))),
            )
            if value
        ],
    )


def _is_named(main: Json) -> bool:
    return 0 < len(concept(main.get("code"))) <= 60  # noqa: PLR2004 - as much as a heading holds


def _facts(record: Record, wording: Wording, number: str) -> Iterator[tuple[str, str]]:
    main = record.main
    yield wording("number"), number
    specimens = [found for each in main.get("specimen", ()) if (found := record.of(each)) is not None]
    taken = main.get("effectiveDateTime") or main.get("effectivePeriod", {}).get("start")
    collected = [each.get("collection", {}).get("collectedDateTime") for each in specimens]
    taken = next((each for each in collected if each), taken)
    yield wording("specimen"), wording.joined(dict.fromkeys(concept(each.get("type")) for each in specimens))
    yield wording("taken"), wording.time(taken) if taken else ""
    received = next((each["receivedTime"] for each in specimens if "receivedTime" in each), None)
    yield wording("received-at"), wording.time(received) if received else ""
    yield wording("issued"), wording.time(main["issued"]) if "issued" in main else ""
    orders = [found for each in main.get("basedOn", ()) if (found := record.of(each)) is not None]
    yield wording("ordered-by"), wording.joined(dict.fromkeys(record.named(each.get("requester")) for each in orders))


def _rows(record: Record, observation: Json, wording: Wording) -> Iterator[dict[str, Any]]:
    """A row for a result, or for each part of one that has several, under its name."""
    parts = [*observation.get("component", ()), *_members(record, observation)]
    name = concept(observation.get("code"))
    if parts:
        yield {"is_head": True, "name": name}
    if not parts or any(key.startswith("value") for key in observation):
        yield _row(observation, name, wording)
    for part in parts:
        yield _row(part, concept(part.get("code")), wording)


def _members(record: Record, panel: Json) -> list[Json]:
    return [found for each in panel.get("hasMember", ()) if (found := record.of(each)) is not None]


def _row(observation: Json, name: str, wording: Wording) -> dict[str, Any]:
    value = observation.get("valueQuantity")
    codes = [coding.get("code", "") for each in observation.get("interpretation", ()) for coding in each.get("coding", ())]
    flag = next((str(code) for code in codes), "")
    text = wording(f"flag-{flag}") if wording.has(f"flag-{flag}") else "" if flag in _UNFLAGGED else plain(flag, 20)
    if not codes:
        text = wording.joined(concept(each) for each in observation.get("interpretation", ()))
    notes = notes_of(observation)
    if observation.get("status") in ("amended", "corrected"):
        notes.insert(0, wording("corrected"))
    ranges = observation.get("referenceRange", ())
    shown = quantity({**value, "unit": "", "code": ""}, wording) if value is not None else _other_value(observation, wording)
    head, point, tail = shown.rpartition(_point(wording)) if value is not None else ("", "", shown)
    return {
        "is_head": False,
        "name": name,
        "value": shown,
        "head": head if point else tail,
        "tail": f"{point}{tail}" if point else "",
        "unit": unit(value) if value is not None else "",
        "wide": value is None,
        "flag": text,
        "out": flag in _OUT,
        "serious": flag in _SERIOUS,
        "range": _range_text(ranges, wording),
        "bar": bar_of(value, ranges, wording),
        "note": notes[:6],
    }


def _point(wording: Wording) -> str:
    return str(wording.locale.number_symbols["latn"]["decimal"])


def _other_value(observation: Json, wording: Wording) -> str:
    """A value that is no Quantity, else why there is none."""
    name = next((key for key in observation if key.startswith("value")), "")
    value: Any = observation.get(name)
    if name == "valueRange":
        return " – ".join(part for part in (quantity(value.get(end), wording) for end in ("low", "high")) if part)
    if name == "valueRatio":
        return ":".join(part for part in (quantity(value.get(end), wording) for end in ("numerator", "denominator")) if part)
    if name == "valueBoolean":
        return "+" if value else "–"
    if name in ("valueDateTime", "valueTime"):
        return wording.time(value)
    if name in ("valueString", "valueInteger"):
        return plain(value, 1_000) or wording.number(value)
    return concept(value) or concept(observation.get("dataAbsentReason"))


def _range_text(ranges: Sequence[Json], wording: Wording) -> str:
    found = next(iter(ranges), {})
    low, high = found.get("low", {}).get("value"), found.get("high", {}).get("value")
    if low is not None and high is not None:
        return f"{wording.number(low)} – {wording.number(high)}"
    if high is not None:
        return f"≤ {wording.number(high)}"
    if low is not None:
        return f"≥ {wording.number(low)}"
    return plain(found.get("text"), 200)


def _trends(record: Record, results: Sequence[Json], wording: Wording) -> list[dict[str, Any]]:
    earlier = record.beside.get("earlier", ())
    own = [part for each in results for part in (each, *_members(record, each))]
    found = (trend_of(each, earlier, wording) for each in own)
    return [each for each in found if each is not None][:MAX_TRENDS]
