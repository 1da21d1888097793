"""The results of a report as OBX segments: which there are, and their values. https://www.hl7.eu/refactored/segOBX.html"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from .values import Json, Scene, codings, time
from .writer import Repetition

MOST: Final = 1_000
"""Results of one report; the rest is left out."""
_DEPTH: Final = 4
_LINE: Final = 200
_SUBTYPES: Final = {
    "application/pdf": ("application", "pdf"),
    "image/png": ("image", "png"),
    "image/jpeg": ("image", "jpeg"),
    "text/plain": ("text", "plain"),
    "text/html": ("text", "html"),
}

Resolve = Callable[[str], Json | None]
Obx = tuple[str, dict[int, list[Repetition]]]
"""OBX-2, and OBX-5 with OBX-6."""


def observations(report: Json, resolve: Resolve) -> Iterator[tuple[Json, str | None]]:
    """The Observations of a report with those that they have as members, and their components, each with OBX-4 where it is a part of something.

    Attachments come behind them, as if each were an Observation with the report's code.
    """
    yield from islice(_all(report, resolve), MOST)
    for attachment in report.get("presentedForm", ()):
        if attachment.get("data") or attachment.get("url"):
            yield {"resourceType": "Observation", "code": report.get("code", {}), "status": _status(report), "valueAttachment": attachment}, None


def _all(report: Json, resolve: Resolve) -> Iterator[tuple[Json, str | None]]:
    seen: set[str] = set()
    for number, reference in enumerate(report.get("result", ()), 1):
        yield from _tree(reference.get("reference", ""), resolve, str(number), 0, seen)


def _tree(reference: str, resolve: Resolve, place: str, depth: int, seen: set[str]) -> Iterator[tuple[Json, str | None]]:
    found = resolve(reference) if reference not in seen and depth < _DEPTH else None
    seen.add(reference)
    if found is None or found.get("resourceType") != "Observation":
        return
    parts, members = found.get("component", []), found.get("hasMember", [])
    if any(name.startswith("value") for name in found) or not (parts or members):
        yield found, place if depth or parts or members else None
    whole = {name: value for name, value in found.items() if name in ("status", "effectiveDateTime", "effectivePeriod", "performer", "method")}
    for number, part in enumerate(parts, 1):
        yield {**whole, **part, "resourceType": "Observation"}, f"{place}.{number}"
    for number, member in enumerate(members, len(parts) + 1):
        yield from _tree(member.get("reference", ""), resolve, f"{place}.{number}", depth + 1, seen)


def _status(report: Json) -> str:
    status = str(report.get("status", "final"))
    return {"appended": "corrected", "partial": "preliminary"}.get(status, status)


def value(observation: Json, scene: Scene) -> Obx:
    """The value of an Observation; without one OBX-2 is empty."""
    name = next((each for each in observation if each.startswith("value")), None)
    if name is None:
        return "", {}
    return _MAKERS.get(name, _other)(observation[name], scene)


def _quantity(value: Json, _: Scene) -> Obx:
    unit = [value.get("code", ""), value.get("unit", ""), "UCUM" if value.get("system") == "http://unitsofmeasure.org" else ""]
    if not unit[0]:
        unit = [unit[1], "", ""]
    number, comparator = str(value.get("value", "")), value.get("comparator", "")
    made: Obx = ("SN", {5: [[comparator, number]]}) if comparator else ("NM", {5: [[number]]})
    return made[0], made[1] | ({6: [unit]} if unit[0] else {})


def _concept(value: Json, scene: Scene) -> Obx:
    found = codings(value, scene)
    if scene.peer.version >= "2.5":
        return "CWE", {5: [found]}
    return "CE", {5: [found[:6] if any(found[:2]) else ["", found[8]]]}


def _string(value: Any, _: Scene) -> Obx:
    text = str(value)
    return "FT" if "\n" in text else "TX" if len(text) > _LINE else "ST", {5: [[text]]}


def _boolean(value: Any, scene: Scene) -> Obx:
    coding = {"code": "Y" if value is True else "N", "system": "http://terminology.hl7.org/CodeSystem/v2-0136"}
    return _concept({"coding": [coding]}, scene)


def _integer(value: Any, _: Scene) -> Obx:
    return "NM", {5: [[str(value)]]}


def _range(value: Json, scene: Scene) -> Obx:
    low, high = (value.get(name, {}) for name in ("low", "high"))
    _, fields = _quantity(low or high, scene)
    return "SN", fields | {5: [["", str(low.get("value", "")), "-", str(high.get("value", ""))]]}


def _ratio(value: Json, scene: Scene) -> Obx:
    above, below = (value.get(name, {}) for name in ("numerator", "denominator"))
    _, fields = _quantity(above, scene)
    return "SN", fields | {5: [[above.get("comparator", ""), str(above.get("value", "")), ":", str(below.get("value", ""))]]}


def _date_time(value: Any, scene: Scene) -> Obx:
    text = str(value)
    kind = "DT" if "T" not in text else "DTM" if scene.peer.version >= "2.6" else "TS"
    return kind, {5: [[time(text, scene.zone)]]}


def _clock(value: Any, _: Scene) -> Obx:
    return "TM", {5: [[str(value).replace(":", "")]]}


def _period(value: Json, scene: Scene) -> Obx:
    return "DR", {5: [[time(value[name], scene.zone) if name in value else "" for name in ("start", "end")]]}


def _attachment(value: Json, scene: Scene) -> Obx:
    kind, sub = _SUBTYPES.get(value.get("contentType", ""), ("application", value.get("contentType", "octet-stream").rpartition("/")[2]))
    if not value.get("data"):
        return "RP", {5: [[value.get("url", ""), "", kind, sub]]}
    return "ED", {5: [[scene.peer.own_application, kind, sub, "Base64", value["data"]]]}


def _other(value: Any, scene: Scene) -> Obx:
    # What HL7 v2 has no type for is told in words.
    return _string(value if isinstance(value, str) else value.get("text", "see the record"), scene)


_MAKERS: Final[dict[str, Callable[[Any, Scene], Obx]]] = {
    "valueQuantity": _quantity,
    "valueCodeableConcept": _concept,
    "valueString": _string,
    "valueBoolean": _boolean,
    "valueInteger": _integer,
    "valueRange": _range,
    "valueRatio": _ratio,
    "valueDateTime": _date_time,
    "valueTime": _clock,
    "valuePeriod": _period,
    "valueAttachment": _attachment,
}
