"""What goes into a paper: the resource and what belongs to it, of what the caller may see. What they may not see is not on their paper.

https://hl7.org/fhir/R4/references.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.papers import Record
from fhir_server.search import SYSTEM, Grant, Registry, compile_search
from fhir_server.search.params.reference import ABSOLUTE, locate
from fhir_server.store import Snapshot
from fhir_server.store.database import Connection
from fhir_server.store.ops import Resource, Version
from fhir_server.store.rules.billing.insurance import INSURER

MAX_FOUND: Final = 300
"""Resources of one search for a paper."""
MAX_FOLLOWED: Final = 2_000
_MAX_CODES: Final = 100

Place = tuple[str, str]
"""A type and an id."""


@dataclass
class Gathered:
    """What a paper is made of: its Record, and the versions that went in by type and id.

    `essence` are those that make it another paper when they change: not the patient who has moved, but the results of a report.
    `unseen` are those that would have gone in, if they are there, and that the grant does not show; `is_narrow` says that it lets nobody search for
    what belongs on it.
    """

    record: Record
    versions: dict[Place, Version] = field(default_factory=dict)
    essence: tuple[str, ...] = ()
    unseen: frozenset[Place] = frozenset()
    is_narrow: bool = False

    @property
    def key(self) -> str:
        """32 characters that stand for the essence."""
        return hashlib.blake2b("\n".join(sorted(self.essence)).encode(), digest_size=16).hexdigest()


class Gatherer:
    """Follows references and searches, by one grant at one moment; at most MAX_FOLLOWED resources."""

    def __init__(self, db: Snapshot, registry: Registry, grant: Grant) -> None:
        """Looks at what a view shows to a grant, which is also the view's."""
        self._db = db
        self._registry = registry
        self._grant = grant
        self.known: dict[str, Resource] = {}
        self.versions: dict[Place, Version] = {}
        self._unseen: set[Place] = set()
        self._is_narrow = False

    @property
    def connection(self) -> Connection:
        """Where rows beside the record are looked at, at the same moment."""
        return self._db.connection

    @property
    def zone(self) -> ZoneInfo:
        """The clinic's."""
        return self._registry.zone

    def main(self, name: str, identity: str) -> Resource:
        """The resource that the paper is of. Raises Outcome `not-found` where the caller may not see it, `gone` where it was deleted."""
        found = self._db.read(name, identity)
        if found is None:
            raise Outcome("not-found", f"{name}/{identity} does not exist")
        if found.body is None:
            raise Outcome("gone", f"{name}/{identity} was deleted")
        return self._take(found)

    def follow(self, references: Iterable[Any]) -> list[Resource]:
        """The resources that references lead to, each known by the text of its reference from here on. One statement or a few.

        Raises Outcome `too-costly` beyond MAX_FOLLOWED.
        """
        texts = dict.fromkeys(str(each["reference"]) for each in references if isinstance(each, dict) and each.get("reference"))
        places = {text: place for text in texts if text not in self.known and (place := self._place(text)) is not None}
        if len(self.versions) + len(places) > MAX_FOLLOWED:
            raise Outcome("too-costly", f"A paper is made of {MAX_FOLLOWED:,} resources at the most")
        for version in self._db.read_many(sorted(set(places.values()))):
            self._take(version)
        self._unseen |= set(places.values()) - set(self.versions)
        for text, place in places.items():
            if place in self.versions:
                self.known[text] = fhirjson.loads(self.versions[place].body or b"{}")
        return [self.known[text] for text in texts if text in self.known]

    def search(self, name: str, *conditions: tuple[str, str]) -> list[Resource]:
        """The resources that match, MAX_FOUND at the most; none where the caller may not search for the type."""
        if not self._grant.allows(name, "s"):
            self._is_narrow = True
            return []
        return self._found(name, conditions, MAX_FOUND)

    def all(self, name: str, *conditions: tuple[str, str]) -> list[Resource]:
        """All resources that match. Raises Outcome `forbidden` where the caller may not search for the type, `too-costly` beyond MAX_FOLLOWED."""
        if not self._grant.allows(name, "s"):
            raise Outcome("forbidden", f"The token does not allow to search for {name}")
        found = self._found(name, conditions, MAX_FOLLOWED + 1)
        if len(found) > MAX_FOLLOWED:
            raise Outcome("too-costly", f"A paper is made of {MAX_FOLLOWED:,} resources at the most")
        return found

    def unheld(self, places: Iterable[Place]) -> dict[str, Resource]:
        """Resources by reference whether the caller may see them or not. The paper has no more of them than it takes out itself."""
        found = self._db.seen_by(SYSTEM).read_many(sorted(places))
        return {f"{version.type}/{version.id}": fhirjson.loads(version.body or b"{}") for version in found}

    def _found(self, name: str, conditions: Iterable[tuple[str, str]], most: int) -> list[Resource]:
        query = replace(self._registry.parse(name, list(conditions), strict=True), count=most)
        rows = self._db.select(compile_search(query, self._registry, self._grant, None, self._db.sources))[:most]
        places = [(name, str(row[2])) for row in rows]
        found = {(version.type, version.id): version for version in self._db.read_many(places)}
        return [self._take(found[place]) for place in places if place in found]

    def gathered(self, main: Resource, essence: Iterable[Resource], **beside: Sequence[Resource]) -> Gathered:
        """All of it."""
        marks = tuple(f"{each['resourceType']}/{each['id']}/{each['meta']['versionId']}" for each in essence)
        record = Record(main, self.known, beside, self._clinic(main))
        return Gathered(record, self.versions, marks, frozenset(self._unseen), self._is_narrow)

    def _take(self, version: Version) -> Resource:
        self.versions[version.type, version.id] = version
        resource: Resource = fhirjson.loads(version.body or b"{}")
        return self.known.setdefault(f"{version.type}/{version.id}", resource)

    def _place(self, text: str) -> Place | None:
        found = locate(text, self._registry.context)
        if found is None or found[1] == ABSOLUTE:
            return None
        return self._registry.type_name(found[1]), found[0]

    def _clinic(self, main: Resource) -> Resource | None:
        """Whose letterhead it is: who bills or cares, else the employer of a doctor, else the clinic, where there is just one."""
        direct = self.follow(main[name] for name in ("issuer", "serviceProvider", "paymentIssuer", "managingOrganization") if name in main)
        visits = self.follow(main[name] for name in ("encounter",) if name in main)
        roles = [each for each in self.known.values() if each["resourceType"] == "PractitionerRole"]
        places = [each for each in self.known.values() if each["resourceType"] == "Location"]
        found = [each for each in direct if each["resourceType"] == "Organization"]
        found = found or self.follow(each["serviceProvider"] for each in visits if "serviceProvider" in each)
        found = found or self.follow(each["organization"] for each in roles if "organization" in each)
        found = found or self.follow(each["managingOrganization"] for each in places if "managingOrganization" in each)
        if found:
            return found[0]
        tops = self.search("Organization", ("partof:missing", "true"), ("type:not", INSURER), ("_count", "2"))
        return tops[0] if len(tops) == 1 else None


