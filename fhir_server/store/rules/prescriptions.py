"""Doctors are told what speaks against a medicine before it is prescribed: at every door, as all of them write through `transact`.

https://hl7.org/fhir/R4/medicationrequest.html, https://hl7.org/fhir/R4/allergyintolerance.html

What is said is of what the doctor may see. They may go on, with the reason, which stays in the prescription. Other systems that send prescriptions
have told their own doctors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from fhir_server import fhirjson
from fhir_server.outcome import Issue, Outcome
from fhir_server.prescribing import Caution, Substance, Taken, cautions, substance
from fhir_server.search import Grant, Registry
from fhir_server.settings import CANON
from fhir_server.store.ops import Create, Op, Resource
from fhir_server.store.snapshot import Snapshot
from fhir_server.store.writing.plan import Target

ORDERS: Final = frozenset({"order", "original-order", "reflex-order", "filler-order", "instance-order"})
"""Intents of a request that is to be carried out, and is no plan or proposal."""
OVERRIDE: Final = f"{CANON}/StructureDefinition/caution-override"
_ACTIVE: Final = "active"
_TAKEN: Final = frozenset({"active", "on-hold"})
_NO_ALLERGY: Final = frozenset({"inactive", "resolved", "refuted", "entered-in-error"})
_MOST: Final = 20


def concerns(ops: Iterable[Op], grant: Grant) -> bool:
    """Whether a doctor creates something that has to be checked."""
    return "doctor" in grant.roles and any(isinstance(op, Create) and op.resource["resourceType"] == "MedicationRequest" for op in ops)


def check(targets: Iterable[Target], registry: Registry, grant: Grant, db: Snapshot) -> None:
    """Raises Outcome `business-rule` where a doctor prescribes what something serious speaks against, and says no reason to do so.

    Only what becomes active, or becomes another medicine, is looked at. Three statements for each, none for anybody but doctors. `db` shows what the
    grant may see, in the transaction, with what it has written.
    """
    if "doctor" not in grant.roles:
        return
    issues = [issue for target in targets if _is_prescribed(target) for issue in _issues(cast("Resource", target.resource), registry, db)]
    if issues:
        raise Outcome("business-rule", issues=issues[:_MOST])


def against(resource: Resource, registry: Registry, db: Snapshot) -> list[Caution]:
    """All that speaks against a MedicationRequest, of what `db` shows of its patient."""
    patient = next((identity for name, identity in registry.references(resource, "patient") if name == "Patient"), None)
    if patient is None:
        return []
    own = {("MedicationRequest", str(resource.get("id", ""))), *(("MedicationRequest", identity) for identity in _prior(resource))}
    allergies = [_content(version.body) for version in db.of_patient("AllergyIntolerance", patient)]
    others = [_content(version.body) for version in db.of_patient("MedicationRequest", patient)]
    taken = [other for other in others if other.get("status") in _TAKEN and ("MedicationRequest", other["id"]) not in own and _is_order(other)]
    medicines = _medicines([resource, *taken], registry, db)
    return cautions(
        _prescribed(resource, medicines, registry),
        [Taken(f"AllergyIntolerance/{each['id']}", _allergen(each)) for each in allergies if _counts(each)],
        [Taken(f"MedicationRequest/{each['id']}", _prescribed(each, medicines, registry)) for each in taken],
    )


def _issues(resource: Resource, registry: Registry, db: Snapshot) -> Iterator[Issue]:
    overridden = set(_overridden(resource))
    for caution in against(resource, registry, db):
        if caution.severity == "high" and caution.kind not in overridden:
            how = f"to go on, send the extension {OVERRIDE} with kind = {caution.kind} and the reason"
            yield Issue("error", "business-rule", f"{caution.text} ({caution.reference}); {how}", ("MedicationRequest.medication",))


def _overridden(resource: Resource) -> Iterator[str]:
    for extension in resource.get("extension", ()):
        if extension.get("url") != OVERRIDE:
            continue
        parts = extension.get("extension", ())
        kinds = [part.get("valueCode") for part in parts if part.get("url") == "kind"]
        reasons = [str(part.get("valueString") or "").strip() for part in parts if part.get("url") == "reason"]
        if not any(reasons):
            raise Outcome("invalid", f"{OVERRIDE} needs the reason as a string", expression="MedicationRequest.extension")
        yield from (str(kind) for kind in kinds)


def _is_prescribed(target: Target) -> bool:
    resource, current = target.resource, target.current
    if target.type != "MedicationRequest" or resource is None or resource.get("status") != _ACTIVE or not _is_order(resource):
        return False
    if current is None or current.deleted or current.body is None:
        return True
    before = fhirjson.loads(current.body.encode())
    return before.get("status") != _ACTIVE or any(
        before.get(name) != resource.get(name) for name in ("medicationReference", "medicationCodeableConcept")
    )


def _is_order(resource: Resource) -> bool:
    return resource.get("intent") in ORDERS and resource.get("doNotPerform") is not True


def _prior(resource: Resource) -> Iterator[str]:
    text = resource.get("priorPrescription", {}).get("reference", "")
    if text.startswith("MedicationRequest/"):
        yield text.removeprefix("MedicationRequest/")


def _counts(allergy: Resource) -> bool:
    states = [coding.get("code") for name in ("clinicalStatus", "verificationStatus") for coding in allergy.get(name, {}).get("coding", ())]
    return _NO_ALLERGY.isdisjoint(states)


def _allergen(allergy: Resource) -> Substance:
    reactions = [reaction["substance"] for reaction in allergy.get("reaction", ()) if "substance" in reaction]
    return substance([each for each in (*reactions, allergy.get("code")) if each])


def _medicines(prescriptions: Sequence[Resource], registry: Registry, db: Snapshot) -> dict[str, Resource]:
    """The Medications that prescriptions refer to, by id."""
    wanted = {pair for resource in prescriptions for pair in registry.references(resource, "medication") if pair[0] == "Medication"}
    return {version.id: _content(version.body) for version in db.read_many(sorted(wanted))} if wanted else {}


def _prescribed(resource: Resource, medicines: Mapping[str, Resource], registry: Registry) -> Substance:
    concepts: list[Mapping[str, Any]] = []
    if "medicationCodeableConcept" in resource:
        concepts.append(resource["medicationCodeableConcept"])
    text = str(resource.get("medicationReference", {}).get("reference", ""))
    found = [each for each in resource.get("contained", ()) if text == f"#{each.get('id')}"]
    found += [medicines[identity] for name, identity in registry.references(resource, "medication") if name == "Medication" and identity in medicines]
    for medicine in found:
        ingredients = [each["itemCodeableConcept"] for each in medicine.get("ingredient", ()) if "itemCodeableConcept" in each]
        concepts += [*ingredients, *([medicine["code"]] if "code" in medicine else [])]
    return substance(concepts)


def _content(body: bytes | None) -> Resource:
    resource: Resource = fhirjson.loads(body or b"{}")
    return resource
