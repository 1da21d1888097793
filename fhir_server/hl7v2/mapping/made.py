"""Resources that came of a message, and which of them are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.hl7v2.text.faults import Fault
from fhir_server.hl7v2.text.message import Segment

from .context import ANYWHERE
from .paths import Json, Keys, Places

MENTIONED: Final = "identifier new"
KNOWN: Final = "identifier known"
FILLED: Final = "identifier fill"
BY_IDENTIFIER: Final = frozenset({"identifier", MENTIONED, KNOWN, FILLED})
"""Keys of resources that are searched by their identifiers: made or changed; made, but never changed; changed, but never made; made, or given what
they do not have."""
__all__ = ["ANYWHERE", "BY_IDENTIFIER", "FILLED", "KNOWN", "MENTIONED", "Converted", "Made", "display", "one_each"]

_SPECIMEN: Final = "Specimen"


@dataclass(slots=True)
class Made:
    """A resource that came of a message.

    `label` is what the message's map calls it. `key` tells how it is recognised: one of BY_IDENTIFIER, or the texts that make it the one it is.
    `nulls` are elements that are said to have no value, as `Path.keys` names them; `open` are the names of those that are not what they will be, as
    they refer to others of the message or may have empty parts, ANYWHERE where it cannot be said which.
    """

    number: int
    label: str
    type: str
    resource: Json
    key: tuple[str, ...] | str = ()
    nulls: set[Keys] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    places: Places = field(default_factory=Places)
    urn: str = field(init=False)
    """What others refer to it by."""

    def __post_init__(self) -> None:
        """Makes it of the number."""
        self.urn = f"urn:hl7v2:{self.number}"


@dataclass(frozen=True, slots=True)
class Converted:
    """What a message became: resources in the order of their making, faults, and the segments that were not taken over."""

    structure: str
    made: list[Made]
    faults: list[Fault]
    unhandled: list[Segment]


def one_each(made: Sequence[Made]) -> list[Made]:
    """Without those that are told of in another place of the message: a parent order that is only mentioned, a specimen of several reports."""
    told = {
        (each.type, number["system"], number["value"]): each
        for each in made
        if each.key in BY_IDENTIFIER and each.key != KNOWN
        for number in each.resource.get("identifier", ())
        if "system" in number and "value" in number
    }
    instead: dict[str, str] = {}
    specimens: dict[tuple[str, ...] | str, Made] = {}
    for each in made:
        if each.type == _SPECIMEN and "identifier" in each.resource and specimens.setdefault(each.key, each) is not each:
            instead[each.urn] = specimens[each.key].urn
            requests = specimens[each.key].resource.setdefault("request", [])
            specimens[each.key].open.add("request")
            requests += [request for request in each.resource.get("request", ()) if request not in requests]
        elif each.key == KNOWN:
            numbers = [(each.type, number.get("system"), number.get("value")) for number in each.resource.get("identifier", ())]
            if twin := next((told[number] for number in numbers if number in told), None):
                instead[each.urn] = twin.urn
    if instead:
        for each in made:
            _redirect(each.resource, instead)
    return [each for each in made if each.urn not in instead]


def _redirect(value: Any, instead: Mapping[str, str]) -> None:
    if isinstance(value, list):
        for each in value:
            _redirect(each, instead)
    elif isinstance(value, dict):
        if value.get("reference") in instead:
            value["reference"] = instead[value["reference"]]
        for each in value.values():
            _redirect(each, instead)


def display(resource: Json) -> str:
    """What people call a resource: a person by the whole name."""
    name = resource.get("name")
    if "deviceName" in resource:
        return str(resource["deviceName"][0].get("name", ""))
    if isinstance(name, list) and name:
        first = name[0]
        given = " ".join(first.get("given", ()))
        return " ".join(part for part in (" ".join(first.get("prefix", ())), given, first.get("family", "")) if part) or str(first.get("text", ""))
    return str(name) if isinstance(name, str) else ""
