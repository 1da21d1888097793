"""The acknowledgement of a message that was sent. https://www.hl7.eu/refactored/segMSA.html"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fhir_server.hl7v2.text.message import Message, read
from fhir_server.hl7v2.text.unreadable import Unreadable

_ACCEPTED = frozenset({"AA", "CA"})
_CODE = re.compile("[A-Z]{2}")
_PASSING = frozenset({"206", "207"})
"""Codes of HL7 table 0357 for a record that is locked and an application that has failed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """MSA-1 and, for people, what the peer says of it: its texts may tell of a patient. `passing` says that the fault is the peer's own just now."""

    code: str
    told: str
    passing: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the peer has taken the message. All else it refuses; for good, unless that is passing."""
        return self.code in _ACCEPTED


def control_id_of(raw: bytes) -> str | None:
    """The control id of the message that this acknowledges; None for what is no acknowledgement."""
    message = _read(raw)
    segment = next((each for each in message.segments if each.name == "MSA"), None) if message is not None else None
    return segment.get(2) if segment is not None else None


def read_answer(raw: bytes) -> Answer:
    """What an acknowledgement says."""
    message = _read(raw)
    code, texts, faults = "", [], set()
    for segment in message.segments if message is not None else ():
        if segment.name == "MSA":
            said = segment.get(1).strip().upper()
            # What is no code may be anything, and codes stand in logs.
            code = said if _CODE.fullmatch(said) else ""
            texts += [said if not code else "", segment.get(3)]
        if segment.name == "ERR":
            # 2.5 and later: where, which code, what for people; before that one field has it all.
            faults |= {each.component(1) for each in segment.repetitions(3)} | {each.sub(4, 1) for each in segment.repetitions(1)}
            texts += [each.text for number in (2, 3, 8, 7) for each in segment.repetitions(number)] or [segment.get(1)]
    return Answer(code, ": ".join(filter(None, [code or "no code", "; ".join(filter(None, texts))]))[:2000], not faults.isdisjoint(_PASSING))


def _read(raw: bytes) -> Message | None:
    try:
        return read(raw)
    except Unreadable:
        return None
