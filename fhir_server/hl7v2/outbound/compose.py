"""Whole messages: which segments of which resources, in the order that the standard has.

https://www.hl7.eu/refactored/msgSIU_S12.html, msgADT_A05, msgADT_A39, msgORM_O01, msgOML_O21, msgORU_R01
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.fhirjson import loads
from fhir_server.hl7v2.text.message import LIMIT
from fhir_server.store.ops import Version

from . import results
from .events import control_of, survivor_of
from .maps import Maps
from .peers import CHARSETS, Peer
from .values import Json, Scene, time
from .writer import has, segment

_STRUCTURES: Final = {"A28": "ADT_A05", "A31": "ADT_A05", "A40": "ADT_A39", "O01": "ORM_O01", "O21": "OML_O21", "R01": "ORU_R01"}
_KINDS: Final = {"S": "SIU", "A": "ADT", "R": "ORU"}
_REASONS: Final = {"S12": "NEW", "S13": "RESCHEDULED", "S14": "MODIFIED", "S15": "CANCELLED", "S17": "DELETED", "S26": "NOSHOW"}

Reader = Callable[[Sequence[tuple[str, str]]], list[Version]]


class Unsendable(Exception):  # noqa: N818 - said of a resource, for people
    """Why no message can be made of a resource. The text has no patient data."""


@dataclass(frozen=True, slots=True)
class Made:
    """A message with its event, as `SIU^S12`, and the id of the patient that it is about."""

    event: str
    message: bytes
    patient: str | None


class Composer:
    """Makes messages. Safe to share between threads."""

    def __init__(self, zone: ZoneInfo, site: Path | None = None) -> None:
        """Reads the maps, with a site's own rows. `zone` is the clinic's, in which times are written. Raises MappingFault. Takes about 0.1 s."""
        self._maps = Maps(site=site)
        self._zone = zone

    def compose(self, peer: Peer, event: str, now: Json | None, before: Json | None, read: Reader, control_id: str, at: datetime) -> Made:
        """The message that tells a peer of a change; a few milliseconds. Segments end with CR. Raises Unsendable.

        `now` and `before` are the contents of the two versions, `read` brings what they refer to, `at` is the time.
        """
        scene = Scene(peer, self._zone, self._maps.codes, _Resolver(read))
        resource = now or before
        assert resource is not None
        kind, trigger = _event(peer, event)
        if trigger == "A40":
            patient, segments = resource, self._merge(resource, scene, at)
        else:
            patient = resource if resource["resourceType"] == "Patient" else _patient_of(resource, scene)
            makers = {"SIU": self._appointment, "ADT": self._person, "ORM": self._order, "OML": self._order, "ORU": self._report}
            variables = {"event": _REASONS.get(trigger), "control": control_of(now, before), "trigger": trigger, "at": at}
            segments = list(makers[kind](resource, patient, scene, variables))
        text = "".join(f"{each}\r" for each in [self._header(scene, kind, trigger, control_id, at), *segments])
        message = text.encode(CHARSETS[peer.charset], "replace")
        if len(message) > LIMIT:
            raise Unsendable("the message would have more than 16 MB")
        return Made(f"{kind}^{trigger}", message, patient.get("id"))

    def _header(self, scene: Scene, kind: str, trigger: str, control_id: str, at: datetime) -> str:
        peer = scene.peer
        structure = _STRUCTURES.get(trigger, "SIU_S12")
        names = (peer.own_application, peer.own_facility, peer.application, peer.facility)
        fields: dict[int, list[Any]] = {number: [[name]] for number, name in enumerate(names, 3)}
        fields |= {7: [[time(at.isoformat(timespec="seconds"), self._zone)]], 9: [[kind, trigger, structure]], 10: [[control_id]], 11: [["P"]]}
        fields |= {12: [[peer.version]], 18: [[peer.charset]]}
        # MSH-1 is the separator that stands behind the name, MSH-2 is no text to be escaped.
        return segment(peer.version, "MSH", fields).replace("MSH||", "MSH|^~\\&", 1)

    def _person(self, patient: Json, _: Json, scene: Scene, variables: dict[str, Any]) -> Iterator[str]:
        yield self._event_segment(scene, variables["trigger"], variables["at"])
        yield self._maps.write("PID-Patient", patient, scene)
        yield segment(scene.peer.version, "PV1", {1: [["1"]], 2: [["N"]]})

    def _merge(self, loser: Json, scene: Scene, at: datetime) -> list[str]:
        survivor = scene.resolve(survivor_of(loser) or "")
        if survivor is None:
            raise Unsendable("the patient that takes the place of the merged one is not there")
        return [
            self._event_segment(scene, "A40", at),
            self._maps.write("PID-Patient", survivor, scene),
            self._maps.write("MRG-Patient", loser, scene),
        ]

    def _event_segment(self, scene: Scene, trigger: str, at: datetime) -> str:
        return segment(scene.peer.version, "EVN", {1: [[trigger]], 2: [[time(at.isoformat(timespec="seconds"), self._zone)]]})

    def _appointment(self, appointment: Json, patient: Json, scene: Scene, variables: dict[str, Any]) -> Iterator[str]:
        version = scene.peer.version
        minutes = _minutes(appointment)
        known = {"event": variables["event"], "minutes": str(minutes) if minutes is not None else None}
        yield self._maps.write("SCH-Appointment", appointment, scene, **known)
        if version >= "2.7" and has(version, "TQ1"):
            yield self._maps.write("TQ1-Appointment", appointment, scene)
        yield from _notes([appointment.get("comment", ""), appointment.get("patientInstruction", "")], scene)
        yield self._maps.write("PID-Patient", patient, scene)
        yield segment(version, "RGS", {1: [["1"]]})
        yield self._maps.write("AIS-Appointment", appointment, scene, **known)
        people = [each for each in appointment.get("participant", ()) if each.get("actor", {}).get("reference", "").startswith("Practitioner")]
        places = [each for each in appointment.get("participant", ()) if each.get("actor", {}).get("reference", "").startswith("Location/")]
        # Groups of the standard in their order: places before people.
        for name, participants in (("AIL-Appointment.participant", places), ("AIP-Appointment.participant", people)):
            for number, participant in enumerate(participants, 1):
                yield self._maps.write(name, participant, scene, number=str(number))

    def _order(self, order: Json, patient: Json, scene: Scene, variables: dict[str, Any]) -> Iterator[str]:
        yield self._maps.write("PID-Patient", patient, scene)
        yield self._maps.write("ORC-ServiceRequest", order, scene, control=variables["control"])
        if scene.peer.version >= "2.5":
            yield self._maps.write("TQ1-ServiceRequest", order, scene)
        yield self._maps.write("OBR-ServiceRequest", order, scene)
        yield from _notes([each.get("text", "") for each in order.get("note", ())], scene)
        if scene.peer.version >= "2.5":
            for number, reference in enumerate(order.get("specimen", ()), 1):
                if specimen := scene.resolve(reference.get("reference", "")):
                    yield self._maps.write("SPM-Specimen", specimen, scene, number=str(number))

    def _report(self, report: Json, patient: Json, scene: Scene, _: dict[str, Any]) -> Iterator[str]:
        yield self._maps.write("PID-Patient", patient, scene)
        yield self._maps.write("ORC-DiagnosticReport", report, scene)
        yield self._maps.write("OBR-DiagnosticReport", report, scene)
        yield from _notes([report.get("conclusion", "")], scene)
        for number, (observation, part) in enumerate(results.observations(report, scene.resolve), 1):
            type_, fields = results.value(observation, scene)
            yield self._maps.write("OBX-Observation", observation, scene, fields, number=str(number), type=type_, part=part)
            yield from _notes([each.get("text", "") for each in observation.get("note", ())], scene)
        if scene.peer.version >= "2.5":
            for number, reference in enumerate(report.get("specimen", ()), 1):
                if specimen := scene.resolve(reference.get("reference", "")):
                    yield self._maps.write("SPM-Specimen", specimen, scene, number=str(number))


class _Resolver:
    """References to resources, each read once."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._known: dict[str, Json | None] = {}

    def __call__(self, reference: str) -> Json | None:
        if reference not in self._known:
            kind, _, identity = reference.partition("/")
            found = self._read([(kind, identity.partition("/")[0])]) if identity else []
            self._known[reference] = next((loads(each.body) for each in found if each.body is not None), None)
        return self._known[reference]


def _event(peer: Peer, event: str) -> tuple[str, str]:
    if event == "O21":
        return ("OML", "O21") if peer.version >= "2.5" else ("ORM", "O01")
    return _KINDS[event[0]], event


def _patient_of(resource: Json, scene: Scene) -> Json:
    references = [resource.get("subject", {}), *(each.get("actor", {}) for each in resource.get("participant", ()))]
    for each in references:
        if str(each.get("reference", "")).startswith("Patient/") and (found := scene.resolve(each["reference"])):
            return found
    raise Unsendable("it has no patient of this server's, whom a message has to be about")


def _minutes(appointment: Json) -> int | None:
    if "minutesDuration" in appointment:
        return int(appointment["minutesDuration"])
    if "start" in appointment and "end" in appointment:
        start, end = (datetime.fromisoformat(appointment[name]) for name in ("start", "end"))
        return int((end - start).total_seconds() // 60)
    return None


def _notes(texts: Sequence[str], scene: Scene) -> Iterator[str]:
    lines = (line for text in texts for line in text.splitlines())
    for number, line in enumerate(lines, 1):
        yield segment(scene.peer.version, "NTE", {1: [[str(number)]], 3: [[line]]})
