"""From a message to the record: what it describes (`mapping`), what that changes (`planning`), and one transaction for all of it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final
from zoneinfo import ZoneInfo

from fhir_server.hl7v2.mapping import Converted, Converter
from fhir_server.hl7v2.text.charset import belied
from fhir_server.hl7v2.text.faults import Fault
from fhir_server.hl7v2.text.grammar import check
from fhir_server.hl7v2.text.message import Message, Segment
from fhir_server.interactions import Engine
from fhir_server.outcome import Outcome
from fhir_server.settings import CANON
from fhir_server.store import instant

from . import merge
from .merging import Json
from .planning import PATIENT, Unmatched, plan
from .processing import Again, Process, Result, State, Steps, Work, Write
from .refusals import of_outcome

_ATTEMPTS: Final = 12
_FIRST: Final = 0.005  # Seconds until the second attempt at the most; then twice as many each time,
_LONGEST: Final = 0.3  # and no more than this.
_NO_CODE: Final = "103"
_LOST: Final = frozenset({"precondition", "multiple-matches"})
_FORM: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"


def landing(engine: Engine, converter: Converter) -> Process:
    """What the intake has messages processed by: two looks, and one transaction. Tries again where others write the same."""

    def process(message: Message, work: Work) -> Steps:
        if converter.structure_of(message) is None:
            event = Fault("200" if not message.header.type else "201", "This kind of message is not taken", "MSH", field=9)
            return Result("AR", "rejected", (event,))
        converted = understood(converter, message, engine.registry.zone)
        refused = tuple(fault for fault in converted.faults if fault.severity == "E")
        unhandled = tuple(map(_named, converted.unhandled))
        if refused:
            return Result("AE", "invalid", tuple(converted.faults), unhandled)
        lost = 0
        while True:
            try:
                return (yield from _land(engine, converted, message, work, unhandled))
            except Unmatched as unmatched:
                return Result("AE", "unmatched", (unmatched.fault, *converted.faults), unhandled)
            except Again:
                # Each time one at least of those before this one has come to its end.
                continue
            except Outcome as outcome:
                lost += 1
                if not _is_lost(outcome) or lost == _ATTEMPTS:
                    raise
                # Others have written the same in the meantime: look again, not all at the same moment.
                time.sleep(random.uniform(0, min(_LONGEST, _FIRST * 2**lost)))  # noqa: S311 - no secret

    return process


def _is_lost(outcome: Outcome) -> bool:
    """Whether others were faster, so that another look helps; a time that is taken stays taken."""
    if outcome.category == "conflict":
        return any(issue.code == "transient" for issue in outcome.issues)
    return outcome.category in _LOST


def understood(converter: Converter, message: Message, zone: ZoneInfo) -> Converted:
    """What a message describes, with all its faults: those of the maps, and of the grammar, where what real senders break daily is a notice."""
    converted = converter.convert(message, zone)
    converted.faults.extend(_of_header(message))
    told = {(fault.code, fault.place) for fault in converted.faults}
    for fault in check(message):
        if fault.severity == "E":
            converted.faults.append(fault)
        elif (fault.code, fault.place) not in told:
            converted.faults.append(replace(fault, severity="I"))
    return converted


def _of_header(message: Message) -> Iterator[Fault]:
    """What is wrong with how a message is sent, not with what it tells: no result is refused for it, and who looks after the sender should know."""
    header = message.header
    if not header.control_id:
        yield Fault("101", "No answer to a message without control id can be told from another", "MSH", field=10, severity="W")
    if belied(header.charset, message.codec):
        # What decodes as UTF-8 is hardly ever anything else; ISO 8859-1 is a guess.
        text = "The message is said to be ASCII and is not; it was read as"
        if message.codec == "utf-8":
            yield Fault("102", f"{text} UTF-8", "MSH", field=18, severity="I")
        else:
            yield Fault("102", f"{text} ISO 8859-1", "MSH", field=18, severity="W")


def _land(engine: Engine, converted: Converted, message: Message, work: Work, unhandled: tuple[str, ...]) -> Steps:
    planned = yield from plan(engine.page_key, converted, message, work.patient)
    try:
        for op in planned.ops.values():
            engine.validator.require(op.resource)
    except Outcome as outcome:
        # What a code that no table has was to become is what is missing.
        unmapped = any(fault.code == _NO_CODE for fault in converted.faults)
        refusal = of_outcome(outcome)
        faults = (*refusal.faults, *converted.faults)
        return Result("AE", "unmapped" if unmapped else refusal.state, faults, unhandled, planned.known)
    moved = merge.moved(engine.store, work.grant, planned.merged)
    ops = [*planned.ops.values(), *moved]
    faults = (*converted.faults, *planned.faults, *merge.clashes(moved))
    state: State = "warning" if any(fault.severity == "W" for fault in faults) else "processed"

    result = Result("AA", state, faults, unhandled, planned.patient, tuple(planned.there))
    provenance = _provenance(message, work)
    if ops:
        # A patient who has changed since may have been merged into another.
        seen = [(PATIENT, identity, version) for identity, version in planned.seen.items()]
        yield Write(ops, provenance, seen, result, merges=bool(planned.merged))
    while planned.merged and (ops := [*merge.moved(engine.store, work.grant, planned.merged)]):
        # Committed by others at the same moment; whoever comes later finds the patient merged.
        yield Write(ops, provenance, merges=True)
    return result


def _named(segment: Segment) -> str:
    return f"{segment.name} {segment.sequence}" if segment.sequence > 1 else segment.name


def _provenance(message: Message, work: Work) -> Json:
    """Where the resources come from: the stored message, and who sent it."""
    header = message.header
    sender = " ".join(part for part in (header.sending_facility, header.sending_application) if part) or work.peer.name
    return {
        "resourceType": "Provenance",
        "recorded": instant(work.received),
        "activity": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0003", "code": header.event}]},
        "agent": [{"type": {"coding": [{"system": _FORM, "code": "transmitter"}]}, "who": {"display": sender}}],
        "entity": [{"role": "source", "what": {"identifier": {"system": f"{CANON}/sid/hl7v2-message", "value": work.id}}}],
    }
