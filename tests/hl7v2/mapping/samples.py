"""Small messages, and what becomes of them."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.hl7v2.mapping import Converted, Converter
from fhir_server.hl7v2.text.message import read

Json = dict[str, Any]
ZONE = ZoneInfo("Europe/Berlin")
PID = "PID|1||7^^^HOSP^MR||Doe^Jane||19800101|F"


def message(event: str, *segments: str, version: str = "2.5.1", patient: str = PID) -> bytes:
    """A message of an event: the header, the patient where there is one, and the segments."""
    header = f"MSH|^~\\&|APP|LAB1|CLINIC|C1|20260102101500+0100||{event}|M1|P|{version}"
    return "\r".join(part for part in (header, patient, *segments) if part).encode()


def convert(converter: Converter, event: str, *segments: str, version: str = "2.5.1") -> Converted:
    """What such a message becomes. In ADT, MDM and SIU the first segment stands before the patient."""
    if event.startswith(("SIU", "MDM")):
        first, *others = segments
        return converter.convert(read(message(event, first, PID, *others, version=version, patient="")), ZONE)
    return converter.convert(read(message(event, *segments, version=version)), ZONE)


def of_type(converted: Converted, name: str) -> list[Json]:
    """The resources of a type, in their order."""
    return [made.resource for made in converted.made if made.type == name]


def only(converted: Converted, name: str) -> Json:
    """The only resource of a type."""
    (found,) = of_type(converted, name)
    return found


def target(converted: Converted, reference: Json) -> Json:
    """The resource that a reference means."""
    return next(made.resource for made in converted.made if made.urn == reference["reference"])