def gather_invoice(gatherer: Gatherer, main: Resource) -> Gathered:
    """An Invoice with its charges; an invoice that is issued stays the same paper, whatever is paid."""
    gatherer.follow(_all(main, "subject", "recipient", "issuer"))
    gatherer.follow(item["chargeItemReference"] for item in main.get("lineItem", ()) if "chargeItemReference" in item)
    gatherer.follow(each["valueReference"] for each in main.get("extension", ()) if "valueReference" in each)
    found = gatherer.gathered(main, ())
    found.essence = (f"Invoice/{main['id']}",)
    return found


def gather_receipt(gatherer: Gatherer, main: Resource) -> Gathered:
    """A PaymentReconciliation with the invoices that it pays, and whose they are."""
    bills = gatherer.follow(each["request"] for each in main.get("detail", ()) if "request" in each)
    gatherer.follow(subject for each in bills for subject in _all(each, "subject", "issuer"))
    found = gatherer.gathered({"issuer": bills[0]["issuer"], **main} if bills and "issuer" in bills[0] else main, ())
    found.essence = (f"PaymentReconciliation/{main['id']}",)
    return found


def gather_prescription(gatherer: Gatherer, main: Resource) -> Gathered:
    """A slip: all MedicationRequests of the patient with the groupIdentifier, the one that was asked for alone where it has none."""
    group, slip = main.get("groupIdentifier", {}), [main]
    if group.get("value"):
        # No search parameter is about it: the patient's prescriptions are few.
        patient = str(main.get("subject", {}).get("reference", ""))
        found = gatherer.search("MedicationRequest", ("subject", patient), ("_sort", "authoredon,_id")) if patient else []
        slip = [each for each in found if _group(each) == _group(main) and each.get("requester") == main.get("requester")] or [main]
    gatherer.follow(each for request in slip for each in _all(request, "subject", "requester", "medicationReference", "encounter"))
    _people(gatherer)
    kept = {f"MedicationRequest/{each['id']}" for each in slip}
    for text in [text for text in gatherer.known if text.startswith("MedicationRequest/") and text not in kept]:
        del gatherer.known[text]
        gatherer.versions.pop(("MedicationRequest", text.partition("/")[2]), None)
    return gatherer.gathered(main, slip, slip=slip)


def gather_report(gatherer: Gatherer, main: Resource) -> Gathered:
    """A DiagnosticReport with its results, their members, who made them, and the patient's earlier values of the same codes."""
    gatherer.follow(_all(main, "subject", "result", "performer", "resultsInterpreter", "specimen", "basedOn", "encounter"))
    results = gatherer.follow(main.get("result", ()))
    members = gatherer.follow(each for result in results for each in result.get("hasMember", ()))
    orders = gatherer.follow(main.get("basedOn", ()))
    gatherer.follow(each for order in orders for each in _all(order, "requester"))
    _people(gatherer)
    own = [*results, *members]
    earlier = _earlier(gatherer, main, own)
    return gatherer.gathered(main, [main, *own], earlier=earlier)


