"""Data types of HL7 v2 from those of FHIR: each takes an element and gives the components of one repetition.

https://build.fhir.org/ig/HL7/v2-to-fhir/datatype_maps.html, read from right to left
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from fhir_server.hl7v2.mapping.rows import Row
from fhir_server.settings import CANON

from .peers import Peer
from .writer import Repetition

Json = dict[str, Any]

_V2: Final = re.compile(r"http://terminology\.hl7\.org/CodeSystem/v2-(\d{4})")
_OID: Final = "urn:oid:"
_UUID: Final = "urn:uuid:"
_OWN: Final = (f"{CANON}/sid/authority/", f"{CANON}/sid/facility/")
_SYSTEM: Final = f"{CANON}/sid/coding-system/"
_PERSON: Final = ("Practitioner", "PractitionerRole", "RelatedPerson", "Patient")


class Codes:
    """Tables read backwards: what a code of FHIR is in HL7 v2. Of several the first in the file."""

    def __init__(self, tables: Mapping[str, Sequence[Row]]) -> None:
        """Takes the rows of `mappings/table` by the names of their files."""
        self._found: dict[str, dict[str, str]] = {}
        for name, rows in tables.items():
            known = self._found.setdefault(name, {})
            for row in rows:
                if row["to"] and row["code"] != "*":
                    known.setdefault(row["to"], row["code"])

    def find(self, table: str, code: str) -> str | None:
        """The code in HL7 v2; None where the table has none."""
        return self._found[table].get(code)

    def knows(self, table: str) -> bool:
        """Whether there is such a table."""
        return table in self._found


@dataclass(frozen=True, slots=True)
class Scene:
    """What values are made with: for whom, the clinic's zone, the tables, and how a reference becomes a resource."""

    peer: Peer
    zone: ZoneInfo
    codes: Codes
    resolve: Callable[[str], Json | None]

    @property
    def older(self) -> bool:
        """Whether the peer's version is before 2.7."""
        return self.peer.version < "2.7"


Value = Callable[[Any, Scene, str], Repetition | None]
"""An element, the scene, and the name of a table if there is one."""


def time(value: str, zone: ZoneInfo) -> str:
    """A date or time as digits: as precise as it was, and where it has a zone in the clinic's, with the offset."""
    day, _, clock = value.partition("T")
    if not clock:
        return day.replace("-", "")
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        return re.sub(r"[-:T]", "", value)
    at = at.astimezone(zone)
    fraction = f".{at.microsecond // 1000:03d}" if at.microsecond else ""
    return at.strftime("%Y%m%d%H%M%S") + fraction + at.strftime("%z")[:5]


def system_name(system: str, codes: Codes) -> str:
    """The name of a code system in a CWE."""
    if match := _V2.fullmatch(system):
        return f"HL7{match[1]}"
    if system.startswith(_OID):
        return system.removeprefix(_OID)
    if system.startswith(_SYSTEM):
        return system.rpartition("/")[2]
    return codes.find("coding-system", system) or system


def authority(system: str, codes: Codes) -> tuple[str, str, str]:
    """Namespace, universal id and its type for the system of an identifier."""
    for own in _OWN:
        if system.startswith(own):
            return unquote(system.removeprefix(own)), "", ""
    if known := codes.find("authority", system):
        return known, "", ""
    if system.startswith(_OID):
        return "", system.removeprefix(_OID), "ISO"
    if system.startswith(_UUID):
        return "", system.removeprefix(_UUID), "UUID"
    return ("", system, "URI") if system else ("", "", "")


def own(identity: str, scene: Scene) -> tuple[str, str]:
    """A number that this server has given, with the name that it goes by to the peer."""
    return identity, scene.peer.own_application


def codings(concept: Json, scene: Scene, table: str = "") -> list[str]:
    """The components of a CWE; with a table the code of HL7 v2 first."""
    given = [coding for coding in concept.get("coding", ()) if coding.get("code")]
    shown = [(coding["code"], coding.get("display", ""), system_name(coding.get("system", ""), scene.codes)) for coding in given]
    if table:
        known = next(((code, each.get("display", "")) for each in given if (code := scene.codes.find(table, each["code"])) is not None), None)
        if known is not None:
            first = (*known, f"HL7{table[:4]}")
            shown = [first, *(each for each in shown if each[0] != first[0])]
    (one, two) = (shown + [("", "", "")] * 2)[:2]
    versions = [coding.get("version", "") for coding in given] + ["", ""]
    text = concept.get("text", "") or ("" if given else concept.get("display", ""))
    return [*one, *two, *(["", ""] if table else versions[:2]), text]


