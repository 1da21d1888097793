"""A stored message as JSON for people: its text in parts, its faults with their places in words, and what the maps of now make of it.

Sizes are bounded but for the text itself, which whoever corrects it needs whole.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.hl7v2.landing.landing import understood
from fhir_server.hl7v2.mapping import KNOWN, Converter, Made
from fhir_server.hl7v2.text.batch import split
from fhir_server.hl7v2.text.faults import Fault
from fhir_server.hl7v2.text.message import Message, read
from fhir_server.hl7v2.text.unreadable import Unreadable
from fhir_server.interactions import Engine
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM

Json = dict[str, Any]

_SEGMENTS: Final = 1_000
_CHARACTERS: Final = 2_000
"""What is shown of a message's segments, and of one of them; all of it is in the text."""
_RESOURCES: Final = 256 * 1024
"""Bytes of JSON that are shown of what a message would become."""
_FAULTS: Final = 100
_CANDIDATES: Final = 10
_ORDER: Final = "EWI"


def texts_of(raw: bytes) -> Json:
    """The text of a message and its segments, with the bytes in base64 where there is more to them.

    Of what cannot be read the text is UTF-8 where the bytes are, else a character for each byte.
    """
    alone = _message_in(raw)
    try:
        message = read(alone)
    except Unreadable as unreadable:
        try:
            text, whole = raw.decode(), True
        except UnicodeDecodeError:
            text, whole = raw.decode("latin-1"), False
        return {"text": text, "base64": None if whole else b64encode(raw).decode(), "unreadable": unreadable.fault.text, "segments": []}
    coded = b64encode(raw).decode() if alone != raw else None
    return {"text": message.text, "base64": coded, "unreadable": None, "segments": _segments(message)}


def faults_of(faults: list[Json]) -> list[Json]:
    """Faults as they are stored, gravest first, each with its place in words; the first hundred."""
    ordered = sorted(faults, key=lambda fault: _ORDER.find(fault["severity"]))
    return [{**fault, "place": place_of(fault)} for fault in ordered[:_FAULTS]]


def place_of(fault: Json) -> str:
    """A place as `OBX 2, field 5, repetition 3, component 1`; empty where there is none."""
    if not fault["segment"]:
        return ""
    words = [f"{fault['segment']} {fault['sequence']}"]
    # A field that does not repeat has one repetition too.
    numbers = [(name, fault[name]) for name in ("field", "repetition", "component")]
    words += [f"{name} {number}" for name, number in numbers if number is not None and (name, number) != ("repetition", 1)]
    return ", ".join(words)


def mapped(engine: Engine, converter: Converter, raw: bytes) -> Json:
    """What a message would become now: resources with references among each other, what is at fault with them, and who has its identifiers here.

    Nothing is stored. Raises Outcome `unavailable`.
    """
    try:
        message = read(_message_in(raw))
    except Unreadable as unreadable:
        return _nothing(unreadable.fault)
    if converter.structure_of(message) is None:
        return _nothing(Fault("201", "This kind of message is not taken", "MSH", field=9))
    converted = understood(converter, message, engine.registry.zone)
    faults = [_as_json(fault) for fault in converted.faults]
    resources: list[Json] = []
    room = _RESOURCES
    for made in converted.made:
        faults += [_as_json(fault) for fault in _invalid(engine, made)]
        room -= len(fhirjson.dumps(made.resource))
        if room >= 0:
            resources.append({"fullUrl": made.urn, "resource": made.resource})
    return {
        "resources": resources,
        "omitted": len(converted.made) - len(resources),
        "faults": faults_of(faults),
        "candidates": _candidates(engine, converted.made),
    }


def unread(converter: Converter, raw: bytes) -> list[str]:
    """The fields of a message that are in no resource, as `PID-23`; none for what cannot be read."""
    try:
        return converter.unread(read(_message_in(raw)))
    except Unreadable:
        return []


def _message_in(raw: bytes) -> bytes:
    found = split(raw).messages
    return found[0] if len(found) == 1 else raw


def _segments(message: Message) -> list[Json]:
    return [
        {"name": each.name[:_CHARACTERS], "sequence": each.sequence, "text": each.raw[:_CHARACTERS], "whole": len(each.raw) <= _CHARACTERS}
        for each in message.segments[:_SEGMENTS]
    ]


def _nothing(fault: Fault) -> Json:
    return {"resources": [], "omitted": 0, "faults": faults_of([_as_json(fault)]), "candidates": []}


def _as_json(fault: Fault) -> Json:
    names = ("code", "text", "segment", "sequence", "field", "repetition", "component", "severity", "diagnostic", "application")
    return {name: getattr(fault, name) for name in names}


def _invalid(engine: Engine, made: Made) -> list[Fault]:
    if made.key == KNOWN:
        # What is only mentioned is never made.
        return []
    try:
        engine.validator.require(made.resource)
    except Outcome as outcome:
        return [Fault("102", f"{made.type}: {issue.diagnostics}", diagnostic=", ".join(issue.expression)) for issue in outcome.issues]
    return []


def _candidates(engine: Engine, made: list[Made]) -> list[str]:
    """The ids of patients who have one of the identifiers of the message's own."""
    sought = [
        ("Patient", each["system"], each["value"])
        for patient in made
        if patient.type == "Patient"
        for each in patient.resource.get("identifier", ())
        if each.get("system") and each.get("value")
    ]
    with engine.store.latest(SYSTEM) as db:
        return list(dict.fromkeys(version.id for _, version in db.identified(sought[:_FAULTS])))[:_CANDIDATES]
