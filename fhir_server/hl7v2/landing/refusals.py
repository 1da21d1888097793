"""Which messages are wanted, and what is said of those that are not or that something goes wrong with.

https://terminology.hl7.org/CodeSystem-v2-0357.html, https://terminology.hl7.org/CodeSystem-v2-0003.html
"""

from __future__ import annotations

from typing import Final

from fhir_server.hl7v2.text.faults import Fault
from fhir_server.hl7v2.text.message import Message
from fhir_server.outcome import Category, Outcome

from .processing import Result, State

WANTED: Final[dict[str, frozenset[str]]] = {
    "ADT": frozenset(["A01", "A02", "A03", "A04", "A05", "A08", "A11", "A13", "A18", "A28", "A31", "A34", "A40"]),
    "DFT": frozenset({"P03"}),
    "MDM": frozenset(["T01", "T02", "T04", "T06", "T08", "T10"]),
    "OML": frozenset({"O21"}),
    "ORM": frozenset({"O01"}),
    "ORU": frozenset({"R01", "R30"}),
    "OUL": frozenset({"R22"}),
    "SIU": frozenset(["S12", "S13", "S14", "S15", "S17", "S26"]),
    "VXU": frozenset({"V04"}),
}
"""Message types with their trigger events."""

TOO_LONG: Final = Fault("104", "The message is longer than is taken here")
CUT: Final = Fault("199", "The message breaks off, or is not framed as MLLP has it")
EMPTY: Final = Fault("199", "There is no message in it")
FAILED: Final = Result("AE", "failed", (Fault("207", "Something went wrong here; send the message again later"),))
AWAY: Final = Fault("207", "Messages cannot be stored now; send this one again later")
_UNSURE: Final = frozenset({"ORM", "ORU", "VXU", "DFT"})
"""Types of which early versions have a single event, and do not name it."""
_PROCESSING: Final = frozenset({"", "P", "T", "D"})

_SAID: Final[dict[Category, tuple[State, str, str]]] = {
    "conflict": ("invalid", "205", "What it asks for is taken, or contradicts what is recorded"),
    "forbidden": ("invalid", "207", "Its sender may not write this"),
    "gone": ("unmatched", "204", "What it is about is deleted here"),
    "invalid": ("invalid", "102", "The record that it would make is not valid"),
    "multiple-matches": ("unmatched", "204", "What it is about cannot be told from others"),
    "not-found": ("unmatched", "204", "What it is about is not known here"),
    "too-large": ("invalid", "104", "It is larger than can be stored"),
}
_WRONG: Final[tuple[State, str, str]] = ("invalid", "199", "The record that it would make is refused")
_PASSING: Final = frozenset({"internal", "throttled", "timeout", "unavailable"})


def event_of(message: Message) -> str:
    """The trigger event: that of MSH-9, else of EVN-1, else the only one that the type has had."""
    header = message.header
    told = header.event or next((segment.get(1) for segment in message.segments if segment.name == "EVN"), "")
    if told or header.type not in _UNSURE:
        return told
    return min(WANTED[header.type])


def unwanted(message: Message) -> Fault | None:
    """Why a message is not wanted, whatever is in it; None for one that is."""
    header = message.header
    if header.version and not header.version.startswith("2"):
        return Fault("203", "Only versions 2.1 to 2.8 are taken", "MSH", field=12)
    if header.processing.upper() not in _PROCESSING:
        return Fault("202", "MSH-11 is P, T or D", "MSH", field=11)
    if header.type not in WANTED:
        return Fault("200", "Messages of this type are not taken", "MSH", field=9, component=1)
    if event_of(message) not in WANTED[header.type]:
        return Fault("201", "Of this type, messages of this event are not taken", "MSH", field=9, component=2)
    if any(segment.name == "DSC" and segment.get(1) for segment in message.segments):
        return Fault("199", "Messages in several parts are not taken", "DSC", field=1)
    return None


def of_outcome(outcome: Outcome) -> Result:
    """What is made of a refusal of the store.

    Its texts may hold what stands in the message, and so go no further, but for those of the specification's own rules; the elements at fault are
    named.
    """
    if outcome.category in _PASSING:
        return FAILED
    if outcome.category == "precondition" or (outcome.category == "conflict" and any(issue.code == "transient" for issue in outcome.issues)):
        # No message says which version it is about: others were faster each time.
        return Result("AE", "failed", (Fault("206", "Others are changing the same record; send the message again"),))
    state, code, text = _SAID.get(outcome.category, _WRONG)
    places = ", ".join(dict.fromkeys(expression for issue in outcome.issues for expression in issue.expression))
    rules = "; ".join(dict.fromkeys(issue.diagnostics for issue in outcome.issues if issue.code == "invariant"))
    return Result("AE", state, (Fault(code, f"{text}: {places}" if places else text, diagnostic=rules),))