def gather_summary(gatherer: Gatherer, main: Resource) -> Gathered:
    """An Encounter with what was done at it."""
    gatherer.follow(_all(main, "subject", "serviceProvider"))
    gatherer.follow(each["individual"] for each in main.get("participant", ()) if "individual" in each)
    gatherer.follow(each["location"] for each in main.get("location", ()) if "location" in each)
    at = ("encounter", f"Encounter/{main['id']}")
    conditions = gatherer.search("Condition", at)
    named = gatherer.follow(each["condition"] for each in main.get("diagnosis", ()) if "condition" in each)
    conditions += [each for each in named if each["resourceType"] == "Condition" and each not in conditions]
    observations = gatherer.search("Observation", at, ("status:not", "entered-in-error"), ("_sort", "date,_id"))
    vitals = [each for each in observations if "vital-signs" in _categories(each)]
    medicines = gatherer.search("MedicationRequest", at, ("status", "active,completed,on-hold"))
    gatherer.follow(each["medicationReference"] for each in medicines if "medicationReference" in each)
    visits = gatherer.search("Appointment", ("supporting-info", f"Encounter/{main['id']}"), ("status", "proposed,pending,booked"))
    gatherer.follow(part["actor"] for each in visits for part in each.get("participant", ()) if "actor" in part)
    _people(gatherer)
    return gatherer.gathered(
        main,
        [main],
        Condition=[each for each in conditions if "entered-in-error" not in _statuses(each, "verificationStatus")],
        vitals=vitals,
        results=[each for each in observations if each not in vitals],
        Procedure=gatherer.search("Procedure", at, ("status", "completed,in-progress")),
        MedicationRequest=medicines,
        ServiceRequest=gatherer.search("ServiceRequest", at, ("status", "active,completed")),
        Appointment=visits,
    )


def gather_token(gatherer: Gatherer, main: Resource) -> Gathered:
    """An Encounter with the place where its patient waits."""
    gatherer.follow(_all(main, "serviceProvider"))
    gatherer.follow(each["location"] for each in main.get("location", ()) if "location" in each)
    return gatherer.gathered(main, [main])


def gather_card(gatherer: Gatherer, main: Resource) -> Gathered:
    """An Appointment with who and where."""
    gatherer.follow(each["actor"] for each in main.get("participant", ()) if "actor" in each)
    _people(gatherer)
    return gatherer.gathered(main, [main])


GATHER: Final[dict[str, Callable[[Gatherer, Resource], Gathered]]] = {
    "invoice": gather_invoice,
    "receipt": gather_receipt,
    "prescription": gather_prescription,
    "report": gather_report,
    "summary": gather_summary,
    "token": gather_token,
    "card": gather_card,
}
"""By the kind of paper."""


def _people(gatherer: Gatherer) -> None:
    """Who stands behind the roles that are known."""
    roles = [each for each in gatherer.known.values() if each["resourceType"] == "PractitionerRole"]
    gatherer.follow(each["practitioner"] for each in roles if "practitioner" in each)


def _earlier(gatherer: Gatherer, main: Resource, results: Sequence[Resource]) -> list[Resource]:
    codes = dict.fromkeys(f"{each.get('system', '')}|{each['code']}" for result in results if "valueQuantity" in result for each in _codings(result))
    patient = str(main.get("subject", {}).get("reference", ""))
    if not codes or not patient:
        return []
    wanted = ",".join(code.replace("\\", "\\\\").replace(",", "\\,").replace("$", "\\$") for code in list(codes)[:_MAX_CODES])
    states = ("status", "final,amended,corrected")
    found = gatherer.search("Observation", ("subject", patient), ("code", wanted), states, ("_sort", "-date"))
    own = {each["id"] for each in results}
    return [each for each in found if each["id"] not in own]


def _all(resource: Resource, *names: str) -> Iterator[Any]:
    for name in names:
        value = resource.get(name)
        if isinstance(value, list):
            yield from value
        elif value is not None:
            yield value


def _group(request: Resource) -> tuple[str, str]:
    group = request.get("groupIdentifier", {})
    return str(group.get("system", "")), str(group.get("value", ""))


def _codings(observation: Resource) -> list[Resource]:
    return [coding for coding in observation.get("code", {}).get("coding", ()) if "code" in coding]


def _categories(observation: Resource) -> set[str]:
    return {str(coding.get("code")) for each in observation.get("category", ()) for coding in each.get("coding", ())}


def _statuses(resource: Resource, name: str) -> set[str]:
    return {str(coding.get("code")) for coding in resource.get(name, {}).get("coding", ())}
