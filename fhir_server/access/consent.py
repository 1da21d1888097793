"""What patients' Consents forbid a caller, and what is closed without any. https://hl7.org/fhir/R4/consent.html

A Consent says what holds for everybody and everything it is about, and in nested provisions what is otherwise. Here it becomes denials: types, each
with the security labels that it is limited to. What is not understood makes a prohibition wider and a permission void, never the reverse.
What Consents permit, where a record is closed without permission, is told by `search.permit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.search.grant import Denial, Party
from fhir_server.search.params.date import parse_date
from fhir_server.search.permit import NOT_UNDERSTOOD, TYPES
from fhir_server.spec import r4

from .roles import CLINICAL

Json = Mapping[str, Any]

_READING: Final = frozenset({"access", "use", "disclose", "correct"})
PURPOSES: Final[Mapping[str, frozenset[str]]] = {
    "admin": frozenset({"HOPERAT"}),
    "doctor": frozenset({"TREAT"}),
    "staff": frozenset({"HOPERAT", "HPAYMT"}),
}
"""What each role acts for, as codes of http://terminology.hl7.org/CodeSystem/v3-ActReason."""


@dataclass(frozen=True, slots=True)
class Restriction:
    """One Consent that restricts somebody: its id, whose it is, and what it says."""

    id: str
    patient: str
    provision: Json
    forbids: bool

    @classmethod
    def of(cls, consent: Json, patient: str | None) -> Restriction | None:
        """What an active Consent of a patient says; None where it restricts nobody."""
        if consent.get("status") != "active" or patient is None:
            return None
        provision = consent.get("provision", {})
        policy = {coding.get("code") for coding in consent.get("policyRule", {}).get("coding", ())}
        # R4 has no type in the outermost provision, where the policy tells; most Consents have it there all the same.
        forbids = provision.get("type") == "deny" or ("type" not in provision and bool(policy & {"OPTOUT", "OPTOUTE"}))
        return cls(str(consent.get("id", "")), patient, provision, forbids)

    def denied(self, party: Party, now: datetime, zone: ZoneInfo) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Types that are forbidden to a party at a time, with the labels that this is limited to; none means all of the type."""
        outermost = {**self.provision, "type": "deny" if self.forbids else "permit"}
        for name in _RESTRICTABLE:
            shut, labels = _decided(outermost, name, party, now, zone, shut=False)
            if shut:
                yield name, ()
            elif labels:
                yield name, tuple(sorted(labels))


_RESTRICTABLE: Final = tuple(name for name in r4().resource_types if r4().compartments["Patient"].get(name) or name in CLINICAL.split())


def denials(restrictions: Iterable[Restriction], party: Party, now: datetime, zone: ZoneInfo) -> tuple[Denial, ...]:
    """What some restrictions forbid a party, with the patients of the same prohibition together."""
    by_patient: dict[str, dict[tuple[str, ...], set[str]]] = {}
    for each in restrictions:
        for name, labels in each.denied(party, now, zone):
            by_patient.setdefault(each.patient, {}).setdefault(labels, set()).add(name)
    alike: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for patient, found in by_patient.items():
        for labels, names in found.items():
            alike.setdefault((tuple(sorted(names)), labels), []).append(patient)
    return tuple(Denial(tuple(sorted(patients)), names, labels) for (names, labels), patients in sorted(alike.items()))


def closing(party: Party) -> Denial:
    """That the clinical record is closed to a party unless its patient permits it. Appointments, bills and who a patient is stay open."""
    return Denial((), tuple(CLINICAL.split()), unless=party)


def _decided(provision: Json, name: str, party: Party, now: datetime, zone: ZoneInfo, *, shut: bool) -> tuple[bool, set[str]]:
    """Whether a type is forbidden after a provision and those nested in it, where it was `shut` before; and the labels forbidden besides."""
    forbids = provision.get("type") == "deny"
    if not _is_about(provision, name, party, now, zone, forbids=forbids):
        return shut, set()
    labels = {
        f"{each['system']}|{each['code']}" if "system" in each else each["code"] for each in provision.get("securityLabel", ()) if "code" in each
    }
    found: set[str] = set()
    if forbids and labels:
        found |= labels
    elif forbids:
        shut = True
    elif not labels and not any(part in provision for part in NOT_UNDERSTOOD):
        shut = False
    for nested in provision.get("provision", ()):
        shut, more = _decided(nested, name, party, now, zone, shut=shut)
        found |= more
    return shut, found


def _is_about(provision: Json, name: str, party: Party, now: datetime, zone: ZoneInfo, *, forbids: bool) -> bool:
    return (
        _covers(provision.get("period"), now, zone)
        and _acts(provision, forbids=forbids)
        and _names_party(provision.get("actor", ()), party, forbids=forbids)
        and _serves(provision.get("purpose", ()), party)
        and _has_type(provision.get("class", ()), name, forbids=forbids)
    )


def _covers(period: Json | None, now: datetime, zone: ZoneInfo) -> bool:
    if period is None:
        return True
    start, end = (parse_date(period[part], zone) if part in period else None for part in ("start", "end"))
    return (start is None or start[0] <= now) and (end is None or now < end[1])


def _acts(provision: Json, *, forbids: bool) -> bool:
    codes = {coding.get("code") for concept in provision.get("action", ()) for coding in concept.get("coding", ())}
    return not codes or (bool(codes & _READING) if forbids else "access" in codes)


def _names_party(actors: Iterable[Json], party: Party, *, forbids: bool) -> bool:
    # A version of somebody is they themselves.
    listed = [each.get("reference", {}).get("reference", "").partition("/_history/")[0] for each in actors]
    if not listed:
        return True
    if any(text in party.references for text in listed):
        return True
    # A care team or a group may have the caller in it, which is not looked up.
    return forbids and any(
        text.partition("/")[0] not in {"Practitioner", "PractitionerRole", "Organization", "Patient", "RelatedPerson"} for text in listed
    )


def _serves(purposes: Iterable[Json], party: Party) -> bool:
    codes = {each.get("code") for each in purposes}
    return not codes or not codes.isdisjoint(party.purposes)


def _has_type(classes: Iterable[Json], name: str, *, forbids: bool) -> bool:
    listed = list(classes)
    named = {each.get("code") for each in listed if each.get("system") == TYPES}
    if not listed:
        # Without a word about types a Consent is about the clinical record, not about appointments and bills.
        return name in CLINICAL.split()
    return name in named or (forbids and len(named) < len(listed) and name in CLINICAL.split())