def _cwe(value: Any, scene: Scene, table: str) -> Repetition | None:
    if isinstance(value, str):
        code = scene.codes.find(table, value)
        return [code, "", f"HL7{table[:4]}"] if code is not None else None
    return codings(value, scene, table)


def _code(value: Any, scene: Scene, table: str) -> Repetition | None:
    found = scene.codes.find(table, str(value))
    return [found] if found is not None else None


def _st(value: Any, _: Scene, __: str) -> Repetition | None:
    return [str(value)]


def _dtm(value: Any, scene: Scene, _: str) -> Repetition | None:
    return [time(str(value), scene.zone)]


def _flag(value: Any, _: Scene, __: str) -> Repetition | None:
    return ["Y" if value is True or str(value) == "true" else "N"]


def _cx(value: Json, scene: Scene, _: str) -> Repetition | None:
    kinds = (coding.get("code", "") for coding in value.get("type", {}).get("coding", ()) if _V2.fullmatch(coding.get("system", "")))
    period = value.get("period", {})
    days = [time(period[name][:10], scene.zone) if name in period else "" for name in ("start", "end")]
    # From 2.7 on it has to have a type: U is one that is not told.
    return [value["value"], "", "", authority(value.get("system", ""), scene.codes), next(kinds, "" if scene.older else "U"), "", *days]


def _own_cx(value: Any, scene: Scene, _: str) -> Repetition | None:
    number, name = own(str(value), scene)
    return [number, "", "", name, "PI"]


def _ei(value: Json, scene: Scene, _: str) -> Repetition | None:
    return [value.get("value", ""), *authority(value.get("system", ""), scene.codes)] if value.get("value") else None


def _own_ei(value: Any, scene: Scene, _: str) -> Repetition | None:
    return own(str(value), scene)


def placer(order: Json, scene: Scene) -> Repetition:
    """The placer's number of an order: as it stands there, or ours."""
    marked = (each for each in order.get("identifier", ()) if "PLAC" in [coding.get("code") for coding in each.get("type", {}).get("coding", ())])
    found = next((_ei(each, scene, "") for each in marked), None)
    return found or own(str(order.get("id", "")), scene)


def _order_ei(value: Json, scene: Scene, _: str) -> Repetition | None:
    found = scene.resolve(value.get("reference", ""))
    return placer(found, scene) if found is not None else _ei(value.get("identifier", {}), scene, "")


def _eip(value: Json, scene: Scene, _: str) -> Repetition | None:
    """SPM-2: who placed, who filled."""
    pairs: list[str] = []
    for kind in ("PLAC", "FILL"):
        marked = (each for each in value.get("identifier", ()) if kind in [coding.get("code") for coding in each.get("type", {}).get("coding", ())])
        parts = next((_ei(each, scene, "") for each in marked), None)
        pairs.append("\0".join(map(str, parts)) if parts else "")
    if not any(pairs):
        pairs[1] = "\0".join(own(str(value.get("id", "")), scene))
    return [pair.split("\0") for pair in pairs]


def _xpn(value: Json, scene: Scene, _: str) -> Repetition | None:
    given = value.get("given", [])
    family = value.get("family", "") or ("" if given else value.get("text", ""))
    use = scene.codes.find("0200", value.get("use", "")) or ""
    use = "TEMP" if value.get("use") == "temp" and not scene.older else use
    return [family, (given or [""])[0], " ".join(given[1:]), " ".join(value.get("suffix", ())), " ".join(value.get("prefix", ())), "", use]


def _xad(value: Json, scene: Scene, _: str) -> Repetition | None:
    lines = value.get("line", []) or ([value["text"]] if value.get("text") and not value.get("city") else [])
    use = scene.codes.find("0190-use", value.get("use", "")) or ("M" if value.get("type") == "postal" else "")
    parts = [value.get(name, "") for name in ("city", "state", "postalCode", "country")]
    return [(lines or [""])[0], ", ".join(lines[1:]), *parts, use, "", value.get("district", "")]


