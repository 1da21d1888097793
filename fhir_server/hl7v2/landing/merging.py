"""What becomes of a resource that is there when a message tells of it again. Pure: resources in, resource out.

A message tells of some elements and says nothing of others: those stay. A result is told of whole, and what is newer takes its place; what is older,
or less final, does not.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.fhirjson import Number, dumps
from fhir_server.search.params.date import parse_date
from fhir_server.settings import CANON

Json = dict[str, Any]

_UTC: Final = ZoneInfo("UTC")
WHOLE: Final = frozenset({"Observation", "DiagnosticReport", "Specimen", "Immunization", "ChargeItem"})
"""Types that a message tells of whole."""
_CHOICES: Final = ("deceased", "multipleBirth", "onset", "abatement", "effective", "occurrence", "value", "performed", "collected")
_OURS: Final = frozenset({"id", "meta", "text"})
_UNITED: Final = frozenset({"identifier", "extension", "link"})
"""Elements whose members are added to those that are there: a message names what it knows."""
_RANKS: Final[dict[str, int]] = {
    "registered": 0,
    "unknown": 0,
    "cancelled": 0,
    "entered-in-error": 0,
    "partial": 1,
    "preliminary": 1,
    "final": 2,
    "amended": 3,
    "appended": 3,
    "corrected": 3,
}
_TOLD_IN_PARTS: Final = frozenset({"period", "hospitalization"})
"""Elements of a visit whose parts come in messages of their own: it begins in one and ends in another."""
_KEPT: Final = frozenset({"identifier", "link"})
"""Elements that no message takes away: by them somebody is found."""
_PERIOD_END: Final = ("period", "end")
_UNDER_WAY: Final = frozenset({"planned", "in-progress"})
_BEGUN: Final = frozenset({"arrived", "triaged", "in-progress", "onleave"})
_NO_CLASS: Final = "UNK"
_ENDED: Final = frozenset({"completed", "revoked", "cancelled", "entered-in-error"})
_WAITING: Final = frozenset({"draft", "active", "on-hold", "unknown"})
_CALLED_OFF: Final = frozenset({"cancelled", "noshow", "entered-in-error"})
_WITHDRAWN: Final = frozenset({"entered-in-error", "cancelled"})


def is_older(there: Json, told: Json) -> bool:
    """Whether what a message tells of a result is of before what is there: less final, or as final and of an earlier time."""
    if told["resourceType"] not in {"Observation", "DiagnosticReport"}:
        return False
    before, after = str(there.get("status")), str(told.get("status"))
    if after in _WITHDRAWN or before in _WITHDRAWN:
        return False
    if _RANKS.get(after, 0) != _RANKS.get(before, 0):
        return _RANKS.get(after, 0) < _RANKS.get(before, 0)
    then, now = _time(there), _time(told)
    return then is not None and now is not None and now < then


def merged(there: Json, told: Json, nulls: Collection[tuple[str, ...]]) -> Json:
    """The resource as it is from now on. `nulls` are elements that the message says to be without a value, as `Path.keys` names them."""
    if told["resourceType"] in WHOLE:
        return _replaced(there, told)
    if told["resourceType"] == "Encounter" and _begins_anew(there, told):
        nulls = {*nulls, _PERIOD_END}
    found = _without(there, nulls)
    if told["resourceType"] == "Appointment" and told.get("status") not in _CALLED_OFF:
        # Who is expected after all has no reason for staying away.
        found.pop("cancelationReason", None)
    for name, value in told.items():
        if _stays(name, there, told, nulls):
            continue
        if name in _UNITED and name in found:
            found[name] = _united(found[name], value)
        elif told["resourceType"] == "Encounter" and name in found:
            found[name] = _of_visit(name, found[name], value)
        else:
            _clear_choice(found, name)
            found[name] = value
    return found


def _without(there: Json, nulls: Collection[tuple[str, ...]]) -> Json:
    found = dict(there)
    for first, *rest in nulls:
        if first in _OURS or first in _KEPT or first not in found:
            continue
        if not rest:
            del found[first]
        elif isinstance(found[first], list):
            found[first] = [each for each in found[first] if each.get("url") != rest[0]]
        else:
            found[first] = _without(found[first], [tuple(rest)])
        if found.get(first) in ({}, []):
            del found[first]
    return found


def _of_visit(name: str, there: Any, told: Any) -> Any:
    """An element of a visit of which a message tells only what has changed."""
    if name in _TOLD_IN_PARTS:
        return {**there, **told}
    if name == "location":
        return _places(there, told)
    if name == "participant":
        named = [_kinds(each) for each in told]
        return [each for each in there if _kinds(each) not in named] + told
    if name == "diagnosis":
        named = [each.get("condition") for each in told]
        return [each for each in there if each.get("condition") not in named] + told
    return told


def _places(there: list[Json], told: list[Json]) -> list[Json]:
    """Where somebody was, and is: whoever is in another place now is no longer in the one before."""
    now = {_place(each): each for each in told}
    has_moved = any(each.get("status") == "active" for each in told)
    found = [now.pop(_place(each), {**each, "status": "completed"} if has_moved and each.get("status") == "active" else each) for each in there]
    return found + [each for each in told if _place(each) in now]


def _place(each: Json) -> str:
    location = each.get("location", {})
    return str(location.get("reference") or location.get("display"))


def _kinds(participant: Json) -> str:
    return repr([coding.get("code") for concept in participant.get("type", ()) for coding in concept.get("coding", ())])


def filled(there: Json, told: Json) -> Json:
    """An order as it is when its result comes, which tells of it in passing: it gets what it does not have, its numbers, and is done at last."""
    found = {**told, **there}
    if "identifier" in told and "identifier" in there:
        found["identifier"] = _united(there["identifier"], told["identifier"])
    if "supportingInfo" in told and "supportingInfo" in there:
        found["supportingInfo"] = _united(there["supportingInfo"], told["supportingInfo"])
    for stem in _CHOICES:
        if any(name.startswith(stem) for name in there):
            found = {name: value for name, value in found.items() if name in there or not name.startswith(stem)}
    if told.get("status") in _ENDED and there.get("status") in _WAITING:
        found["status"] = told["status"]
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same to the digit; 1.10 is not 1.1. Costs a tenth where they are, and in the same order."""
    # Numbers that are written in another way are equal too.
    return bool(one == other) and (dumps(one) == dumps(other) or _same(one, other))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Number) and isinstance(other, Number):
        return one.text == other.text
    return type(one) is type(other) and bool(one == other)


