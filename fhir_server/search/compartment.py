"""What belongs to a patient, and what is open to whoever is held to one.

https://hl7.org/fhir/R4/compartmentdefinition-patient.html
"""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from .registry import Registry
from .tree import Rows

PUBLIC: Final = frozenset(
    {
        *("ActivityDefinition", "CapabilityStatement", "CodeSystem", "CompartmentDefinition", "ConceptMap", "Endpoint", "HealthcareService"),
        *("InsurancePlan", "Location", "Medication", "MedicationKnowledge", "NamingSystem", "OperationDefinition", "Organization"),
        *("OrganizationAffiliation", "PlanDefinition", "Practitioner", "PractitionerRole", "Questionnaire", "Schedule", "SearchParameter", "Slot"),
        *("StructureDefinition", "Substance", "ValueSet"),
    }
)
"""Types outside of the patient compartment that whoever is held to one patient may see: the clinic's directory, its free times, terminology."""


OWNED: Final = {
    "Binary": ("security-context",),
    "Contract": ("subject",),
    "Device": ("patient",),
    "GuidanceResponse": ("patient",),
    "PaymentNotice": ("patient",),
    "PaymentReconciliation": ("patient",),
    "Task": ("patient",),
}
"""Parameters that tell whose a resource is, of types that R4's compartment leaves out although they belong to one patient."""
BEHIND: Final = {"PaymentNotice": ("request:Account.patient", "request:ChargeItem.patient", "request:Claim.patient", "request:Invoice.patient")}
"""The same, one step further: a payment belongs to whoever the bill is for."""
ATTACHING: Final = ("DiagnosticReport", "DocumentReference", "Media")
"""Types whose attachments are Binaries: these belong to them, as to their security context, by the parameter `attachment`."""


def compartment_pids(registry: Registry, resource_type: str) -> list[int]:
    """The numbers of the parameters that put a resource of a type into a patient's compartment; none for types outside of it."""
    params = registry.supported_params(resource_type)
    codes = (*registry.spec.compartments["Patient"].get(resource_type, ()), *OWNED.get(resource_type, ()))
    return sorted({pid for code in codes if code in params for pid in params[code].towards((registry.types["Patient"],))})


def compartment_of(registry: Registry, resource_type: str, rows: Rows) -> set[str]:
    """The ids of the patients whose compartments a resource is in, by its index rows."""
    known = _known.setdefault(registry, {})
    pids = known.get(resource_type)
    if pids is None:
        pids = known[resource_type] = frozenset(compartment_pids(registry, resource_type))
    patient = registry.types["Patient"]
    return {row[1] for row in rows.get("sp_reference", ()) if row[0] in pids and row[2] == patient}


# It keeps no registry: each is left behind with all that is compiled for it, up to 7 MB, whenever a search parameter comes or goes.
_known: Final[WeakKeyDictionary[Registry, dict[str, frozenset[int]]]] = WeakKeyDictionary()