def _xtn(value: Json, scene: Scene, _: str) -> Repetition | None:
    number, system, use = value.get("value", ""), value.get("system", "phone"), value.get("use", "")
    if not number:
        return None
    where = "" if use == "mobile" and scene.older else scene.codes.find("0201", use) or ""
    if system == "email":
        return ["", "NET" if scene.older else where, "Internet", number]
    kind = "CP" if use == "mobile" else {"phone": "PH", "fax": "FX", "pager": "BP"}.get(system)
    if kind is None:
        return None
    if scene.peer.version < "2.6":
        return [number, where or "PRN", kind]
    return ["", where or "PRN", kind, *[""] * 8, number]


def _xcn(value: Json, scene: Scene, _: str) -> Repetition | None:
    person = scene.resolve(value.get("reference", ""))
    if person is not None and person.get("resourceType") == "PractitionerRole":
        inner = person.get("practitioner", {})
        person, value = scene.resolve(inner.get("reference", "")), {"display": inner.get("display", ""), **value}
    if person is None or person.get("resourceType") not in _PERSON:
        return ["", value["display"]] if value.get("display") else None
    identifier = next((each for each in person.get("identifier", ()) if each.get("value")), None)
    name = _xpn((person.get("name") or [{}])[0], scene, "") or [""] * 7
    number = _cx(identifier, scene, "") if identifier else None
    number = number or _own_cx(person.get("id", ""), scene, "") or [""] * 5
    return [number[0], *name[:6], "", number[3], name[6], "", "", number[4]]


def _ndl(value: Json, scene: Scene, _: str) -> Repetition | None:
    found = _xcn(value, scene, "")
    # A CNN in the first component: its parts stand one level deeper.
    return [[str(part) if isinstance(part, str) else part[0] for part in found[:6]]] if found is not None else None


def _xon(value: Json, scene: Scene, _: str) -> Repetition | None:
    found = scene.resolve(value.get("reference", "")) or {}
    name = found.get("name") or value.get("display", "")
    identifier: Json = next((each for each in found.get("identifier", ()) if each.get("value")), {})
    assigner = authority(identifier.get("system", ""), scene.codes) if identifier else ""
    return [name, "", "", "", "", assigner, "", "", "", identifier.get("value", "")] if name else None


def _pl(value: Json, scene: Scene, _: str) -> Repetition | None:
    found = scene.resolve(value.get("reference", "")) or {}
    identifier = next((each for each in found.get("identifier", ()) if each.get("value")), None)
    name = found.get("name") or value.get("display", "")
    if identifier is not None:
        place = [*identifier["value"].split("^"), "", ""][:3]
        return [*place, authority(identifier.get("system", ""), scene.codes), "", "", "", "", name]
    number, facility = own(str(found.get("id", "")), scene)
    return [number, "", "", facility, "", "", "", "", name] if found else ["", "", "", "", "", "", "", "", name] if name else None


def _tq(value: Json, scene: Scene, _: str) -> Repetition | None:
    start, end = (time(value[name], scene.zone) if name in value else "" for name in ("start", "end"))
    return ["", "", f"M{value['minutesDuration']}" if "minutesDuration" in value else "", start, end]


def _order_tq(value: Json, scene: Scene, _: str) -> Repetition | None:
    when = value.get("occurrenceDateTime") or value.get("occurrencePeriod", {}).get("start", "")
    until = value.get("occurrencePeriod", {}).get("end", "")
    priority = scene.codes.find("0485", value.get("priority", "routine")) or ""
    return ["", "", "", *(time(each, scene.zone) if each else "" for each in (when, until)), priority]


def _range(value: Json, _: Scene, __: str) -> Repetition | None:
    if value.get("text"):
        return [value["text"]]
    low, high = (str(value[name]["value"]) if "value" in value.get(name, {}) else "" for name in ("low", "high"))
    return [f"{low}-{high}" if low and high else f">={low}" if low else f"<={high}" if high else ""]


VALUES: Final[Mapping[str, Value]] = {
    "ST": _st,
    "code": _code,
    "flag": _flag,
    "DTM": _dtm,
    "CWE": _cwe,
    "CX": _cx,
    "own CX": _own_cx,
    "EI": _ei,
    "own EI": _own_ei,
    "order EI": _order_ei,
    "EIP": _eip,
    "XPN": _xpn,
    "XAD": _xad,
    "XTN": _xtn,
    "XCN": _xcn,
    "NDL": _ndl,
    "XON": _xon,
    "PL": _pl,
    "TQ": _tq,
    "order TQ": _order_tq,
    "range": _range,
}
"""By the name in the column `as`."""