def _replaced(there: Json, told: Json) -> Json:
    """All of what is told, with what the server has said of the resource itself; a report keeps the results that this message does not name."""
    kept = {name: value for name, value in there.items() if name in _OURS}
    own = [each for each in there.get("extension", ()) if str(each.get("url", "")).startswith(CANON)]
    found = {"resourceType": told["resourceType"], **kept, **{name: value for name, value in told.items() if name != "resourceType"}}
    if own:
        found["extension"] = _united(own, found.get("extension", []))
    for name in ("result", "identifier", "presentedForm"):
        if name in there:
            found[name] = _united(there[name], found.get(name, []))
    return found


def _united(there: list[Json], told: list[Json]) -> list[Json]:
    found = list(there)
    places = {_key(each): place for place, each in enumerate(found)}
    for each in told:
        place = places.get(_key(each))
        if place is None:
            places[_key(each)] = len(found)
            found.append(each)
        elif "value" in each and "system" in each:
            # What it was said to be of before, an old number for one, it still is.
            found[place] = {**found[place], **each}
        elif "display" not in found[place] or set(each) - {"display"} != set(found[place]) - {"display"}:
            found[place] = each
    return found


def _key(element: Json) -> str:
    """What makes a member of a list the one it is: an identifier's system and value, a reference, an extension's URL."""
    if "value" in element and "system" in element:
        return f"{element['system']}|{element['value']}"
    if "url" in element:
        return str(element["url"])
    if "other" in element:
        return repr((element["other"].get("reference"), element.get("type")))
    return str(element["reference"]) if "reference" in element else repr(element)


def _stays(name: str, there: Json, told: Json, nulls: Collection[tuple[str, ...]]) -> bool:
    """What a message does not change although it tells of it.

    That an order is done; when an insurer has authorised something, and that it was called off; who was to come to what is called off; that a visit
    is over, until the message of its end is taken back; and what somebody has found of an allergy or a diagnosis, of which a message says no more
    than that there is one.
    """
    if name not in there:
        return False
    type_, before, after = told["resourceType"], there[name], told[name]
    if type_ in {"ServiceRequest", "ClaimResponse"}:
        return name == "created" or (name == "status" and before in _ENDED and after in _WAITING)
    if type_ == "Appointment":
        return name == "participant" and told.get("status") in _CALLED_OFF
    if type_ == "Encounter" and name == "status":
        # A visit may be announced once more when it has begun.
        is_late = (after == "planned" and before in _BEGUN) or (before == "finished" and after in _UNDER_WAY and _PERIOD_END not in nulls)
        return after == "unknown" or is_late
    if type_ == "Encounter" and name == "class":
        return bool(after.get("code") == _NO_CLASS)
    return name == "clinicalStatus" and type_ in {"AllergyIntolerance", "Condition"} and _codes(after) == ["active"]


def _begins_anew(there: Json, told: Json) -> bool:
    """Whether a visit that was over begins after its end: numbers of visits are used again."""
    end, start = there.get("period", {}).get("end"), told.get("period", {}).get("start")
    return bool(end and start) and parse_date(start, _UTC)[0] >= parse_date(end, _UTC)[0]


def _codes(concept: Json) -> list[str]:
    return [coding.get("code", "") for coding in concept.get("coding", ())]


def _clear_choice(resource: Json, name: str) -> None:
    """`deceasedBoolean` goes where `deceasedDateTime` comes."""
    if not name.startswith(_CHOICES):
        return
    for stem in _CHOICES:
        if name.startswith(stem):
            for other in [each for each in resource if each.startswith(stem) and each != name]:
                del resource[other]


def _time(resource: Json) -> datetime | None:
    text = resource.get("issued") or resource.get("effectiveDateTime") or resource.get("effectivePeriod", {}).get("start")
    return parse_date(text, _UTC)[0] if text else None
