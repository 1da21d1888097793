"""A result that nobody has sent, taken as far as the database: what is compiled when it is first needed, no sender waits for."""

from __future__ import annotations

from typing import Final

from fhir_server.hl7v2.mapping import Converter
from fhir_server.hl7v2.text.message import read
from fhir_server.interactions import Engine

from .landing import understood

_RESULT: Final = (
    "MSH|^~\\&|||||20260101||ORU^R01^ORU_R01|1|P|2.5.1\r"
    "PID|1||1^^^X^MR||Doe^Jane||19800101|F|||1 Street^^Town^^12345\r"
    "PV1|1|O|W^1\r"
    "ORC|RE|1|1\r"
    "OBR|1|1|1|1^Test^L|||20260101|||||||||7^Doe^John||||||20260101||LAB|F\r"
    "OBX|1|NM|1-8^Test^LN|1|1.0|mg/L^mg/L^UCUM|1-2|N|||F|||20260101\r"
    "OBX|2|ST|1-8^Test^LN|2|none||||||F\r"
)


def rehearse(engine: Engine, converter: Converter) -> None:
    """Reads, maps, checks and indexes a made-up result; nothing is asked of the database. Takes 0.1 s, the first time in a process."""
    resources = [made.resource for made in understood(converter, read(_RESULT.encode()), engine.registry.zone).made]
    for resource in [*resources, {"resourceType": "Provenance"}]:
        engine.registry.rows(resource)
    for resource in resources:
        engine.validator.require(resource)
