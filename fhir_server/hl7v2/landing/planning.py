"""What a message changes in the record: who and what is there already, and what of it becomes another.

Patients are recognised by identifier and who gave it out, never by name; visits, orders, appointments and documents by their numbers, within one
patient; results by order, code and place, which make the id under which they stand in the record.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from fhir_server import fhirjson
from fhir_server.hl7v2.mapping import ANYWHERE, BY_IDENTIFIER, FILLED, KNOWN, MENTIONED, Converted, Made
from fhir_server.hl7v2.text.faults import Fault
from fhir_server.hl7v2.text.message import Message
from fhir_server.store.ops import Put, Version

from . import merge
from .merging import Json, filled, is_older, merged, same
from .processing import Found, Look

PATIENT: Final = "Patient"
_WEAK: Final = frozenset({"SS", "DL", "SB"})
"""Kinds of identifiers that tell nothing of who somebody is here, where there are others."""
_OF_PATIENT: Final = ("subject", "patient", "beneficiary")
_PARTS: Final = frozenset({dict, list})
_OWN: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
"""An id that this server has given."""
T = TypeVar("T")
_Looking = Generator[Look, Found, T]


class Unmatched(Exception):  # noqa: N818 - what is said of the message
    """Who a message is about cannot be told; the fault says why."""

    def __init__(self, fault: Fault) -> None:
        """Takes the fault."""
        super().__init__(fault.text)
        self.fault = fault


@dataclass(slots=True)
class Planned:
    """What is to be written, and what was found out on the way.

    `known` is the patient if there before, `there` are versions that stay.

    `merged` are the ids of patients who are merged, each with the one who stays; `seen` are versions of patients that are not written here, and that
    all this is about.
    """

    ops: dict[tuple[str, str], Put] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    patient: str | None = None
    known: str | None = None
    there: list[str] = field(default_factory=list)


def plan(secret: bytes, converted: Converted, message: Message, chosen: str | None = None) -> _Looking[Planned]:
    """What a message changes in the record as it is now, about the patient who was `chosen` for it if there is one.

    Yields what it wants to see, twice for nearly all messages. Ids of new resources are made with the `secret`. Raises Unmatched.
    """
    return _Plan(secret, converted, message, chosen).run()


def identifiers(resource: Json) -> list[tuple[str, str]]:
    """The identifiers of a resource that have a system and a value, as pairs of these."""
    return [(each["system"], each["value"]) for each in _stated(resource)]


class _Plan:
    """One look at the record for one message."""

    def __init__(self, secret: bytes, converted: Converted, message: Message, chosen: str | None) -> None:
        self._secret = secret
        self._losers = {made.number: survivor for made in converted.made if (survivor := merge.survivor_of(made)) is not None}
        # What a merge makes of patients depends on what is there, and may have to be looked at again.
        self._made = [replace(made, resource=deepcopy(made.resource), open={ANYWHERE}) for made in converted.made] if self._losers else converted.made
        self._by_number = {made.number: made for made in self._made}
        self._header = message.header
        self._chosen = chosen
        self._planned = Planned()
        self._there: dict[int, Json] = {}
        self._versions: dict[int, Version] = {}
        self._ids: dict[int, str] = {}
        self._gone: set[int] = set()
        self._perhaps_ours: list[Made] = []

    def run(self) -> _Looking[Planned]:
        if not any(made.type == PATIENT for made in self._made):
            raise Unmatched(Fault("101", "The message names no patient", "PID"))
        by_number = yield from _found(self._made)
        merge.apart(self._losers, by_number)
        for made in self._made:
            if made.type == PATIENT and made.key in BY_IDENTIFIER:
                look = self._patient if made.number not in self._losers else self._loser
                yield from look(made, by_number.get(made.number, []))
        for made in self._made:
            if made.type != PATIENT and made.key in BY_IDENTIFIER:
                self._numbered(made, by_number.get(made.number, []))
        yield from self._ours()
        yield from self._derived()
        for made in self._made:
            if made.number not in self._gone:
                self._write(made)
        return self._planned

    def _patient(self, made: Made, found: Sequence[Version]) -> _Looking[None]:
        if made.label == PATIENT and self._chosen is not None:
            yield from self._link(made, found, self._chosen)
            return
        if not _identifiers(made.resource):
            raise Unmatched(Fault("204", "The patient has no identifier, and is never told by the name", "PID", field=3))
        living = _living(found)
        if len(living) > 1:
            raise Unmatched(Fault("204", "The identifiers belong to different patients", "PID", field=3))
        if not living and found:
            living = yield from _survivor(_body(found[0]))
        if made.label == PATIENT and self._planned.patient is None:
            self._planned.patient = self._planned.known = next(iter(living), None)
        for version, body in living.values():
            self._known(made, version, body)
        if not living:
            self._fresh(made, "")
        if made.label == PATIENT:
            self._planned.patient = self._planned.patient or self._ids[made.number]

    def _link(self, made: Made, found: Sequence[Version], chosen: str) -> _Looking[None]:
        """Takes the patient whom somebody has chosen; of the message's identifiers those are added that have an authority and are nobody else's."""
        if sum(each.label == PATIENT for each in self._made) > 1:
            raise Unmatched(Fault("204", "It is about several patients, so that none can be chosen for it", "PID", field=3))
        living, there = _living(found), (yield from _survivor({"id": chosen}))
        if not there:
            raise Unmatched(Fault("204", "The patient who was chosen for it is not there any more", "PID", field=3))
        ((identity, (version, body)),) = there.items()
        if living and identity not in living:
            raise Unmatched(Fault("204", "Its identifiers are those of another patient than the one who was chosen", "PID", field=3))
        taken = {pair for other, (_, theirs) in living.items() if other != identity for pair in _identifiers(theirs)}
        own = [each for each in made.resource.get("identifier", ()) if each.get("system") and (each["system"], each.get("value")) not in taken]
        made.resource = {name: value for name, value in made.resource.items() if name != "identifier"} | ({"identifier": own} if own else {})
        self._planned.patient = self._planned.known = identity
        self._known(made, version, body)

    def _loser(self, made: Made, found: Sequence[Version]) -> _Looking[None]:
        """One whom the message says to be the same as another in it."""
        number = self._losers[made.number]
        survivor, identity = self._by_number[number], self._ids[number]
        if not _identifiers(made.resource):
            raise Unmatched(Fault("204", "The patient who is merged has no identifier", "MRG", field=1))
        others = {version.id: (version, _body(version)) for version in found if version.id != identity}
        living = {each: pair for each, pair in others.items() if not merge.replaced_by(pair[1])}
        if len(living) > 1:
            raise Unmatched(Fault("204", "The identifiers belong to different patients", "MRG", field=1))
        if not found:
            self._fresh(made, "")
        if (found and not living) or self._ids.get(made.number) == identity:
            # Merged before, into this one or into somebody else; or said to be the same as themselves.
            if others and identity not in (yield from _survivor(next(iter(others.values()))[1])):
                raise Unmatched(Fault("204", "The patient was merged into another one before", "MRG", field=1))
            self._gone.add(made.number)
            survivor.resource["link"] = [link for link in survivor.resource["link"] if link["other"]["reference"] != made.urn]
            return
        for version, body in living.values():
            self._known(made, version, body)
            survivor.resource["link"] += merge.replaces(body)
        stated = [*survivor.resource.get("identifier", ()), *self._there.get(number, {}).get("identifier", ())]
        told = [*self._there.get(made.number, {}).get("identifier", ()), *made.resource.pop("identifier")]
        survivor.resource["identifier"] = [*survivor.resource.get("identifier", ()), *merge.old_numbers(stated, told)]
        self._planned.merged[self._ids[made.number]] = identity

    def _numbered(self, made: Made, found: Sequence[Version]) -> None:
        patient = self._patient_of(made)
        mine = [(version, body) for version in found if _belongs(body := _body(version), patient)]
        if mine:
            self._known(made, *mine[0])
        elif made.key == KNOWN:
            self._gone.add(made.number)
        else:
            self._fresh(made, patient or "")
        if not mine and any(_OWN.fullmatch(value) for _, value in _identifiers(made.resource)):
            self._perhaps_ours.append(made)

    def _ours(self) -> _Looking[None]:
        """Finds what has gone out from here under its own id, for want of another number: such an order comes back with its results."""
        pairs = [(made.type, value) for made in self._perhaps_ours for _, value in _identifiers(made.resource) if _OWN.fullmatch(value)]
        for version in (yield Look(references=pairs)).versions if pairs else ():
            for made in self._perhaps_ours:
                is_it = made.type == version.type and version.id in {value for _, value in _identifiers(made.resource)}
                if is_it and _belongs(body := _body(version), self._patient_of(made)):
                    self._gone.discard(made.number)
                    self._known(made, version, body)

    def _patient_of(self, made: Made) -> str | None:
        """The reference to the patient whom a resource is about, None for one that is about nobody."""
        for name in _OF_PATIENT:
            reference = made.resource.get(name)
            if isinstance(reference, dict):
                return self._resolved(str(reference.get("reference", "")))
        return None

    def _resolved(self, reference: str) -> str:
        if not reference.startswith("urn:hl7v2:"):
            return reference
        number = int(reference.removeprefix("urn:hl7v2:"))
        return f"{self._by_number[number].type}/{self._ids[number]}" if number in self._ids else ""

    def _derived(self) -> _Looking[None]:
        """Gives an id to what has no number of its own, and looks whether it is there, under those too who were merged into the patient."""
        counts: dict[tuple[str, ...], int] = {}
        wanted: dict[tuple[str, str], Made] = {}
        for made in self._made:
            if made.number in self._ids or made.number in self._gone:
                continue
            # What should have a number and has none is the same where all of it is the same.
            own = (repr(made.resource),) if made.key in BY_IDENTIFIER else tuple(made.key)
            patient = self._patient_of(made) or ""
            key = (made.type, self._header.sending_facility or self._header.sending_application, *own)
            counts[patient, *key] = count = counts.get((patient, *key), 0) + 1
            for who in [patient, *self._merged_into(patient)]:
                identity = _id(who, *key, str(count) if count > 1 else "")
                self._ids.setdefault(made.number, identity)
                wanted[made.type, identity] = made
        if wanted:
            seen = yield Look(references=list(wanted))
            for version in seen.versions:
                self._known(wanted[version.type, version.id], version, _body(version))

    def _merged_into(self, patient: str) -> list[str]:
        """References to those who were merged into a patient of the message."""
        for number, there in self._there.items():
            if patient == f"Patient/{self._ids[number]}" and there.get("resourceType") == PATIENT:
                return [link["other"].get("reference", "") for link in merge.replaces(there)]
        return []

    def _known(self, made: Made, version: Version, body: Json) -> None:
        self._there[made.number], self._versions[made.number], self._ids[made.number] = body, version, version.id

    def _fresh(self, made: Made, patient: str) -> None:
        """An id that all who make the same at this moment choose, so that one of them does; nobody can tell a number from it."""
        numbers = [f"{system}|{value}" for system, value in _identifiers(made.resource)]
        if numbers:
            self._ids[made.number] = _id(self._secret.hex(), made.type, patient, numbers[0])

    def _write(self, made: Made) -> None:
        told = self._told(made)
        there, version = self._there.get(made.number), self._versions.get(made.number)
        identity = self._ids[made.number]
        before = self._planned.ops.get((made.type, identity))
        if before is not None:
            # The same once more: a practitioner whose name is spelt in two ways, a patient whom several are merged into.
            before.resource = before.resource if made.key == MENTIONED else merged(before.resource, told, made.nulls)
            return
        if there is None or version is None:
            self._planned.ops[made.type, identity] = Put({**told, "id": identity}, identity, absent=True)
            return
        stands = f"{made.type}/{identity}/_history/{version.version}"
        if made.key == MENTIONED:
            self._planned.there.append(stands)
            return
        if is_older(there, told):
            self._planned.there.append(stands)
            self._planned.faults.append(Fault("0", f"A later state of the {made.type} is there; this one is kept in the message alone", severity="I"))
            return
        changed = filled(there, told) if made.key == FILLED else merged(there, told, made.nulls)
        if identity in self._planned.merged:
            changed.pop("identifier", None)
        if not same({**changed, "meta": None}, {**there, "meta": None}):
            self._planned.ops[made.type, identity] = Put(changed, identity, if_match=str(version.version))
            return
        self._planned.there.append(stands)
        if made.type == PATIENT:
            self._planned.seen[identity] = version.version

    def _numbers_of(self, reference: str) -> Json:
        """A reference by number to what a message mentions and is not in the record."""
        made = self._by_number[int(reference.removeprefix("urn:hl7v2:"))]
        stated = made.resource.get("identifier") or [made.resource.get("masterIdentifier")]
        return {"type": made.type, "identifier": stated[0]} if stated[0] else {}

    def _told(self, made: Made) -> Json:
        """A resource as it is to be in the record. It shares with what came of the message all that is so already."""
        if ANYWHERE in made.open:
            found: Json = self._linked(made.resource)
            return found
        told = made.resource.copy()
        for name in made.open & told.keys():
            if kept := self._linked(told[name]):
                told[name] = kept
            else:
                del told[name]
        return told

    def _linked(self, value: Any) -> Any:
        """A value with ids of the record in its references; a reference to what is not there says by its number what it would be."""
        if type(value) is list:
            members = [self._linked(inner) if type(inner) in _PARTS else inner for inner in value]
            return [kept for kept in members if kept or type(kept) not in _PARTS]
        found = {}
        for name, inner in value.items():
            # Most values are texts. The types are asked for as they are: `isinstance` with two of them takes twice as long.
            if type(inner) in _PARTS:
                if kept := self._linked(inner):
                    found[name] = kept
            elif name != "reference":
                found[name] = inner
            elif target := self._resolved(inner):
                found[name] = target
            else:
                found.update(self._numbers_of(inner))
        return found


def _found(made: Sequence[Made]) -> _Looking[dict[int, list[Version]]]:
    """The resources that have some identifier of each that is searched by them, by its number, each once."""
    sought: list[tuple[str, str, str]] = []
    owners: list[int] = []
    for each in made:
        if each.key in BY_IDENTIFIER:
            for system, value in _identifiers(each.resource):
                sought.append((each.type, system, value))
                owners.append(each.number)
    found: dict[int, dict[str, Version]] = {}
    for place, version in (yield Look(sought)).identified:
        found.setdefault(owners[place], {})[version.id] = version
    return {number: list(versions.values()) for number, versions in found.items()}


def _survivor(body: Json) -> _Looking[dict[str, tuple[Version, Json]]]:
    """Whom a patient was merged into, through as many merges as there were."""
    seen: set[str] = set()
    while True:
        identity = merge.replaced_by(body).removeprefix("Patient/") or str(body.get("id", ""))
        if not identity or identity in seen:
            return {}
        seen.add(identity)
        found = yield Look(references=[(PATIENT, identity)])
        if not found.versions:
            return {}
        (version,) = found.versions
        body = _body(version)
        if not merge.replaced_by(body):
            return {identity: (version, body)}


def _identifiers(resource: Json) -> list[tuple[str, str]]:
    """Those that tell what or who it is."""
    whole = _stated(resource)
    strong = [each for each in whole if "type" not in each or not _WEAK & {coding.get("code") for coding in each["type"].get("coding", ())}]
    return [(each["system"], each["value"]) for each in strong or whole]


def _stated(resource: Json) -> list[Json]:
    stated = [resource["masterIdentifier"]] if "masterIdentifier" in resource else []
    stated += [each for each in resource.get("identifier", ()) if isinstance(each, dict)]
    return [each for each in stated if each.get("value") and each.get("system")]


def _living(found: Iterable[Version]) -> dict[str, tuple[Version, Json]]:
    """Those patients who were not merged into others, by id."""
    return {version.id: (version, body) for version in found if not merge.replaced_by(body := _body(version))}


def _belongs(body: Json, patient: str | None) -> bool:
    """Whether a resource is about this patient, or about nobody."""
    references = [body[name].get("reference") for name in _OF_PATIENT if isinstance(body.get(name), dict)]
    return patient is None or not references or patient in references


def _body(version: Version) -> Json:
    found: Json = fhirjson.loads(version.body or b"{}")
    return found


def _id(*parts: str) -> str:
    # Written as a UUID is, without the cost of making one.
    text = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
